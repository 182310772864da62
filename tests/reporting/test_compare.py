from __future__ import annotations

import json
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest

import faceaudit
from faceaudit.errors import SchemaError, UnknownNameError, UsageError
from faceaudit.reporting import compare, report
from faceaudit.reporting.compare import SCHEMA_FILE
from faceaudit.reporting.json_report import SCHEMA_FILE as REPORT_SCHEMA
from faceaudit.reporting.source import tally
from faceaudit.schema import SCHEMES

HOSTILE = "<script>alert('1')</script>&"


def rows(size=360, wrong=0.2, start=0, seed=5):
    generator = np.random.default_rng(seed)
    races = np.array(SCHEMES["fairface4"])[generator.integers(0, 4, size)]
    genders = np.array(SCHEMES["gender2"])[generator.integers(0, 2, size)]
    other = np.where(genders == "Male", "Female", "Male")
    ages = generator.integers(1, 90, size)
    return pl.DataFrame(
        {
            "image": [f"{n + start}.jpg" for n in range(size)],
            "gender_true": genders,
            "gender_pred": np.where(generator.random(size) < wrong, other, genders),
            "race_true": races,
            "race_pred": np.where(generator.random(size) < wrong, races[::-1], races),
            "age_true": ages,
            "age_pred": ages + generator.normal(0, 5, size),
        }
    )


@pytest.fixture
def two_models(tmp_path):
    """The same images by two models, the second far better at gender."""
    first = rows(wrong=0.3)
    truth = first.select("image", "gender_true", "race_true", "age_true")
    better = truth.with_columns(
        gender_pred="gender_true",
        race_pred=first["race_pred"],
        age_pred=first["age_pred"],
    )
    first.write_csv(tmp_path / "before.csv")
    better.write_csv(tmp_path / "after.csv")
    return tmp_path / "before.csv", tmp_path / "after.csv"


class Texts(HTMLParser):
    def __init__(self):
        super().__init__()
        self.text, self.attributes = [], []

    def handle_data(self, data):
        self.text.append(data)

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs


def texts_of(page: Path) -> str:
    parser = Texts()
    parser.feed(page.read_text())
    loading = {"src", "srcset", "action", "poster"}
    assert not [name for name, _ in parser.attributes if name in loading]
    return " ".join(" ".join(parser.text).split())


def test_the_page_says_first_for_whom_the_model_improved(two_models):
    files = compare(*two_models)
    assert [path.name for path in files.paths] == ["after.compare.html", "after.compare.json"]
    words = texts_of(files.paths[0])
    assert "on the same 360 faces" in words
    assert "Gender: improved over all faces; improved for faces annotated Male / Female" in words
    assert "Race: no change is shown" in words
    assert files.changes.mode == "paired"


def test_the_json_fits_its_schema_in_both_modes(two_models, tmp_path):
    schema = json.loads(SCHEMA_FILE.read_text())
    rows(200, start=1000, seed=8).write_csv(tmp_path / "other.csv")
    for second, mode in ((two_models[1], "paired"), (tmp_path / "other.csv", "drift")):
        files = compare(two_models[0], second, replicates=100)
        facts = json.loads(files.paths[1].read_text())
        jsonschema.validate(facts, schema)
        assert facts["mode"] == mode
        assert len(facts["changes"]) == len(files.changes.changes)
        assert bool(facts["distances"]) == (mode == "drift")


def test_the_same_tables_give_the_same_files(two_models, tmp_path):
    texts = []
    for name in ("a", "b"):
        files = compare(*two_models, output=tmp_path / f"{name}.html")
        texts.append([path.read_text() for path in files.paths])
    assert texts[0] == texts[1]


def test_the_function_and_the_command_say_the_same(two_models, tmp_path):
    files = compare(*two_models, output=tmp_path / "function.html", by=["race"], min_n=40)
    command = [sys.executable, "-m", "faceaudit.cli", "compare", *map(str, two_models)]
    options = ["-o", str(tmp_path / "command.html"), "--by", "race", "--min-n", "40"]
    found = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    assert found.stdout.split() == [
        str(tmp_path / f"command.{suffix}") for suffix in ("html", "json")
    ]
    assert (tmp_path / "command.json").read_text() == files.paths[1].read_text()


def test_a_paired_comparison_of_tallies_is_refused_in_one_line(two_models, tmp_path):
    kept = [tmp_path / f"{path.stem}.tally" for path in two_models]
    for path, file in zip(two_models, kept, strict=True):
        tally(path, file)
    assert compare(*kept, replicates=100).changes.mode == "drift"
    with pytest.raises(UsageError, match="a tally holds no image"):
        compare(*kept, mode="paired")


def test_a_finer_scheme_is_coarsened_by_the_printed_table(tmp_path):
    generator = np.random.default_rng(2)
    images = [f"{n}.jpg" for n in range(120)]
    fine = np.array(SCHEMES["fairface7"])[generator.integers(0, 7, 120)]
    coarse = np.array(SCHEMES["fairface4"])[generator.integers(0, 4, 120)]
    pl.DataFrame({"image": images, "race_pred": fine}).write_csv(tmp_path / "fine.csv")
    pl.DataFrame({"image": images, "race_pred": coarse}).write_csv(tmp_path / "coarse.csv")
    for order in (("fine", "coarse"), ("coarse", "fine")):
        files = compare(*(tmp_path / f"{name}.csv" for name in order))
        assert files.changes.tasks[0].classes == SCHEMES["fairface4"]
        assert any("Latino_Hispanic" in note for note in files.changes.notes)


def test_schemes_that_no_table_joins_are_refused_in_one_line(tmp_path):
    for name, classes in (("a", ("red", "blue")), ("b", ("green", "black"))):
        frame = pl.DataFrame({"image": ["1", "2"], "hair_pred": classes})
        frame.write_csv(tmp_path / f"{name}.csv")
    with pytest.raises(SchemaError, match=r"a\.csv has hair in custom .*b\.csv in custom .*--map"):
        compare(tmp_path / "a.csv", tmp_path / "b.csv")


def test_a_class_that_one_table_never_predicts_is_no_contradiction(tmp_path):
    pl.DataFrame({"image": ["1", "2", "3"], "hair_pred": ["red", "blue", "gray"]}).write_csv(
        tmp_path / "a.csv"
    )
    pl.DataFrame({"image": ["1", "2", "3"], "hair_pred": ["red", "blue", "red"]}).write_csv(
        tmp_path / "b.csv"
    )
    found = compare(tmp_path / "a.csv", tmp_path / "b.csv").changes
    assert set(found.tasks[0].classes) == {"red", "blue", "gray"}
    assert found.agreement[0].share.value == pytest.approx(2 / 3)


def test_tables_without_names_are_compared_as_different_images(tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        rows(seed=seed).drop("image").write_csv(tmp_path / f"{name}.csv")
    files = compare(tmp_path / "a.csv", tmp_path / "b.csv", replicates=100)
    assert files.changes.mode == "drift"
    assert "A table names no images" in files.changes.notes[0]


def test_wrong_options_are_one_line(two_models, tmp_path):
    with pytest.raises(UnknownNameError, match="no mode of comparison is called 'both'"):
        compare(*two_models, mode="both")
    with pytest.raises(UnknownNameError, match="no format of a comparison is called 'pdf'"):
        compare(*two_models, formats=["pdf"])
    with pytest.raises(UsageError, match="--confidence 95"):
        compare(*two_models, confidence=95)
    with pytest.raises(UsageError, match="there is no folder"):
        compare(*two_models, output=tmp_path / "none" / "a.html")
    with pytest.raises(UsageError, match="a folder"):
        compare(*two_models, output=tmp_path)


def test_names_from_tables_are_escaped(tmp_path):
    frame = rows().with_columns(site=pl.lit(HOSTILE))
    for name in ("a", "b"):
        frame.write_parquet(tmp_path / f"{name}.parquet")
    files = compare(tmp_path / "a.parquet", tmp_path / "b.parquet", by=["site"], title=HOSTILE)
    page = files.paths[0].read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_report_tells_what_changed_against_a_baseline(two_models):
    files = report(two_models[1], baseline=two_models[0], verify="never", replicates=100)
    words = texts_of(files.paths[0])
    assert "Change against the baseline" in words
    assert "Gender: improved over all faces; improved for faces annotated Male / Female" in words
    facts = json.loads(files.paths[1].read_text())
    jsonschema.validate(facts, json.loads(REPORT_SCHEMA.read_text()))
    assert facts["baseline"]["mode"] == "paired"
    assert facts["baseline"]["table"] == "before.csv"
    own = compare(*two_models).changes
    assert len(facts["baseline"]["changes"]) == len(own.changes)


def test_a_report_without_a_baseline_has_no_such_section(two_models):
    files = report(two_models[1], verify="never", replicates=100)
    assert "Change against the baseline" not in files.paths[0].read_text()
    assert json.loads(files.paths[1].read_text())["baseline"] is None


@pytest.mark.parametrize("mode", ["paired", "drift"])
def test_small_cells_are_suppressed_with_those_that_would_tell_them(two_models, mode):
    tables = [pl.read_csv(path) for path in two_models]
    for table, path in zip(tables, two_models, strict=True):
        rare = pl.when(pl.int_range(pl.len()) < 7).then(pl.lit("rare")).otherwise(pl.lit("north"))
        other = pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("south")).otherwise(rare)
        table.with_columns(site=other).write_csv(path)
    open_, closed = (
        compare(*two_models, by=["site"], mode=mode, suppress_below=below, replicates=100).changes
        for below in (0, 10)
    )
    names = [{one.subgroup.get("site") for one in found.changes} for found in (open_, closed)]
    assert names[0] == {None, "rare", "north", "south"}
    # One small cell alone would follow from the total: a second one is left out too.
    assert len(names[1] & {"rare", "north", "south"}) == 1
    assert "rare" not in names[1]
    assert all(one.n >= 10 or one.difference is None for one in closed.changes)
    assert all(one.only_first is None or not 0 < one.only_first < 10 for one in closed.changes)
    assert any("fewer than 10 faces or images are not shown" in note for note in closed.notes)
    with pytest.raises(UsageError, match="--suppress-below -1"):
        compare(*two_models, suppress_below=-1)


def test_comparing_never_imports_torch(two_models):
    code = (
        "import sys, faceaudit; "
        f"faceaudit.compare({str(two_models[0])!r}, {str(two_models[1])!r}); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium to open the page with")
def test_a_browser_opens_the_page(two_models, tmp_path):
    page = compare(*two_models, output=tmp_path / "page.html").paths[0]
    picture = tmp_path / "page.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    folder = f"--user-data-dir={tmp_path / 'profile'}"
    subprocess.run(
        ["chromium", *options, folder, f"--screenshot={picture}", page.as_uri()],
        check=True,
        capture_output=True,
        timeout=120,
    )
    assert picture.stat().st_size > 10_000


def test_the_public_function_is_the_one_of_the_package():
    assert faceaudit.compare is compare
