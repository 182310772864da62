"""Job files: TOML with a table for each step, whose keys are the options of that command."""

from __future__ import annotations

import datetime as dt
import hashlib
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceaudit.errors import InputError, UnknownNameError, UsageError
from faceaudit.jobs.days import DatedFolder, dated, has_day
from faceaudit.jobs.steps import STEPS, StepKind, option_of
from faceaudit.storage import as_path
from faceaudit.typed import as_type

STARTER = Path(__file__).with_name("starter_job.toml")
"""A commented job to begin with."""
OWN_KEYS = ("name", "history")
"""Keys of a job that are no step."""
HISTORY_SUFFIX = ".jsonl"


@dataclass(frozen=True)
class Step:
    """A command with its options."""

    kind: StepKind
    options: Mapping[str, Any]
    """Keyword -> value."""
    folders: tuple[DatedFolder, ...] = ()
    """Folders named by the day in which it writes."""
    earlier: str | None = None
    """The keyword of an earlier table that is named by the day, which may not be there."""

    @property
    def command(self) -> str:
        """The line that does the same when it is typed."""
        words = [_joined(self.options[key]) for key in self.kind.arguments]
        for key, value in self.options.items():
            if key not in self.kind.arguments:
                words += _as_typed(f"--{option_of(key).replace('_', '-')}", value)
        return shlex.join(["faceaudit", self.kind.name, *words])

    @property
    def writes(self) -> list[Path]:
        """The tables, pages and other files that it writes."""
        return [as_path(path) for path in self.kind.writes(self.options)]


@dataclass(frozen=True)
class Job:
    """What a job file asks for on one day."""

    name: str
    path: Path
    sha256: str
    """Of the file."""
    day: dt.date
    history: Path | None
    """Where a line is kept of each run, in JSON."""
    steps: tuple[Step, ...]


def read_job(path: str | Path, day: dt.date) -> Job:
    """A job from its file.

    Args:
        path: A TOML file; what it names is seen from the folder that it is in.
        day: Takes the place of ``{date}`` in its texts.

    Raises:
        InputError: If the file cannot be read.
        UsageError: If it is not valid TOML, or a step, option or value cannot be used.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: the job cannot be read ({error.strerror}); `faceaudit run --init job.toml` "
            "writes one to begin with"
        ) from error
    try:
        facts = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is not valid TOML: {error}") from error
    for key in facts:
        if key not in (*OWN_KEYS, *STEPS):
            raise UnknownNameError(f"key of {path}", key, [*OWN_KEYS, *STEPS])
    asked = [kind for name, kind in STEPS.items() if name in facts]
    if not asked:
        raise UsageError(f"{path}: has nothing to do; give a table [{'], ['.join(STEPS)}]")
    steps: list[Step] = []
    for kind in asked:
        steps.append(_read_step(kind, facts[kind.name], steps, path, day))
    return Job(
        name=as_type(str, facts.get("name", path.stem), str(path), "name"),
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        day=day,
        history=_read_history(facts.get("history"), path, day),
        steps=tuple(steps),
    )


def _read_history(given: Any, path: Path, day: dt.date) -> Path | None:
    history = as_type(str | None, dated(given, day, f"{path}: history"), str(path), "history")
    if history is None:
        return None
    if not history.endswith(HISTORY_SUFFIX):
        raise UsageError(
            f"{path}: history is {history!r}; lines of JSON are added to it, name it "
            f"NAME{HISTORY_SUFFIX}"
        )
    return as_path(history)


def _read_step(
    kind: StepKind, facts: Any, before: Sequence[Step], path: Path, day: dt.date
) -> Step:
    if not isinstance(facts, Mapping):
        raise UsageError(f"{path}: {kind.name} must be a table: [{kind.name}]")
    types = kind.types
    keywords = {option_of(key): key for key in types}
    options: dict[str, Any] = {}
    for step in before:
        if step.kind.makes_table:
            options[kind.table] = step.options[step.kind.table]
    for option, value in facts.items():
        if option not in keywords:
            raise UnknownNameError(f"option of [{kind.name}] in {path}", option, keywords)
        key, where = keywords[option], f"{kind.name}.{option}"
        options[key] = as_type(types[key], dated(value, day, f"{path}: {where}"), str(path), where)
    for key in kind.needed:
        if key not in options:
            raise UsageError(f"{path}: {kind.name}.{option_of(key)} is missing")
    folders = (DatedFolder.of(facts.get(option_of(key)), day) for key in kind.outputs)
    earlier = kind.earlier if has_day(facts.get(kind.earlier)) else None
    return Step(kind, options, tuple(folder for folder in folders if folder), earlier)


def _as_typed(option: str, value: Any) -> list[str]:
    """An option as it is typed."""
    if value is None or value is False:
        return []
    if value is True:
        return [option]
    if isinstance(value, Mapping):
        pairs = ((key, _joined(inner)) for key, inner in value.items())
        return [word for key, inner in pairs for word in (option, f"{key}={inner}")]
    return [option, _joined(value)]


def _joined(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_joined, value))
    return str(as_path(value)) if isinstance(value, Path) else str(value)
