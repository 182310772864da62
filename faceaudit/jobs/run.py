"""`faceaudit run`: the steps of a job, one after the other, and what came of them."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faceaudit
from faceaudit.errors import EXIT_BUG, EXIT_ORDER, EXIT_TEMPORARY, FaceauditError, first_exit
from faceaudit.jobs.history import append
from faceaudit.jobs.job import Job, Step, read_job
from faceaudit.jobs.steps import STEPS, Outcome
from faceaudit.labels.annotations import counted
from faceaudit.models.bundle import DEFAULT_BUNDLE
from faceaudit.models.load import load_model
from faceaudit.pipeline.pending import find_pending
from faceaudit.reporting.check import load_policy
from faceaudit.schema import SCHEMA_VERSION
from faceaudit.storage import exclusive

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepRun:
    """What became of a step."""

    name: str
    outcome: Outcome
    seconds: float = 0.0
    error: str | None = None
    """Why it could not be done."""
    was_skipped: bool = False
    """Whether it was not begun, as the table that it needs was not made."""

    def to_json(self) -> dict[str, Any]:
        """As a mapping of plain values."""
        return {
            "step": self.name,
            "exit_codes": list(self.outcome.exit_codes),
            "error": self.error,
            "skipped": self.was_skipped,
            "seconds": round(self.seconds, 3),
            **self.outcome.facts,
        }


@dataclass
class JobRun:
    """What became of a job."""

    job: Job
    started: dt.datetime
    steps: list[StepRun] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_codes(self) -> list[int]:
        """Every exit code that applies, the one to end with first."""
        found = {code for step in self.steps for code in step.outcome.exit_codes}
        return sorted(found or {0}, key=EXIT_ORDER.index)

    @property
    def exit_code(self) -> int:
        """What a scheduler sees."""
        return first_exit(self.exit_codes)

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
    folder while it runs. Where ``predict`` cannot work, the steps after it are skipped; any other
    step that cannot work leaves the others their turn. Errors do not raise: they are told in the
    steps and in the exit code.

    Args:
        job: A TOML file (``faceaudit run --init job.toml`` writes one to begin with).
        date: The day that ``{date}`` in the job stands for; None is today, by the local clock.
        each: Called with every step that ended or was skipped.
        quiet: Show no progress.

    Raises:
        FaceauditError: If the job, its model or its policy cannot be used; then nothing was done.
        LockedError: If another run of the job goes on.
    """
    asked = read_job(job, date or dt.date.today())
    found = JobRun(asked, dt.datetime.now().astimezone())
    begun = time.monotonic()
    with contextlib.chdir(asked.path.parent), _history(asked) as keep:
        _check(asked)
        try:
            for step in asked.steps:
                _do(step, found, quiet=quiet)
                if each is not None:
                    each(found.steps[-1])
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
    with contextlib.chdir(asked.path.parent):
        _check(asked)
        yield f"{asked.name} on {asked.day}, in {Path.cwd()}:"
        for step in asked.steps:
            yield step.command
            if step.kind is STEPS["predict"]:
                options = step.options
                pending = find_pending(options["images"], options["out"], options.get("limit"))
                yield (
                    f"  {counted(pending.new, 'image')} to score, of "
                    f"{counted(pending.images, 'image')} in {options['images']}"
                )
        if asked.history is not None:
            yield f"a line in {asked.history}"


def _check(job: Job) -> None:
    """Refuse, before hours of work, a model or policy that cannot be used after it.

    Raises:
        FaceauditError: If one cannot be read, or says what cannot be.
    """
    for step in job.steps:
        if step.kind is STEPS["predict"]:
            load_model(step.options.get("model", DEFAULT_BUNDLE))
        if (policy := step.options.get("policy")) is not None:
            load_policy(policy)


@contextlib.contextmanager
def _history(job: Job) -> Iterator[Callable[[JobRun], None]]:
    """Hold the lock of a job's history, where it keeps one; gives what adds a line."""
    if job.history is None:
        yield lambda found: None
        return
    path = job.history
    with exclusive(path):
        yield lambda found: append(path, found.to_json())


def _do(step: Step, found: JobRun, *, quiet: bool) -> None:
    """Do a step and note what became of it."""
    name = step.kind.name
    if any(before.error or before.was_skipped for before in found.steps if _is_needed(before)):
        found.steps.append(StepRun(name, Outcome({}, ()), was_skipped=True))
        return
    begun = time.monotonic()
    options = {"quiet": quiet} if step.kind is STEPS["predict"] else {}
    try:
        for folder in step.dated:
            folder.make()
        outcome = step.kind.outcome(step.kind.function(**step.options, **options))
    except FaceauditError as error:
        found.steps.append(_failed(name, begun, error.exit_code, str(error)))
    except BaseException as error:  # noted, and raised again
        code = EXIT_BUG if isinstance(error, Exception) else EXIT_TEMPORARY
        found.steps.append(_failed(name, begun, code, str(error) or type(error).__name__))
        raise
    else:
        found.steps.append(StepRun(name, outcome, time.monotonic() - begun))


def _is_needed(step: StepRun) -> bool:
    """Whether the steps after it rest on it."""
    return step.name == STEPS["predict"].name


def _failed(name: str, begun: float, code: int, error: str) -> StepRun:
    return StepRun(name, Outcome({}, (), [code]), time.monotonic() - begun, error)


def summary(steps: Sequence[StepRun]) -> str:
    """What the steps ended with, in one line.

    Example:
        >>> summary([StepRun("predict", Outcome({}, (), [4])), StepRun("report", Outcome({}, ()))])
        'predict 4, report 0'
    """
    return ", ".join(f"{step.name} {_ended(step)}" for step in steps)


def _ended(step: StepRun) -> str:
    return "skipped" if step.was_skipped else str(first_exit(step.outcome.exit_codes))
