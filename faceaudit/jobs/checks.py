"""What is refused before a job does anything, and what a trial tells."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence
from pathlib import Path

from faceaudit.errors import InputError, UsageError
from faceaudit.faces import DETECTORS
from faceaudit.jobs.job import Job, Step
from faceaudit.jobs.purge import moment_before
from faceaudit.jobs.steps import STEPS
from faceaudit.models.bundle import DEFAULT_BUNDLE
from faceaudit.models.load import load_model
from faceaudit.pipeline.checks import allowed_failures, check_output, checked, choose_outputs
from faceaudit.pipeline.engines import ENGINES
from faceaudit.reporting.check import load_policy
from faceaudit.reporting.source import check_tally_name
from faceaudit.schema import TASK_OPTIONS
from faceaudit.storage import as_path, check_outputs, followed, has_folder, is_remote


def check_job(job: Job) -> None:
    """Refuse what would only be seen after hours of work.

    Raises:
        FaceauditError: If two things of the job have one name, its history cannot be kept, or its
            model, policy or output cannot be used.
    """
    _check_names(job)
    if job.history is not None and not has_folder(job.history):
        raise InputError(f"{job.history}: there is no folder {job.history.parent}; create it first")
    made = [folder.path for step in job.steps for folder in step.folders]
    for step in job.steps:
        if step.kind is STEPS["predict"]:
            _check_prediction(step)
        else:
            _check_writes(step, made)
        for folder in step.folders:
            folder.check()
        if (kept := step.options.get("older_than")) is not None:
            moment_before(kept, dt.datetime(job.day.year, job.day.month, job.day.day))
        if (policy := step.options.get("policy")) is not None:
            load_policy(policy)


def _check_names(job: Job) -> None:
    """Refuse a file that two steps write, or one writes and the job is, keeps or rests on."""
    taken = {_place(job.path.name): "the job"}
    if job.history is not None:
        _take(taken, job.history, "the history")
    for step in job.steps:
        if (policy := step.options.get("policy")) is not None:
            taken.setdefault(_place(policy), "a policy")
    for step in job.steps:
        for path in step.writes:
            _take(taken, path, f"what [{step.kind.name}] writes")


def _take(taken: dict[str, str], path: Path, what: str) -> None:
    other = taken.setdefault(_place(path), what)
    if other != what:
        raise UsageError(f"{path}: would be {other} and {what}; give them names of their own")


def _place(path: str | Path) -> str:
    found = as_path(path)
    return str(found) if is_remote(found) else os.path.realpath(found)


def _check_writes(step: Step, made: Sequence[Path]) -> None:
    """Refuse what another step than a prediction cannot write."""
    if step.kind is STEPS["tally"]:
        check_tally_name(as_path(step.options["file"]))
    check_outputs([path for path in step.writes if path.parent not in made], ())


def _check_prediction(step: Step) -> None:
    options = step.options
    bundle = load_model(options.get("model", DEFAULT_BUNDLE))
    choose_outputs(bundle, options.get("tasks", TASK_OPTIONS))
    allowed_failures(options.get("max_failures"))
    checked("detector", options.get("detector", "retinaface"), DETECTORS)
    checked("engine", options.get("engine", "local"), ENGINES)
    if not step.folders:
        out = followed(as_path(options["out"]))
        check_output(out, options["images"], options.get("part_rows"))
