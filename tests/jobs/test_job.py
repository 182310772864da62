"""Job files: what can be said in them, and what is refused before anything is done."""

from __future__ import annotations

import datetime as dt
import shlex
from pathlib import Path

import pytest
import typer

from faceaudit import cli
from faceaudit.errors import FaceauditError, InputError, UsageError
from faceaudit.jobs import job as jobs
from faceaudit.jobs.checks import check_job
from faceaudit.jobs.days import on_day
from faceaudit.jobs.job import Job, read_job
from faceaudit.jobs.steps import STEPS, StepKind, option_of
from faceaudit.storage import write_starter

DAY = dt.date(2026, 3, 1)


def read(folder: Path, text: str) -> Job:
    (folder / "job.toml").write_text(text, encoding="utf-8")
    return read_job(folder / "job.toml", DAY)


@pytest.mark.parametrize("kind", STEPS.values(), ids=STEPS)
def test_every_option_of_a_step_is_one_of_its_command(kind: StepKind) -> None:
    command = typer.main.get_command(cli.app).commands[kind.name]  # type: ignore[attr-defined]
    known = {name.lstrip("-") for one in command.params for name in one.opts}
    for keyword in kind.types:
        assert option_of(keyword).replace("_", "-") in known or keyword in known, keyword


@pytest.mark.parametrize("kind", STEPS.values(), ids=STEPS)
def test_every_option_of_a_command_is_one_of_its_step(kind: StepKind) -> None:
    command = typer.main.get_command(cli.app).commands[kind.name]  # type: ignore[attr-defined]
    known = {name.lstrip("-") for one in command.params for name in one.opts}
    not_of_jobs = {"quiet", "q", "verbose", "v", "log-format", "o", "help", "init", "dry-run"}
    shown = {"format"} if kind.name == "check" else set()  # of what is printed
    of_step = {option_of(keyword).replace("_", "-") for keyword in kind.types}
    assert known - of_step - not_of_jobs - shown == set()


def test_a_step_is_the_command_that_it_would_be_when_typed(tmp_path: Path) -> None:
    job = read(
        tmp_path,
        """
        [predict]
        images = "my images"
        out = "s3://faces/out"
        tasks = ["gender", "age"]
        age_bins = [0, 18, 65]
        max_failures = 3
        margin = 1
        restart = true
        [report]
        by = ["gender", "site"]
        columns = { age_pred = "yhat", site = "camera" }
        map = { race = "utkface5" }
        format = ["html", "md"]
        classes = { gender = ["Male", "Female"] }
        """,
    )
    predict, report = (shlex.split(step.command) for step in job.steps)
    assert predict == [
        "faceaudit", "predict", "my images", "s3://faces/out", "--tasks", "gender,age",
        "--age-bins", "0,18,65", "--max-failures", "3", "--margin", "1.0", "--restart",
    ]  # fmt: skip
    assert report == [
        "faceaudit", "report", "s3://faces/out", "--by", "gender,site",
        "--columns", "age_pred=yhat", "--columns", "site=camera",
        "--map", "race=utkface5", "--format", "html,md", "--classes", "gender=Male,Female",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"has nothing to do; give a table \[predict\], \[tally\], \[report\]"),
        ("[predict", "is not valid TOML"),
        ("[repport]", "no key of .*job.toml is called 'repport'; choose one of: name, history"),
        ("report = 3", r"report must be a table: \[report\]"),
        ("[report]", "report.table is missing"),
        ('[predict]\nimages = "a"', "predict.out is missing"),
        ('[report]\ntable = "a"\nmin-n = 3', r"no option of \[report\] in .* is called 'min-n'"),
        ('[report]\ntable = "a"\nmin_n = "many"', "report.min_n is 'many'; it must be of type int"),
        ('[report]\ntable = "a"\nby = "gender"', "report.by must be a list"),
        ('[report]\ntable = "a"\nverify = "maybe"', "'maybe'; choose one of: auto, always, never"),
        ('[report]\ntable = "a"\nmap = "race=utkface5"', "report.map must be a table"),
        ('[report]\ntable = "{date+1}.parquet"', r"report.table is '\{date\+1\}.parquet'; a day"),
        ('history = 3\n[report]\ntable = "a"', "history is 3; it must be of type str"),
        ('history = "h.json"\n[report]\ntable = "a"', r"name it NAME.jsonl"),
        ('[report]\ntable = "{date-999999}"', r"report.table is '\{date-999999\}'; a day is"),
        ('[report]\ntable = "{date:%}"', "'%' is no form of a day"),
        ('[report]\ntable = "a\\u0000b"', "no name has such a character"),
        ('[check]\ntable = "a"\npolicy = { rule = [] }', "check.policy is .* of type str"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(tmp_path, text)


def test_a_job_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the job cannot be read \(No such file.*--init job.toml"):
        read_job(tmp_path / "job.toml", DAY)


def test_the_day_stands_in_every_text(tmp_path: Path) -> None:
    job = read(
        tmp_path,
        """
        history = "{date:%Y}.jsonl"
        [predict]
        images = "in/{date}"
        out = "out/{date:%Y-%m}.parquet"
        [report]
        by = ["site{date-1}"]
        columns = { age_pred = "age{date:%d}" }
        [compare]
        first = "out/{date-1}.parquet"
        """,
    )
    predict, report, compare = job.steps
    assert str(job.history) == "2026.jsonl"
    assert predict.options["images"] == "in/2026-03-01"
    assert predict.options["out"] == "out/2026-03.parquet"
    assert report.options["by"] == ("site2026-02-28",)
    assert report.options["columns"] == {"age_pred": "age01"}
    assert compare.options["first"] == Path("out/2026-02-28.parquet")
    assert str(compare.options["second"]) == "out/2026-03.parquet"
    assert on_day("no day {at} all", DAY) == "no day {at} all"


def test_folders_named_by_the_day_are_made_and_no_others(tmp_path: Path) -> None:
    text = '[tally]\ntable = "a.parquet"\nfile = "{0}/kept/{{date:%Y/%m}}/{{date}}.tally"\n'
    step = read(tmp_path, text.format(tmp_path)).steps[0]
    with pytest.raises(InputError, match=r"there is no folder .*/kept; create it first"):
        step.folders[0].make()
    (tmp_path / "kept").mkdir()
    step.folders[0].make()
    assert (tmp_path / "kept" / "2026" / "03").is_dir()
    flat = read(tmp_path, text.replace("/{{date:%Y/%m}}", "").format(tmp_path))
    assert flat.steps[0].folders == ()


def test_the_starter_is_a_job_whose_every_line_can_be_used(tmp_path: Path) -> None:
    write_starter(tmp_path / "job.toml", jobs.STARTER)
    job = read_job(tmp_path / "job.toml", DAY)
    assert [step.kind.name for step in job.steps] == ["predict", "report"]
    with pytest.raises(UsageError, match="exists already"):
        write_starter(tmp_path / "job.toml", jobs.STARTER)
    lines = jobs.STARTER.read_text(encoding="utf-8").splitlines()
    whole = "\n".join(line.removeprefix("# ") for line in lines[lines.index("") :])
    assert "[tally]" in whole
    every = read(tmp_path, whole)
    assert [step.kind.name for step in every.steps] == list(STEPS)


def test_a_starter_is_not_written_to_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FaceauditError, match="no folder"):
        write_starter(tmp_path / "not there" / "job.toml", jobs.STARTER)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('history = "job.jsonl"\n[check]\ntable = "a"\npolicy = "p"\noutput = "job.jsonl"',
         "job.jsonl: would be the history and what .check. writes"),
        ('[report]\ntable = "a.parquet"\n[check]\ntable = "a"\npolicy = "p"\noutput = "./a.json"',
         "a.json: would be what .report. writes and what .check. writes"),
        ('[check]\ntable = "a"\npolicy = "p"\noutput = "job.toml"',
         "job.toml: would be the job and what .check. writes"),
        ('[tally]\ntable = "a"\nfile = "p"\n[check]\ntable = "a"\npolicy = "p"',
         "p: would be a policy and what .tally. writes"),
        ('[predict]\nimages = "."\nout = "a.parquet"\n[report]\noutput = "a.parquet"\n'
         'format = ["html"]\n[compare]\nfirst = "b"\noutput = "a.parquet"\nformat = ["html"]',
         "a.parquet.html: would be what .report. writes and what .compare. writes"),
        ('history = "no/h.jsonl"\n[report]\ntable = "a"', "there is no folder no; create it first"),
        ('[predict]\nimages = "."\nout = "no/a.parquet"', "there is no folder no"),
        ('[predict]\nimages = "."\nout = "a.parquet"\ntasks = ["foo"]', "no task is called 'foo'"),
        ('[predict]\nimages = "."\nout = "a.parquet"\ndetector = "foo"', "no detector is called"),
        ('[predict]\nimages = "."\nout = "a.parquet"\nengine = "foo"', "no engine is called"),
        ('[predict]\nimages = "."\nout = "a.parquet"\nmax_failures = "few"', "10 or 2%"),
    ],
)  # fmt: skip
def test_what_would_be_seen_late_is_refused_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FaceauditError, match=message):
        check_job(read(tmp_path, text))


def test_a_day_that_never_was_is_named() -> None:
    with pytest.raises(ValueError, match="no day is 1 days before 0001-01-01"):
        on_day("{date-1}", dt.date(1, 1, 1))
