"""What a user can fix, and what a scheduler sees.

FaceauditError                exit 2, one line on stderr
├── UsageError                an option, or a combination of options, that cannot work
│   └── UnknownNameError      a name that is not in a list
├── InputError                the images or the table given cannot be read
│   ├── SchemaError           a table whose columns or classes do not fit
│   └── RefusedError          storage that refuses: no permission, no such bucket, no credentials
│       └── UnknownOperationError  storage that has no such operation
├── LabelError                a label file that cannot be read or joined
├── BundleError               a model bundle that is missing, damaged or not what it says
├── MissingExtraError         an optional dependency that is not installed
└── TemporaryError            exit 75: the same command may work later
    └── LockedError           another run is writing the same output
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

EXIT_DONE = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_INSUFFICIENT = 3
EXIT_TOO_MANY_FAILURES = 4
EXIT_RULE_FAILED = 10
EXIT_TEMPORARY = 75
EXIT_ORDER = (
    EXIT_USAGE,
    EXIT_TEMPORARY,
    EXIT_BUG,
    EXIT_RULE_FAILED,
    EXIT_INSUFFICIENT,
    EXIT_TOO_MANY_FAILURES,
    EXIT_DONE,
)
"""Which code a command ends with, where several apply."""


def first_exit(codes: Iterable[int]) -> int:
    """The code that a command ends with where several apply; ``EXIT_DONE`` for none.

    Example:
        >>> first_exit([EXIT_INSUFFICIENT, EXIT_RULE_FAILED])
        10
    """
    return min(codes, key=EXIT_ORDER.index, default=EXIT_DONE)


FEW = 5
"""Names among which the one that was meant is seen at once."""


class FaceauditError(Exception):
    """Something the user can fix; the message says what was given, where, and what would work."""

    exit_code = EXIT_USAGE


class UsageError(FaceauditError):
    """An option, or a combination of options, that cannot work."""


class UnknownNameError(UsageError):
    """A name that is not in a list.

    Example:
        >>> raise UnknownNameError("detector", "retina", ["retinaface", "whole"])
        Traceback (most recent call last):
        faceaudit.errors.UnknownNameError: no detector is called 'retina'; choose one of: ...
    """

    def __init__(self, kind: str, given: str, known: Iterable[str]) -> None:
        from difflib import get_close_matches

        names = [str(one) for one in known]
        near = get_close_matches(str(given), names, 1) if len(names) > FEW else []
        meant = f"; did you mean {near[0]}?" if near else ""
        super().__init__(f"no {kind} is called {given!r}; choose one of: {', '.join(names)}{meant}")


def check_names(kind: str, given: Sequence[str], known: Iterable[str]) -> None:
    """Check that names are a list, and that each is known.

    Raises:
        UsageError: If they are one text: its letters would be the names.
        UnknownNameError: If one is not known.
    """
    if isinstance(given, str):
        raise UsageError(f"{kind} {given!r}: give a list, such as [{given!r}]")
    known = tuple(known)
    for name in given:
        if name not in known:
            raise UnknownNameError(kind, name, known)


class InputError(FaceauditError):
    """The images or the table given cannot be read."""


class SchemaError(InputError):
    """A table whose columns or classes do not fit."""


class RefusedError(InputError, OSError):
    """Storage that refuses: no permission, no such bucket, no credentials.

    It is an ``OSError`` too, so that code which handles files that cannot be read handles it.

    Example:
        >>> raise RefusedError("s3://mine/out.parquet", "permission denied")
        Traceback (most recent call last):
        faceaudit.errors.RefusedError: s3://mine/out.parquet: permission denied
    """

    def __init__(self, where: object, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.strerror = reason


class UnknownOperationError(RefusedError):
    """Storage that has no such operation, as conditional writes."""


class LabelError(FaceauditError):
    """A label file that cannot be read or joined."""


class BundleError(FaceauditError):
    """A model bundle that is missing, damaged or not what it says."""


class MissingExtraError(FaceauditError):
    """An optional dependency that is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an extra: pip install 'faceaudit[{extra}]'")


class TemporaryError(FaceauditError):
    """A condition that may pass: the same command may work later."""

    exit_code = EXIT_TEMPORARY


class LockedError(TemporaryError):
    """Another run is writing the same output."""
