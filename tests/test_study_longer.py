"""Whether the study had converged: its runs against longer ones."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import polars as pl
import pytest

from benchmarks import study, study_longer
from benchmarks.paired_runs import collect, read
from benchmarks.study_longer import RECIPES, SEED, changes_of, compared, table
from faceaudit.models.bundle import FACTS
from faceaudit.training.recipe_files import load_recipe
from faceaudit.training.splits import SPLITS
from tests.paired import finish

SHORT = {"gender": [1, 1, 0, 0], "race": [1, 0, 0, 0], "age_group": [1, 1, 1, 0]}
LONG = {"gender": [1, 1, 1, 0], "race": [1, 0, 0, 1], "age_group": [1, 1, 1, 0]}


def test_what_is_trained_longer_is_of_the_study_and_changed_in_nothing_else() -> None:
    assert set(RECIPES) <= set(study.RECIPES)
    for name in RECIPES:
        own, longer = (load_recipe(f"study/{name}", one) for one in ({}, changes_of(name)))
        assert longer.epochs == 2 * own.epochs
        facts = asdict(longer)
        assert {key for key, value in asdict(own).items() if facts[key] != value} == {"stages"}


def test_longer_runs_are_compared_with_those_of_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, elder = tmp_path / "longer", tmp_path / "study"
    finish(elder, "mtl", SEED, SHORT)
    finish(work, "mtl", SEED, LONG)
    (work / "split").mkdir()
    pl.DataFrame({"sha256": ["a"], "part": ["test"]}).write_parquet(work / "split" / SPLITS)
    recipe = load_recipe("study/mtl", {**changes_of("mtl"), "seed": SEED})
    (work / "mtl-0").mkdir()
    (work / "mtl-0" / FACTS).write_text(json.dumps({"recipe": asdict(recipe)}))
    monkeypatch.setattr(study, "RIGHT", tmp_path / "study.parquet")
    monkeypatch.setattr(study_longer, "RESULTS", tmp_path / "longer.json")
    collect(elder, [("mtl", SEED)], study.digest_of(work / "split" / SPLITS), study.RIGHT)
    monkeypatch.setattr("sys.argv", ["study_longer", "write", "--work", str(work)])
    study_longer.main()
    found = {one.task: one for one in read(tmp_path / "longer.json")}
    assert {task: one.difference for task, one in found.items()} == {
        "gender": 0.25,
        "race": 0.25,
        "age_group": 0.0,
    }
    assert found["gender"].low < 0.25 < found["gender"].high
    assert "| `study/mtl` | gender | 4 | 0.500 | 0.750 | +25.0 (" in table([*found.values()])
    collect(elder, [("mtl", SEED)], "another", study.RIGHT.with_name("other.parquet"))
    monkeypatch.setattr(study, "RIGHT", tmp_path / "other.parquet")
    with pytest.raises(SystemExit, match=r"longer: its split is not that of the runs in .*other"):
        compared(work)
