"""Tallies add, and their bins are what they say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faceaudit.audit.subgroups import Feature, find_features
from faceaudit.audit.tally import (
    BLOCKS,
    CALIBRATION_BINS,
    COARSE_BINS,
    ERROR_BINS,
    ERROR_LIMIT,
    SCORE_BINS,
    CellCoder,
    CellCounts,
    Tally,
    add_up,
    block_of,
    count,
    cut,
    error_bin,
    load_tally,
    rows,
    save_tally,
    score_bin,
    score_edges,
    tally,
    years_by_block,
    years_of,
)
from faceaudit.audit.tally.cells import Counter
from faceaudit.errors import InputError, SchemaError, UnknownNameError
from faceaudit.tables import PredictionTable, read_table, score_columns

FEATURES = (Feature("gender", "gender_true"), Feature("race", "race_true"), Feature("site", "site"))


def tally_of(frame: pl.DataFrame, path: Path, **options: Any) -> Tally:
    frame.write_parquet(path)
    return tally(read_table(path), FEATURES, **options)


def assert_equal_counts(first: CellCounts, second: CellCounts) -> None:
    assert first.shape == second.shape
    assert first.values.dtype == second.values.dtype
    np.testing.assert_array_equal(first.codes, second.codes)
    np.testing.assert_allclose(first.values, second.values, rtol=1e-12, atol=1e-9)


def assert_equal_tallies(first: Tally, second: Tally) -> None:
    assert first.kind == second.kind
    assert first.cells == second.cells
    assert first.statuses == second.statuses
    assert first.rows == second.rows
    assert first.numbers.keys() == second.numbers.keys()
    for kind, mine in first.numbers.items():
        theirs = second.numbers[kind]
        assert mine.keys() == theirs.keys(), kind
        for name, counts in mine.items():
            assert_equal_counts(counts, theirs[name])


@given(seed=st.integers(0, 10**6), split=st.integers(1, 119), sites=st.integers(1, 3))
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_tallies_add(
    tmp_path: Path,
    rows_of: Callable[..., pl.DataFrame],
    seed: int,
    split: int,
    sites: int,
) -> None:
    frame = rows_of(120, seed=seed).with_columns(
        site=pl.int_range(pl.len()) % sites,
        gender_true=pl.when(pl.int_range(pl.len()) % 7 > 0).then("gender_true"),
    )
    path = tmp_path / "t.parquet"
    unit = "site" if seed % 2 else None
    parts = [tally_of(part, path, unit=unit) for part in (frame[:split], frame[split:])]
    assert_equal_tallies(add_up(parts), tally_of(frame, path, unit=unit))
    shuffled = frame.sample(fraction=1, shuffle=True, seed=seed)
    assert_equal_tallies(parts[1] + parts[0], tally_of(shuffled, path, unit=unit))


def test_a_table_without_annotations_adds(
    rows_of: Callable[..., pl.DataFrame], tmp_path: Path
) -> None:
    frame, site = rows_of(90), pl.lit("A").alias("site")
    nothing = frame.with_columns(
        pl.lit(None, pl.String).alias(f"{name}_true") for name in ("gender", "race")
    )
    nothing = nothing.with_columns(age_true=pl.lit(None, pl.Float64))
    parts = [tally_of(part.with_columns(site), tmp_path / "t.parquet") for part in (frame, nothing)]
    both = parts[0] + parts[1]
    assert both.rows == 180
    everybody = [cut(one, ()) for one in (both, parts[0])]
    np.testing.assert_array_equal(
        everybody[0].one(both.confusion["gender"], 0),
        everybody[1].one(parts[0].confusion["gender"], 0),
    )
    np.testing.assert_array_equal(
        everybody[0].one(both.predicted["race"], 0),
        2 * everybody[1].one(parts[0].predicted["race"], 0),
    )


def test_tallies_of_different_features_do_not_add(
    open_table: Callable[..., PredictionTable], rows_of: Callable[..., pl.DataFrame]
) -> None:
    table = open_table(rows_of(50))
    with pytest.raises(ValueError, match="cannot be added"):
        tally(table) + tally(table, find_features(table, ["race"]))


def test_counts_are_those_of_the_rows(
    open_table: Callable[..., PredictionTable], rows_of: Callable[..., pl.DataFrame]
) -> None:
    frame = rows_of(400, seed=5)
    table = open_table(frame)
    counted = tally(table, find_features(table, None))
    cells = cut(counted, ["race", "gender"])
    task = table.task("gender")
    for subgroup, confusion in zip(
        cells.subgroups, cells.of(counted.confusion["gender"]), strict=True
    ):
        rows = frame.filter(race_true=subgroup["race"], gender_true=subgroup["gender"])
        for k, true in enumerate(task.classes):
            for j, pred in enumerate(task.classes):
                expected = rows.filter(gender_true=true, gender_pred=pred).height
                assert confusion[k, j] == expected
    assert cut(counted, ()).one(counted.images, 0).sum() == 400


def test_several_faces_of_an_image_are_one_image(
    open_table: Callable[..., PredictionTable],
) -> None:
    table = open_table(
        pl.DataFrame(
            {
                "image": ["a", "a", "b", "c"],
                "status": ["ok", "ok", "no_face", "unreadable"],
                "gender_pred": ["Male", "Female", None, None],
                "gender_true": ["Male", None, "Female", None],
            }
        )
    )
    counted = tally(table, find_features(table, ["gender"]))
    cells = cut(counted, ["gender"], missing="?")
    images = {
        (subgroup["gender"], status): int(n)
        for subgroup, row in zip(cells.subgroups, cells.of(counted.images), strict=True)
        for status, n in zip(counted.statuses, row, strict=True)
        if n
    }
    assert images == {("Male", "ok"): 1, ("Female", "no_face"): 1, ("?", "unreadable"): 1}
    assert cells.of(counted.several)[:, 0].tolist() == [1, 0, 0]


Person = tuple[str | None, str | None]
WOMAN, MAN = ("Female", "Black"), ("Male", "Indian")
NOBODY = (None, None)


def photographs(*images: list[Person], faces: list[list[int]] | None = None) -> pl.DataFrame:
    """A row per face, in which everything is right that is annotated."""
    rows = [
        (f"{image}.jpg", faces[image][face] if faces else None, gender, race)
        for image, people in enumerate(images)
        for face, (gender, race) in enumerate(people)
    ]
    frame = pl.DataFrame(
        rows, ["image", "face", "gender_true", "race_true"], orient="row"
    ).with_columns(
        gender_pred=pl.col("gender_true").fill_null("Male"),
        race_pred=pl.col("race_true").fill_null("White"),
    )
    return frame if faces else frame.drop("face")


def images_by(
    counted: Tally, *by: str, numbers: CellCounts | None = None
) -> dict[tuple[str, ...], int]:
    cells = cut(counted, by, missing="?")
    found = cells.of(numbers or counted.images).sum(axis=1)
    return {tuple(one.values()): int(n) for one, n in zip(cells.subgroups, found, strict=True) if n}


def test_an_image_of_several_people_is_counted_as_its_first_and_never_as_a_mix_of_them(
    open_table: Callable[..., PredictionTable],
) -> None:
    table = open_table(
        photographs(*[[WOMAN, MAN]] * 50, *[[("Male", "Asian")]] * 30, *[[("Male", "White")]] * 30)
    )
    counted = tally(table, find_features(table, ["gender", "race"]))
    both = {("Female", "Black"): 50, ("Male", "Asian"): 30, ("Male", "White"): 30}
    assert images_by(counted, "gender", "race") == both
    assert images_by(counted, "race") == {("Black",): 50, ("Asian",): 30, ("White",): 30}
    assert images_by(counted, "gender") == {("Female",): 50, ("Male",): 60}
    assert images_by(counted, "gender", "race", numbers=counted.several) == {WOMAN: 50}
    assert set(counted.cells) == {*both, MAN}


@pytest.mark.parametrize(
    ("people", "expected"),
    [
        ([NOBODY, WOMAN, MAN], WOMAN),
        ([("Male", None), WOMAN, MAN], WOMAN),
        ([("Male", None), (None, "Black")], ("Male", "?")),
        ([NOBODY, ("Male", None), (None, "Black")], ("Male", "?")),
        ([NOBODY, NOBODY], ("?", "?")),
    ],
)
def test_faces_of_which_less_is_known_do_not_stand_for_their_image(
    open_table: Callable[..., PredictionTable], people: list[Person], expected: Person
) -> None:
    table = open_table(photographs(people, [WOMAN], [MAN]))
    found = images_by(tally(table, find_features(table, ["gender", "race"])), "gender", "race")
    others = {WOMAN: 1, MAN: 1}
    assert found == {**others, expected: others.get(expected, 0) + 1}


def test_the_first_face_is_the_one_of_the_lowest_number_in_whatever_order_rows_are(
    open_table: Callable[..., PredictionTable],
) -> None:
    people, numbers = [MAN, WOMAN, ("Male", "White")], [2, 0, 1]
    rows = photographs(people, faces=[numbers])
    for frame in (rows, rows.reverse(), rows.with_columns(pl.col("face").cast(pl.String))):
        table = open_table(frame)
        counted = tally(table, find_features(table, ["gender", "race"]))
        assert images_by(counted, "gender", "race") == {WOMAN: 1}


def test_numbers_of_faces_that_are_none_leave_the_order_of_rows(
    open_table: Callable[..., PredictionTable],
) -> None:
    rows = photographs([WOMAN, MAN])
    for face in (pl.struct(x=1, y=2), pl.lit("left"), pl.lit(None)):
        table = open_table(rows.with_columns(face=face))
        counted = tally(table, find_features(table, ["gender", "race"]))
        assert images_by(counted, "gender", "race") == {WOMAN: 1}


def test_predictions_do_not_decide_which_annotated_face_stands_for_its_image(
    open_table: Callable[..., PredictionTable],
) -> None:
    rows = photographs([WOMAN, NOBODY], [MAN]).with_columns(
        pl.when(gender_true="Female").then(None).otherwise(name).alias(name)
        for name in ("gender_pred", "race_pred")
    )
    table = open_table(rows)
    counted = tally(table, find_features(table, ["race", "gender_pred", "race_pred"]))
    assert images_by(counted, "race") == {("Black",): 1, ("Indian",): 1}


def test_an_image_whose_faces_are_in_two_row_groups_is_one_image(tmp_path: Path) -> None:
    frame = photographs([MAN], [NOBODY, MAN, WOMAN], [WOMAN, MAN], [WOMAN])
    people = ["p0", "p1", "p2", "p3", "p4", "p5", "p6"]
    frame.with_columns(person=pl.Series(people)).write_parquet(
        tmp_path / "t.parquet", row_group_size=2
    )
    table = read_table(tmp_path / "t.parquet")
    counted = tally(table, find_features(table, ["gender", "race"]), unit="person")
    assert images_by(counted, "gender", "race") == {MAN: 2, WOMAN: 2}
    blocks = np.unravel_index(counted.images.codes, counted.images.shape)[1]
    assert sorted(blocks) == sorted(block_of(pl.Series(["p0", "p2", "p4", "p6"])))


def test_tallies_of_images_with_several_faces_add(tmp_path: Path) -> None:
    frame = photographs([WOMAN, MAN], [MAN, WOMAN], [("Male", "White"), NOBODY], [MAN])
    path = tmp_path / "t.parquet"

    def counted(rows: pl.DataFrame) -> Tally:
        rows.write_parquet(path)
        table = read_table(path)
        return tally(table, find_features(table, ["gender", "race"]))

    parts = [counted(frame[:4]), counted(frame[4:])]
    assert_equal_tallies(add_up(parts), counted(frame))


def test_a_cell_that_a_table_did_not_have_is_refused_and_never_another(
    open_table: Callable[..., PredictionTable],
) -> None:
    table = open_table(photographs([WOMAN], [MAN]))
    features = find_features(table, ["gender", "race"])
    coder = CellCoder.of(table, features)
    assert coder.cells == (MAN, WOMAN)
    for codes in ((1, 1), (2, 2), (0, 1), (2, 0)):
        mixed = pl.DataFrame([codes], dict.fromkeys(coder.codes, pl.Int64), orient="row")
        with pytest.raises(InputError, match="values of gender, race occur together"):
            coder.cell_numbers(mixed)
    other = pl.LazyFrame({"gender_true": ["Female"], "race_true": ["White"]})
    with pytest.raises(pl.exceptions.InvalidOperationError, match="incomplete mapping"):
        other.select(coder.feature_codes(other)).collect()


@pytest.mark.parametrize("by", [[], ["site"], ["site", "gender"]])
@pytest.mark.parametrize("statuses", [["ok", "no_face"], ["unreadable", "no_face"]])
@pytest.mark.parametrize("unit", [None, "person"])
@pytest.mark.parametrize("numbered", [False, True])
def test_images_with_any_number_of_rows_are_counted_once(
    open_table: Callable[..., PredictionTable],
    by: list[str],
    statuses: list[str | None],
    unit: str | None,
    numbered: bool,
) -> None:
    rng = np.random.default_rng(4)

    def picked(values: list[str | None]) -> list[str | None]:
        return [values[k] for k in rng.integers(0, len(values), 300)]

    frame = pl.DataFrame(
        {
            "image": picked([f"{k:03}.jpg" for k in range(150)]),
            "status": picked(statuses),
            "site": picked(["a", "b", None]),
            "gender_true": picked(["Male", "Female", None]),
            "person": picked([f"p{k}" for k in range(40)]),
        }
    ).with_columns(
        gender_pred=pl.when(status="ok").then(pl.lit("Male")),
        age_pred=pl.when(status="ok").then(pl.lit(30.0)),
        face=pl.int_range(pl.len()).shuffle(seed=1).over("image") if numbered else None,
    )
    table = open_table(frame)
    counted = tally(table, find_features(table, by), unit=unit)
    images: dict[tuple[Any, ...], int] = {}
    several: dict[tuple[Any, ...], int] = {}
    columns = ["gender_true" if name == "gender" else name for name in by]
    for _, own in frame.group_by("image", maintain_order=True):
        # Of equal keys, the first row is taken.
        first = min(
            own.rows(named=True),
            key=lambda row: (sum(row[name] is None for name in columns), row["face"] or 0),
        )
        cell = tuple(first[name] for name in columns)
        block = int(block_of(pl.Series([first["person"]]))[0]) if unit else 0
        faces = (own["status"] == "ok").sum()
        status = "ok" if faces else own["status"].min()
        images[cell, block, status] = images.get((cell, block, status), 0) + 1
        if faces > 1:
            several[cell, block] = several.get((cell, block), 0) + 1

    def found(counts: CellCounts) -> dict[tuple[Any, ...], int]:
        places = zip(*np.unravel_index(counts.codes, counts.shape), strict=True)
        return {
            (counted.cells[cell], int(block), int(last)): int(value)
            for (cell, block, last), value in zip(places, counts.values, strict=True)
        }

    names = counted.statuses
    assert found(counted.images) == {
        (cell, block, names.index(status)): count for (cell, block, status), count in images.items()
    }
    assert found(counted.several) == {(*key, 0): count for key, count in several.items()}


def test_subgroups_come_in_the_order_of_the_classes(
    open_table: Callable[..., PredictionTable], rows_of: Callable[..., pl.DataFrame]
) -> None:
    table = open_table(rows_of(200))
    counted = tally(table, find_features(table, ["race"]))
    found = [subgroup["race"] for subgroup in cut(counted, ["race"]).subgroups]
    assert found == ["White", "Black", "Asian", "Indian", "Others"]


def test_score_bins_are_dense_near_0_and_1_and_keep_the_order() -> None:
    scores = np.concatenate([[0.0], np.geomspace(1e-9, 0.5, 300), 1 - np.geomspace(0.5, 1e-7, 300)])
    bins = score_bin(scores)
    assert (np.diff(bins) >= 0).all()
    assert bins[0] == 0
    assert score_bin(np.array([1.0, 1.0005])).tolist() == [SCORE_BINS - 1] * 2
    edges = score_edges()
    inside = (scores > 1e-5) & (scores < 1 - 1e-5)
    assert (edges[bins[inside]] <= scores[inside] * (1 + 1e-4)).all()
    assert (scores[inside] * (1 - 1e-4) <= edges[bins[inside] + 1]).all()


def test_error_bins_are_exact_at_whole_years() -> None:
    errors = np.array([0.0, 0.2, 1.0, 1.01, 5.0, 5.001, -5.0, -5.001, 500.0, -500.0])
    found = error_bin(errors) - ERROR_LIMIT
    assert found.tolist() == [0, 1, 1, 2, 5, 6, -5, -6, ERROR_LIMIT, -ERROR_LIMIT]
    assert error_bin(np.array([999.0])) == ERROR_BINS - 1


# --- what is kept -----------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 2**20])
def test_a_counter_adds_up_the_same_dense_and_sparse(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr("faceaudit.audit.tally.cells.DENSE_SIZE", limit)
    monkeypatch.setattr("faceaudit.audit.tally.cells.PENDING", 50)
    generator = np.random.default_rng(0)
    counter, expected = Counter((5, 2, 7), np.float64), np.zeros(70)
    for _ in range(9):
        codes, weights = generator.integers(0, 70, 40), generator.normal(size=40)
        counter.add(codes, weights)
        np.add.at(expected, codes, weights)
    counts = counter.counts()
    whole = expected.reshape(5, 2, 7)
    np.testing.assert_allclose(counts.blocks(np.arange(5)), whole.sum(axis=0))
    np.testing.assert_allclose(counts.total(np.array([1, 3])), whole[[1, 3]].sum(axis=(0, 1)))
    groups = np.array([1, -1, 0, 1, 1])
    np.testing.assert_allclose(counts.sums(groups, 2)[1], whole[[0, 3, 4]].sum(axis=(0, 1)))


def test_nothing_was_counted_in_an_empty_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faceaudit.audit.tally.cells.DENSE_SIZE", 0)
    counts = Counter((3, 1, 4)).counts()
    assert not counts.any()
    assert counts.total(np.array([0, 2])).tolist() == [0, 0, 0, 0]
    assert counts.total(np.zeros(0, np.int64)).tolist() == [0, 0, 0, 0]


def test_losses_and_calibration_are_sums_over_the_rows(
    open_table: Callable[..., PredictionTable], rows_of: Callable[..., pl.DataFrame]
) -> None:
    frame = rows_of(300, seed=2).filter(status="ok")
    table = open_table(frame)
    counted, task = tally(table), table.task("race")
    scores = frame.select(score_columns(task)).to_numpy()
    true = np.array([task.classes.index(name) for name in frame["race_true"]])
    brier = ((scores - np.eye(5)[true]) ** 2).sum(axis=1) / 2
    log_loss = -np.log(scores[np.arange(len(true)), true])
    everybody = cut(counted, ())
    np.testing.assert_allclose(
        everybody.one(counted.losses["race"], 0),
        [len(true), log_loss.sum(), (log_loss**2).sum(), brier.sum(), (brier**2).sum()],
    )
    bins = everybody.one(counted.calibration["race"], 0)
    assert bins.shape == (CALIBRATION_BINS, 3)
    right = scores.argmax(axis=1) == true
    np.testing.assert_allclose(bins.sum(axis=0), [len(true), scores.max(axis=1).sum(), right.sum()])
    inside = bins[:, 0] > 0
    mean = bins[inside, 1] / bins[inside, 0]
    assert (np.ceil(mean * CALIBRATION_BINS - 1e-9) - 1 == np.flatnonzero(inside)).all()


def test_ages_are_counted_by_whole_year_and_errors_by_group(
    open_table: Callable[..., PredictionTable],
) -> None:
    table = open_table(
        pl.DataFrame({"age_true": [17.0, 18.0, 40.0, None], "age_pred": [25.0, 24.99, -2.0, 30.0]})
    )
    counted = tally(table)
    everybody = cut(counted, ())
    ages = everybody.one(counted.ages, 0)
    found = {(int(true), int(pred)) for true, pred in np.argwhere(ages)}
    assert found == {(17, 25), (18, 24), (40, 0)}
    years = years_of(counted, everybody, 0)
    np.testing.assert_allclose(years.sums.sum(axis=0)[:2], [8 + 6.99 - 42, 8 + 6.99 + 42])
    assert years.faces.sum() == 3
    assert years_by_block(counted, everybody, 0).errors.shape == (1, *years.errors.shape)


def test_units_are_counted_in_blocks_of_their_own(
    open_table: Callable[..., PredictionTable], rows_of: Callable[..., pl.DataFrame]
) -> None:
    frame = rows_of(400, seed=4).with_columns(person=pl.int_range(pl.len()) // 4)
    table = open_table(frame)
    features = find_features(table, ["gender"])
    plain, counted = tally(table, features), tally(table, features, unit="person")
    assert (plain.blocks, counted.blocks) == (1, BLOCKS)
    cells = cut(counted, ["gender"])
    blocks = block_of(frame["person"].cast(pl.String))
    for index, subgroup in enumerate(cells.subgroups):
        by_block = cells.blocks(counted.confusion["race"], index)
        np.testing.assert_array_equal(
            by_block.sum(axis=0), cut(plain, ["gender"]).one(plain.confusion["race"], index)
        )
        chosen = (frame["gender_true"] == subgroup["gender"]) & frame["race_pred"].is_not_null()
        faces = np.bincount(blocks[chosen.to_numpy()], minlength=BLOCKS)
        np.testing.assert_array_equal(by_block.sum(axis=(1, 2)), faces)
        coarse = cells.blocks(counted.coarse_scores["race"], index)
        assert coarse.shape == (BLOCKS, 5, 2, COARSE_BINS)
        np.testing.assert_array_equal(coarse.sum(axis=(2, 3)), np.tile(faces, (5, 1)).T)
    assert not plain.coarse_scores


def test_a_unit_that_is_no_column_is_refused(
    open_table: Callable[..., PredictionTable], rows_of: Callable[..., pl.DataFrame]
) -> None:
    with pytest.raises(UnknownNameError, match="'person'"):
        tally(open_table(rows_of(20)), unit="person")


def test_blocks_are_the_same_everywhere_and_take_missing_units() -> None:
    assert block_of(pl.Series(["a", "b", "a", None, ""])).tolist() == [67, 249, 67, 0, 0]


def test_five_thousand_subgroups_stay_sparse(tmp_path: Path) -> None:
    place, rows = pl.int_range(pl.len()), 20_000
    generator = np.random.default_rng(0)
    true, probs = generator.integers(0, 2, rows), generator.random(rows)
    frame = pl.DataFrame(
        {
            "gender_true": np.array(["Male", "Female"])[true],
            "gender_prob_Male": probs,
            "gender_prob_Female": 1 - probs,
        }
    ).with_columns(a=place % 50, b=(place // 50) % 100)
    path = tmp_path / "t.parquet"
    frame.write_parquet(path)
    table = read_table(path)
    counted = tally(table, find_features(table, ["a", "b"]))
    assert len(counted.cells) == 5000
    cells = cut(counted, ["a", "b"])
    assert len(cells.subgroups) == 5000
    assert (cells.of(counted.confusion["gender"]).sum(axis=(1, 2)) == 4).all()
    assert cells.one(counted.scores["gender"], 77).sum() == 8
    kept = [one for found in counted.numbers.values() for one in found.values()]
    assert sum(one.codes.nbytes for one in kept) < 20 * rows * 8
    by_a = cut(counted, ["a"]).of(counted.confusion["gender"]).sum(axis=(1, 2))
    np.testing.assert_array_equal(by_a, np.full(50, 400))


def test_many_features_do_not_overflow(open_table: Callable[..., PredictionTable]) -> None:
    place = pl.int_range(pl.len())
    names = [f"f{index}" for index in range(12)]
    frame = pl.DataFrame({"gender_pred": ["Male"] * 600}).with_columns(
        ((place * (7 + index)) % (150 + index)).alias(name) for index, name in enumerate(names)
    )
    table = open_table(frame)
    counted = tally(table, find_features(table, names))
    faces = cut(counted, names).of(counted.predicted["gender"]).sum(axis=1)
    assert len(faces) == frame.n_unique()
    assert faces.sum() == 600


# --- files ------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10**6), unit=st.booleans())
@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_tally_is_read_back_as_it_was(
    tmp_path: Path, rows_of: Callable[..., pl.DataFrame], seed: int, unit: bool
) -> None:
    frame = rows_of(80, seed=seed).with_columns(
        site=pl.int_range(pl.len()) % 2,
        race_true=pl.when(pl.int_range(pl.len()) % 5 > 0).then("race_true"),
    )
    counted = tally_of(frame, tmp_path / "t.parquet", unit="site" if unit else None)
    save_tally(counted, tmp_path / "t.tally")
    again = load_tally(tmp_path / "t.tally")
    assert_equal_tallies(again, counted)
    assert again.tables == counted.tables
    save_tally(again, tmp_path / "again.tally")
    assert (tmp_path / "again.tally").read_bytes() == (tmp_path / "t.tally").read_bytes()


def test_a_file_that_is_no_tally_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.tally"
    for content in (b"", b"nothing", b"PK\x03\x04 broken"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a tally"):
            load_tally(path)
    with path.open("wb") as file:
        np.savez(file, header=np.frombuffer(b'{"version": 99}', np.uint8))
    with pytest.raises(SchemaError, match="version 99"):
        load_tally(path)
    with path.open("wb") as file:
        np.savez(file, header=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="not a tally"):
        load_tally(path)
    with pytest.raises(InputError, match="cannot be read"):
        load_tally(tmp_path / "missing.tally")


def test_a_damaged_tally_is_refused_or_read_as_it_was(
    rows_of: Callable[..., pl.DataFrame], tmp_path: Path
) -> None:
    counted = tally_of(rows_of(60).with_columns(site=pl.lit("A")), tmp_path / "t.parquet")
    path = tmp_path / "t.tally"
    save_tally(counted, path)
    content, generator = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for place in generator.integers(0, len(content), 120):
        damaged = bytearray(content)
        damaged[place] ^= int(generator.integers(1, 256))
        path.write_bytes(damaged)
        try:
            again = load_tally(path)
        except InputError:
            refused += 1
        else:
            assert_equal_tallies(again, counted)
    assert refused > 60
    for length in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match="not a tally"):
            load_tally(path)


def test_a_tally_with_negative_counts_or_an_odd_unit_is_refused(
    rows_of: Callable[..., pl.DataFrame], tmp_path: Path
) -> None:
    path = tmp_path / "t.tally"
    frame = rows_of(50, seed=3).with_columns(site=pl.int_range(pl.len()) % 2)
    save_tally(tally_of(frame, tmp_path / "t.parquet"), path)
    with np.load(path) as saved:
        arrays = {name: saved[name] for name in saved.files}
    header = json.loads(arrays["header"].tobytes()) | {"unit": 5}
    assert arrays["values_0"].dtype.kind == "i"
    for changed in (
        {"values_0": -arrays["values_0"]},
        {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)},
    ):
        with path.open("wb") as file:
            np.savez(file, **(arrays | changed))
        with pytest.raises(InputError, match="not a tally"):
            load_tally(path)


def test_a_stream_of_parts_is_summed_one_at_a_time(
    rows_of: Callable[..., pl.DataFrame], tmp_path: Path
) -> None:
    frame = rows_of(150, seed=8).with_columns(site=pl.int_range(pl.len()) % 2)
    path = tmp_path / "t.parquet"

    def parts() -> Iterator[Tally]:
        for start in range(0, 150, 50):
            yield tally_of(frame[start : start + 50], path)
            path.unlink()

    summed = add_up(parts())
    assert_equal_tallies(summed, tally_of(frame, path))


def in_parts(frame: pl.DataFrame, folder: Path, sizes: list[int]) -> Path:
    """A folder of parts of these numbers of rows, in row groups of 30."""
    folder.mkdir()
    for number, size in enumerate(sizes):
        part = frame.slice(sum(sizes[:number]), size)
        part.write_parquet(folder / f"part-{number}.parquet", row_group_size=30)
    return folder


@pytest.mark.parametrize("unit", [None, "person"])
def test_rows_counted_range_by_range_are_those_of_the_table(
    rows_of: Callable[..., pl.DataFrame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unit: str | None,
) -> None:
    person = (pl.int_range(pl.len()) // 3).cast(pl.String)
    frame = rows_of(400, seed=3).with_columns(site=pl.lit("a"), person=person)
    whole = tally_of(frame, tmp_path / "whole.parquet", unit=unit)
    table = read_table(in_parts(frame, tmp_path / "parts", [100, 7, 250, 43]))
    monkeypatch.setattr(rows, "RANGE_VALUES", 1)
    monkeypatch.setattr(rows, "BATCH_ROWS", 64)
    assert table.sliceable
    assert_equal_tallies(tally(table, FEATURES, unit=unit), whole)


def test_one_range_is_read_ahead_of_the_one_that_is_counted(
    rows_of: Callable[..., pl.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = rows_of(400).with_columns(site=pl.lit("a"))
    table = read_table(in_parts(frame, tmp_path / "parts", [400]))
    monkeypatch.setattr(rows, "RANGE_VALUES", 1)
    monkeypatch.setattr(rows, "BATCH_ROWS", 50)
    begun, ahead = [], []
    read = pl.LazyFrame.collect_batches

    def noted(frame: pl.LazyFrame, **options: Any) -> Iterator[pl.DataFrame]:
        begun.append(frame)
        return read(frame, **options)

    add = count._Images.add

    def counted(images: Any, batch: Any) -> None:
        ahead.append(len(begun) - len(ahead))
        add(images, batch)

    monkeypatch.setattr(pl.LazyFrame, "collect_batches", noted)
    monkeypatch.setattr(count._Images, "add", counted)
    tally(table, FEATURES)
    assert ahead == [2] * 7 + [1]


# --- what does not matter ---------------------------------------------------------------------


def values_of(table: PredictionTable) -> dict[tuple[Any, ...], float | None]:
    from faceaudit.audit.run import audit

    found = audit(table, by=["gender"], replicates=100, verify="never")
    return {
        (one.task, one.metric, one.label, tuple(one.subgroup.items())): one.estimate.value
        for one in found.metrics
    }


def test_the_order_of_rows_changes_no_value(
    open_table: Callable[..., PredictionTable], rows_of: Callable[..., pl.DataFrame]
) -> None:
    frame = rows_of(250, seed=11)
    first, second = values_of(open_table(frame)), values_of(open_table(frame.reverse()))
    assert first.keys() == second.keys()
    for place, value in first.items():
        assert second[place] == (None if value is None else pytest.approx(value, abs=1e-12))


def test_other_names_of_classes_change_no_value(
    open_table: Callable[..., PredictionTable], rows_of: Callable[..., pl.DataFrame]
) -> None:
    frame = rows_of(250, seed=12).select("^gender_.*|image|status$")
    names = {"Male": "yes", "Female": "no"}
    renamed = frame.with_columns(pl.col("gender_true", "gender_pred").replace(names)).rename(
        {f"gender_prob_{old}": f"gender_prob_{new}" for old, new in names.items()}
    )
    # The classes come in another order as well.
    turned = renamed.select(reversed(renamed.columns))
    first, second = values_of(open_table(frame)), values_of(open_table(turned))
    assert len(first) == len(second)
    for (task, metric, label, subgroup), value in first.items():
        groups = tuple((name, names[group]) for name, group in subgroup)
        found = second[task, metric, names.get(label, label), groups]
        assert found == (None if value is None else pytest.approx(value, abs=1e-12))


def test_classes_alone_are_counted_as_with_scores(tmp_path: Path) -> None:
    rows = 4_000
    rng = np.random.default_rng(0)

    def picked(values: list[str | None]) -> list[str | None]:
        return [values[k] for k in rng.integers(0, len(values), rows)]

    frame = pl.DataFrame(
        {
            "image": [f"{k}.jpg" for k in range(rows)],
            "site": picked(["a", "b", None]),
            "gender_true": picked(["Male", "Female", None]),
            "gender_pred": picked(["Male", "Female", None]),
        }
    )
    scores = pl.DataFrame({f"gender_prob_{name}": [0.5] * rows for name in ("Male", "Female")})
    alone, scored = tmp_path / "alone.parquet", tmp_path / "scored.parquet"
    frame.write_parquet(alone)
    pl.concat([frame, scores], how="horizontal").write_parquet(scored)
    one, other = (
        tally(table, find_features(table, ["gender", "site"]))
        for table in (read_table(path) for path in (alone, scored))
    )
    assert one.cells == other.cells
    for kind in ("confusion", "predicted", "missed", "images"):
        for name, counts in one.numbers[kind].items():
            expected = other.numbers[kind][name]
            assert np.array_equal(counts.codes, expected.codes)
            assert np.array_equal(counts.values, expected.values)
