"""What the page says of a comparison in words, and which figures its tables show."""

from __future__ import annotations

import polars as pl
import pytest

from faceaudit.reporting.changes_text import findings_of, lede
from faceaudit.reporting.changes_view import view
from faceaudit.reporting.compare import compare


@pytest.fixture
def compared(tmp_path):
    """Write two frames and compare them."""

    def compare_frames(first, second, **options):
        for name, frame in (("before", first), ("after", second)):
            frame.write_parquet(tmp_path / f"{name}.parquet")
        return compare(
            tmp_path / "before.parquet", tmp_path / "after.parquet", replicates=100, **options
        )

    return compare_frames


def finding(files, start):
    return next(
        one for one in findings_of(files.changes, "annotated") if one.heading.startswith(start)
    )


def scored(size, failed, wrong):
    """Images of two genders and sites; the first ``failed`` have no face."""
    return pl.DataFrame(
        {
            "image": [f"{k}.jpg" for k in range(size)],
            "status": ["no_face" if k < failed else "ok" for k in range(size)],
            "site": ["north" if k % 4 else "south" for k in range(size)],
            "gender_true": ["Male" if k % 2 else "Female" for k in range(size)],
            "gender_pred": [
                None if k < failed else "Female" if k % wrong == 0 else "Male" for k in range(size)
            ],
        }
    )


# --- what is said first ------------------------------------------------------------------------


def lede_of(files):
    return lede(files.changes, "before", "after", "annotated")


def test_labeled_tables_of_few_faces_are_not_said_to_lack_labels(compared):
    files = compared(scored(20, 0, 5), scored(20, 0, 3))
    assert lede_of(files) == (
        "after against before, on the same 20 faces: too few faces for a claim on any headline "
        "figure."
    )
    assert finding(files, "Gender").heading == "Gender: too few faces for a claim"


def test_labeled_tables_of_which_one_has_no_face_are_not_said_to_lack_labels(compared):
    files = compared(scored(60, 0, 5), scored(60, 60, 3))
    assert lede_of(files).startswith(
        "after against before, on the same 60 rows, of which both tables scored 0: too few faces"
    )
    missing = finding(files, "Images without a scored face")
    assert missing.heading == "Images without a scored face: regressed"
    assert missing.hedge == ""


def test_differences_without_a_spread_are_not_said_to_be_of_few_faces(compared):
    ages = pl.DataFrame({"image": [f"{k}.jpg" for k in range(60)], "age_true": [30.0] * 60})
    first = ages.with_columns(age_pred=pl.lit(31.0))
    second = ages.with_columns(age_pred=pl.lit(32.0))
    files = compared(first, second)
    assert finding(files, "Age:").heading == "Age: no change is shown"


@pytest.mark.parametrize(("mode", "where"), [("paired", ""), ("drift", " in both tables")])
def test_tables_without_labels_are_said_to_lack_them(compared, mode, where):
    first, second = (scored(60, 0, wrong).drop("gender_true") for wrong in (5, 3))
    assert f"no task has labels{where}, so only" in lede_of(compared(first, second, mode=mode))


def test_rows_without_a_face_are_not_said_to_be_faces(compared):
    files = compared(scored(200, 120, 5), scored(200, 100, 3))
    assert "on the same 200 rows, of which both tables scored 80: " in lede_of(files)


# --- distributions ----------------------------------------------------------------------------


def predicted(prefix, male, size=200):
    """Images of two races, of each of which so many are predicted Male."""
    return pl.DataFrame(
        {
            "image": [f"{prefix}{k}" for k in range(2 * size)],
            "race_true": ["White"] * size + ["Black"] * size,
            "gender_pred": [
                "Male" if k < count else "Female" for count in male for k in range(size)
            ],
        }
    )


def test_a_shift_within_subgroups_alone_is_in_the_summary(compared):
    files = compared(predicted("a", (60, 140)), predicted("b", (140, 60)), by=["race"])
    told = finding(files, "Distributions that differ")
    assert told.heading == "Distributions that differ: predicted gender of subgroups"
    assert "By annotated subgroup: predicted gender of Black" in told.sentence
    assert "predicted gender of White" in told.sentence


def test_no_shift_shown_is_not_said_to_be_chance(compared):
    files = compared(predicted("a", (100, 100)), predicted("b", (100, 100)), by=["race"])
    told = finding(files, "Distributions that differ")
    assert told.heading == "Distributions that differ: none is shown to"
    assert told.sentence.endswith("small shifts cannot be excluded.")
    assert told.hedge == ""


def test_distributions_of_few_faces_are_not_said_to_be_alike(compared):
    files = compared(predicted("a", (10, 0), 10), predicted("b", (0, 10), 10), by=["race"])
    told = finding(files, "Distributions that differ")
    assert told.heading == "Distributions that differ: none has enough faces to be tested"


def test_a_list_of_claims_says_how_many_it_leaves_out(compared):
    races = ["White", "Black", "Asian", "Indian"]
    first = pl.DataFrame(
        {
            "image": [f"{k}.jpg" for k in range(480)],
            "status": ["ok"] * 480,
            "race_true": [races[k % 4] for k in range(480)],
            "gender_true": ["Male" if k % 8 < 4 else "Female" for k in range(480)],
            "gender_pred": ["Male"] * 480,
        }
    )
    failed = first.with_columns(
        status=pl.lit("no_face"), gender_pred=pl.when(pl.int_range(480) < 0).then(pl.lit("Male"))
    )
    failed = pl.concat([failed.head(479), first.tail(1)])
    told = finding(compared(first, failed), "Images without a scored face")
    # Two genders, four races and eight of both.
    assert told.sentence.count("regressed") == 6
    assert told.sentence.endswith("; and 8 more.")


# --- tables -----------------------------------------------------------------------------------


def tables_of(files):
    shown = view(files.changes, "before", "after", "annotated")
    return {table.title: table for table in shown.tables}


def test_a_row_counts_the_faces_of_its_figures_and_other_cells_say_theirs(compared):
    files = compared(scored(200, 120, 5), scored(200, 120, 3), by=["site"])
    tables = tables_of(files)
    everybody = tables["Gender"].groups[0][1][0]
    own = dict(zip(tables["Gender"].columns, everybody.cells, strict=True))
    assert everybody.n == 80
    assert own["Accuracy"].n == ""
    assert own["Accuracy, failures as errors"].n == "200"
    assert tables["Gender"].counted == "faces"
    assert tables["Who is missing"].counted == "images"
    page = files.paths[0].read_text()
    assert '<span class="ci">n 200</span>' in page
    assert '<span class="hint">images</span>' in page


def test_a_figure_of_few_faces_is_marked_beside_one_of_enough(compared):
    files = compared(scored(200, 120, 5), scored(200, 120, 3), by=["site"])
    south = tables_of(files)["Gender"].groups[1][1][1]
    own = dict(zip(tables_of(files)["Gender"].columns, south.cells, strict=True))
    assert (south.header, south.n, south.small) == ("south", 20, False)
    assert own["Accuracy"].small
    assert not own["Accuracy, failures as errors"].small
    assert "few faces</abbr></span></td>" in files.paths[0].read_text()


def families_of(files):
    return view(files.changes, "before", "after", "annotated").family


def test_the_families_are_those_of_the_tables_that_are_shown(compared):
    files = compared(scored(200, 0, 5), scored(200, 0, 3), by=["site"])
    # Accuracy and macro F1, of everybody and of sites; shares of the predicted classes.
    assert "The tables show 5 families: if nothing had changed at all, about 0.25" in families_of(
        files
    )


def test_tables_without_labels_show_the_families_of_predicted_shares(compared):
    first, second = (scored(200, 0, wrong).drop("gender_true") for wrong in (5, 3))
    assert "The tables show 1 family: " in families_of(compared(first, second, by=["site"]))


def test_tables_of_few_faces_show_no_family_that_was_tested(compared):
    files = compared(scored(20, 0, 5), scored(20, 0, 3), by=["site"])
    assert families_of(files).endswith("No figure in the tables could be tested.")
