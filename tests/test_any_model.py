"""From any model to a verdict: what it predicts alone is audited, gated and compared."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from faceaudit.audit.results import Audit
from faceaudit.errors import EXIT_RULE_FAILED, SchemaError
from faceaudit.pipeline.predict import predict
from faceaudit.reporting.check import check
from faceaudit.reporting.compare import compare
from faceaudit.reporting.run import report
from faceaudit.schema import SCHEMES

CODE = """
import torch
from torch import nn

class Means(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        torch.manual_seed(outputs)
        self.fc = nn.Linear(3, outputs)

    def forward(self, x):
        return 20 * self.fc(x.mean((2, 3)))

class Standardized(Means):
    def forward(self, x):  # what is not defined for an image of one color
        x = (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True)
        return super().forward(x) + x.std((1, 2, 3))[:, None]

def with_facts(model, **task):
    task = {"output": "output", "activation": "softmax", **task}
    return model, {
        "name": task["name"], "licence": "none", "training_data": "none",
        "input": {"size": 16, "mean": [0.5] * 3}, "crop": {"align": "none", "margin": 0},
        "tasks": [task],
    }

def gender(model=Means):
    return with_facts(model(2), name="gender", classes=["Female", "Male"])

def silent():
    return gender(Standardized)

def groups():
    return with_facts(Means(3), name="age_group", classes=["0-17", "18-64", "65+"])

def years():
    return with_facts(Means(101), name="age", classes="0-100", activation="years")

def race4():
    return with_facts(Means(4), name="race", classes=["Asian", "Black", "Indian", "White"])

def race7():
    return with_facts(Means(7), name="race", scheme="fairface7")
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty images of noise of some color, named as UTKFace names them; the last is black."""
    folder, rng = tmp_path_factory.mktemp("faces"), np.random.default_rng(0)
    for k in range(80):
        noise = np.clip(rng.normal(rng.uniform(60, 190, 3), 20, (24, 24, 3)), 0, 255)
        name = f"{k + 1}_{k % 2}_{k % 5}_201701010000000{k:02d}.jpg"
        Image.fromarray((noise if k < 79 else 0 * noise).astype(np.uint8)).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def table_of(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """The tables of all of these models."""
    folder, patch = tmp_path_factory.mktemp("tables"), pytest.MonkeyPatch()
    (folder / "models_of_this_test.py").write_text(CODE)
    patch.chdir(folder)
    patch.syspath_prepend(folder)
    found = {}
    for name in ("gender", "silent", "groups", "years", "race4", "race7"):
        found[name] = predict(
            images, folder / f"{name}.parquet", model=f"models_of_this_test:{name}",
            detector="whole", labels="utkface", age_bins=(0, 18, 65),
        ).table  # fmt: skip
    yield {name: Path(path) for name, path in found.items()}
    sys.modules.pop("models_of_this_test", None)
    patch.undo()


def overall(audit: Audit, task: str, metric: str = "accuracy") -> tuple[float | None, int]:
    """A figure of all faces and how many they are."""
    return next(
        (one.estimate.value, one.estimate.n)
        for one in audit.metrics
        if (one.task, one.metric, one.subgroup, one.label) == (task, metric, {}, None)
    )


def test_a_model_of_gender_alone_is_audited_and_gated(
    table_of: dict[str, Path], tmp_path: Path
) -> None:
    rows = pl.read_parquet(table_of["gender"])
    files = report(table_of["gender"])
    right = (rows["gender_true"] == rows["gender_pred"]).mean()
    assert overall(files.audit, "gender") == (pytest.approx(right), 80)
    assert {one.task for one in files.audit.metrics} == {"gender"}
    policy = tmp_path / "policy.toml"
    policy.write_text(
        '[[rule]]\ntask = "gender"\nmetric = "accuracy"\nmeasure = "overall"\nat_least = 0.99\n'
        'owner = "us"\nreason = "a network that is not trained"\n'
    )
    assert check(table_of["gender"], policy=policy).exit_code == EXIT_RULE_FAILED


def test_age_groups_of_a_models_own_take_annotated_years(table_of: dict[str, Path]) -> None:
    rows = pl.read_parquet(table_of["groups"])
    age = pl.col("age_true")
    true = pl.when(age < 18).then(pl.lit("0-17")).when(age < 65).then(pl.lit("18-64"))
    right = rows.select((true.otherwise(pl.lit("65+")) == pl.col("age_group_pred")).mean()).item()
    assert overall(report(table_of["groups"]).audit, "age_group") == (pytest.approx(right), 80)


def test_age_groups_of_its_own_are_compared_with_years_in_the_same_bins(
    table_of: dict[str, Path], tmp_path: Path
) -> None:
    found = compare(table_of["groups"], table_of["years"], output=tmp_path / "ages.html").changes
    shown = next(c for c in found.changes if c.metric == "accuracy" and not c.subgroup)
    first, second = (
        overall(report(table_of[name]).audit, "age_group")[0] for name in ("groups", "years")
    )
    assert (shown.first, shown.second) == (pytest.approx(first), pytest.approx(second))


def test_four_races_meet_five_annotated_ones_on_request(table_of: dict[str, Path]) -> None:
    with pytest.raises(SchemaError, match="coarsen with --map race=fairface4"):
        report(table_of["race4"])
    rows = pl.read_parquet(table_of["race4"]).filter(pl.col("race_true") != "Others")
    files = report(table_of["race4"], scheme_map={"race": "fairface4"})
    right = (rows["race_true"] == rows["race_pred"]).mean()
    assert overall(files.audit, "race") == (pytest.approx(right), len(rows))
    assert any("left out: Others" in note for note in files.audit.notes)


def test_four_and_seven_races_are_compared_in_four(
    table_of: dict[str, Path], tmp_path: Path
) -> None:
    found = compare(
        table_of["race4"], table_of["race7"], scheme_map={"race": "fairface4"},
        output=tmp_path / "races.html",
    ).changes  # fmt: skip
    shown = next(c for c in found.changes if c.metric == "accuracy" and not c.subgroup)
    rows = pl.read_parquet(table_of["race7"]).filter(pl.col("race_true") != "Others")
    probs = rows["race_probs"].struct.unnest().select(SCHEMES["fairface7"]).to_numpy()
    parts = {"White": [0, 2, 6], "Black": [1], "Asian": [3, 4], "Indian": [5]}
    sums = np.column_stack([probs[:, columns].sum(axis=1) for columns in parts.values()])
    merged = [list(parts)[k] for k in sums.argmax(axis=1)]
    right = np.mean([a == b for a, b in zip(merged, rows["race_true"], strict=True)])
    assert shown.second == pytest.approx(right)


def test_a_face_that_a_network_says_nothing_of_keeps_its_row_and_counts_as_not_scored(
    table_of: dict[str, Path],
) -> None:
    rows = pl.read_parquet(table_of["silent"])
    black = rows.filter(pl.col("gender_pred").is_null())
    assert black["image"].to_list() == ["80_1_4_20170101000000079.jpg"]
    assert black["status"].to_list() == ["ok"]
    assert black["error"].to_list() == ["the model's output for gender is no finite number"]
    assert black["gender_probs"].null_count() == 1
    assert rows["error"].null_count() == 79
    audit = report(table_of["silent"]).audit
    right = (rows["gender_true"] == rows["gender_pred"]).mean()
    assert overall(audit, "gender") == (pytest.approx(right), 79)
    missed = next(one for one in audit.with_failures if not one.subgroup)
    assert missed.missed == 1
