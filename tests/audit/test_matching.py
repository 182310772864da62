"""Which rows of two tables show the same face."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceaudit.audit.matching import FIRST, SECOND, Matching, match_rows
from faceaudit.audit.paired import IMAGES, paired_tally
from faceaudit.audit.paired_rows import pair_tables
from faceaudit.audit.subgroups import find_features
from faceaudit.audit.tally import cut, tally
from faceaudit.errors import SchemaError, UsageError
from faceaudit.tables import PredictionTable, read_table

OpenTable = Callable[..., PredictionTable]


def frame_of(
    images: list[str], sha: list[str | None] | None = None, **columns: list
) -> pl.DataFrame:
    base = {"image": images, "gender_pred": ["Male"] * len(images), **columns}
    if sha is not None:
        base["sha256"] = sha
    return pl.DataFrame(base)


def matched(open_table: OpenTable, a: pl.DataFrame, b: pl.DataFrame) -> tuple[list, Matching]:
    found, matching = match_rows(open_table(a), open_table(b))
    return list(zip(found[FIRST], found[SECOND], strict=True)), matching


def test_images_match_by_bytes_under_other_names(open_table: OpenTable) -> None:
    pairs, found = matched(
        open_table,
        frame_of(["a/1.jpg", "a/2.jpg"], ["x", "y"]),
        frame_of(["b/9.jpg", "b/8.jpg"], ["y", "x"]),
    )
    assert pairs == [(0, 1), (1, 0)]
    assert (found.matched, found.by_bytes) == (2, 2)


def test_images_match_by_name_where_one_table_knows_no_bytes(open_table: OpenTable) -> None:
    pairs, found = matched(
        open_table, frame_of(["1", "2"], ["x", "y"]), frame_of(["2", "1"], [None, None])
    )
    assert pairs == [(0, 1), (1, 0)]
    assert found.by_bytes == 0


def test_an_image_of_the_same_name_and_other_bytes_is_another(open_table: OpenTable) -> None:
    pairs, found = matched(
        open_table, frame_of(["1", "2"], ["x", "y"]), frame_of(["1", "2"], ["x", "z"])
    )
    assert pairs == [(0, 0)]
    assert (found.other_bytes, found.only_first, found.only_second) == (1, 1, 1)


def test_identical_bytes_are_told_apart_by_their_names(open_table: OpenTable) -> None:
    pairs, found = matched(
        open_table, frame_of(["1", "2"], ["x", "x"]), frame_of(["2", "1"], ["x", "x"])
    )
    assert pairs == [(0, 1), (1, 0)]
    assert found.ambiguous_first == 0


def test_identical_bytes_under_names_that_do_not_help_are_ambiguous(open_table: OpenTable) -> None:
    pairs, found = matched(
        open_table, frame_of(["1", "2", "3"], ["x", "x", "y"]), frame_of(["8", "9"], ["x", "y"])
    )
    assert pairs == [(2, 1)]
    assert (found.ambiguous_first, found.ambiguous_second) == (2, 1)
    assert (found.only_first, found.only_second) == (0, 0)


def test_faces_of_one_image_match_by_their_number(open_table: OpenTable) -> None:
    pairs, found = matched(
        open_table,
        frame_of(["1", "1", "2"], face=[0, 1, 0]),
        frame_of(["1", "2"], face=[0, None]),
    )
    assert pairs == [(0, 0), (2, 1)]
    assert found.only_first == 1


def test_a_name_twice_is_ambiguous_and_never_multiplied(open_table: OpenTable) -> None:
    pairs, found = matched(open_table, frame_of(["1", "1", "2"]), frame_of(["1", "2"]))
    assert pairs == [(2, 1)]
    assert (found.ambiguous_first, found.ambiguous_second) == (2, 1)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6) | st.none()), min_size=1, max_size=9),
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6) | st.none()), min_size=1, max_size=9),
)
def test_every_row_is_matched_once_or_counted(
    tmp_path_factory: pytest.TempPathFactory, a: list, b: list
) -> None:
    folder = tmp_path_factory.mktemp("t")
    tables = []
    for name, rows in (("a", a), ("b", b)):
        shas = [None if sha is None else f"s{sha}" for _, sha in rows]
        frame = frame_of([str(image) for image, _ in rows], shas)
        frame.cast({"sha256": pl.String}).write_parquet(folder / f"{name}.parquet")
        tables.append(read_table(folder / f"{name}.parquet"))
    pairs, found = match_rows(*tables)
    assert pairs[FIRST].n_unique() == pairs[SECOND].n_unique() == pairs.height == found.matched
    assert found.matched + found.only_first + found.ambiguous_first == len(a)
    assert found.matched + found.only_second + found.ambiguous_second == len(b)
    swapped, back = match_rows(*tables[::-1])
    assert set(swapped.select(SECOND, FIRST).rows()) == set(pairs.rows())
    assert (back.only_first, back.other_bytes) == (found.only_second, found.other_bytes)
    for mine, theirs in pairs.rows():
        shas = a[mine][1], b[theirs][1]
        assert shas[0] == shas[1] if None not in shas else a[mine][0] == b[theirs][0]


def test_rows_without_names_are_not_matched_by_their_order(open_table: OpenTable) -> None:
    table = open_table(pl.DataFrame({"gender_pred": ["Male"], "gender_true": ["Male"]}))
    with pytest.raises(SchemaError, match="--columns image=NAME"):
        pair_tables(table, table)


def test_tables_without_a_common_image_are_refused(open_table: OpenTable) -> None:
    with pytest.raises(SchemaError, match="no image in common"):
        pair_tables(open_table(frame_of(["1"])), open_table(frame_of(["2"])))


def test_subgroups_by_a_prediction_are_refused(open_table: OpenTable) -> None:
    table = open_table(frame_of(["1"]))
    with pytest.raises(UsageError, match="predict different subgroups"):
        pair_tables(table, table, ["gender_pred"])


def test_annotations_that_contradict_each_other_are_left_out_and_counted(
    open_table: OpenTable,
) -> None:
    first = frame_of(["1", "2", "3"], gender_true=["Male", "Female", None])
    second = frame_of(["1", "2", "3"], gender_true=["Male", "Male", "Female"])
    for one, other in ((first, second), (second, first)):
        pairs = pair_tables(open_table(one), open_table(other))
        labels = pairs.first.frame.collect()["gender_true"].to_list()
        assert labels == ["Male", None, "Female"]
        assert any("contradict each other on 1 of 3" in note for note in pairs.notes)


def failures_of(first: PredictionTable, second: PredictionTable) -> dict[tuple, tuple[int, ...]]:
    """Images by whether each table scored them: neither, the second, the first, both."""
    counted = paired_tally(pair_tables(first, second, ["gender", "race"]))
    cells = cut(counted.joint, ["gender", "race"], missing="?")
    images = counted.counts(IMAGES, "")
    assert images is not None
    found = zip(cells.subgroups, cells.of(images), strict=True)
    return {tuple(one.values()): tuple(n.ravel().tolist()) for one, n in found if n.any()}


def test_an_image_of_several_faces_is_compared_once_in_the_subgroup_that_an_audit_counts_it_in(
    open_table: OpenTable,
) -> None:
    labels = {
        "face": [1, 0, 0, 1, 1, 2, 0, 0],
        "gender_true": ["Male", "Female", None, "Female", "Male", "Female", "Female", "Male"],
        "race_true": ["Asian", "Black", None, "Black", "White", None, "Black", "White"],
    }
    first = frame_of(["a", "a", "b", "b", "c", "c", "d", "e"], **labels)
    one = first.with_columns(race_pred=pl.lit("White"))
    two = one.with_columns(
        pl.when(image="d").then(None).otherwise(name).alias(name)
        for name in ("gender_pred", "race_pred")
    )
    expected = {("Female", "Black"): (0, 0, 1, 2), ("Male", "White"): (0, 0, 0, 2)}
    assert failures_of(open_table(one), open_table(two.reverse())) == expected
    counted = tally(open_table(one), find_features(open_table(one), ["gender", "race"]))
    cells = cut(counted, ["gender", "race"], missing="?")
    alone = zip(cells.subgroups, cells.of(counted.images).sum(axis=1), strict=True)
    assert {tuple(group.values()): n for group, n in alone if n} == {
        group: sum(n) for group, n in expected.items()
    }


def test_an_image_is_scored_in_the_comparison_if_any_of_its_faces_is(
    open_table: OpenTable,
) -> None:
    frame = frame_of(["a", "a", "b"], face=[0, 1, 0], gender_true=["Male"] * 3).with_columns(
        race_true=pl.lit("Asian"), race_pred=pl.lit("Asian")
    )
    failed = pl.col("face") == 0
    other = frame.with_columns(
        pl.when(~failed).then(name).alias(name) for name in ("gender_pred", "race_pred")
    )
    assert failures_of(open_table(frame), open_table(other)) == {("Male", "Asian"): (0, 0, 1, 1)}
