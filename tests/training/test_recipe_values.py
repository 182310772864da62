"""Values of recipes that cannot be, each refused in one line before anything is trained."""

from __future__ import annotations

import pytest

from faceaudit.cli.parsing import parse_changes
from faceaudit.errors import FaceauditError, UnknownNameError
from faceaudit.training.recipe import NO_AUGMENTATION
from faceaudit.training.recipe_files import load_recipe
from faceaudit.training.recipe_values import INTERVALS, Interval, numbers_of


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("batch=0", "batch is 0; it must be at least 1"),
        ("learning_rate=nan", "learning_rate is nan; it must be above 0"),
        ("learning_rate=inf", "learning_rate is inf; it must be above 0"),
        ("learning_rate=0.0", "learning_rate is 0; it must be above 0"),
        ("trunk_learning_rate=-1.0", "trunk_learning_rate is -1; it must be above 0"),
        ("weight_decay=-1.0", "weight_decay is -1; it must be at least 0"),
        ("clip_norm=-1.0", "clip_norm is -1; it must be at least 0"),
        ("ema=1.5", "ema is 1.5; it must be from 0 to 1"),
        ("ema=-1.0", "ema is -1; it must be from 0 to 1"),
        ("seed=-1", "seed is -1; it must be from 0 to"),
        ("offset=inf", "offset is inf; it must be a finite number"),
        ("mean=[0.5,0.5]", "mean has 2 values; it must have 3"),
        ("mean=[0.5,0.5,nan]", r"mean\[2\] is nan; it must be a finite number"),
        ("std=[0.0,0.0,0.0]", r"std\[0\] is 0; it must be above 0"),
        ("stages=[{epochs=1,size=10}]", r"stages\[0\].size is 10; it must be at least 16"),
        ("heads={kind='dense',units=[0]}", r"heads.units\[0\] is 0; it must be at least 1"),
        ("heads={kind='dense',units=[8,-3]}", r"heads.units\[1\] is -3; it must be at least 1"),
        (
            "heads={kind='conv',units={gender=[8],race=[8],age=[8,0]}}",
            r"heads.units.age\[1\] is 0; it must be at least 1",
        ),
        (
            "heads={kind='conv',units={gender=[8],sex=[8]}}",
            "heads.units names gender, sex; a table must name all tasks and no other: gender, race",
        ),
        (
            "heads={kind='conv',units={}}",
            "heads.units names no task; a table must name all tasks and no other: gender, race",
        ),
        (
            "heads={kind='gm',units={gender=[8],race=[8],age=[8]}}",
            "heads.kind gm: a gender embedding needs the task gender and one entry in heads.units",
        ),
        (
            "heads.units={gender=[8]}",
            r"heads.units is \{'gender': \(8,\)\}, and kind linear has no hidden layers; choose",
        ),
        ("heads.dropout=1.5", "heads.dropout is 1.5; it must be at least 0 and below 1"),
        ("schedule.every=0", "schedule.every is 0; it must be at least 1"),
        ("schedule.warmup=2.0", "schedule.warmup is 2; it must be from 0 to 1"),
        ("schedule.warmup=-1.0", "schedule.warmup is -1; it must be from 0 to 1"),
        ("schedule.factor=-1.0", "schedule.factor is -1; it must be above 0"),
        ("selection.patience=-1", "selection.patience is -1; it must be at least 0"),
        ("data.test_share=-0.1", "data.test_share is -0.1; it must be at least 0 and below 1"),
        ("data.validation_share=nan", "data.validation_share is nan; it must be above 0 and below"),
        ("data.ages=[50,20]", r"data.ages is \[50, 20\]; give the lower number first"),
        ("augmentation.near=[0.0,0.0]", r"augmentation.near\[0\] is 0; it must be above 0"),
        ("augmentation.near=[1.2,0.8]", r"augmentation.near is \[1.2, 0.8\]; give the lower"),
        ("augmentation.shift=-1.0", "augmentation.shift is -1; it must be at least 0"),
        ("augmentation.mixup_share=2.0", "augmentation.mixup_share is 2; it must be from 0 to 1"),
        (
            "distillation.precision=half",
            "no distillation.precision is called 'half'; choose one of: auto",
        ),
        ("tasks.gender.weight=-1.0", "tasks.gender.weight is -1; it must be at least 0"),
        ("tasks.race.label_smoothing=2.0", "tasks.race.label_smoothing is 2; it must be"),
        ("tasks.age.scale=0.0", "tasks.age.scale is 0; it must be above 0"),
        ("tasks.age.scheme=40,18", r"tasks.age.scheme: 40,18: give two or more ascending"),
        ('tasks.age.scheme="0"', r"tasks.age.scheme: 0: give two or more ascending"),
        (
            "tasks.age.scheme=0,500",
            r"tasks.age.scheme: 0,500: give two or more ascending .* at most 100",
        ),
        (
            "stages=[{epochs=1,size=32},{epochs=1,size=48,rate=0.5}]",
            r"stages\[1\].rate is 0.5, which is the peak of a new cycle; set restart = true",
        ),
        ("stages=[{epochs=-1,size=32}]", r"stages\[0\].epochs is -1; it must be at least 0"),
        ("stages=[{epochs=0,size=32}]", "stages: 0 epochs leave the heads random; give a start"),
        (
            "augmentation={mixup_share=0.6,cutmix_share=0.5}",
            "augmentation: mixup_share and cutmix_share are 1.1 together, and a batch",
        ),
        ("heads.units=[8]", r"heads.units is \[8\], and kind linear has no hidden layers; choose"),
        ("card.research_only=false", "card.research_only: is a key of the recipe itself; set it"),
        ("card.name=x", "card.name: is a key of the recipe itself"),
        ("card.sha256=x", "card.sha256: is recorded by the training; leave it out"),
        ("card.metrics={}", "card.metrics: is recorded by the training"),
        ("card.limits=none known", "card.limits is 'none known'; it must be a list of texts"),
        ("card.limits=[1]", r"card.limits is \[1\]; it must be a list of texts"),
        ("card.made=2024-01-31", "card.made is 2024-01-31, which the bundle's JSON cannot hold"),
        ("card.a={b=[1,nan]}", r"card.a.b\[1\] is nan, which the bundle's JSON cannot hold"),
        (
            "tune.ranges.seed.choices=[2024-01-31]",
            r"tune.ranges.seed.choices\[0\] is 2024-01-31, which the bundle's JSON cannot hold",
        ),
        ("name=", "name is empty; a bundle needs it"),
        ("licence=", "licence is empty; a bundle needs it"),
        ("training_data=", "training_data is empty; a bundle needs it"),
    ],
)
def test_a_value_that_cannot_be_is_one_clear_line(change: str, message: str) -> None:
    with pytest.raises(FaceauditError, match=rf"fairface\.toml: {message}"):
        load_recipe("fairface", parse_changes([change]))


def test_a_value_that_begins_as_a_list_and_is_none_is_refused() -> None:
    with pytest.raises(FaceauditError, match=r"--set stages=\[\{size=32\}: is not valid TOML"):
        parse_changes(["stages=[{size=32}"])
    assert parse_changes(["name=mine", "weights=a b.pth"]) == {"name": "mine", "weights": "a b.pth"}


def test_tasks_that_all_weigh_nothing_are_refused() -> None:
    weights = dict.fromkeys(("tasks.gender.weight", "tasks.race.weight", "tasks.age.weight"), 0.0)
    with pytest.raises(FaceauditError, match="the weight of at least one must be above 0"):
        load_recipe("fairface", weights)


@pytest.mark.parametrize("by", ["_loss", "age_group", "gender_loss_loss"])
def test_what_selects_is_a_task_or_its_loss(by: str) -> None:
    with pytest.raises(UnknownNameError, match="choose one of: gender, race, age, gender_loss"):
        load_recipe("fairface", {"selection.by": by})


def test_every_interval_is_of_a_key_that_exists() -> None:
    own = {"gender": [8], "race": [8], "age": [8]}
    found = set()
    for units in ([8], own):
        changes = {"heads": {"kind": "dense", "units": units}, "trunk_learning_rate": 1e-3}
        found |= {one for _, one, _ in numbers_of(load_recipe("fairface", changes).to_json())}
    assert set(INTERVALS) <= found


def test_the_first_rate_and_those_of_new_cycles_have_an_effect() -> None:
    stages = [
        {"epochs": 1, "size": 32, "rate": 0.5},
        {"epochs": 1, "size": 32, "restart": True, "rate": 0.5},
    ]
    assert [stage.rate for stage in load_recipe("fairface", {"stages": stages}).stages] == [0.5] * 2


def test_no_augmentation_is_allowed() -> None:
    assert load_recipe("fairface", {"augmentation": "none"}).augmentation == NO_AUGMENTATION


@pytest.mark.parametrize(
    ("interval", "words", "inside", "outside"),
    [
        (Interval(), "a finite number", -3.0, float("inf")),
        (Interval(0, above=True), "above 0", 0.1, 0.0),
        (Interval(1), "at least 1", 1.0, 0.9),
        (Interval(0, 1), "from 0 to 1", 1.0, 1.1),
        (Interval(0, 1, below=True), "at least 0 and below 1", 0.0, 1.0),
        (Interval(0, 1, above=True), "above 0 and at most 1", 1.0, 0.0),
    ],
)
def test_an_interval_says_what_it_has(
    interval: Interval, words: str, inside: float, outside: float
) -> None:
    assert str(interval) == words
    assert interval.has(inside)
    assert not interval.has(outside)
    assert not interval.has(float("nan"))
