from __future__ import annotations

import importlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from faceaudit.errors import (
    InputError,
    LabelError,
    TemporaryError,
    UnknownNameError,
    UsageError,
)
from faceaudit.models.bundle import facts_of, load_bundle
from faceaudit.models.int8 import INT8
from faceaudit.pipeline.predict import predict
from faceaudit.pipeline.prepare import prepare
from faceaudit.showcase.images import photograph
from faceaudit.training import loop, objective, schedule
from faceaudit.training.batches import batches
from faceaudit.training.data import (
    CropSet,
    augmented_view,
    central_view,
    check_labels,
    join_crops,
    read_crop,
    read_crops,
    read_folders,
)
from faceaudit.training.recipe import NO_AUGMENTATION, Recipe, Stage
from faceaudit.training.recipe_files import load_recipe
from faceaudit.training.recipe_values import OWN_KEYS, RECORDED
from faceaudit.training.splits import divide
from faceaudit.training.state import State, new_state
from faceaudit.training.train import best_temperature, open_device, train
from faceaudit.training.tune import tune

SMALL = """
name = "small"
licence = "none"
training_data = "one photograph"
backbone = "mobilenet_v2"
weights = "none"
batch = 4
stages = [{ epochs = 1, size = 32 }, { epochs = 1, size = 48 }]
[tasks.gender]
scheme = "gender2"
[tasks.race]
scheme = "utkface5"
[tasks.age]
scheme = "years"
smoothness = 0.01
[data]
validation_share = 0.3
near_duplicates = false
[card]
intended_use = "tests"
limits = ["everything"]
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    path.write_text(SMALL)
    return str(path)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty crops of the photograph, a little different each, named as UTKFace names them."""
    folder = tmp_path_factory.mktemp("images")
    photo = photograph()
    for k in range(30):
        crop = photo.crop((120 + k, 40, 380 + k, 300)).resize((140, 140))
        crop.save(folder / f"{20 + 2 * k}_{k % 2}_{k % 5}_201701010000000{k:02d}.jpg")
    return folder


@pytest.fixture(scope="module")
def crops(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    found = prepare(images, folder, size=96)
    assert found.images == found.crops == 30
    return folder


def test_prepared_crops_are_a_labelled_image_folder(crops: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(crops / "metadata.parquet")
    assert set(table.columns) >= {"file_name", "image", "sha256", "gender_true", "age_true"}
    assert all((crops / name).is_file() for name in table["file_name"])
    assert read_crop(crops / table["file_name"][0]).shape == (96, 96, 3)
    found = predict(crops, tmp_path / "out.parquet", detector="whole")
    assert found.images == 30
    assert found.labels == "imagefolder"


def test_an_image_without_a_face_keeps_its_row(specimens: Path, tmp_path: Path) -> None:
    found = prepare(specimens, tmp_path / "crops")
    faces = pl.read_parquet(tmp_path / "crops" / "faces.parquet")
    assert len(faces) == found.images
    assert found.crops == faces.filter(pl.col("status") == "ok").height < found.images
    assert set(faces["status"]) >= {"ok", "no_face", "unreadable", "unsupported"}


def test_split_keeps_identical_images_together(crops: Path, recipe: str, tmp_path: Path) -> None:
    found = read_crops(crops, load_recipe(recipe))
    doubled = join_crops([found, found])
    settings = load_recipe(recipe)
    both = divide(doubled, settings, [crops], tmp_path)
    training, validation = both.training, both.validation
    assert not len(both.test)
    assert len(training) + len(validation) == 60
    assert 0 < len(validation) < 60
    assert not set(training.sha256) & set(validation.sha256)
    alone = divide(found, settings, [crops], tmp_path)
    assert set(alone.validation.sha256) == set(validation.sha256)


def test_ages_in_years_and_in_groups_become_intervals(
    crops: Path, recipe: str, tmp_path: Path
) -> None:
    settings = load_recipe(recipe)
    exact = read_crops(crops, settings)
    assert np.array_equal(exact.labels["age_low"], exact.labels["age_high"])
    table = pl.read_parquet(crops / "metadata.parquet").drop("age_true")
    groups = ["0-2", "3-9", "10-19", "20-29", "30+"] * 6
    table.with_columns(pl.Series("age_group_true", groups)).write_parquet(
        tmp_path / "metadata.parquet"
    )
    grouped = read_crops(tmp_path, settings)
    assert (grouped.labels["age_low"][3], grouped.labels["age_high"][3]) == (20, 29)
    assert (grouped.labels["age_low"][4], grouped.labels["age_high"][4]) == (30, 100)


def test_crops_without_any_label_column_are_told_so(
    crops: Path, recipe: str, tmp_path: Path
) -> None:
    table = pl.read_parquet(crops / "metadata.parquet").select(pl.exclude("^.*_true$"))
    table.write_parquet(tmp_path / "metadata.parquet")
    with pytest.raises(
        LabelError, match="no labels of gender, race or age; run `faceaudit prepare"
    ):
        read_folders([tmp_path], load_recipe(recipe))
    assert len(read_folders([crops, tmp_path], load_recipe(recipe))) == 60  # these have some


def test_folders_that_do_not_fit_are_named(crops: Path, recipe: str, tmp_path: Path) -> None:
    settings = load_recipe(recipe)
    with pytest.raises(InputError, match="faceaudit prepare"):
        read_crops(tmp_path, settings)
    with pytest.raises(InputError, match="needs align none"):
        read_crops(crops, replace(settings, align="none"))
    settings = replace(
        settings, tasks={"race": replace(settings.tasks["race"], scheme="fairface7")}
    )
    table = pl.read_parquet(crops / "metadata.parquet")
    table.with_columns(race_true=pl.lit("Martian")).write_parquet(tmp_path / "metadata.parquet")
    with pytest.raises(LabelError, match="no race_true is a class of the scheme fairface7"):
        check_labels(read_crops(tmp_path, settings), settings)


def test_the_central_view_is_the_crop_that_predict_makes() -> None:
    """A wide stored crop, seen through the training's view, equals a crop made directly."""
    from faceaudit.faces import choose_faces, crop_face, open_detector

    image = np.asarray(photograph())
    found = open_detector("retinaface").detect([image])[0]
    face = choose_faces(found, "largest", image.shape[1], image.shape[0])[0]
    options = {"align": "similarity", "offset": 0.15}
    direct = crop_face(image, face, size=112, margin=-0.05, **options)  # type: ignore[arg-type]
    wide = crop_face(image, face, size=192, margin=0.4, **options)  # type: ignore[arg-type]
    view = central_view(wide, 112, 1.4 / 0.95)
    assert np.abs(view.astype(int) - direct.astype(int)).mean() < 3
    shifted = np.roll(direct, 2, axis=1)
    assert np.abs(view.astype(int) - shifted.astype(int)).mean() > 5


def test_augmentation_depends_on_its_seed_alone(crops: Path, recipe: str) -> None:
    settings = load_recipe(recipe)
    crop = read_crop(next((crops / "crops").rglob("*.jpg")))
    first, again, other = (
        augmented_view(crop, 48, 1.4, settings.augmentation, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    found = read_crops(crops, settings)
    whole = list(batches(found, range(30), 32, 4, settings.augmentation, (0, 0)))
    rest = list(batches(found, range(30), 32, 4, settings.augmentation, (0, 0), first=5))
    assert len(whole) == 8
    assert np.array_equal(whole[5].images, rest[0].images)


def test_processes_make_for_a_gpu_what_threads_make(crops: Path, recipe: str) -> None:
    settings = load_recipe(recipe)
    found = read_crops(crops, settings)
    missing = replace(found, files=(crops / "missing.jpg", *found.files[1:]))
    given = missing, range(30), 32, 4, settings.augmentation, (0, 0)
    by_threads = list(batches(*given, first=1))
    by_processes = list(batches(*given, first=1, device="cuda:0"))
    assert len(by_processes) == 7
    for one, other in zip(by_threads, by_processes, strict=True):
        assert np.array_equal(one.images, other.images)
        assert {name: rows.tolist() for name, rows in one.labels.items()} == {
            name: rows.tolist() for name, rows in other.labels.items()
        }
    (first,) = batches(missing, range(3), 32, 4, None, (0,), device="cuda:0")
    assert first.skipped == (crops / "missing.jpg",)
    assert len(first.images) == 2


def test_the_rate_warms_up_and_ends_at_zero() -> None:
    assert schedule.rate_factor(0.0, 0.1) == 0
    assert schedule.rate_factor(0.1, 0.1) == pytest.approx(1)
    assert schedule.rate_factor(1.0, 0.1) == pytest.approx(0)


def test_temperature_undoes_overconfidence(recipe: str) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(4000, 5)).astype(np.float32)
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.asarray([generator.choice(5, p=row / row.sum()) for row in probs.astype(float)])
    found = best_temperature(3 * logits, {"race": labels}, load_recipe(recipe), "race")
    assert found == pytest.approx(3, rel=0.1)


def test_a_training_ends_with_a_bundle_that_predicts(
    crops: Path, recipe: str, images: Path, tmp_path: Path
) -> None:
    bundle = train(recipe, data=[crops], output=tmp_path / "small")
    again = load_bundle(str(tmp_path / "small"))
    assert again.sha256 == bundle.sha256
    assert again.input.size == 48
    assert again.card["metrics"]["gender"]["n"] == again.card["split"]["validation"]
    work = tmp_path / "small.training"
    for name in ("history.png", "splits.parquet", "validation.html", "validation.parquet"):
        assert (work / name).stat().st_size > 100
    assert again.card["temperatures_fitted_on"].endswith("the same that the metrics are of")
    computed = set(facts_of(again)) - {"intended_use", "limits"}
    assert computed <= {*OWN_KEYS, *RECORDED}  # which no recipe's card can replace
    history = pl.read_csv(work / "history.csv")
    assert history["size"].to_list() == [32, 48]
    found = predict(images, tmp_path / "out.parquet", model=str(tmp_path / "small"))
    assert found.statuses == {"ok": 30}


module = importlib.import_module("faceaudit.training.train")


class KilledError(Exception):
    pass


def test_an_interrupted_loop_goes_on_to_the_same_result(
    crops: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    torch.set_num_threads(1)
    settings = replace(load_recipe(recipe), backbone="custom_cnn")
    parts = divide(read_crops(crops, settings), settings, [crops], tmp_path)
    original, count = loop.update_average, 0

    def run(name: str) -> State:
        (tmp_path / name).mkdir(exist_ok=True)
        return loop.train(settings, parts.training, parts.validation, tmp_path / name, said.append)

    def kill_in_the_middle(state: State, decay: float) -> None:
        nonlocal count
        count += 1
        if count == 8:
            raise KilledError
        original(state, decay)

    said: list[str] = []
    whole = run("whole")
    monkeypatch.setattr(loop, "update_average", kill_in_the_middle)
    with pytest.raises(KilledError):
        run("cut")
    monkeypatch.setattr(loop, "update_average", original)
    cut = run("cut")
    assert any(line.startswith("going on at epoch 2, step") for line in said)
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, cut.average.state_dict()[name]), name
    first, second = (pl.read_csv(tmp_path / name / "history.csv") for name in ("whole", "cut"))
    assert first.drop("seconds").equals(second.drop("seconds"))
    assert {"loss", "training_age_loss", "gender_loss", "gender", "age_mae"} <= set(first.columns)
    run("cut")
    assert said[-1] == "training is complete after epoch 2"


def test_a_checkpoint_of_another_training_is_refused(
    crops: Path, recipe: str, tmp_path: Path
) -> None:
    settings = replace(load_recipe(recipe), backbone="custom_cnn")
    parts = divide(read_crops(crops, settings), settings, [crops], tmp_path)
    said: list[str] = []

    def run(settings: Recipe, training: CropSet) -> None:
        loop.train(settings, training, parts.validation, tmp_path, said.append, max_steps=1)

    run(settings, parts.training)
    with pytest.raises(UsageError, match=r"with other batch, seed; give another --output"):
        run(replace(settings, batch=5, seed=1), parts.training)
    with pytest.raises(UsageError, match="with other training crops"):
        run(settings, parts.training.take(np.arange(5)))
    told = {"card": {"limits": ["another sentence"]}, "research_only": True}
    run(replace(settings, **told), parts.training)  # type: ignore[arg-type]
    assert said[-1] == "training is complete after epoch 2"


@pytest.mark.slow
def test_a_training_killed_by_the_system_ends_with_the_same_bytes(
    crops: Path, recipe: str, tmp_path: Path
) -> None:
    program = (
        "import sys, torch; from pathlib import Path; from faceaudit.training import loop; "
        "from faceaudit.training.train import train; torch.set_num_threads(1); "
        "loop.CHECKPOINT_SECONDS = 0; "
        "train(sys.argv[1], data=[Path(sys.argv[2])], output=Path(sys.argv[3]))"
    )

    def start(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", program, recipe, str(crops), str(tmp_path / name)]
        return subprocess.Popen(command)

    assert start("whole").wait() == 0
    killed = start("cut")
    checkpoint = tmp_path / "cut.training" / "checkpoint.pt"
    while not checkpoint.exists() and killed.poll() is None:
        time.sleep(0.01)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "cut" / "bundle.json").exists()
    assert start("cut").wait() == 0
    whole, cut = (tmp_path / name / "weights.safetensors" for name in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()


def test_a_finished_training_does_not_go_on_with_other_stages(
    crops: Path, recipe: str, tmp_path: Path
) -> None:
    one, two = Stage(1, 32), Stage(1, 32, restart=True)
    short = replace(load_recipe(recipe), backbone="custom_cnn", stages=(one,))
    parts = divide(read_crops(crops, short), short, [crops], tmp_path)

    def run(stages: tuple[Stage, ...]) -> State:
        settings = replace(short, stages=stages)
        return loop.train(settings, parts.training, parts.validation, tmp_path, lambda _: None, 2)

    assert run((one,)).epoch == 1
    for stages in ((one, two), (one, replace(two, restart=False)), (replace(one, size=48),)):
        with pytest.raises(UsageError, match="other stages"):
            run(stages)
    assert run((one,)).epoch == 1


def test_a_crop_that_cannot_be_decoded_leaves_a_smaller_batch(
    crops: Path, recipe: str, tmp_path: Path
) -> None:
    settings = load_recipe(recipe)
    found = read_crops(crops, settings)
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    damaged = replace(found, files=(bad, *found.files[1:]))
    first = next(batches(damaged, range(30), 32, 4, settings.augmentation, (0, 0)))
    whole = next(batches(found, range(30), 32, 4, settings.augmentation, (0, 0)))
    assert first.skipped == (bad,)
    assert np.array_equal(first.images, whole.images[1:])
    assert np.array_equal(first.labels["race"], whole.labels["race"][1:])
    alone = next(batches(damaged.take(np.zeros(1, int)), [0], 32, 4, None, (0,)))
    assert alone.images.shape == (0, 32, 32, 3)


def test_a_training_survives_crops_that_cannot_be_decoded(
    crops: Path, recipe: str, tmp_path: Path
) -> None:
    settings = replace(load_recipe(recipe), backbone="custom_cnn", batch=1)
    found = read_crops(crops, settings)
    damaged = replace(found, files=(tmp_path / "gone.jpg", *found.files[1:]))
    training, validation = damaged.take(np.arange(2)), damaged.take(np.asarray([0, 2, 3]))
    said: list[str] = []
    state = loop.train(settings, training, validation, tmp_path, said.append)
    assert state.epoch == 2
    assert any(line.startswith("left out 1 crops that cannot be decoded") for line in said)


def test_no_augmentation_is_exactly_the_central_view(crops: Path) -> None:
    crop = read_crop(next((crops / "crops").rglob("*.jpg")))
    view = augmented_view(crop, 48, 1.4, NO_AUGMENTATION, np.random.default_rng(0))
    assert np.array_equal(view, central_view(crop, 48, 1.4))


def test_a_device_that_is_not_there_is_one_clear_error(crops: Path, recipe: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UsageError, match="torch finds no CUDA GPU"):
        train(recipe, data=[crops], device="cuda")


@pytest.mark.parametrize(
    ("device", "told"),
    [
        ("cuda:9", "--device cuda:9: there is no such GPU; there are cuda:0, cuda:1"),
        ("cuda:x", "--device cuda:x: there is no such GPU"),
        ("mps", "--device mps: torch finds no Apple GPU; use --device cpu"),
        ("tpu", "no device is called 'tpu'"),
    ],
)
def test_a_device_that_cannot_be_had_is_told_before_crops_are_read(
    device: str, told: str, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match=told):
        train(recipe, data=[tmp_path / "absent"], output=tmp_path / "none", device=device)
    assert open_device("cuda") == "cuda"  # torchrun gives each process one of them


MEMORY = {
    "an accelerator": (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        UsageError,
        r"the memory of cpu was full; lower batch \(4\) or the sizes of stages \(32, 48\)",
    ),
    "a CPU, as torch tells": (
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate"),
        TemporaryError,
        r"the memory was full; run again .* or lower batch \(4\) or the sizes of stages",
    ),
    "a CPU": (MemoryError(), TemporaryError, "the memory was full; run again"),
    "a bug": (RuntimeError("shapes differ"), RuntimeError, "shapes differ"),
}


@pytest.mark.parametrize(("error", "kind", "told"), MEMORY.values(), ids=MEMORY)
def test_a_training_whose_memory_is_full_names_what_needs_less(
    error: Exception,
    kind: type[Exception],
    told: str,
    crops: Path,
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(module, "run_loop", fails)
    with pytest.raises(kind, match=told):
        train(recipe, data=[crops], output=tmp_path / "small")


def test_a_finished_training_is_left_as_it_is(
    crops: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what `faceaudit quantize` added; a bundle made again keeps that while it fits."""
    output = tmp_path / "small"
    changes = {"backbone": "custom_cnn", "stages": [{"epochs": 1, "size": 32}]}

    def run(**more: object) -> bytes:
        train(recipe, data=[crops], output=output, changes={**changes, **more})
        return (output / "bundle.json").read_bytes()

    run()
    facts = json.loads((output / "bundle.json").read_bytes())
    (output / "bundle.json").write_text(json.dumps({**facts, INT8: {"sha256": "0"}}))
    (output / "model.int8.onnx").write_bytes(b"graph")
    before = (output / "bundle.json").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(module, "run_loop", None)
        assert run() == before
    told = json.loads(run(licence="another"))
    assert (told["licence"], told[INT8]) == ("another", {"sha256": "0"})
    assert (output / "model.int8.onnx").is_file()
    shutil.rmtree(tmp_path / "small.training")
    assert INT8 not in json.loads(run(seed=1))
    assert not (output / "model.int8.onnx").exists()


def test_bfloat16_trains_and_outputs_stay_float32(crops: Path, recipe: str) -> None:
    settings = replace(load_recipe(recipe), backbone="custom_cnn", precision="bfloat16")
    state = new_state(settings)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    low = objective.forward(state.network.eval(), images, settings)
    high = objective.forward(state.network, images, replace(settings, precision="auto"))
    for name, values in high.items():
        assert low[name].dtype == values.dtype == torch.float32
        assert torch.allclose(low[name], values, atol=0.05)
        assert not torch.equal(low[name], values)


def test_every_epoch_is_told(crops: Path, recipe: str, tmp_path: Path) -> None:
    settings = replace(load_recipe(recipe), backbone="custom_cnn")
    parts = divide(read_crops(crops, settings), settings, [crops], tmp_path)
    told: list[tuple[int, float]] = []
    loop.train(
        settings, parts.training, parts.validation, tmp_path, lambda _: None, 1,
        on_epoch=lambda epoch, metrics: told.append((epoch, metrics["gender"])),
    )  # fmt: skip
    history = pl.read_csv(tmp_path / "history.csv")
    assert [epoch for epoch, _ in told] == history["epoch"].to_list() == [1, 2]
    assert [value for _, value in told] == pytest.approx(history["gender"].to_list(), abs=1e-4)


def test_a_folder_without_a_tasks_labels_teaches_the_others(
    crops: Path, recipe: str, tmp_path: Path
) -> None:
    settings = load_recipe(recipe)
    table = pl.read_parquet(crops / "metadata.parquet").drop("race_true")
    table.write_parquet(tmp_path / "metadata.parquet")
    both = join_crops([read_crops(crops, settings), read_crops(tmp_path, settings)])
    check_labels(both, settings)
    assert (both.labels["race"] >= 0).sum() == 30
    assert (both.labels["gender"] >= 0).all()


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ("lerning_rate = 1.0", UnknownNameError, "recipe key .* 'lerning_rate'"),
        ("weights = 'jft'", UsageError, "no weights is called 'jft'"),
        ("margin = [", UsageError, "not valid TOML"),
    ],
)
def test_a_recipe_that_cannot_be_is_one_clear_error(
    tmp_path: Path, line: str, error: type[Exception], message: str
) -> None:
    path = tmp_path / "bad.toml"
    text = SMALL.replace('weights = "none"', "") if line.startswith("weights") else SMALL
    path.write_text(f"{line}\n{text}")
    with pytest.raises(error, match=message):
        load_recipe(str(path))


@pytest.mark.parametrize("run", [train, tune])
def test_a_size_that_the_backbone_does_not_take_is_told_before_crops_are_read(
    run: Callable[..., object], recipe: str, tmp_path: Path
) -> None:
    changes = {"backbone": "mobilefacenet", "tune.ranges.batch": {"choices": [2, 4]}}
    with pytest.raises(UsageError, match=r"mobilefacenet takes no images of 32 pixels .* give 112"):
        run(recipe, data=[tmp_path / "absent"], output=tmp_path / "none", changes=changes)
    assert not (tmp_path / "none").exists()


def test_too_few_crops_are_one_clear_error(crops: Path, recipe: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="more are needed"):
        train(recipe, data=[crops], output=tmp_path / "none", limit=1)
