"""Shares of hidden classes: what is left out of the composition so that they do not follow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import polars as pl

from faceaudit.reporting import report
from faceaudit.reporting.json_report import SCHEMA_FILE
from faceaudit.schema import SCHEMES

CLASSES = SCHEMES["fairface7"]
SHOWN = (500, 500, 400, 300, 375)
SPLITS = ((55, 6), (54, 7))
"""Faces predicted as the last two classes: 61 by any split."""


def rows_of(counts: Sequence[int]) -> list[str]:
    return [label for label, n in zip(CLASSES, counts, strict=True) for _ in range(n)]


def write_reference(folder: Path) -> Path:
    path = folder / "reference.csv"
    lines = [f"race,{label},{1 / len(CLASSES)}" for label in CLASSES]
    path.write_text("\n".join(["task,class,share", *lines]) + "\n")
    return path


def composition_of(folder: Path, frame: pl.DataFrame, **options: Any) -> dict[str, Any]:
    """What a report tells of shares with small counts left out."""
    folder.mkdir()
    frame.write_csv(folder / "t.csv")
    reference = write_reference(folder)
    files = report(
        folder / "t.csv",
        reference=reference,
        suppress_below=10,
        verify="never",
        replicates=100,
        **options,
    )
    facts: dict[str, Any] = json.loads(files.paths[1].read_text())
    jsonschema.validate(facts, json.loads(SCHEMA_FILE.read_text()))
    page = files.paths[0].read_text()
    start = page.index('id="composition"')
    facts["page"] = page[start : page.index("</section>", start)]
    return {name: facts[name] for name in ("composition", "corrections", "page")}


def test_hidden_shares_do_not_follow_from_the_test_against_target_shares(tmp_path: Path) -> None:
    """Its statistic is a sum of squares over all classes, of which the others are shown."""
    frames = [pl.DataFrame({"race_pred": rows_of((*SHOWN, *split))}) for split in SPLITS]
    first, second = (
        composition_of(tmp_path / str(index), frame) for index, frame in enumerate(frames)
    )
    assert first == second
    (how,) = first["corrections"]
    assert (how["reference"]["statistic"], how["reference"]["p_value"]) == (None, None)
    assert "not shown" in how["reference"]["reason"]
    shown = [one for one in first["composition"] if one["value"] is not None]
    assert len(shown) == len(CLASSES) - 2
    assert all(one["reference"]["difference"]["value"] is not None for one in shown)
    assert "2 of 7 classes are not shown" in first["page"]


def test_hidden_shares_do_not_follow_from_corrected_shares_of_other_classes(
    tmp_path: Path,
) -> None:
    """A corrected share is a sum over all predicted classes."""
    labels = tmp_path / "labels.csv"
    pairs = [
        f"{true},{predicted}"
        for row, true in enumerate(CLASSES)
        for column, predicted in enumerate(CLASSES)
        for _ in range(90 if row == column else 2 + column)
    ]
    labels.write_text("\n".join(["race_true,race_pred", *pairs]) + "\n")
    frames = [pl.DataFrame({"race_pred": rows_of((*SHOWN, *split))}) for split in SPLITS]
    first, second = (
        composition_of(tmp_path / str(index), frame, calibration=labels)
        for index, frame in enumerate(frames)
    )
    first, second = (
        json.loads(json.dumps(one).replace(f"/{index}/", "/"))
        for index, one in enumerate((first, second))
    )
    assert first == second
    assert first["corrections"][0]["method"] == "adjusted_count"
    for one in first["composition"]:
        assert one["corrected"]["value"] is None


def test_a_hidden_annotated_share_does_not_follow_from_the_others(tmp_path: Path) -> None:
    """Six faces are annotated as a class, and more are predicted so."""
    frame = pl.DataFrame(
        {
            "race_true": rows_of((*SHOWN, 155, 6)),
            "race_pred": rows_of((*SHOWN, 100, 61)),
        }
    )
    found = composition_of(tmp_path / "t", frame, by=["race"])
    assert found["corrections"][0]["method"] == "annotated"
    told = [one["corrected"]["value"] for one in found["composition"] if not one["subgroup"]]
    assert told == [None] * len(CLASSES)
    assert found["corrections"][0]["reference"]["statistic"] is None


def test_shares_of_large_classes_keep_their_corrections_and_test(tmp_path: Path) -> None:
    frame = pl.DataFrame({"race_pred": rows_of((*SHOWN, 40, 21))})
    found = composition_of(tmp_path / "t", frame)
    assert found["corrections"][0]["reference"]["statistic"] is not None
    assert all(one["value"] is not None for one in found["composition"])
