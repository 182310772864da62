from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import boto3
import polars as pl
import pytest
from typer.testing import CliRunner

import faceaudit
from faceaudit import reporting
from faceaudit.audit.policy import STARTER
from faceaudit.cli import app
from faceaudit.errors import EXIT_TEMPORARY, EXIT_USAGE, InputError, RefusedError, TemporaryError
from faceaudit.storage import as_path, atomic_write, outages, write_starter, write_text
from tests.storage.conftest import KEY, SECRET, Proxy

SHOWCASE = Path(faceaudit.__file__).parent / "showcase" / "utkface_val.parquet"
ROWS = 600
POLICY = """
[[rule]]
task = "gender"
metric = "accuracy"
by = ["gender"]
measure = "worst"
at_least = 0.5
owner = "a test"
reason = "a rule that holds"
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A small table of predictions on this machine."""
    path = tmp_path / "out.parquet"
    columns = pl.read_parquet(SHOWCASE).head(ROWS).select("image", "^gender_(true|pred)$")
    sha256 = pl.format("f{}", pl.col("image").hash().cast(pl.String).str.zfill(63))
    columns.with_columns(sha256=sha256).write_parquet(path)
    return path


@pytest.fixture
def table(bucket: str, here: Path) -> str:
    """The same table on a store."""
    as_path(f"{bucket}/night/out.parquet").write_bytes(here.read_bytes())
    return f"{bucket}/night/out.parquet"


def report(table: object, **options: object) -> reporting.ReportFiles:
    """The report that is made fastest."""
    return faceaudit.report(
        table, **{"by": ["gender"], "replicates": 100, "verify": "never", **options}
    )


def names(folder: str) -> list[str]:
    return sorted(path.name for path in as_path(folder).iterdir())


def figures(path: Path) -> dict[str, object]:
    """What a report's JSON says, without where its table lies."""
    facts = json.loads(path.read_bytes())
    facts["table"].pop("path")
    return facts  # type: ignore[no-any-return]


def test_a_report_lies_beside_its_table_and_says_the_same(table: str, here: Path) -> None:
    files = report(table)
    assert [str(path) for path in files.paths] == [
        table.replace(".parquet", ".html"),
        table.replace(".parquet", ".json"),
    ]
    assert names(table.rpartition("/")[0]) == ["out.html", "out.json", "out.parquet"]
    local = report(here, formats=["json"])
    assert figures(files.paths[1]) == figures(local.paths[0])
    page, bucket = files.paths[0].read_text(), table.split("/")[2]
    stored = boto3.client("s3").head_object(Bucket=bucket, Key="night/out.html")
    assert stored["ContentType"] == "text/html"  # so that a browser opens it
    assert table in page
    assert "/tmp/" not in page
    for text in (page, files.paths[1].read_text()):
        assert SECRET not in text
        assert KEY not in text
    assert json.loads(files.paths[1].read_bytes())["table"]["path"] == table


def test_a_report_goes_where_it_is_told(table: str, tmp_path: Path) -> None:
    files = report(table, output=tmp_path / "x.html", formats=["json"])
    assert files.paths == (tmp_path / "x.json",)
    assert names(table.rpartition("/")[0]) == ["out.parquet"]


def test_a_data_set_of_parts_is_read_as_one_table(bucket: str, here: Path) -> None:
    whole = pl.read_parquet(here)
    for number, start in enumerate(range(0, ROWS, 250)):
        with atomic_write(as_path(f"{bucket}/data/part-{number:05}.parquet")) as file:
            whole.slice(start, 250).write_parquet(file)
    found = faceaudit.tally(f"{bucket}/data", f"{bucket}/data.tally")
    assert found.rows == ROWS
    assert names(bucket) == ["data", "data.tally"]


def test_tallies_are_summed_from_a_store(table: str, here: Path) -> None:
    folder = table.rpartition("/")[0]
    whole = pl.read_parquet(here)
    for name, part in (("a", whole.head(300)), ("b", whole.tail(-300))):
        as_path(f"{folder}/{name}.csv").write_bytes(part.write_csv().encode())
        faceaudit.tally(f"{folder}/{name}.csv", f"{folder}/{name}.tally")
    files = report(
        [f"{folder}/a.tally", f"{folder}/b.tally"], output=f"{folder}/week.html", formats=["json"]
    )
    assert files.audit.rows == ROWS
    assert "week.json" in names(folder)


def test_policies_comparisons_samples_and_labels_are_read_and_written_there(
    table: str, here: Path
) -> None:
    folder = table.rpartition("/")[0]
    write_starter(as_path(f"{folder}/starter.toml"), STARTER)
    write_text(as_path(f"{folder}/policy.toml"), POLICY)
    found = faceaudit.check(table, f"{folder}/policy.toml", output=f"{folder}/verdicts.json")
    assert [verdict.outcome for verdict in found.verdicts] == ["pass"]
    assert {"starter.toml", "verdicts.json"} <= set(names(folder))
    files = faceaudit.compare(
        table, here, output=f"{folder}/compare.html", formats=["json"], replicates=100
    )
    assert [str(path) for path in files.paths] == [f"{folder}/compare.json"]
    drawn = faceaudit.sample(table, n=100)
    assert str(drawn.path) == f"{folder}/out.sample.csv"
    labels = pl.read_parquet(here).head(100).select("image", gender="gender_true")
    as_path(f"{folder}/labels.csv").write_bytes(labels.write_csv().encode())
    again = report(table, labels=f"table:{folder}/labels.csv", formats=["json"])
    assert again.audit.labelled["gender"] == 100


def test_leaks_between_tables_on_a_store(table: str, here: Path) -> None:
    folder = table.rpartition("/")[0]
    half = pl.read_parquet(here).head(250).with_columns(image="b/" + pl.col("image"))
    as_path(f"{folder}/half.csv").write_bytes(half.write_csv().encode())
    found = faceaudit.leaks(
        [table, f"{folder}/half.csv"], output=f"{folder}/leaks.parquet", formats=["json"]
    )
    assert found.leaks.count("exact") == 250
    assert {"leaks.parquet", "leaks.json"} <= set(names(folder))
    left = report(table, without_leaks=f"{folder}/leaks.parquet", formats=["json"])
    assert left.audit.rows == ROWS - 250


def test_what_is_missing_or_no_table_is_named_by_its_address(bucket: str, here: Path) -> None:
    with pytest.raises(InputError, match=r"s3://.*/none\.parquet: there is no such file"):
        faceaudit.report(f"{bucket}/none.parquet")
    as_path(f"{bucket}/bad.parquet").write_bytes(b"no table")
    with pytest.raises(InputError, match=r"^s3://[^ ]*/bad\.parquet: ") as caught:
        faceaudit.report(f"{bucket}/bad.parquet")
    assert "/tmp/" not in str(caught.value)
    with pytest.raises(RefusedError, match=r"s3://no-such-bucket/out\.html: there is no such"):
        faceaudit.report(here, output=Path("s3://no-such-bucket/out.html"))


def test_an_outage_while_a_table_is_read_is_temporary(
    proxy: Proxy, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.failures = 2
    report(table, formats=["json"])
    monkeypatch.setattr(outages, "PATIENCE", 0.5)
    proxy.failures = 1_000
    with pytest.raises(TemporaryError, match="storage unreachable") as caught:
        report(table, formats=["json"])
    assert caught.value.exit_code == EXIT_TEMPORARY
    assert SECRET not in str(caught.value)
    assert KEY not in str(caught.value)


def test_commands_take_and_print_addresses(table: str) -> None:
    ended = CliRunner().invoke(app, ["tally", table, f"{table}.tally"])
    assert ended.exit_code == 0, ended.output
    assert ended.stdout.startswith(f"{table}.tally: {ROWS} rows")


def test_a_command_refuses_credentials_in_an_address_without_showing_them() -> None:
    given = f"s3://{KEY}:{SECRET}@faces/out.parquet"
    run = subprocess.run(
        [sys.executable, "-m", "faceaudit.cli", "report", given], capture_output=True, text=True
    )
    assert run.returncode == EXIT_USAGE
    assert run.stderr.startswith("Error: s3://...: an address must not hold credentials")
    assert run.stderr.count("\n") == 1
    assert SECRET not in run.stdout + run.stderr
    assert KEY not in run.stdout + run.stderr
