"""An attacker reads a report with small cells left out, and works out what follows from it.

He knows which values there are, that every row is an image, and everything that the JSON says. The
counts that he does not know are those of the finest cells (features, statuses, annotated and
predicted classes); whatever the JSON tells is a sum of them. A linear program then finds the least
and the most that a small count can be.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog

from faceaudit.audit.disclosure import hidden_keys
from faceaudit.audit.told import with_adults
from faceaudit.errors import UsageError
from faceaudit.reporting import compare, report
from faceaudit.schema import Task

BELOW = 5
QUICK = {"verify": "never", "replicates": 100}
NAMES = ("gender_true", "gender_pred", "race_true", "race_pred", "site", "status")
FEATURES = ("gender", "race", "site")
Told = list[tuple[NDArray[np.bool_], float]]


def expanded(cells: Mapping[tuple[Any, ...], int], names: tuple[str, ...]) -> pl.DataFrame:
    """A table with so many rows of each kind."""
    rows = [dict(zip(names, cell, strict=True)) for cell, n in cells.items() for _ in range(n)]
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(
        image=pl.format("{}.jpg", pl.int_range(pl.len()))
    )


def universe(table: pl.DataFrame) -> pl.DataFrame:
    """Every combination of values that a row could have."""
    columns = [name for name in table.columns if name != "image"]
    values = [table[name].unique().sort().to_list() for name in columns]
    every = pl.DataFrame(
        list(product(*values)), schema=columns, orient="row", infer_schema_length=None
    )
    failed = pl.col("status") != "ok"
    same = pl.all_horizontal(
        pl.col(name).is_null() == failed for name in columns if name.endswith("_pred")
    )
    return every.filter(same)


def of(rows: pl.DataFrame, subgroup: Mapping[str, str]) -> NDArray[np.bool_]:
    """Which rows belong to a subgroup."""
    found = np.ones(rows.height, bool)
    for name, value in subgroup.items():
        column = name if name in rows.columns else f"{name}_true"
        found &= (rows[column] == value).fill_null(False).to_numpy()
    return found


def told_by(
    facts: Mapping[str, Any], rows: pl.DataFrame
) -> Iterator[tuple[NDArray[np.bool_], float]]:
    """What the JSON tells: which rows, and how many of them there are."""
    scored = (rows["status"] == "ok").to_numpy()
    for one in facts["coverage"]:
        own = of(rows, one["subgroup"])
        yield own, one["images"]
        for status, n in one["statuses"].items():
            if n is not None:
                yield own & (rows["status"] == status).to_numpy(), n
        if one["failure_rate"]["value"] is not None:
            rate = one["failure_rate"]
            yield own & ~scored, round(rate["value"] * rate["n"])
        for name, rate in one["rates"].items():
            if rate["value"] is not None and name not in ("decoding", "detection", "multi_face"):
                yield own & (rows["status"] == name).to_numpy(), round(rate["value"] * rate["n"])
    for one in facts["metrics"]:
        own, task, label = of(rows, one["subgroup"]), one["task"], one.get("class")
        if one["n"] is None:
            continue
        if label is None:
            yield own & scored, one["n"]
        elif one["metric"] in ("recall", "f1", "false_positive_rate"):
            annotated = (rows[f"{task}_true"] == label).to_numpy()
            other = one["metric"] == "false_positive_rate"
            yield own & scored & (annotated != other), one["n"]
        elif one["metric"] in ("precision", "selection_rate"):
            n = one["n"]
            if one["metric"] == "selection_rate":
                if one["value"] is None:
                    continue
                n = round(n * one["value"])
            yield own & (rows[f"{task}_pred"] == label).fill_null(False).to_numpy(), n
    for one in facts["composition"]:
        own = of(rows, one["subgroup"])
        if one["n"] is not None:
            yield own & scored, one["n"]
            label = (rows[f"{one['task']}_pred"] == one["class"]).fill_null(False).to_numpy()
            yield own & label, round(one["n"] * one["value"])
    for one in facts["with_failures"]:
        own = of(rows, one["subgroup"])
        if "class" in one:
            own &= (rows[f"{one['task']}_true"] == one["class"]).to_numpy()
        for kind, part in (("scored", own & scored), ("with_failures", own)):
            if one[kind]["n"] is not None:
                yield part, one[kind]["n"]
        if one["missed"] is not None:
            yield own & ~scored, one["missed"]


def secrets(
    table: pl.DataFrame, rows: pl.DataFrame, by: tuple[str, ...]
) -> Iterator[tuple[str, NDArray[np.bool_], int]]:
    """Every count that may not be told: which rows, and how many there are."""
    groupings = [(), *((name,) for name in by), by] if len(by) > 1 else [(), by]
    columns = {name: name if name in table.columns else f"{name}_true" for name in by}
    kinds = ["status", *(n for n in table.columns if n.endswith(("_true", "_pred")))]
    for names in groupings:
        for values in product(
            *(table[columns[name]].drop_nulls().unique().sort() for name in names)
        ):
            subgroup = dict(zip(names, values, strict=True))
            places = [("", "")] + [
                (kind, value)
                for kind in kinds
                for value in table[kind].drop_nulls().unique().sort()
            ]
            for kind, value in places:
                if not names and kind == "status":
                    continue  # figures of everybody stay, and say how many images have no face
                own_task = f"{kind.removesuffix('_pred')}_true"
                if kind.endswith("_pred") and own_task in (columns[name] for name in names):
                    continue  # right or wrong, which every recall tells
                scored = kind.endswith("_true")
                counts = []
                for frame in (table, rows):
                    found = of(frame, subgroup)
                    if kind:
                        found &= (frame[kind] == value).fill_null(False).to_numpy()
                    if scored:
                        found &= (frame["status"] == "ok").to_numpy()
                    counts.append(found)
                n = int(counts[0].sum())
                if 0 < n < BELOW:
                    yield f"{subgroup} {kind}={value}: {n}", counts[1], n


def bounds_of(told: Told, secret: NDArray[np.bool_]) -> tuple[float, float]:
    """The least and the most that a count can be."""
    sums = np.unique(np.array([[*part, n] for part, n in told], np.float64), axis=0)
    found = [
        linprog(sign * secret, A_eq=sums[:, :-1], b_eq=sums[:, -1], method="highs")
        for sign in (1.0, -1.0)
    ]
    assert all(one.status == 0 for one in found), "what is told contradicts itself"
    return found[0].fun, -found[1].fun


def attack(table: pl.DataFrame, by: tuple[str, ...], folder: Path, below: int = BELOW) -> list[str]:
    """Small counts that follow from the report."""
    table.write_parquet(folder / "t.parquet")
    files = report(
        folder / "t.parquet", output=folder / "r.html", by=list(by), suppress_below=below, **QUICK
    )
    facts = json.loads(next(path for path in files.paths if path.suffix == ".json").read_text())
    rows = universe(table)
    told = list(told_by(facts, rows))
    kept = []
    for name, secret, _ in secrets(table, rows, by):
        low, high = bounds_of(told, secret)
        if high - low < 0.5:
            kept.append(name)
    return kept


def random_table(seed: int) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Uneven subgroups of two or three features, some images that failed, some faces mistaken."""
    rng = np.random.default_rng(seed)
    by = ("gender", "race", "site")[: 2 + seed % 2]
    races = ("White", "Black", "Asian")
    cells = {}
    for gender, race, site in product(("Male", "Female"), races, ("north", "south")):
        size = int(rng.choice([2, 4, 9, 30, 60]))
        failed = int(rng.choice([0, 0, 1, 3, 8]))
        cells[gender, gender, race, race, site, "ok"] = size
        cells[gender, None, race, None, site, "no_face"] = failed
        other = str(rng.choice([one for one in races if one != race]))
        cells[gender, gender, race, other, site, "ok"] = int(rng.choice([0, 1, 6]))
    return expanded(cells, NAMES), by


@pytest.mark.parametrize("seed", range(6))
def test_no_small_count_follows_from_a_report_of_random_subgroups(
    seed: int, tmp_path: Path
) -> None:
    table, by = random_table(seed)
    assert attack(table, by, tmp_path) == []


def test_the_attacker_succeeds_where_nothing_is_suppressed(tmp_path: Path) -> None:
    table, by = random_table(1)
    assert len(attack(table, by, tmp_path, below=0)) > 10


def test_one_small_cell_of_three_features_does_not_follow_from_each_of_them(tmp_path: Path) -> None:
    cells = {
        (gender, gender, race, race, site, "ok"): 40
        for gender, race, site in product(
            ("Male", "Female"), ("White", "Black"), ("north", "south")
        )
    }
    cells["Female", "Female", "Black", "Black", "north", "ok"] = 3
    table = expanded(cells, NAMES)
    assert attack(table, ("gender", "race", "site"), tmp_path) == []
    facts = json.loads((tmp_path / "r.json").read_text())
    subgroups = [one["subgroup"] for one in facts["coverage"]]
    assert {"gender": "Female"} in subgroups
    assert sum(len(one) == 3 for one in subgroups) < 7


def test_few_failures_and_few_of_a_class_do_not_follow_from_the_other_subgroup(
    tmp_path: Path,
) -> None:
    names = tuple(name for name in NAMES if name != "site")
    cells = {
        ("Male", "Male", "White", "White", "ok"): 50,
        ("Male", "Male", "Black", "Black", "ok"): 48,
        ("Male", None, "White", None, "no_face"): 10,
        ("Female", "Female", "White", "White", "ok"): 90,
        ("Female", "Male", "White", "White", "ok"): 5,
        ("Female", "Female", "Black", "Black", "ok"): 3,
        ("Female", None, "White", None, "no_face"): 2,
    }
    assert attack(expanded(cells, names), ("gender",), tmp_path) == []
    facts = json.loads((tmp_path / "r.json").read_text())
    assert [one["subgroup"] for one in facts["coverage"]] == [{}]
    shown = {
        (one["task"], one["metric"], one.get("class"), *one["subgroup"].values()): one["n"]
        for one in facts["metrics"]
    }
    assert shown["gender", "accuracy", None, "Female"] == 98
    for gender in ("Male", "Female"):
        for metric, race in product(("recall", "selection_rate"), ("White", "Black")):
            assert shown["race", metric, race, gender] is None


def test_a_predicted_class_of_few_faces_does_not_follow_from_the_others(tmp_path: Path) -> None:
    cells = {
        (race, gender, "ok"): n // 2
        for race, n in (("White", 60), ("Black", 40), ("Indian", 4))
        for gender in ("Male", "Female")
    }
    table = expanded(cells, ("race_pred", "gender_pred", "status"))
    assert attack(table, ("race_pred",), tmp_path) == []
    facts = json.loads((tmp_path / "r.json").read_text())
    shares = {one["class"]: one["n"] for one in facts["composition"] if not one["subgroup"]}
    assert (shares["White"], shares["Black"], shares["Indian"]) == (104, None, None)


def test_few_faces_that_one_table_alone_has_right_do_not_follow(tmp_path: Path) -> None:
    other = {"Male": "Female", "Female": "Male"}
    counts = {"Male": (80, 5, 10, 5, 3), "Female": (85, 2, 6, 7, 0)}
    rows: list[list[dict[str, Any]]] = [[], []]
    for gender, numbers in counts.items():
        wrong = other[gender]
        answers = (
            (gender, gender),
            (gender, wrong),
            (wrong, gender),
            (wrong, wrong),
            (gender, None),
        )
        for n, pair in zip(numbers, answers, strict=True):
            for _ in range(n):
                image = f"{len(rows[0])}.jpg"
                for table, answer in zip(rows, pair, strict=True):
                    status = "ok" if answer else "no_face"
                    table.append(
                        {
                            "image": image,
                            "gender_true": gender,
                            "gender_pred": answer,
                            "status": status,
                        }
                    )
    for name, table in zip("ab", rows, strict=True):
        pl.DataFrame(table, infer_schema_length=None).write_parquet(tmp_path / f"{name}.parquet")
    tables = (tmp_path / "a.parquet", tmp_path / "b.parquet")
    found = compare(*tables, by=["gender"], suppress_below=BELOW, replicates=100).changes
    gender = [one for one in found.changes if one.task == "gender"]
    assert gender
    assert all(one.only_first is None and one.only_second is None for one in gender)
    failing = [one for one in found.changes if one.metric == "failure_rate"]
    failing += [one for one in gender if one.failures == "errors"]
    failing = [one for one in failing if one.subgroup]
    assert {tuple(one.subgroup.values()) for one in failing} == {("Male",), ("Female",)}
    assert all(one.n == 0 and one.first is None for one in failing)
    left = [one for one in gender if one.metric == "accuracy" and one.failures == "left out"]
    assert [one.n for one in left] == [200, 100, 100]


def test_few_failures_of_the_larger_table_are_hidden_however_small_the_other(
    tmp_path: Path,
) -> None:
    names = ("race_true", "gender_pred", "status")
    first = {
        ("White", "Male", "ok"): 800,
        ("White", None, "no_face"): 40,
        ("Black", "Male", "ok"): 400,
        ("Black", None, "no_face"): 2,
        ("Asian", "Male", "ok"): 300,
        ("Asian", None, "no_face"): 30,
        ("Indian", "Male", "ok"): 300,
        ("Indian", None, "no_face"): 20,
    }
    second = {(race, "Male", "ok"): 40 for race, *_ in first}
    for name, cells, prefix in (("a", first, "x"), ("b", second, "y")):
        table = expanded(cells, names).with_columns(image=pl.format(prefix + "{}", "image"))
        table.write_parquet(tmp_path / f"{name}.parquet")
    tables = (tmp_path / "a.parquet", tmp_path / "b.parquet")
    found = compare(*tables, by=["race"], suppress_below=BELOW, replicates=100).changes
    failing = {
        one.subgroup["race"]: one.first
        for one in found.changes
        if one.metric == "failure_rate" and one.subgroup
    }
    assert failing["Black"] is None
    assert sum(rate is None for rate in failing.values()) == 2
    assert failing["White"] == pytest.approx(40 / 840)
    of_status = [one.subgroup.get("race") for one in found.distances if one.what == "status"]
    assert "Black" not in of_status
    assert {None, "White"} <= set(of_status)


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({"both": 80, "first": 10, "second": 20, "neither": 8, "first failed": 9}, True),
        # Agreement less the difference would tell the three.
        ({"both": 80, "first": 3, "second": 9, "neither": 8}, False),
        # What the first has right less what it alone has right would tell the two.
        ({"both": 2, "first": 80, "second": 90, "neither": 8}, False),
        ({"both": 80, "first": 10, "second": 20, "neither": 2}, False),
        ({"both": 80, "first": 10, "second": 20, "neither": 8, "both failed": 3}, False),
    ],
)
def test_agreement_and_faces_of_one_table_do_not_tell_few_of_another_outcome(
    counts: Mapping[str, int], told: bool, tmp_path: Path
) -> None:
    right, wrong = ("Male", "ok"), ("Female", "ok")
    failed = (None, "no_face")
    outcomes = {
        "both": (right, right),
        "first": (right, wrong),
        "second": (wrong, right),
        "neither": (wrong, wrong),
        "first failed": (failed, right),
        "both failed": (failed, failed),
    }
    names = ("gender_true", "gender_pred", "status")
    for side, name in enumerate("ab"):
        answers = [outcomes[kind][side] for kind, n in counts.items() for _ in range(n)]
        pl.DataFrame([("Male", *one) for one in answers], schema=names, orient="row").with_columns(
            image=pl.format("{}.jpg", pl.int_range(pl.len()))
        ).write_parquet(tmp_path / f"{name}.parquet")
    tables = (tmp_path / "a.parquet", tmp_path / "b.parquet")
    found = compare(*tables, by=[], suppress_below=BELOW).changes
    of_gender = [one for one in found.changes if one.task == "gender" and one.metric == "accuracy"]
    assert len(of_gender) == 2
    assert all((one.only_first is not None) == told for one in of_gender)
    assert (len(found.agreement) == 1) == told


def test_images_that_both_tables_missed_do_not_follow_from_those_that_one_missed(
    tmp_path: Path,
) -> None:
    for name, missed in (("a", range(10)), ("b", range(8, 18))):
        status = ["no_face" if at in missed else "ok" for at in range(200)]
        scored = pl.col("status") == "ok"
        pl.DataFrame({"status": status}).with_columns(
            image=pl.format("{}.jpg", pl.int_range(pl.len())),
            gender_pred=pl.when(scored).then(pl.lit("Male")),
        ).write_parquet(tmp_path / f"{name}.parquet")
    tables = (tmp_path / "a.parquet", tmp_path / "b.parquet")
    found = compare(*tables, by=[], suppress_below=BELOW).changes
    (rate,) = (one for one in found.changes if one.metric == "failure_rate")
    assert (rate.first, rate.only_first, rate.only_second) == (0.05, None, None)


def of_races(missed: Mapping[str, int], races: Mapping[str, str]) -> pl.DataFrame:
    """A hundred images of each race, and how many of them were missed."""
    rows = [
        (race, None if at < missed.get(race, 0) else predicted, at % 2)
        for race, predicted in races.items()
        for at in range(100)
    ]
    genders = pl.when(pl.col("odd") == 0).then(pl.lit("Male")).otherwise(pl.lit("Female"))
    return (
        pl.DataFrame(rows, schema=("race_true", "race_pred", "odd"), orient="row")
        .with_columns(
            image=pl.format("{}.jpg", pl.int_range(pl.len())),
            gender_true=genders,
            gender_pred=pl.when(pl.col("race_pred").is_not_null()).then(genders),
            status=pl.when(pl.col("race_pred").is_null())
            .then(pl.lit("no_face"))
            .otherwise(pl.lit("ok")),
        )
        .drop("odd")
    )


def test_few_faces_that_the_baseline_missed_do_not_follow_from_report_and_comparison(
    tmp_path: Path,
) -> None:
    races = {one: one for one in ("White", "Black", "Asian", "Indian", "Others")}
    missed = {"White": 30, "Black": 2, "Asian": 20, "Indian": 15}
    of_races(missed, races).write_parquet(tmp_path / "before.parquet")
    of_races({}, races).write_parquet(tmp_path / "after.parquet")
    files = report(
        tmp_path / "after.parquet", baseline=tmp_path / "before.parquet", by=["race"],
        suppress_below=BELOW, **QUICK,
    )  # fmt: skip
    facts = json.loads(files.paths[1].read_text())
    audited, compared = (
        {one["subgroup"].get("race"): one["n"] for one in found if one["metric"] == "accuracy"}
        for found in (
            [one for one in facts["metrics"] if one["task"] == "gender"],
            [
                one
                for one in facts["baseline"]["changes"]
                if one["task"] == "gender" and one["failures"] == "left out"
            ],
        )
    )
    assert audited == {None: 500} | dict.fromkeys(races, 100)
    # Without the two of Black faces, one other number must be unknown as well.
    assert "Black" not in compared
    assert len(compared) == 1 + len(races) - 2
    assert all(n == 433 if race is None else n <= 100 for race, n in compared.items())
    assert facts["baseline"]["options"]["suppress_below"] == BELOW


def test_subgroups_hidden_in_a_report_are_hidden_in_its_comparison(tmp_path: Path) -> None:
    races = {one: one for one in ("White", "Black", "Asian")}
    after = of_races({}, races)
    few = after.filter((pl.col("race_true") != "Black") | (pl.int_range(pl.len()) % 50 == 0))
    after.write_parquet(tmp_path / "before.parquet")
    few.write_parquet(tmp_path / "after.parquet")
    found = report(
        tmp_path / "after.parquet", baseline=tmp_path / "before.parquet", by=["race"],
        suppress_below=BELOW, **QUICK,
    )  # fmt: skip
    facts = json.loads(found.paths[1].read_text())
    shown, compared = (
        {str(one["subgroup"]) for one in rows}
        for rows in (facts["metrics"], facts["baseline"]["changes"])
    )
    assert "{'race': 'Black'}" not in shown
    assert len(shown) == 2
    assert compared == shown


def test_a_baseline_of_coarser_classes_is_refused_where_cells_are_suppressed(
    tmp_path: Path,
) -> None:
    fine = {one: one for one in ("White", "Black", "Indian", "East Asian", "Southeast Asian")}
    coarse = dict.fromkeys(fine, "Asian") | {one: one for one in ("White", "Black", "Indian")}
    of_races({}, fine).write_parquet(tmp_path / "after.parquet")
    of_races({}, coarse).with_columns(
        pl.col("race_true").replace({"East Asian": "Asian", "Southeast Asian": "Asian"})
    ).write_parquet(tmp_path / "before.parquet")
    both = {"baseline": tmp_path / "before.parquet", **QUICK}
    report(tmp_path / "after.parquet", **both)
    with pytest.raises(UsageError, match=r"--suppress-below 5 with --baseline .*--map"):
        report(tmp_path / "after.parquet", suppress_below=BELOW, **both)


MINORS = {"White": 30, "Black": 2, "Asian": 20, "Indian": 25}


def ages(shift: float) -> pl.DataFrame:
    """Sixty faces of each race, of which so many are minors."""
    races = [race for race in MINORS for _ in range(60)]
    true = [12.0 if at < n else 40.0 for n in MINORS.values() for at in range(60)]
    pred = [age + shift + at % 7 for at, age in enumerate(true)]
    return pl.DataFrame({"race_true": races, "age_true": true, "age_pred": pred}).with_columns(
        image=pl.format("{}.jpg", pl.int_range(pl.len()))
    )


def assert_minors_do_not_follow(figures: list[tuple[str, str, int | None]]) -> None:
    """Minors and adults of two races are hidden, one of them Black; of race, metric and n."""
    minors, adults = (
        {race: n for race, metric, n in figures if metric == f"challenge_25_{kind}"}
        for kind in ("fpr", "fnr")
    )
    hidden = {race for race, n in adults.items() if not n}
    assert hidden == {race for race, n in minors.items() if not n}
    assert "Black" in hidden
    assert len(hidden) == 2
    assert {(race, n) for race, metric, n in figures if metric == "mae"} == {
        (race, 60) for race in MINORS
    }


def test_few_minors_do_not_follow_from_the_adults_and_all_faces(tmp_path: Path) -> None:
    ages(1.0).write_parquet(tmp_path / "t.parquet")
    rule = {
        "task": "age", "metric": "challenge_25_fnr", "by": ["race"], "measure": "worst",
        "at_most": 0.5, "min_n": 55, "owner": "o", "reason": "r",
    }  # fmt: skip
    found = report(
        tmp_path / "t.parquet", by=["race"], suppress_below=BELOW, policy={"rule": [rule]}, **QUICK
    ).audit
    assert_minors_do_not_follow(
        [
            (one.subgroup["race"], one.metric, one.estimate.n)
            for one in found.metrics
            if one.subgroup and one.task == "age"
        ]
    )
    (verdict,) = found.verdicts  # of Black alone, who are 58 adults
    assert (verdict.n, verdict.subgroups) == (None, ())
    for gap in [*found.disparities, *found.comparisons]:
        if gap.metric == "challenge_25_fnr":
            assert "Black" not in str(gap)


@pytest.mark.parametrize("mode", ["paired", "drift"])
def test_few_minors_do_not_follow_from_a_comparison(mode: Any, tmp_path: Path) -> None:
    for name, shift in (("a", 1.0), ("b", 3.0)):
        ages(shift).write_parquet(tmp_path / f"{name}.parquet")
    tables = (tmp_path / "a.parquet", tmp_path / "b.parquet")
    found = compare(*tables, by=["race"], mode=mode, suppress_below=BELOW, replicates=100).changes
    assert_minors_do_not_follow(
        [
            (one.subgroup["race"], one.metric, one.n)
            for one in found.changes
            if one.subgroup and one.task == "age" and one.failures == "left out"
        ]
    )


def test_a_small_age_group_does_not_follow_from_the_minors_and_their_other_groups() -> None:
    groups = ("0-12", "13-17", "18+")
    faces = {"White": (30, 400, 20), "Black": (3, 300, 20), "Asian": (20, 400, 21)}
    minor, adult = ("(adult)", "no"), ("(adult)", "yes")
    by_group: dict[frozenset[tuple[str, str]], int] = {}
    by_age: dict[frozenset[tuple[str, str]], int] = {}
    for race, numbers in faces.items():
        cells = {("age_group", name): n for name, n in zip(groups, numbers, strict=True)}
        for more in (set(), {("race", race)}):
            for part, n in cells.items():
                for table, parts in (
                    (by_group, more),
                    (by_group, more | {part}),
                    (by_age, more),
                    (by_age, more | {adult if part[1] == "18+" else minor}),
                ):
                    key = frozenset(parts)
                    table[key] = table.get(key, 0) + n
    told = {"labeled age": by_age, "labeled age_group": by_group}
    whole = with_adults(told, [Task("age_group", "custom", groups)])
    hidden = hidden_keys(list(whole.values()), BELOW)
    for race in faces:
        own = {("race", race)}
        ages = [frozenset(own | {("age_group", name)}) for name in groups[:2]]
        unknown = sum(key in hidden for key in ages)
        assert unknown != 1 or frozenset(own | {minor}) in hidden
    assert frozenset({("race", "Black"), ("age_group", "0-12")}) in hidden
    assert frozenset({("race", "White"), adult}) not in hidden


@given(
    st.dictionaries(
        st.tuples(st.sampled_from("fm"), st.sampled_from("abc"), st.sampled_from("ns")),
        st.integers(1, 40),
        min_size=1,
    ),
    st.integers(2, 12),
)
def test_hidden_cells_of_three_features_have_room_within_what_is_shown(
    table: dict[tuple[str, str, str], int], below: int
) -> None:
    """Cells, each feature alone, and everybody: bounds of every small cell by a linear program."""
    cells = list(table)
    n = np.array(list(table.values()), np.float64)
    parts: dict[frozenset[tuple[str, str]], NDArray[np.bool_]] = {
        frozenset(): np.ones(len(n), bool)
    }
    for at, cell in enumerate(cells):
        for place, part in enumerate(zip(FEATURES, cell, strict=True)):
            same = np.array([one[place] == part[1] for one in cells])
            parts[frozenset({part})] = same
        parts[frozenset(zip(FEATURES, cell, strict=True))] = np.arange(len(n)) == at
    counts = {key: int(n[part].sum()) for key, part in parts.items()}
    hidden = hidden_keys([counts], below)
    assert {key for key, size in counts.items() if key and size < below} <= hidden
    told = [(part, float(counts[key])) for key, part in parts.items() if key not in hidden]
    for key, part in parts.items():
        if key and counts[key] < below and counts[key] != n.sum():
            low, high = bounds_of(told, part)
            assert high - low > 0.5


@pytest.mark.parametrize("limit", ["MOST_KEYS", "MOST_PROGRAMS"])
def test_of_very_many_keys_all_of_a_small_ones_features_are_hidden(
    monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(f"faceaudit.audit.disclosure.{limit}", 0)
    counts = {("a", "x"): 3, ("a", "y"): 40, ("b", "x"): 50, ("b", "y"): 60}
    cells = {frozenset({("site", s), ("race", r)}): n for (s, r), n in counts.items()}
    sites = {frozenset({("site", "a")}): 43, frozenset({("site", "b")}): 110}
    assert hidden_keys([{frozenset(): 153, **cells, **sites}], 5) == set(cells)
