"""The day in the names of a job: ``{date}``, ``{date-1}``, ``{date:%Y/%m}``."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceaudit.errors import InputError, UsageError
from faceaudit.storage import as_path, is_remote, make_folder

_DAY = re.compile(r"\{date(?:-(\d{1,5}))?(?::([^{}]*))?\}")


def on_day(text: str, day: dt.date) -> str:
    """A text with the day in the place of ``{date}``.

    ``{date-1}`` is the day before, and ``{date:%Y/%m}`` gives its form as ``strftime`` does.

    Raises:
        ValueError: If there is no such day or form.

    Example:
        >>> on_day("in/{date:%Y/%m}/{date-1}.parquet", dt.date(2026, 3, 1))
        'in/2026/03/2026-02-28.parquet'
    """

    def written(found: re.Match[str]) -> str:
        try:
            then = day - dt.timedelta(days=int(found[1] or 0))
        except OverflowError as error:
            raise ValueError(f"no day is {found[1]} days before {day}") from error
        form = then.strftime(found[2]) if found[2] else then.isoformat()
        if "%" in form:
            raise ValueError(f"{found[2]!r} is no form of a day")
        return form

    return _DAY.sub(written, text)


def has_day(value: Any) -> bool:
    """Whether a value is a text that has the day in it."""
    return isinstance(value, str) and _DAY.search(value) is not None


def dated(value: Any, day: dt.date, where: str) -> Any:
    """A value of a job file whose texts have the day.

    Raises:
        UsageError: If a text has another ``{date...}``, or no text can have it.
    """
    if isinstance(value, str):
        return _dated_text(value, day, where)
    if isinstance(value, Mapping):
        return {key: dated(inner, day, where) for key, inner in value.items()}
    if isinstance(value, list):
        return [dated(inner, day, where) for inner in value]
    return value


def _dated_text(text: str, day: dt.date, where: str) -> str:
    try:
        found = on_day(text, day)
    except ValueError as error:
        raise UsageError(f"{where} is {text!r}: {error}") from error
    if "{date" in found:
        raise UsageError(
            f"{where} is {text!r}; a day is written {{date}}, {{date-1}} for the day before, or "
            "{date:%Y/%m}"
        )
    if "\0" in found:
        raise UsageError(f"{where} is {text!r}; no name has such a character")
    return found


@dataclass(frozen=True)
class DatedFolder:
    """A folder that has the day in its name."""

    path: Path
    above: Path
    """What must be there already."""

    @classmethod
    def of(cls, output: Any, day: dt.date) -> DatedFolder | None:
        """The folder of an output; None where the day is not in its name."""
        found = _DAY.search(output) if isinstance(output, str) else None
        if found is None:
            return None
        above = as_path(f"{output[: found.start()]}_").parent
        folder = as_path(on_day(output, day)).parent
        return None if folder == above else cls(folder, above)

    def make(self) -> None:
        """Make it. What is above is not made: it may be a disk that is not mounted.

        Raises:
            InputError: If that is not there.
        """
        self.check()
        if not is_remote(self.path):
            make_folder(self.path)

    def check(self) -> None:
        """Check that it can be made.

        Raises:
            InputError: If what is above is not there.
        """
        if not is_remote(self.path) and not self.above.is_dir():
            raise InputError(f"{self.path}: there is no folder {self.above}; create it first")
