"""How a command ends: errors that a user can fix are one line, and every end has its exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from typer import BadParameter

from faceaudit.errors import EXIT_TEMPORARY, EXIT_USAGE, FaceauditError

WRONG_LINE: Any = BadParameter.__base__
"""``UsageError`` of Click, or of the copy of Click that Typer brings."""

MOMENT = 0.05
"""Seconds until an interruption that was ignored is tried again."""


def end_well(work: Callable[[], int | None]) -> None:
    """Do the work, which gives its exit code; errors that a user can fix become one line."""
    signal.signal(signal.SIGINT, _interrupted)
    signal.signal(signal.SIGTERM, _interrupted)
    sys.unraisablehook = _ignored
    try:
        sys.exit(work())
    except Interrupted as interrupted:
        _say(str(interrupted))
        sys.exit(EXIT_TEMPORARY)
    except FaceauditError as error:
        _say(str(error))
        sys.exit(error.exit_code)
    except WRONG_LINE as error:
        command = "faceaudit" if error.ctx is None else error.ctx.command_path
        _say(f"{command}: {' '.join(error.format_message().split()).rstrip('.')} (see --help)")
        sys.exit(EXIT_USAGE)


def _say(message: str) -> None:
    print(f"Error: {one_line(message)}", file=sys.stderr)  # noqa: T201 - the one place


def one_line(text: str) -> str:
    r"""A text as one line that a terminal shows as it is: names may hold any character.

    Example:
        >>> print(one_line("caf\u00e9\n.jpg"))
        café\n.jpg
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class Interrupted(BaseException):
    """A signal asked the run to end; no ``except Exception`` of a library takes it for its own."""


def _interrupted(number: int, frame: FrameType | None) -> None:
    name = signal.Signals(number).name
    raise Interrupted(f"interrupted by {name}; nothing half-written was left; run again")


def _ignored(ignored: sys.UnraisableHookArgs) -> None:
    """Interrupt again, in a moment, where Python had to ignore it, as in a finalizer."""
    if isinstance(ignored.exc_value, Interrupted):
        again = ignored.exc_value

        def raise_again(number: int, frame: FrameType | None) -> None:
            raise again

        signal.signal(signal.SIGALRM, raise_again)
        signal.setitimer(signal.ITIMER_REAL, MOMENT)
    else:
        sys.__unraisablehook__(ignored)
