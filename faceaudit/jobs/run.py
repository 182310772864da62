"""`faceaudit run`: the steps of a job, one after the other, and what came of them."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import faceaudit
from faceaudit.errors import (
    EXIT_BUG,
    EXIT_DONE,
    EXIT_ORDER,
    EXIT_TEMPORARY,
    FaceauditError,
    first_exit,
)
from faceaudit.jobs import history
from faceaudit.jobs.checks import check_job
from faceaudit.jobs.job import Job, Step, read_job
from faceaudit.jobs.steps import STEPS, Outcome
from faceaudit.labels.annotations import counted
from faceaudit.pipeline.pending import find_pending
from faceaudit.schema import SCHEMA_VERSION
from faceaudit.storage import as_path, exclusive

_working_folder = threading.RLock()
"""Held while a job runs: a process has one working folder."""


@dataclass(frozen=True)
class StepRun:
    """What became of a step."""

    name: str
    outcome: Outcome
    seconds: float = 0.0
    error: str | None = None
    """Why it could not be done."""
    was_skipped: bool = False
    """Whether it was not begun: the table that it needs was not made, or the run ended before."""

    @property
    def exit_code(self) -> int:
        """What it ended with."""
        return first_exit(self.outcome.exit_codes)

    def to_json(self) -> dict[str, Any]:
        """As a mapping of plain values, the same keys for every step."""
        return {
            "step": self.name,
            "exit_code": self.exit_code,
            "exit_codes": list(self.outcome.exit_codes) or [EXIT_DONE],
            "error": self.error,
            "skipped": self.was_skipped,
            "seconds": round(self.seconds, 3),
            **self.outcome.to_json(),
        }


@dataclass
class JobRun:
    """What became of a job."""

    job: Job
    started: dt.datetime
    steps: list[StepRun] = field(default_factory=list)
    seconds: float = 0.0
    error: str | None = None
    """Why nothing was begun, or no line could be added to the history."""
    further_codes: list[int] = field(default_factory=list)
    """Exit codes that are of no step."""

    @property
    def exit_codes(self) -> list[int]:
        """Every exit code that applies, the one to end with first."""
        of_steps = {code for step in self.steps for code in step.outcome.exit_codes}
        found = of_steps.union(self.further_codes)
        return sorted(found or {EXIT_DONE}, key=EXIT_ORDER.index)

    @property
    def exit_code(self) -> int:
        """What a scheduler sees."""
        return first_exit(self.exit_codes)

    def refuse(self, error: FaceauditError) -> None:
        """Note what is wrong with the job and no step of it."""
        self.error = str(error)
        self.further_codes.append(error.exit_code)

    def to_json(self) -> dict[str, Any]:
        """The line of the history."""
        return {
            "schema_version": SCHEMA_VERSION,
            "version": faceaudit.__version__,
            "job": self.job.name,
            "job_sha256": self.job.sha256,
            "date": self.job.day.isoformat(),
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 3),
            "exit_code": self.exit_code,
            "exit_codes": self.exit_codes,
            "error": self.error,
            "steps": [step.to_json() for step in self.steps],
        }


def run(
    job: str | Path,
    *,
    date: dt.date | None = None,
    each: Callable[[StepRun], None] | None = None,
    quiet: bool = True,
) -> JobRun:
    """Do what a job file asks for: predict what is new, report, check.

    Names of files in the job are seen from the folder that the job file is in, which is the working
    folder of the process while it runs; runs in other threads wait. Where ``predict`` cannot work,
    the steps after it are skipped; any other step that cannot work leaves the others their turn.
    Errors of steps do not raise: they are told in the steps and in the exit code.

    Args:
        job: A TOML file (``faceaudit run --init job.toml`` writes one to begin with).
        date: The day that ``{date}`` in the job stands for; None is today, by the local clock.
        each: Called with every step that ended or was skipped.
        quiet: Show no progress.

    Raises:
        FaceauditError: If the job, its model or its policy cannot be used; then nothing was done.
        LockedError: If another run of the job goes on, and it keeps a history.
    """
    asked = read_job(job, date or dt.date.today())
    found = JobRun(asked, dt.datetime.now().astimezone())
    with _in_folder_of(asked), _history(asked) as keep:
        begun = time.monotonic()
        try:
            check_job(asked)
            _go(found, each, quiet=quiet)
        except FaceauditError as error:
            found.refuse(error)
            raise
        finally:
            found.seconds = time.monotonic() - begun
            keep(found)
    return found


def tell(job: str | Path, *, date: dt.date | None = None) -> Iterator[str]:
    """What a job would do, line by line, without doing or writing anything.

    Args:
        job: As ``run`` takes it.
        date: As ``run`` takes it.

    Raises:
        FaceauditError: If the job cannot be used, or its images or table cannot be read.
    """
    asked = read_job(job, date or dt.date.today())
    with _in_folder_of(asked):
        check_job(asked)
        yield f"{asked.name} on {asked.day}, in {Path.cwd()}:"
        for step in asked.steps:
            yield step.command
            if step.kind is STEPS["predict"]:
                options = step.options
                limit, restart = options.get("limit"), options.get("restart", False)
                pending = find_pending(options["images"], options["out"], limit, restart=restart)
                yield (
                    f"  {counted(pending.new, 'image')} to score, of "
                    f"{counted(pending.images, 'image')} in {options['images']}"
                    f"{f'; {pending.purged:,} purged and passed over' if pending.purged else ''}"
                )
        if asked.history is not None:
            yield f"a line in {asked.history}"


@contextlib.contextmanager
def _in_folder_of(job: Job) -> Iterator[None]:
    with _working_folder, contextlib.chdir(job.path.parent):
        yield


@contextlib.contextmanager
def _history(job: Job) -> Iterator[Callable[[JobRun], None]]:
    """Hold the lock of a job's history, where it keeps one; gives what adds a line.

    What keeps a line from being added is noted in the run: what the steps said must not be lost.
    """
    if job.history is None:
        yield lambda found: None
        return
    path = job.history
    with exclusive(path) as still_mine:
        history.read(path)

        def keep(found: JobRun) -> None:
            try:
                history.append(path, found.to_json(), still_mine)
            except FaceauditError as error:
                found.refuse(error)

        yield keep


def _go(found: JobRun, each: Callable[[StepRun], None] | None, *, quiet: bool) -> None:
    """Do the steps, and note what became of each; of those not begun that they were skipped."""
    steps = iter(found.job.steps)
    try:
        for step in steps:
            _do(step, found, quiet=quiet)
            if each is not None:
                each(found.steps[-1])
    finally:
        found.steps += [_skipped(step) for step in steps]


def _do(step: Step, found: JobRun, *, quiet: bool) -> None:
    """Do a step and note what became of it."""
    name = step.kind.name
    if any(_is_missed(before) for before in found.steps):
        found.steps.append(_skipped(step))
        return
    begun = time.monotonic()
    options = {**step.options, **({"quiet": quiet} if step.kind.takes_quiet else {})}
    told: list[str] = []
    if step.earlier is not None and not as_path(options[step.earlier]).exists():
        told.append(f"{name}: there is no {options.pop(step.earlier)} to compare with")
        if step.earlier in step.kind.needed:
            found.steps.append(StepRun(name, Outcome(told), was_skipped=True))
            return
    try:
        for folder in step.folders:
            folder.make()
        outcome = step.kind.outcome(step.kind.function(**options))
    except FaceauditError as error:
        found.steps.append(_failed(name, begun, error.exit_code, str(error)))
    except BaseException as error:  # noted, and raised again
        code = EXIT_BUG if isinstance(error, Exception) else EXIT_TEMPORARY
        found.steps.append(_failed(name, begun, code, str(error) or type(error).__name__))
        raise
    else:
        outcome = replace(outcome, lines=[*told, *outcome.lines])
        found.steps.append(StepRun(name, outcome, time.monotonic() - begun))


def _is_missed(step: StepRun) -> bool:
    """Whether the steps after it are skipped: it made no table, or a signal came."""
    return step.outcome.stopped is not None or (
        STEPS[step.name].makes_table and step.error is not None
    )


def _skipped(step: Step) -> StepRun:
    return StepRun(step.kind.name, Outcome(), was_skipped=True)


def _failed(name: str, begun: float, code: int, error: str) -> StepRun:
    return StepRun(name, Outcome((), [code]), time.monotonic() - begun, error)


def summary(steps: Sequence[StepRun]) -> str:
    """What the steps ended with, in one line.

    Example:
        >>> summary([StepRun("predict", Outcome((), [4])), StepRun("report", Outcome())])
        'predict 4, report 0'
    """
    return ", ".join(f"{step.name} {_ended(step)}" for step in steps)


def _ended(step: StepRun) -> str:
    return "skipped" if step.was_skipped else str(step.exit_code)
