"""How two tables are opened to be compared, and what the notes say of either."""

from __future__ import annotations

import polars as pl
import pytest

from faceaudit.errors import SchemaError, UsageError
from faceaudit.reporting import compare, report
from faceaudit.reporting.source import tally

COLUMNS = {"image": "path", "gender_pred": "yhat"}


def scores(size=60, missing=()):
    """Faces with scores, some of which are not finite."""
    male = [float("nan") if k in missing else 0.8 if k % 3 else 0.3 for k in range(size)]
    return pl.DataFrame(
        {
            "image": [f"{k}.jpg" for k in range(size)],
            "gender_true": ["Male" if k % 2 else "Female" for k in range(size)],
            "gender_pred": ["Male" if k % 3 else "Female" for k in range(size)],
            "gender_prob_Male": male,
            "gender_prob_Female": [0.2 if k % 3 else 0.7 for k in range(size)],
        }
    )


@pytest.fixture
def written(tmp_path):
    """Write frames by the names of their files."""

    def write(**frames):
        for name, frame in frames.items():
            frame.write_parquet(tmp_path / f"{name}.parquet")
        return [tmp_path / f"{name}.parquet" for name in frames]

    return write


@pytest.mark.parametrize("mode", ["paired", "drift"])
def test_notes_say_which_table_they_are_of(written, mode):
    paths = written(before=scores(), after=scores(missing=(5, 7)))
    notes = compare(*paths, mode=mode, replicates=100).changes.notes
    told = [note for note in notes if "the scores of 2 of 60 faces" in note]
    assert [note.partition(" gender: ")[0] for note in told] == ["after.parquet:"]
    both = written(before=scores(missing=(1, 2)), after=scores(missing=(5, 7)))
    notes = compare(*both, mode=mode, replicates=100).changes.notes
    told = [note for note in notes if "the scores of 2 of 60 faces" in note]
    assert [note.partition(" gender: ")[0] for note in told] == ["Both tables:"]


def test_notes_of_tallies_say_which_they_are_of(written, tmp_path):
    paths = written(before=scores(), after=scores(missing=(5, 7)))
    kept = [path.with_suffix(".tally") for path in paths]
    for path, file in zip(paths, kept, strict=True):
        tally(path, file)
    notes = compare(*kept, replicates=100).changes.notes
    told = [note for note in notes if "the scores of 2 of 60 faces" in note]
    assert [note.partition(" gender: ")[0] for note in told] == ["after.tally:"]


@pytest.mark.parametrize("mode", ["paired", "drift"])
def test_scores_and_tasks_of_one_table_alone_are_named(written, mode):
    plain = scores().select("image", "gender_true", "gender_pred")
    races = plain.with_columns(race_pred=pl.lit("White"))
    paths = written(before=scores(), after=races)
    notes = compare(*paths, mode=mode, replicates=100).changes.notes
    assert "Only after.parquet predicts race, which is not compared." in notes
    assert any(note.startswith("Only before.parquet has scores of gender:") for note in notes)


def test_columns_of_one_table_alone_may_be_named(written):
    theirs = scores().rename(COLUMNS)
    paths = written(ours=scores(), theirs=theirs)
    for one, other in (paths, paths[::-1]):
        files = compare(one, other, columns=COLUMNS)
        assert files.changes.mode == "paired"
        assert files.changes.matching.matched == 60
    found = report(paths[1], baseline=paths[0], columns=COLUMNS, verify="never", replicates=100)
    assert "ours.parquet" in found.paths[0].read_text()


def test_columns_of_a_table_may_be_named_beside_a_tally(written, tmp_path):
    paths = written(ours=scores(), theirs=scores().rename(COLUMNS))
    tally(paths[0], tmp_path / "ours.tally")
    found = compare(tmp_path / "ours.tally", paths[1], columns=COLUMNS, replicates=100).changes
    assert found.images == (60, 60)
    with pytest.raises(UsageError, match="a tally is counted already"):
        compare(tmp_path / "ours.tally", tmp_path / "ours.tally", columns=COLUMNS)


def test_a_column_of_neither_table_is_refused_with_those_of_both(written):
    paths = written(ours=scores(), theirs=scores().rename(COLUMNS))
    with pytest.raises(SchemaError, match=r"--columns names 'guess'.*image.*theirs.*path.*yhat"):
        compare(*paths, columns={"gender_pred": "guess"})


def test_images_that_stand_more_than_once_are_not_said_to_be_different_images(written, tmp_path):
    twice = pl.concat([scores(), scores()])
    paths = written(before=twice, after=twice)
    found = compare(*paths, output=tmp_path / "c.html", replicates=100).changes
    (note,) = [note for note in found.notes if "cannot be paired" in note]
    assert note.startswith("Rows of the same images cannot be paired: 100.0% of those")
    assert "a column face" in note
    page = (tmp_path / "c.html").read_text()
    assert "are of different images: 0.0%" not in page
    assert "found by the bytes" not in page
    with pytest.raises(SchemaError, match=r"occur more than once; a column face"):
        compare(*paths, mode="paired")


def test_a_baseline_of_other_tasks_is_named(written):
    races = (
        scores()
        .rename({"gender_pred": "race_pred", "gender_true": "race_true"})
        .select("image", race_true=pl.lit("White"), race_pred=pl.lit("White"))
    )
    paths = written(old=races, new=scores())
    with pytest.raises(
        SchemaError, match=r"--baseline .*old\.parquet \(the first\) and .*new\.parq"
    ):
        report(paths[1], baseline=paths[0], replicates=100)


def test_a_report_of_units_without_any_face_is_made(written, tmp_path):
    frame = scores().with_columns(
        status=pl.lit("no_face"),
        person=pl.lit("p1"),
        age_true=pl.lit(30),
        age_pred=pl.lit(None, pl.Float32),
        age_group_true=pl.lit("30-39"),
        age_group_pred=pl.lit(None, pl.String),
        gender_pred=pl.lit(None, pl.String),
    )
    (path,) = written(failed=frame)
    assert report(path, unit="person", replicates=100).audit.coverage[0].failure_rate.value == 1
