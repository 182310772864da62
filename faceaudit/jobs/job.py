"""Job files: TOML with a table for each step, whose keys are the options of that command."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceaudit.errors import InputError, UnknownNameError, UsageError
from faceaudit.jobs.steps import STEPS, StepKind, option_of
from faceaudit.storage import as_path, is_remote, make_folder, write_text
from faceaudit.typed import as_type

STARTER = Path(__file__).with_name("starter_job.toml")
"""A commented job to begin with."""

_DAY = re.compile(r"\{date(?:-(\d{1,5}))?(?::([^{}]*))?\}")


@dataclass(frozen=True)
class DatedFolder:
    """A folder that has the day in its name."""

    path: Path
    above: Path
    """What must be there already."""

    def make(self) -> None:
        """Make it. What is above is not made: it may be a disk that is not mounted.

        Raises:
            InputError: If that is not there.
        """
        if is_remote(self.path):
            return
        if not self.above.is_dir():
            raise InputError(f"{self.path}: there is no folder {self.above}; create it first")
        make_folder(self.path)


@dataclass(frozen=True)
class Step:
    """A command with its options."""

    kind: StepKind
    options: Mapping[str, Any]
    """Keyword -> value."""
    dated: tuple[DatedFolder, ...] = ()
    """Folders named by the day in which it writes."""

    @property
    def command(self) -> str:
        """The line that does the same when it is typed."""
        words = [_joined(self.options[key]) for key in self.kind.arguments]
        for key, value in self.options.items():
            if key not in self.kind.arguments:
                words += _as_typed(f"--{option_of(key).replace('_', '-')}", value)
        return shlex.join(["faceaudit", self.kind.name, *words])


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
        if key not in ("name", "history", *STEPS):
            raise UnknownNameError(f"key of {path}", key, ["name", "history", *STEPS])
    asked = [kind for name, kind in STEPS.items() if name in facts]
    if not asked:
        raise UsageError(f"{path}: has nothing to do; give a table [{'], ['.join(STEPS)}]")
    name = as_type(str, facts.get("name", path.stem), str(path), "name")
    history = as_type(str | None, facts.get("history"), str(path), "history")
    steps: list[Step] = []
    for kind in asked:
        steps.append(_read_step(kind, facts[kind.name], steps, path, day))
    return Job(
        name=name,
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        day=day,
        history=None if history is None else as_path(_dated(history, day, f"{path}: history")),
        steps=tuple(steps),
    )


def _read_step(
    kind: StepKind, facts: Any, before: Sequence[Step], path: Path, day: dt.date
) -> Step:
    if not isinstance(facts, Mapping):
        raise UsageError(f"{path}: {kind.name} must be a table: [{kind.name}]")
    types = kind.types
    keywords = {option_of(key): key for key in types}
    options: dict[str, Any] = {}
    if before and before[0].kind is STEPS["predict"] and kind.table in types:
        options[kind.table] = before[0].options["out"]
    for option, value in facts.items():
        if option not in keywords:
            raise UnknownNameError(f"option of [{kind.name}] in {path}", option, keywords)
        key = keywords[option]
        dated = _dated(value, day, f"{path}: {kind.name}.{option}")
        options[key] = as_type(types[key], dated, str(path), f"{kind.name}.{option}")
    for key in kind.needed:
        if key not in options:
            raise UsageError(f"{path}: {kind.name}.{option_of(key)} is missing")
    folders = (_dated_folder(facts.get(option_of(key)), day) for key in kind.outputs)
    return Step(kind, options, tuple(folder for folder in folders if folder is not None))


def on_day(text: str, day: dt.date) -> str:
    """A text with the day in the place of ``{date}``.

    ``{date-1}`` is the day before, and ``{date:%Y/%m}`` gives its form as ``strftime`` does.

    Example:
        >>> on_day("in/{date:%Y/%m}/{date-1}.parquet", dt.date(2026, 3, 1))
        'in/2026/03/2026-02-28.parquet'
    """

    def written(found: re.Match[str]) -> str:
        then = day - dt.timedelta(days=int(found[1] or 0))
        return then.strftime(found[2]) if found[2] else then.isoformat()

    return _DAY.sub(written, text)


def _dated(value: Any, day: dt.date, where: str) -> Any:
    """A value whose texts have the day."""
    if isinstance(value, str):
        dated = on_day(value, day)
        if "{date" in dated:
            raise UsageError(
                f"{where} is {value!r}; a day is written {{date}}, {{date-1}} for the day before, "
                "or {date:%Y/%m}"
            )
        return dated
    if isinstance(value, Mapping):
        return {key: _dated(inner, day, where) for key, inner in value.items()}
    if isinstance(value, list):
        return [_dated(inner, day, where) for inner in value]
    return value


def _dated_folder(output: Any, day: dt.date) -> DatedFolder | None:
    """The folder of an output, where the day is in its name."""
    if not isinstance(output, str) or (found := _DAY.search(output)) is None:
        return None
    above = as_path(f"{output[: found.start()]}_").parent
    folder = as_path(on_day(output, day)).parent
    return None if folder == above else DatedFolder(folder, above)


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


def write_starter(path: str | Path) -> None:
    """Write the starter job, whose comments explain it.

    Raises:
        UsageError: If there is such a file already.
    """
    path = Path(path)
    if path.exists():
        raise UsageError(f"--init {path}: exists already; give another name")
    write_text(path, STARTER.read_text(encoding="utf-8"))
