"""Jobs as a scheduler runs them: every night, killed, beside each other, with what is missing."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import faceaudit
from faceaudit.errors import EXIT_ORDER, FaceauditError, LockedError, TemporaryError
from faceaudit.jobs import JobRun, StepRun, tell
from faceaudit.jobs import run as run_job
from faceaudit.jobs.history import append
from faceaudit.jobs.steps import Outcome
from faceaudit.pipeline import pending
from faceaudit.pipeline.target import TableFile
from faceaudit.storage import exclusive
from tests.jobs.conftest import POLICY, WriteJob, names_of, write_images

NEVER, ALWAYS, UNDECIDED = "at_least = 0.999", "at_least = 0.001", "at_least = 0.5"


def history_of(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def write_policy(folder: Path, limit: str) -> None:
    (folder / "policy.toml").write_text(POLICY.format(limit=limit), encoding="utf-8")


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "faceaudit.cli", *map(str, words)]


def test_the_second_night_scores_what_is_new(
    folder: Path, predict_table: str, write_job: WriteJob
) -> None:
    job = write_job(f"{predict_table}[report]\n[tally]\nfile = 'faces.tally'\n")
    first = run_job(job)
    page = (folder / "faces.html").read_bytes()
    again = run_job(job)
    assert (folder / "faces.html").read_bytes() == page
    write_images(folder / "images", names_of(range(40, 50)))
    second = run_job(job)
    assert first.exit_code == again.exit_code == second.exit_code == 0
    predicted = [found.steps[0].outcome for found in (first, again, second)]
    assert [one.scored for one in predicted] == [40, 0, 10]
    assert [one.images for one in predicted] == [40, 40, 50]
    assert [step.name for step in second.steps] == ["predict", "tally", "report"]
    kept = json.loads((folder / "faces.json").read_text())
    assert kept["table"]["rows"] == 50
    assert faceaudit.check(
        folder / "faces.tally", {"rule": [{**RULE, "at_least": 0.001}]}
    ).verdicts[0].n == 50  # fmt: skip
    lines = history_of(folder)
    assert [line["steps"][0]["scored"] for line in lines] == [40, 0, 10]
    assert {line["job"] for line in lines} == {"nightly"}


def test_a_history_is_read_as_its_documentation_says(
    folder: Path, predict_table: str, write_job: WriteJob
) -> None:
    write_policy(folder, NEVER)
    run_job(write_job(predict_table))
    (folder / "history.jsonl").write_text((folder / "history.jsonl").read_text() * 100)
    run_job(write_job(f'{predict_table}[check]\npolicy = "policy.toml"\n'))
    read = pl.read_ndjson(folder / "history.jsonl", infer_schema_length=None)
    assert read.height == 101
    last = read.row(-1, named=True)
    assert last["exit_codes"] == [10]
    predict, check = last["steps"]
    assert check["exit_codes"] == [10]
    assert check["verdicts"][0]["outcome"] == "fail"
    assert predict["statuses"] == [{"status": "ok", "images": 40}]
    assert predict.keys() == check.keys()


RULE = {
    "task": "gender", "metric": "accuracy", "measure": "overall", "owner": "a", "reason": "b",
}  # fmt: skip


@pytest.mark.parametrize(("limit", "code"), [(ALWAYS, 0), (NEVER, 10), (UNDECIDED, 3)])
@pytest.mark.parametrize("step", ["report", "check"])
def test_the_policy_decides_how_a_job_ends(
    folder: Path, predict_table: str, write_job: WriteJob, step: str, limit: str, code: int
) -> None:
    write_policy(folder, limit)
    found = run_job(write_job(f'{predict_table}[{step}]\npolicy = "policy.toml"\n'))
    assert found.exit_code == code
    (line,) = history_of(folder)
    assert line["exit_code"] == code
    (verdict,) = line["steps"][1]["verdicts"]
    assert verdict["outcome"] == {0: "pass", 10: "fail", 3: "insufficient"}[code]
    assert verdict["low"] <= verdict["value"] <= verdict["high"]
    assert verdict["n"] == 40


def test_where_several_codes_apply_all_are_listed(
    folder: Path, predict_table: str, write_job: WriteJob
) -> None:
    write_policy(folder, NEVER)
    (folder / "images" / "no_image.png").write_bytes(b"none")
    text = f'{predict_table}max_failures = "1%"\n[report]\n[check]\npolicy = "policy.toml"\n'
    found = run_job(write_job(text))
    assert found.exit_codes == [10, 4]
    assert history_of(folder)[0]["exit_codes"] == [10, 4]
    assert any("more than --max-failures 1%" in line for line in found.steps[0].outcome.lines)
    assert (folder / "faces.html").is_file()  # the table is complete, so it was audited


def test_exit_codes_come_in_the_order_of_the_contract() -> None:
    found = JobRun(None, None)  # type: ignore[arg-type]
    assert found.exit_codes == [0]
    for code in (4, 3, 10, 1, 75, 2):
        found.steps.append(StepRun("predict", Outcome((), [code])))
        assert found.exit_code == code
    assert found.exit_codes == list(EXIT_ORDER[:-1])


def test_without_a_table_what_follows_is_skipped(
    folder: Path, predict_table: str, write_job: WriteJob
) -> None:
    text = predict_table.replace('"images"', '"no images"')
    found = run_job(write_job(f"{text}[report]\n"))
    assert found.exit_code == 2
    assert "no images" in str(found.steps[0].error)
    assert [step.was_skipped for step in found.steps] == [False, True]
    assert history_of(folder)[0]["steps"][1]["skipped"] is True


def test_a_step_that_cannot_work_leaves_the_others_their_turn(
    folder: Path, predict_table: str, write_job: WriteJob
) -> None:
    write_policy(folder, NEVER)
    text = f"{predict_table}[report]\nwithin = 'no_such_column'\n[check]\npolicy = 'policy.toml'\n"
    found = run_job(write_job(text))
    assert found.exit_codes == [2, 10]
    assert "no_such_column" in str(found.steps[1].error)
    assert found.steps[2].outcome.verdicts[0].outcome == "fail"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("policy.toml", "no_policy.toml"), "no_policy.toml: the policy cannot be read"),
        (("model = ", 'model = "no_model"\n#'), "no_model"),
    ],
)
def test_what_comes_hours_later_is_checked_first(
    folder: Path,
    predict_table: str,
    write_job: WriteJob,
    change: tuple[str, str],
    message: str,
) -> None:
    write_policy(folder, ALWAYS)
    text = f'{predict_table}[report]\npolicy = "policy.toml"\n'.replace(*change)
    with pytest.raises(FaceauditError, match=message):
        run_job(write_job(text))
    with pytest.raises(FaceauditError, match=message):
        list(tell(write_job(text)))
    assert not (folder / "faces.parquet").exists()
    (line,) = history_of(folder)
    assert (line["exit_code"], line["steps"]) == (2, [])
    assert message in line["error"]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ('[report]\noutput = "absent/page.html"', "there is no folder .*absent; create it first"),
        ('[tally]\nfile = "kept.txt"', r"kept\.txt: a tally is kept in a file that ends in .tally"),
        ('[tally]\nfile = "absent/{date}/a.tally"', "there is no folder .*absent; create it first"),
        ('[purge]\nolder_than = "soon"', "--older-than soon: give hours, days or weeks"),
    ],
)
def test_what_later_steps_cannot_write_is_told_before_the_first(
    folder: Path, predict_table: str, write_job: WriteJob, step: str, message: str
) -> None:
    with pytest.raises(FaceauditError, match=message):
        run_job(write_job(f"{predict_table}{step}\n"))
    assert not (folder / "faces.parquet").exists()


def test_half_a_line_of_a_history_makes_way(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"run": 1}\n{"run"')
    append(path, {"run": 2})
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    append(path, {"run": 3})
    assert [json.loads(line)["run"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_names_are_seen_from_the_folder_of_the_job(
    folder: Path,
    predict_table: str,
    write_job: WriteJob,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    assert run_job(write_job(f"{predict_table}[report]\n")).exit_code == 0
    assert Path.cwd() == elsewhere
    assert not list(elsewhere.iterdir())
    assert (folder / "faces.html").is_file()


def test_a_night_has_its_own_table_and_is_compared_with_the_one_before(
    folder: Path, predict_table: str, write_job: WriteJob
) -> None:
    text = predict_table.replace("faces.parquet", "nights/{date}/faces.parquet")
    text = text.replace('"images"', '"incoming/{date}"')
    text += '[report]\nbaseline = "nights/{date-1}/faces.parquet"\npolicy = "policy.toml"\n'
    text += '[compare]\nfirst = "nights/{date-1}/faces.parquet"\noutput = "changes/{date}.html"\n'
    write_policy(folder, NEVER)
    for place, numbers in enumerate((range(40), range(40, 90))):
        write_images(folder / "incoming" / f"2026-03-0{place + 1}", names_of(numbers))
    for name in ("nights", "changes"):
        (folder / name).mkdir()
    first = run_job(write_job(text), date=dt.date(2026, 3, 1))
    assert first.exit_code == 10  # the rule, though there is nothing to compare with
    assert [step.was_skipped for step in first.steps] == [False, False, True]
    said = "there is no nights/2026-02-28/faces.parquet to compare with"
    assert [step.outcome.lines[0].endswith(said) for step in first.steps] == [False, True, True]
    second = run_job(write_job(text), date=dt.date(2026, 3, 2))
    assert second.exit_codes == [10]
    assert not any(step.was_skipped for step in second.steps)
    page = json.loads((folder / "nights" / "2026-03-02" / "faces.json").read_text())
    assert page["baseline"]["table"] == "faces.parquet"
    assert (folder / "nights" / "2026-03-02" / "faces.parquet").is_file()
    assert (folder / "changes" / "2026-03-02.json").is_file()
    assert [line["date"] for line in history_of(folder)] == ["2026-03-01", "2026-03-02"]


def test_a_dry_run_says_what_is_new_and_writes_nothing(
    folder: Path, predict_table: str, write_job: WriteJob
) -> None:
    job = write_job(f"{predict_table}[report]\n")
    before = sorted(path.name for path in folder.iterdir())
    lines = list(tell(job))
    assert "  40 images to score, of 40 images in images" in lines
    assert lines[3] == "faceaudit report faces.parquet"
    assert lines[-1] == "a line in history.jsonl"
    assert sorted(path.name for path in folder.iterdir()) == before
    run_job(job)
    write_images(folder / "images", names_of(range(40, 41)))
    assert "  1 image to score, of 41 images in images" in list(tell(job))
    anew = write_job(f"{predict_table}restart = true\n")
    assert "  41 images to score, of 41 images in images" in list(tell(anew))
    (folder / "foreign").mkdir()
    (folder / "foreign" / "notes.txt").touch()
    foreign = write_job(predict_table.replace("faces.parquet", "foreign"))
    with pytest.raises(FaceauditError, match="holds files that faceaudit did not write"):
        list(tell(foreign))


@pytest.mark.parametrize("out", ["faces", "faces.parquet"])
def test_what_is_left_of_a_begun_table_is_counted_without_touching_it(
    folder: Path, predict_table: str, write_job: WriteJob, out: str
) -> None:
    text = predict_table.replace("faces.parquet", out)
    run_job(write_job(f"{text}limit = 30\n"))
    found = pending.find_pending(folder / "images", folder / out)
    assert (found.images, found.new) == (40, 10)
    process = subprocess.Popen(
        command("predict", folder / "images", folder / f"begun_{out}", "--detector", "whole",
                "--batch-size", "1", "--workers", "1"),
        stderr=subprocess.PIPE,
    )  # fmt: skip
    place = folder / f"begun_{out}"
    segments = place / ".segments" if out == "faces" else folder / f".begun_{out}.run" / ".segments"
    while process.poll() is None and not list(segments.glob("*.arrow")):
        time.sleep(0.01)
    process.kill()
    process.communicate()
    held = sorted(path for path in folder.rglob("*") if path.is_file())
    found = pending.find_pending(folder / "images", place)
    assert found.images == 40
    assert found.new < 40
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == held


def test_what_is_kept_too_long_goes_after_it_was_counted(
    folder: Path, predict_table: str, write_job: WriteJob
) -> None:
    text = predict_table.replace("faces.parquet", "faces") + "part_rows = 10\n[report]\n"
    run_job(write_job(text))
    manifest = folder / "faces" / "_manifest.json"
    facts = json.loads(manifest.read_text())
    for part in facts["parts"][:2]:
        part["written"] = "2026-01-01T00:00:00+00:00"
    manifest.write_text(json.dumps(facts))
    job = write_job(f'{text}[purge]\nolder_than = "30d"\nreason = "retention"\n')
    first, second = run_job(job), run_job(job)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert [found.steps[2].outcome.images for found in (first, second)] == [20, 0]
    assert [found.steps[0].outcome.scored for found in (first, second)] == [0, 0]
    assert json.loads((folder / "faces.json").read_text())["table"]["rows"] == 20
    assert first.steps[2].outcome.files[0].endswith(".tally")


def test_two_runs_of_a_job_do_not_meet(
    folder: Path, predict_table: str, write_job: WriteJob
) -> None:
    job = write_job(predict_table)
    with exclusive(folder / "history.jsonl"), pytest.raises(LockedError):
        run_job(job)
    assert not (folder / "faces.parquet").exists()


def test_a_bug_is_in_the_history_and_keeps_its_traceback(
    folder: Path, predict_table: str, write_job: WriteJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object, **options: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("faceaudit.reporting.run.read_source", broken)
    with pytest.raises(ZeroDivisionError):
        run_job(write_job(f'{predict_table}[report]\n[compare]\nfirst = "faces.parquet"\n'))
    (line,) = history_of(folder)
    assert line["exit_code"] == 1
    assert [step["error"] for step in line["steps"]] == [None, "a bug", None]
    assert [step["skipped"] for step in line["steps"]] == [False, False, True]


def test_a_signal_when_only_the_table_was_left_to_finish_ends_the_job(
    folder: Path, predict_table: str, write_job: WriteJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TableFile.finish

    def finish(self: TableFile, *given: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        real(self, *given)

    monkeypatch.setattr(TableFile, "finish", finish)
    found = run_job(write_job(f"{predict_table}[report]\n"))
    assert found.exit_codes == [75]
    assert [step.was_skipped for step in found.steps] == [False, True]
    assert (folder / "faces.parquet").is_file()
    assert not (folder / "faces.html").exists()


def test_jobs_in_threads_do_not_take_each_others_files(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    places = []
    for rows in (10, 20):
        place = tmp_path_factory.mktemp("job")
        write_policy(place, NEVER)
        columns = {"gender_true": ["Male", "Female"], "gender_pred": ["Male", "Male"]}
        pl.concat([pl.DataFrame(columns)] * (rows // 2)).write_csv(place / "t.csv")
        (place / "job.toml").write_text('[check]\ntable = "t.csv"\npolicy = "policy.toml"\n')
        places.append(place)
    where = Path.cwd()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda place: run_job(place / "job.toml"), places * 4))
    assert [one.steps[0].outcome.verdicts[0].n for one in found] == [10, 20] * 4
    assert Path.cwd() == where


def test_what_the_steps_said_is_not_lost_with_the_history(
    folder: Path, predict_table: str, write_job: WriteJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_policy(folder, NEVER)

    def full(*given: object) -> None:
        raise TemporaryError("history.jsonl: the disk is full")

    monkeypatch.setattr("faceaudit.jobs.history.append", full)
    found = run_job(write_job(f'{predict_table}[check]\npolicy = "policy.toml"\n'))
    assert found.exit_codes == [75, 10]
    assert found.error == "history.jsonl: the disk is full"
    assert found.steps[1].outcome.verdicts[0].outcome == "fail"


@pytest.mark.parametrize("data", [None, b"\xff"])
def test_a_history_that_cannot_be_read_stops_a_job_before_it_begins(
    folder: Path, predict_table: str, write_job: WriteJob, data: bytes | None
) -> None:
    job = write_job(predict_table)
    if data is None:
        (folder / "history.jsonl").mkdir()
        with pytest.raises(FaceauditError, match="the history cannot be read"):
            run_job(job)
        assert not (folder / "faces.parquet").exists()
    else:  # bytes that are no text stay as they are
        (folder / "history.jsonl").write_bytes(data)
        run_job(job)
        assert (folder / "history.jsonl").read_bytes().startswith(b"\xff\n{")


def test_a_line_is_not_added_once_the_lock_was_lost(tmp_path: Path) -> None:
    def lost() -> None:
        raise LockedError("lost")

    with pytest.raises(LockedError):
        append(tmp_path / "history.jsonl", {}, lost)
    assert not (tmp_path / "history.jsonl").exists()


def test_a_history_without_a_last_newline_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(b'{"a": 1}')
    append(path, {"b": "é"})
    assert path.read_text(encoding="utf-8") == '{"a": 1}\n{"b": "é"}\n'


def test_a_history_that_cannot_be_kept_stops_a_job_before_it_begins(
    folder: Path, predict_table: str
) -> None:
    job = folder / "job.toml"
    job.write_text(f'history = "no folder/history.jsonl"\n{predict_table}', encoding="utf-8")
    with pytest.raises(FaceauditError, match="there is no folder no folder"):
        run_job(job)
    assert not (folder / "faces.parquet").exists()


# --- as a command -----------------------------------------------------------------------------


def test_the_command_says_what_was_done_and_ends_with_its_code(
    folder: Path, predict_table: str, write_job: WriteJob
) -> None:
    write_policy(folder, NEVER)
    job = write_job(f'{predict_table}[report]\npolicy = "policy.toml"\n[check]\npolicy = "x"\n')
    found = subprocess.run(command("run", job), capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr.splitlines()[-1].startswith("Error: x: the policy cannot be read")
    job = write_job(f'{predict_table}[report]\npolicy = "policy.toml"\n[compare]\nfirst = "x"\n')
    found = subprocess.run(command("run", job), capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "faces.html\nfaces.json\n0 pass, 1 fail, 0 insufficient evidence\n" in found.stdout
    assert found.stderr.splitlines()[-1].endswith("predict 0, report 10, compare 2; exit code 2")
    assert f"Error: {job}: [compare] x: " in found.stderr
    assert "Traceback" not in found.stderr
    quiet = subprocess.run(
        command("run", job, "--quiet", "--date", "2026-03-01", "--log-format", "json"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert quiet.stdout == ""
    assert "nightly on 2026-03-01: predict 0, report 10, compare 2" in quiet.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run"], "give a JOB.toml, or --init FILE"),
        (["run", "no.toml"], "the job cannot be read"),
        (["run", "no.toml", "--date", "1.3.2026"], "give a day as YYYY-MM-DD"),
    ],
)
def test_what_cannot_work_is_one_line(tmp_path: Path, words: list[str], message: str) -> None:
    found = subprocess.run(
        command(*words), capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert found.returncode == 2
    assert message in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_init_then_dry_run(folder: Path) -> None:
    for words in (["run", "--init", "job.toml"], ["run", "job.toml", "--dry-run"]):
        found = subprocess.run(
            command(*words), capture_output=True, text=True, check=True, cwd=folder
        )
    assert "40 images to score" in found.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["images", "job.toml"]


def test_a_job_that_is_terminated_ends_with_75_and_goes_on(
    folder: Path, predict_table: str, write_job: WriteJob
) -> None:
    write_images(folder / "images", names_of(range(40, 1500)))
    job = write_job(f"{predict_table}workers = 1\nbatch_size = 1\n[report]\n")
    process = subprocess.Popen(
        command("run", job), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    segments = folder / ".faces.parquet.run" / ".segments"
    while process.poll() is None and not list(segments.glob("*.arrow")):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "Traceback" not in errors
    (line,) = history_of(folder)
    assert line["exit_code"] == 75
    assert line["steps"][1]["skipped"] is True
    assert f"goes on with: faceaudit run {job} --date {dt.date.today()}" in errors
    assert run_job(job).exit_code == 0
    assert history_of(folder)[1]["steps"][0]["images"] == 1500
    assert history_of(folder)[1]["steps"][0]["scored"] < 1500
