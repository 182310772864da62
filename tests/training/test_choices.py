"""What a recipe chooses: schedules, selection, filters, mixing, kinds of heads and of ages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from faceaudit.errors import UnknownNameError, UsageError
from faceaudit.models.heads import MultiTaskNetwork
from faceaudit.pipeline.predict import predict
from faceaudit.pipeline.prepare import prepare
from faceaudit.reporting.run import report
from faceaudit.showcase.images import photograph
from faceaudit.training import loop, objective, schedule
from faceaudit.training.data import CropSet, read_crops
from faceaudit.training.recipe import Augmentation, Recipe, Schedule, Selection, Stage
from faceaudit.training.recipe_files import list_recipes, load_recipe, recipe_from_facts
from faceaudit.training.splits import Split, divide
from faceaudit.training.state import new_state
from faceaudit.training.train import train
from faceaudit.training.validation import selection_value

FACTS = {
    "name": "small",
    "licence": "none",
    "training_data": "one photograph",
    "backbone": "custom_cnn",
    "weights": "none",
    "batch": 4,
    "stages": [{"epochs": 2, "size": 32}],
    "tasks": {
        "gender": {"scheme": "gender2", "weight": 0.2},
        "race": {"scheme": "utkface5", "weight": 0.4},
        "age": {"scheme": "dj5", "weight": 0.4},
    },
    "heads": {"kind": "ge", "units": [8], "dropout": 0.0},
    "data": {"validation_share": 0.3, "near_duplicates": False},
    "augmentation": "none",
}


def recipe_with(**changes: object) -> Recipe:
    return recipe_from_facts({**FACTS, **changes}, "small.toml")


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images, folder = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("crops")
    photo = photograph()
    for k in range(24):
        crop = photo.crop((120 + k, 40, 380 + k, 300)).resize((100, 100))
        crop.save(images / f"{5 + 3 * k}_{k % 2}_{k % 5}_201701010000000{k:02d}.jpg")
    prepare(images, folder, size=64, detector="whole", quiet=True)
    return folder


def split(crops: CropSet, work: Path, **data: object) -> Split:
    """Parts of crops with these settings of ``data``; only equal bytes are duplicates."""
    recipe = recipe_with(data={"validation_share": 0.3, "near_duplicates": False, **data})
    return divide(crops, recipe, [], work)


def written(recipe: Recipe, folder: Path) -> str:
    """The recipe's facts as a TOML file of the changes that these tests make."""
    lines = [
        f'name = "{recipe.name}"',
        'licence = "none"',
        'training_data = "none"',
        f'backbone = "{recipe.backbone}"',
        'weights = "none"',
        "batch = 4",
        "mean = [0, 0, 0]",
        "std = [1, 1, 1]",
        'augmentation = "none"',
        *(f"[[stages]]\nepochs = {stage.epochs}\nsize = {stage.size}" for stage in recipe.stages),
        f'[heads]\nkind = "{recipe.heads.kind}"\nunits = {list(recipe.heads.units)}',
        "[data]\nvalidation_share = 0.3\nnear_duplicates = false",
        *(
            f'[tasks.{name}]\nscheme = "{task.scheme}"\nscale = {task.scale}'
            for name, task in recipe.tasks.items()
        ),
    ]
    path = folder / "recipe.toml"
    path.write_text("\n".join(lines))
    return str(path)


@pytest.mark.parametrize(
    ("kind", "age"),
    [
        ("dense", "value"),
        ("conv", "dj5"),
        ("gm", "0,18,40"),
        ("am", "years"),
    ],
)
def test_every_kind_of_head_and_age_trains_predicts_and_is_audited(
    crops: Path, tmp_path: Path, kind: str, age: str
) -> None:
    tasks = {**FACTS["tasks"], "age": {"scheme": age, "scale": 69.0}}  # type: ignore[dict-item]
    recipe = recipe_with(heads={"kind": kind, "units": [8]}, tasks=tasks)
    bundle = train(written(recipe, tmp_path), data=[crops], output=tmp_path / "small", max_steps=2)
    metrics = bundle.card["metrics"]
    assert ("age" in metrics) == (age in ("value", "years"))
    assert {"accuracy", "low", "high", "n", "on"} <= set(metrics["gender"])
    bins = (0, 18, 40) if age == "0,18,40" else None
    out = tmp_path / "out.parquet"
    predict(
        crops / "crops",
        out,
        model=str(tmp_path / "small"),
        detector="whole",
        labels="none",
        quiet=True,
        **({"age_bins": bins} if bins else {}),
    )
    table = pl.read_parquet(out)
    assert ("age_pred" in table.columns) == (age in ("value", "years"))
    groups = table["age_group_pred"]
    assert groups.null_count() == 0
    if age == "value":
        assert float(table["age_pred"].min()) >= 0  # type: ignore[arg-type]
    report(out, output=tmp_path / "out.html")
    assert (tmp_path / "out.html").stat().st_size > 10_000


@pytest.mark.parametrize(("by", "metric"), [("gender", "gender"), ("age", "age_group")])
def test_a_task_that_selects_does_so_whatever_it_weighs(by: str, metric: str) -> None:
    tasks = {
        name: {**facts, "weight": 0.0 if name == by else 1.0}  # type: ignore[dict-item]
        for name, facts in FACTS["tasks"].items()  # type: ignore[attr-defined]
    }
    recipe = recipe_with(tasks=tasks, selection={"keep": "best", "by": by})
    others = {"gender": 0.5, "race": 0.5, "age_group": 0.5}
    values = [selection_value({**others, metric: value}, recipe) for value in (0.1, 0.9)]
    assert values == [0.1, 0.9]


def test_schedules_give_the_rate_that_they_promise() -> None:
    stages = [{"epochs": 30, "size": 32}]
    step = recipe_with(
        stages=stages, schedule={"kind": "step", "warmup": 0.0, "factor": 0.5, "every": 10}
    )
    assert [schedule.rate_at(step, epoch, 0.5) for epoch in (0, 9, 10, 29)] == [1, 1, 0.5, 0.25]
    late = recipe_with(
        stages=stages, schedule={"kind": "exponential", "warmup": 0.0, "factor": 0.9, "after": 20}
    )
    assert [schedule.rate_at(late, epoch, 0.0) for epoch in (0, 19)] == [1, 1]
    assert schedule.rate_at(late, 21, 0.0) == pytest.approx(0.81)
    constant = recipe_with(stages=stages, schedule={"kind": "constant", "warmup": 0.1})
    assert schedule.rate_at(constant, 0, 0.0) == 0
    assert schedule.rate_at(constant, 25, 0.0) == 1


def test_a_restart_begins_a_new_cycle_at_its_own_peak() -> None:
    stages = (Stage(2, 32), Stage(1, 48), Stage(2, 48, restart=True, rate=0.5))
    recipe = replace(recipe_with(), stages=stages, schedule=Schedule(warmup=0.0))
    assert schedule.rate_at(recipe, 0, 0.0) == 1
    assert schedule.rate_at(recipe, 2, 0.999) == pytest.approx(0, abs=1e-4)
    assert schedule.rate_at(recipe, 3, 0.0) == 0.5


def test_training_stops_where_patience_ends_and_keeps_the_best(
    crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(
        recipe_with(stages=[{"epochs": 9, "size": 32}]),
        selection=Selection(keep="best", by="gender_loss", patience=2),
        ema=0.0,
    )
    values = iter([0.9, 0.5, 0.8, 0.7, 0.1])
    kept: list[torch.Tensor] = []

    def measured(network: MultiTaskNetwork, *_: object) -> dict[str, float]:
        kept.append(next(network.parameters()).detach().clone())
        return {"gender": 0.5, "race": 0.5, "age_group": 0.5, "gender_loss": next(values)}

    monkeypatch.setattr(loop, "validate", measured)
    parts = split(read_crops(crops, recipe), tmp_path)
    state = loop.train(
        recipe, parts.training, parts.validation, tmp_path, lambda _: None, max_steps=1
    )
    assert (state.epoch, state.best_epoch) == (4, 2)
    assert torch.equal(next(state.average.parameters()), kept[1])
    assert not torch.equal(kept[1], kept[3])


def test_data_filters_keep_what_they_name(crops: Path) -> None:
    everyone = read_crops(crops, recipe_with())
    women = read_crops(crops, recipe_with(data={"where": {"gender": "Female"}}))
    assert (women.labels["gender"] == 1).all()
    assert 0 < len(women) < len(everyone)
    adults = read_crops(crops, recipe_with(data={"ages": [18, 40]}))
    assert adults.labels["age_low"].min() >= 18
    assert adults.labels["age_high"].max() <= 40


def test_a_test_part_does_not_change_the_validation_part(crops: Path, tmp_path: Path) -> None:
    found = read_crops(crops, recipe_with())
    without = split(found, tmp_path)
    with_test = split(found, tmp_path, test_share=0.3)
    assert with_test.validation.sha256 == without.validation.sha256
    assert len(with_test.test)
    assert {*with_test.training.sha256, *with_test.test.sha256} == set(without.training.sha256)


def test_identical_images_with_other_labels_are_left_out(crops: Path, tmp_path: Path) -> None:
    found = read_crops(crops, recipe_with())
    other = replace(found, sha256=(*found.sha256[:-1], found.sha256[0]))
    kept, dropped, without = (
        split(crops_, tmp_path, validation_share=0.01, conflicts=choice)
        for crops_, choice in ((other, "keep"), (other, "drop"), (found, "drop"))
    )
    assert len(kept.training) - len(dropped.training) == 2
    left = dropped.table.with_row_index().filter(reason="conflicting labels")
    assert left["index"].to_list() == [0, len(found) - 1]
    assert without.facts()["left_out_for_conflicting_labels"] == 0


@pytest.mark.parametrize("kind", ["mixup_share", "cutmix_share"])
def test_mixed_images_hold_the_stated_share_of_themselves(kind: str) -> None:
    images = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 20, 20).clone()
    settings = replace(Augmentation(), **{kind: 1.0})
    found, order, share = objective.mixed(images, settings, np.random.default_rng(1))
    wanted = share * images + (1 - share) * images[torch.from_numpy(order)]
    assert 0 < share < 1
    assert torch.allclose(found.mean((1, 2, 3)), wanted.mean((1, 2, 3)), atol=1e-5)
    same, _, whole = objective.mixed(images, Augmentation(), np.random.default_rng(1))
    assert whole == 1
    assert torch.equal(same, images)


def test_frozen_parameters_are_not_in_the_optimizer() -> None:
    state = new_state(replace(recipe_with(optimizer="sgd"), frozen="trunk"))
    trained = sum(len(group["params"]) for group in state.optimizer.param_groups)
    assert trained == len(list(state.network.heads.parameters()))


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_that_ships_is_well_formed(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name
    assert recipe.outputs()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"batch": "many"}, UsageError, r"small\.toml: batch is 'many'; it must be of type int"),
        ({"stages": [{"epochs": 1}]}, UsageError, "stages.size is missing"),
        ({"heads": {"kinds": "ge"}}, UnknownNameError, "kinds"),
        ({"optimizer": "lion"}, UsageError, "adamw"),
        (
            {"data": {"validation_share": 0.6, "test_share": 0.4}},
            UsageError,
            "something to train on",
        ),
        ({"selection": {"by": "height"}}, UnknownNameError, "height"),
        ({"tasks": {"age": {"scheme": "decades"}}}, UsageError, "fairface9"),
        (
            {"tasks": {"gender": {"scheme": "utkface5"}}},
            UsageError,
            r"small\.toml: tasks\.gender\.scheme: no scheme of gender is called 'utkface5'; "
            "choose one of: gender2$",
        ),
        ({"tasks": {"emotion": {"scheme": "gender2"}}}, UsageError, "tasks: no task is called"),
        (
            {"backbone": "resnet51"},
            UsageError,
            r"small\.toml: backbone: .*; did you mean resnet50\?",
        ),
        ({"weights": "jft"}, UsageError, r"small\.toml: weights of .*: no weights is called"),
        (
            {"heads": {"kind": "gated"}},
            UsageError,
            r"heads\.kind: no kind of heads is called 'gated'",
        ),
        ({"frozen": "trunk"}, UsageError, "frozen: trunk of random weights would stay random"),
        ({"heads": {"kind": "gm", "units": [8, 8]}}, UsageError, r"small\.toml: heads\.kind gm: a"),
        ({"tasks": {"race": {"scheme": "utkface5"}}}, UsageError, "needs the task gender"),
        (
            {"backbone": "timm:resnet10t", "frozen": "all_but_last_block"},
            UsageError,
            r"small\.toml: frozen: the last block of timm:resnet10t is not known here",
        ),
    ],
)
def test_a_wrong_key_is_one_clear_error(
    changes: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        recipe_with(**changes)
