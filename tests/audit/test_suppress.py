"""Small cells: what is left out of an audit and of a tally."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import polars as pl
import pytest

from faceaudit.audit.hidden_places import hidden_places
from faceaudit.audit.results import Composition, Confusion, Estimate, ReferenceShare
from faceaudit.audit.run import audit
from faceaudit.audit.small_cells import merge_small_cells
from faceaudit.audit.subgroups import find_features
from faceaudit.audit.suppress import _Cleaner, suppress
from faceaudit.audit.tally import cut, load_tally, tally
from faceaudit.errors import UsageError
from faceaudit.reporting import report
from faceaudit.reporting import tally as keep_tally
from faceaudit.reporting.json_report import SCHEMA_FILE
from faceaudit.schema import Task
from faceaudit.tables import PredictionTable

RowsOf = Callable[..., pl.DataFrame]
OpenTable = Callable[..., PredictionTable]
QUICK = {"replicates": 100, "verify": "never"}
BELOW = 12


def rare(frame: pl.DataFrame) -> pl.DataFrame:
    """Few people annotated Others, and one camera that is rare among them."""
    few = (pl.col("race_true") == "Others").cum_sum() > 20
    return frame.filter(~((pl.col("race_true") == "Others") & few))


def numbers_of(facts: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every entry of a JSON by its place."""
    if isinstance(facts, Mapping):
        for name, value in facts.items():
            yield from numbers_of(value, f"{path}.{name}")
    elif isinstance(facts, list):
        for value in facts:
            yield from numbers_of(value, path)
    else:
        yield path, facts


def test_report_holds_no_small_cell_on_page_or_in_json(rows_of: RowsOf, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    rare(rows_of(900)).write_parquet(path)
    files = report(path, by=["gender", "race"], suppress_below=BELOW, **QUICK)
    facts = json.loads(files.paths[1].read_text())
    jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text())).validate(facts)
    counts = [
        n
        for place, n in numbers_of({k: v for k, v in facts.items() if k != "options"})
        if n is not None and (place.endswith((".n", ".images", ".missed")) or ".statuses." in place)
    ]
    assert len(counts) > 500
    assert not [n for n in counts if 0 < n < BELOW]
    subgroups = [tuple(one["subgroup"].items()) for one in facts["metrics"]]
    for gender in ("Female", "Male"):
        assert (("gender", gender), ("race", "Others")) not in subgroups
    assert (("race", "Others"),) in subgroups
    page = files.paths[0].read_text()
    assert "Female, Others" not in page
    assert any("--suppress-below" in note or "not shown" in note for note in facts["notes"])
    assert facts["options"]["suppress_below"] == BELOW


def test_large_cells_keep_their_figures(rows_of: RowsOf, open_table: OpenTable) -> None:
    found = audit(open_table(rare(rows_of(900))), by=["gender", "race"], **QUICK)
    kept = suppress(found, BELOW)
    before = {(m.task, m.metric, m.label, str(m.subgroup)): m for m in found.metrics}
    shown = [m for m in kept.metrics if not m.estimate.suppressed]
    assert 150 < len(shown) < len(before)
    for one in shown:
        assert one == before[one.task, one.metric, one.label, str(one.subgroup)]
    for one in kept.metrics:
        assert one.estimate.suppressed or not 0 < before_n(before, one) < BELOW


def before_n(before: Mapping[Any, Any], one: Any) -> int:
    return int(before[one.task, one.metric, one.label, str(one.subgroup)].estimate.n)


def test_places_of_a_confusion_matrix_are_hidden_in_all_subgroups_of_a_grouping(
    rows_of: RowsOf, open_table: OpenTable
) -> None:
    kept = suppress(audit(open_table(rows_of(600)), by=["gender"], **QUICK), BELOW)
    for one in kept.confusions:
        assert one.hidden is not None
        assert one.hidden[(one.counts > 0) & (one.counts < BELOW)].all()
    for task in ("gender", "race"):
        of_all, *of_each = (one.hidden for one in kept.confusions if one.task.name == task)
        for hidden in of_each:
            assert hidden is not None
            assert (hidden | ~of_all).all()
            assert (hidden == of_each[0]).all() or task == "gender"


def test_no_place_off_the_diagonal_follows_from_the_sums_of_its_row_and_column() -> None:
    task = Task("race", "race_pred", ("a", "b", "c", "d"))
    counts = np.array([[50, 3, 20, 30], [20, 60, 40, 50], [30, 20, 70, 40], [20, 30, 50, 80]])
    mask = hidden_places([Confusion(task, {}, counts)], 5)["race", frozenset()]
    assert mask[0, 1]
    assert mask.sum() == 4
    assert not np.diagonal(mask).any()
    assert set(mask.sum(axis=1)) == set(mask.sum(axis=0)) == {0, 2}


def test_a_finer_grouping_keeps_back_the_places_of_a_coarser_one() -> None:
    task = Task("race", "race_pred", ("a", "b", "c"))
    even = np.full((3, 3), 40)
    few = even.copy()
    few[0, 1] = 2
    matrices = [
        Confusion(task, {"gender": "Female"}, few),
        Confusion(task, {"gender": "Male"}, even),
        Confusion(task, {"gender": "Female", "site": "north"}, even),
    ]
    masks = hidden_places(matrices, 5)
    coarse = masks["race", frozenset({"gender"})]
    assert coarse[0, 1]
    assert (masks["race", frozenset({"gender", "site"})] | ~coarse).all()


def test_nothing_is_suppressed_by_default(rows_of: RowsOf, open_table: OpenTable) -> None:
    found = audit(open_table(rare(rows_of(400))), by=["gender", "race"], **QUICK)
    assert suppress(found, 0).metrics == found.metrics
    with pytest.raises(UsageError, match="--suppress-below -1"):
        suppress(found, -1)


def test_a_tally_keeps_no_small_subgroup_and_every_face(
    rows_of: RowsOf, open_table: OpenTable
) -> None:
    table = open_table(rare(rows_of(500)))
    whole = tally(table, find_features(table, ["gender", "race"]))
    merged = merge_small_cells(whole, BELOW)
    images = merged.images.sums(np.arange(len(merged.cells)), len(merged.cells)).sum(axis=-1)
    assert images.min() >= BELOW
    for task in ("gender", "race"):
        one = cut(whole, ()).one(whole.confusion[task], 0)
        assert (cut(merged, ()).one(merged.confusion[task], 0) == one).all()
    fine = cut(merged, ("gender", "race"))
    known = cut(whole, ("gender", "race"))
    for index, subgroup in enumerate(fine.subgroups):
        place = known.subgroups.index(subgroup)
        assert (
            fine.one(merged.confusion["race"], index) == known.one(whole.confusion["race"], place)
        ).all()
    assert len(fine.subgroups) < len(known.subgroups)


def test_a_tally_file_without_small_subgroups_reports(rows_of: RowsOf, tmp_path: Path) -> None:
    path, file = tmp_path / "t.parquet", tmp_path / "t.tally"
    rare(rows_of(500)).write_parquet(path)
    keep_tally(path, file, by=["gender", "race"], suppress_below=BELOW)
    kept = load_tally(file)
    images = kept.images.sums(np.arange(len(kept.cells)), len(kept.cells)).sum(axis=-1)
    assert images.min() >= BELOW
    assert report(file, **QUICK).audit.images == 500 - (500 - pl.read_parquet(path).height)


def test_a_tally_puts_a_cell_of_one_face_and_no_image_together_with_others(tmp_path: Path) -> None:
    """The second face of an image: it is no image of its own, and yet a person."""
    rows = [{"image": f"{i}", "face": 0, "race_pred": "White"} for i in range(60)]
    rows.append({"image": "0", "face": 1, "race_pred": "Indian"})
    pl.DataFrame(rows).with_columns(status=pl.lit("ok")).write_parquet(tmp_path / "t.parquet")
    keep_tally(tmp_path / "t.parquet", tmp_path / "whole.tally", by=["race_pred"])
    keep_tally(tmp_path / "t.parquet", tmp_path / "t.tally", by=["race_pred"], suppress_below=5)
    assert ("Indian",) in load_tally(tmp_path / "whole.tally").cells
    kept = load_tally(tmp_path / "t.tally")
    assert ("Indian",) not in kept.cells
    faces = kept.predicted["race"].sums(np.arange(len(kept.cells)), len(kept.cells)).sum(axis=-1)
    assert faces.tolist() == [61]


def test_corrected_shares_of_too_few_faces_are_blank_with_what_would_tell_them() -> None:
    """A predicted share of 3 of 100 faces: the shares by other ways would tell it nearly."""
    few, many = Estimate(0.03, 0.01, 0.08, 100), Estimate(0.04, 0.02, 0.07, 4000)
    one = Composition("gender", "Male", {}, few, many, many, ReferenceShare(0.5, few))
    cleaned = _Cleaner(10, frozenset()).cleaned(one)
    for part in (cleaned.share, cleaned.corrected, cleaned.em, cleaned.reference.difference):
        assert part.value is None
        assert part.suppressed
    assert _Cleaner(3, frozenset()).cleaned(one) == one
