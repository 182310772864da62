from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from faceaudit.errors import UnknownNameError, UsageError
from faceaudit.models.backbones import find_backbone
from faceaudit.models.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD
from faceaudit.models.bundle import Bundle, Input, load_bundle
from faceaudit.models.card import card_text
from faceaudit.models.export import write_bundle
from faceaudit.models.standalone import export
from faceaudit.pipeline.prepare import prepare
from faceaudit.runtimes import open_runtime, torch_runtime
from faceaudit.runtimes.torch_runtime import TorchRuntime
from faceaudit.showcase.images import photograph
from faceaudit.training import distillation, loop, objective
from faceaudit.training.ancestors import RULE, held_out_doubts, without_learned
from faceaudit.training.batches import Batch, batches
from faceaudit.training.data import CropSet, read_crops
from faceaudit.training.distillation import open_teachers, resized
from faceaudit.training.losses import distillation_loss
from faceaudit.training.recipe import NO_AUGMENTATION, Recipe
from faceaudit.training.recipe_files import recipe_from_facts
from faceaudit.training.splits import divide
from faceaudit.training.state import State, identity_of, new_state
from faceaudit.training.train import train
from faceaudit.training.validation import predict_logits

FACTS: dict[str, Any] = {
    "name": "pupil",
    "licence": "none",
    "training_data": "one photograph",
    "backbone": "custom_cnn",
    "weights": "none",
    "batch": 4,
    "stages": [{"epochs": 2, "size": 32}],
    "tasks": {"gender": {"scheme": "gender2"}, "age": {"scheme": "years"}},
    "data": {"validation_share": 0.3, "near_duplicates": False},
}
TEACHER_SIZE = 48
BATCH = (6, 32, 32, 3)


def recipe_of(*teachers: Path | str, **settings: Any) -> Recipe:
    taught = {"teachers": [str(one) for one in teachers], **settings}
    return recipe_from_facts({**FACTS, "distillation": taught}, "pupil.toml")


def write_teacher(
    folder: Path, seed: int = 0, card: Mapping[str, Any] | None = None, **changes: Any
) -> Path:
    """A bundle of a random network that calls nearly every face female and 30 years old."""
    recipe = replace(recipe_from_facts(FACTS, "teacher.toml"), seed=seed)
    network = new_state(recipe).network.eval()
    with torch.no_grad():
        for name, place in (("gender", 1), ("age", 30)):
            (*_, bias) = network.last_layers()[name].parameters()
            bias[place] += 6
    facts = Bundle(
        name=f"teacher {seed}",
        graph=folder,
        licence="CC BY 4.0",
        training_data="none",
        input=Input(TEACHER_SIZE, "NHWC", range=255.0),
        align=recipe.align,
        margin=recipe.margin,
        offset=recipe.offset,
        tasks=recipe.outputs(),
        sha256="",
        card={"backbone": recipe.backbone, "recipe": recipe.to_json(), **(card or {})},
    )
    folder.mkdir(exist_ok=True)
    write_bundle(folder, network, replace(facts, **changes), IMAGENET_MEAN, IMAGENET_STD)
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images, folder = (tmp_path_factory.mktemp(name) for name in ("images", "crops"))
    for k in range(24):
        crop = photograph().crop((120 + k, 40, 380 + k, 300)).resize((100, 100))
        crop.save(images / f"{12 + 2 * k}_{k % 2}_{k % 5}_201701010000000{k:02d}.jpg")
    prepare(images, folder, size=64, detector="whole")
    return folder


@pytest.fixture(scope="module")
def crops(folder: Path) -> CropSet:
    return read_crops(folder, recipe_of())


def pixels() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, BATCH, dtype=np.uint8)


def batch_of(recipe: Recipe, known: bool = True) -> Batch:
    """Six faces with what the recipe's teachers say of them."""
    ages = np.arange(20, 26) if known else np.full(6, -1)
    labels = {"gender": np.arange(6) % 2 if known else np.full(6, -1)}
    labels |= {"age_low": ages, "age_high": ages}
    return Batch(pixels(), labels, taught=open_teachers(recipe, "cpu").logits(pixels()))


def train_steps(recipe: Recipe, crops: CropSet, work: Path, **named: Any) -> State:
    work.mkdir(exist_ok=True)
    return loop.train(
        recipe, crops.take(np.arange(16)), crops.take(np.arange(16, 24)), work, lambda _: None,
        **named,
    )  # fmt: skip


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_loss_is_the_divergence_from_the_teachers_plus_their_entropy(
    temperature: float,
) -> None:
    generator = torch.Generator().manual_seed(0)
    own, theirs = (torch.randn(6, 7, generator=generator) for _ in range(2))
    logs, wanted = (own / temperature).log_softmax(1), (theirs / temperature).softmax(1)
    divergence = torch.nn.functional.kl_div(logs, wanted, reduction="batchmean")
    entropy = torch.distributions.Categorical(wanted).entropy().mean()
    found = distillation_loss(own, theirs, temperature)
    assert found.item() == pytest.approx(temperature**2 * (divergence + entropy).item(), rel=1e-5)


def test_a_network_that_says_what_its_teachers_say_is_left_alone() -> None:
    theirs = torch.randn(6, 7, generator=torch.Generator().manual_seed(0))
    own = (theirs + 5).requires_grad_()
    distillation_loss(own, theirs, 2.0).backward()  # type: ignore[no-untyped-call]
    assert own.grad is not None
    assert own.grad.abs().max() < 1e-6
    other = (1.5 * theirs).requires_grad_()
    distillation_loss(other, theirs, 2.0).backward()  # type: ignore[no-untyped-call]
    assert other.grad is not None
    assert other.grad.abs().max() > 1e-2


def test_teachers_give_the_mean_of_their_logits_on_the_same_crops(
    teacher: Path, tmp_path: Path
) -> None:
    other = write_teacher(tmp_path / "other", seed=1)
    found = open_teachers(recipe_of(teacher, other), "cpu").logits(pixels())
    seen = resized(pixels(), TEACHER_SIZE)
    assert seen.shape == (6, TEACHER_SIZE, TEACHER_SIZE, 3)
    one, two = (open_runtime(load_bundle(str(name))).infer(seen) for name in (teacher, other))
    assert set(found) == {"gender", "age"}
    for name, values in found.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, (one[name] + two[name]) / 2, rtol=1e-5, atol=1e-5)
        assert np.abs(one[name] - two[name]).max() > 1e-3


def test_mirrored_teachers_say_the_same_of_a_view_and_its_mirror(teacher: Path) -> None:
    one_way = open_teachers(recipe_of(teacher), "cpu")
    both_ways = open_teachers(recipe_of(teacher, mirrored=True), "cpu")
    mirrors = pixels()[:, :, ::-1]
    found, turned = both_ways.logits(pixels()), both_ways.logits(mirrors)
    for name, values in found.items():
        plain = (one_way.logits(pixels())[name] + one_way.logits(mirrors)[name]) / 2
        np.testing.assert_allclose(values, plain, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(values, turned[name], rtol=1e-5, atol=1e-5)
        assert np.abs(values - one_way.logits(pixels())[name]).max() > 1e-3


def test_teachers_run_in_the_precision_that_is_asked_for(teacher: Path) -> None:
    recipe = {**FACTS, "align": "similarity", "margin": -0.05, "offset": 0.15}
    recipe["tasks"] = {"gender": {"scheme": "gender2"}}

    def said(precision: str) -> np.ndarray:
        taught = {"teachers": ["fairface"], "precision": precision}
        found = recipe_from_facts({**recipe, "distillation": taught}, "pupil.toml")
        return open_teachers(found, "cpu").logits(pixels())["gender"]

    assert 0 < np.abs(said("int8") - said("float32")).max() < 1
    with pytest.raises(UsageError, match="int8"):
        open_teachers(recipe_of(teacher, precision="int8"), "cpu")


def test_teachers_share_a_tasks_loss_with_the_labels(teacher: Path) -> None:
    def losses(weight: float) -> dict[str, float]:
        recipe = recipe_of(teacher, weight=weight, temperature=2.0)
        network = new_state(recipe).network.eval()
        found = objective.batch_losses(network, batch_of(recipe), recipe, (0,))
        return {name: loss.item() for name, loss in found.items()}

    labels, both, teachers = losses(0.0), losses(0.25), losses(1.0)
    for name in labels:
        assert abs(labels[name] - teachers[name]) > 0.1
        assert both[name] == pytest.approx(0.75 * labels[name] + 0.25 * teachers[name], rel=1e-5)


def test_faces_without_labels_learn_from_teachers(teacher: Path) -> None:
    recipe = recipe_of(teacher, weight=0.5)
    network = new_state(recipe).network
    losses = objective.batch_losses(network, batch_of(recipe, known=False), recipe, (0,))
    assert all(loss.item() > 0.1 for loss in losses.values())
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert any(parameter.grad.any() for parameter in network.trunk.parameters())


@pytest.mark.parametrize("kind", ["mixup_share", "cutmix_share"])
def test_what_teachers_say_is_mixed_as_the_images_are(teacher: Path, kind: str) -> None:
    recipe = recipe_of(teacher, weight=1.0, temperature=2.0)
    recipe = replace(recipe, augmentation=replace(NO_AUGMENTATION, **{kind: 1.0}))
    batch, network = batch_of(recipe), new_state(recipe).network.eval()
    found = objective.batch_losses(network, batch, recipe, (5,))
    images, order, share = objective.mixed(
        objective.normalized(batch.images, recipe), recipe.augmentation, np.random.default_rng((5,))
    )
    assert 0 < share < 1
    for name, values in objective.forward(network, images, recipe).items():
        probs = (torch.from_numpy(batch.taught[name]) / 2).softmax(1)
        wanted = share * probs + (1 - share) * probs[torch.from_numpy(order)]
        loss = 4 * torch.nn.functional.cross_entropy(values / 2, wanted)
        assert found[name].item() == pytest.approx(loss.item(), rel=1e-5)


def test_a_training_moves_towards_its_teacher(
    teacher: Path, crops: CropSet, tmp_path: Path
) -> None:
    whole = next(
        batches(
            crops, range(24), 32, 24, None, (0,), teachers=open_teachers(recipe_of(teacher), "cpu")
        )
    )

    def distances(recipe: Recipe, work: Path) -> dict[str, float]:
        network = train_steps(recipe, crops, work).network
        found, _ = predict_logits(network, recipe, crops, 32)
        return {
            name: distillation_loss(
                torch.from_numpy(values), torch.from_numpy(whole.taught[name]), 1.0
            ).item()
            for name, values in found.items()
        }

    alone = distances(recipe_of(), tmp_path / "alone")
    taught = distances(recipe_of(teacher), tmp_path / "taught")
    for name in alone:
        assert taught[name] < alone[name] - 0.05


def test_a_taught_training_that_was_interrupted_ends_with_the_same_weights(
    teacher: Path, crops: CropSet, tmp_path: Path
) -> None:
    def stop(epoch: int, metrics: Mapping[str, float]) -> None:
        raise InterruptedError

    torch.set_num_threads(1)
    recipe = recipe_of(teacher)
    whole = train_steps(recipe, crops, tmp_path / "whole")
    with pytest.raises(InterruptedError):
        train_steps(recipe, crops, tmp_path / "cut", on_epoch=stop)
    cut = train_steps(recipe, crops, tmp_path / "cut")
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, cut.average.state_dict()[name]), name


def test_a_checkpoint_taught_by_others_is_refused(crops: CropSet, tmp_path: Path) -> None:
    recipe, work = recipe_of(write_teacher(tmp_path / "teacher")), tmp_path / "work"
    train_steps(recipe, crops, work, max_steps=1)
    with pytest.raises(UsageError, match="with other distillation, teachers;"):
        train_steps(recipe_of(), crops, work, max_steps=1)
    write_teacher(tmp_path / "teacher", seed=1)
    with pytest.raises(UsageError, match="with other teachers;"):
        train_steps(recipe, crops, work, max_steps=1)


def test_without_teachers_no_bundle_is_opened(
    crops: CropSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distillation, "load_bundle", None)
    first = train_steps(recipe_of(weight=0.9), crops, tmp_path, max_steps=1)
    assert first.epoch == 2
    assert train_steps(recipe_of(), crops, tmp_path, max_steps=1).total == first.total
    assert "distillation" not in identity_of(recipe_of(), crops, crops, 1)


def card_of(share: float, **changes: Any) -> dict[str, Any]:
    """What a training's card says of what it held out."""
    split = {"rule": f"{RULE}; validation where u < {share}"}
    return {"split": split, "recipe": {"data": {"validation_share": share}}, **changes}


def test_bundles_that_may_have_been_trained_on_held_out_images_are_named(
    folder: Path, crops: CropSet, tmp_path: Path
) -> None:
    """Pictures are held out below u = .5: half for validation, half for a test."""

    def doubts(**card: Any) -> list[str]:
        start = write_teacher(tmp_path / "one", card=card, training_data="one photograph")
        return held_out_doubts(replace(recipe, start=str(start)), split)

    data = replace(recipe_of().data, validation_share=0.25, test_share=0.25)
    recipe = replace(recipe_of(), data=data)
    split = divide(crops, recipe, [folder], tmp_path)
    u = [int(digest[:8], 16) / 2**32 for digest in crops.sha256]
    held, seen = sum(one < 0.5 for one in u), sum(0.25 <= one < 0.5 for one in u)
    assert 0 < seen < held < len(crops)
    begin = "The start teacher 0 may have been trained on"
    assert doubts(**card_of(0.25)) == [
        f"{begin} {seen} of the {held} held-out images of this run: it held out u < 0.25."
    ]
    assert doubts(**card_of(0.5)) == doubts(**card_of(0.6)) == []
    (unknown,) = doubts(split="random", recipe="in a drawer")
    assert (
        unknown == f"{begin} held-out images of this run: its card does not say what it held out."
    )
    (inherited,) = doubts(**card_of(0.5, held_out_doubts=["The start x may have been trained."]))
    assert inherited.endswith("its card doubts its own start or teachers.")


def test_copies_of_held_out_pictures_are_doubted_where_the_bundles_data_had_not_the_same(
    folder: Path, crops: CropSet, tmp_path: Path
) -> None:
    recipe = replace(recipe_of(), data=replace(recipe_of().data, validation_share=0.5))
    split = divide(crops, recipe, [folder], tmp_path)
    order = np.argsort(np.asarray(crops.sha256))
    group = split.table["group"].to_numpy().copy()
    group[order[-1]] = group[order[0]]  # the largest u joins the smallest
    part = split.table["part"].to_numpy().copy()
    part[order[-1]] = part[order[0]]
    table = split.table.with_columns(group=pl.Series(group), part=pl.Series(part))
    joined = replace(split, table=table)
    # Both pictures of the group count: whoever learned the one has seen the other.
    for counts, count in ((split.facts(), 1), (joined.facts(), 0)):
        card = card_of(0.5)
        card["split"] |= counts
        start = write_teacher(tmp_path / "start", card=card)
        found = held_out_doubts(replace(recipe, start=str(start)), joined)
        assert len(found) == count
        assert all("may have been trained on 2 of the" in one for one in found)
        assert all(one.endswith("it held out u < 0.5 of its own data (none).") for one in found)


def test_a_training_warns_of_doubts_before_it_starts_and_its_card_has_them(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = recipe_of(write_teacher(tmp_path / "teacher", card={"split": "random"}))
    bundle = train(recipe, data=[folder], output=tmp_path / "pupil", max_steps=1)
    (sentence,) = bundle.card["held_out_doubts"]
    assert sentence.startswith("The teacher teacher 0 may have been trained on ")
    (warning,) = [one for one in caplog.records if "teacher" in one.message]
    assert warning.getMessage() == sentence
    figures = card_text(bundle).partition("## Held-out figures")[2]
    assert f"\n- {sentence}\n" in figures


def test_held_out_images_that_a_start_or_teacher_may_have_learned_are_left_out(
    folder: Path, crops: CropSet, tmp_path: Path
) -> None:
    """Pictures are held out below u = .3, and of those the teacher held out a part."""
    u = sorted(int(digest[:8], 16) / 2**32 for digest in crops.sha256)
    share = (u[1] + u[2]) / 2
    held = sum(one < 0.3 for one in u)
    assert held > 2
    recipe = recipe_of(write_teacher(tmp_path / "teacher", card=card_of(share)))
    bundle = train(recipe, data=[folder], output=tmp_path / "pupil", max_steps=1)
    assert "held_out_doubts" not in bundle.card
    assert bundle.card["split"]["validation"] == 2
    assert bundle.card["split"]["left_out_as_learned_before"] == held - 2
    assert bundle.card["split"]["training"] == len(crops) - held
    table = pl.read_parquet(tmp_path / "pupil.training" / "splits.parquet")
    left = table.filter(pl.col("part") == "left out")
    assert set(left["reason"]) == {"a start or teacher may have learned it"}
    assert all(share <= int(digest[:8], 16) / 2**32 < 0.3 for digest in left["sha256"])

    def seen_by(start: Bundle) -> int:
        again = replace(recipe_of(), start=str(start.graph.parent))
        split = divide(crops, again, [folder], tmp_path)
        rest = without_learned(again, split, tmp_path)
        return len(split.validation) - len(rest.validation)

    # What comes of the pupil remembers what its own teacher had learned.
    assert seen_by(bundle) == held - 2


def test_held_out_images_stay_where_none_would_be_left(
    folder: Path, crops: CropSet, tmp_path: Path
) -> None:
    recipe = recipe_of(write_teacher(tmp_path / "teacher", card=card_of(0.0)))
    split = divide(crops, recipe, [folder], tmp_path)
    assert without_learned(recipe, split, tmp_path) is split
    (doubt,) = held_out_doubts(recipe, split)
    count = f"{len(split.validation)} of the {len(split.validation)} held-out images"
    assert count in doubt


@pytest.mark.parametrize("said", [None, False, True])
def test_weights_of_unknown_terms_are_for_research_unless_the_recipe_says_otherwise(
    said: bool | None, folder: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "mine.safetensors"
    save_file(find_backbone("custom_cnn").build().state_dict(), weights)
    recipe = replace(recipe_of(), weights=str(weights), research_only=said)
    bundle = train(recipe, data=[folder], output=tmp_path / "pupil", max_steps=1)
    assert bundle.licence == "none" + ("; weights mine.safetensors: terms unknown" * (said is None))
    assert bundle.card["weights"] == "mine.safetensors: a file of the user"
    assert bundle.card["weights_licence"] == "terms unknown"
    assert bundle.card["research_only"] is (said is not False)
    assert bundle.notice == (None if said is False else bundle.licence)
    assert str(tmp_path) not in (tmp_path / "pupil" / "bundle.json").read_text()
    assert ("**Research only:**" in card_text(bundle)) is (said is not False)


@pytest.mark.parametrize("research_only", [True, False])
def test_the_card_names_the_teachers_and_takes_over_their_limits(
    folder: Path, tmp_path: Path, research_only: bool
) -> None:
    teacher = write_teacher(tmp_path / "teacher", card={"research_only": research_only})
    bundle = train(recipe_of(teacher), data=[folder], output=tmp_path / "pupil", max_steps=1)
    sha256 = load_bundle(str(teacher)).sha256
    assert bundle.card["teachers"] == [
        {"bundle": "teacher 0", "sha256": sha256, "licence": "CC BY 4.0"}
    ]
    assert bundle.card["research_only"] is research_only
    assert bundle.card["recipe"]["distillation"]["teachers"] == ["teacher 0"]
    assert str(tmp_path) not in (tmp_path / "pupil" / "bundle.json").read_text()
    text = card_text(bundle)
    assert f"teacher 0 (license: CC BY 4.0; SHA-256 {sha256})" in text
    assert ("**Research only:**" in text) is research_only


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"margin": 0.4}, r"odd: its margin is 0.4, the recipe's -0.05$"),
        ({"align": "none", "offset": 0.0}, "its align is none, the recipe's similarity; its off"),
        ({"tasks": recipe_of().outputs()[:1]}, "odd: it has no task age, only gender$"),
        (
            {"tasks": (replace(recipe_of().outputs()[0], classes=("Female", "Male")),)},
            "its classes of gender are others, or in another order; it has no task age",
        ),
        (
            {"tasks": (replace(recipe_of().outputs()[0], activation="none"),)},
            "its gender has activation none, not softmax",
        ),
    ],
)
def test_a_teacher_that_does_not_fit_is_one_line_that_says_why(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    odd = write_teacher(tmp_path / "odd", **changes)
    with pytest.raises(UsageError, match=message) as caught:
        open_teachers(recipe_of(odd), "cpu")
    assert str(caught.value).startswith(f"recipe pupil: distillation.teachers: {odd}: ")


def test_a_teacher_or_start_that_does_not_fit_is_told_before_crops_are_read(
    teacher: Path, tmp_path: Path
) -> None:
    alone = export(str(teacher), tmp_path / "alone.onnx").graph
    taught = {**FACTS, "margin": 0.3, "distillation": {"teachers": [str(teacher)]}}
    odd = {"heads": {"kind": "dense", "units": [8]}, "start": str(teacher)}
    for facts, told in (
        (taught, "distillation.teachers: .* its margin is"),
        ({**FACTS, **odd}, "has another backbone, other heads or other outputs"),
        ({**FACTS, "start": str(alone)}, r"start: .*alone\.onnx is a graph alone, which cannot be"),
        (
            {**FACTS, "distillation": {"teachers": [str(teacher)], "precision": "int8"}},
            "--precision int8: teacher 0 has no int8 graph",
        ),
    ):
        recipe = recipe_from_facts(facts, "pupil.toml")
        with pytest.raises(UsageError, match=told):
            train(recipe, data=[tmp_path / "absent"], output=tmp_path / "none")


def test_teachers_in_torch_take_one_batch_at_once(teacher: Path) -> None:
    recipe = recipe_of(teacher, precision="bfloat16")  # in torch, also on a CPU
    (found,) = open_teachers(recipe, "cpu", 3).members
    assert isinstance(found.runtime, TorchRuntime)
    seen = []
    run = torch_runtime.Slot.run

    def noted(slot: Any, crops: np.ndarray[Any, Any], rows: int) -> Any:
        seen.append((len(crops), rows))
        return run(slot, crops, rows)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch_runtime.Slot, "run", noted)
        assert found.logits(pixels())["gender"].shape == (6, 2)
        assert seen == [(3, 3), (3, 3)]


def test_a_teacher_of_another_scheme_is_refused_by_name() -> None:
    recipe = recipe_from_facts(
        {
            **FACTS,
            "tasks": {"race": {"scheme": "utkface5"}},
            "distillation": {"teachers": ["fairface"]},
        },
        "pupil.toml",
    )
    with pytest.raises(UsageError, match="fairface: its race has scheme fairface7, the recipe's u"):
        open_teachers(recipe, "cpu")
    with pytest.raises(UnknownNameError, match="no model is called 'nobody'"):
        open_teachers(recipe_of("nobody"), "cpu")


def test_settings_that_cannot_be_are_one_clear_error() -> None:
    with pytest.raises(UsageError, match=r"distillation.weight is 1.5; it must be from 0 to 1"):
        recipe_of("fairface", weight=1.5)
    with pytest.raises(UsageError, match=r"distillation.temperature is 0; it must be above 0"):
        recipe_of("fairface", temperature=0)
    with pytest.raises(UsageError, match=r"tasks.age.scheme value has none; choose years or age"):
        recipe_from_facts(
            {
                **FACTS,
                "tasks": {"age": {"scheme": "value"}},
                "distillation": {"teachers": ["fairface"]},
            },
            "pupil.toml",
        )
