"""How a command ends: errors that a user can fix are one line, and every end has its exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType

from faceaudit.errors import EXIT_TEMPORARY, FaceauditError

MOMENT = 0.05
"""Seconds until an interruption that was ignored is tried again."""


def end_well(work: Callable[[], object]) -> None:
    """Do the work; errors that a user can fix become one line and an exit code."""
    signal.signal(signal.SIGINT, _interrupted)
    signal.signal(signal.SIGTERM, _interrupted)
    sys.unraisablehook = _ignored
    try:
        work()
    except Interrupted as interrupted:
        print(f"Error: {interrupted}", file=sys.stderr)  # noqa: T201 - as below
        sys.exit(EXIT_TEMPORARY)
    except FaceauditError as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201 - the one place that prints errors
        sys.exit(error.exit_code)


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
