"""Storage that cannot be reached, or refuses: what is waited for, and what is said."""

from __future__ import annotations

import errno
import functools
import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from faceaudit.errors import FaceauditError, RefusedError, TemporaryError, UnknownOperationError
from faceaudit.storage.paths import as_remote

log = logging.getLogger(__name__)

Result = TypeVar("Result")

PATIENCE = 60.0
"""Seconds from the first attempt until an outage is given up on."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 16.0
"""Seconds between attempts: the wait doubles from the first to the longest."""
TOLD_FROM = 4.0
"""A wait of so many seconds is told to the user."""

BUSY = frozenset({408, 425, 429})
"""Answers of a server, besides most of those from 500 on, that ask to come again."""
UNKNOWN_OPERATION = frozenset({501, 505})
"""Answers of a server that will be the same the next time."""
THROTTLED = frozenset(
    (
        "ConditionalRequestConflict",
        "OperationAborted",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestTimeout",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
    )
)
"""Codes by which stores ask to come again, whatever the status."""
OUT_OF_REACH = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.EHOSTUNREACH,
        errno.EIO,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ETIMEDOUT,
    }
)
"""Errors of the operating system, besides those of connections, when a store is out of reach."""
AGAIN = "; run again"

SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")
"""Variables whose values are never shown."""
SECRET_OPTION = re.compile("key|secret|token|pass|user|cred|private|email", re.IGNORECASE)
"""Storage options whose values are never shown."""


def retrying(call: Callable[[], Result], path: object, *, patience: float | None = None) -> Result:
    """What a call on storage gives; while the storage cannot be reached, it is called again.

    Waits grow from half a second to 16 seconds and end a minute after the first attempt. Calls on
    local paths are made once.

    Args:
        call: Without an argument; what it does must be harmless twice.
        path: What it reads or writes, as the user knows it.
        patience: Seconds from the first attempt until it is given up; ``PATIENCE`` unless given.

    Raises:
        FileNotFoundError: If it is not there, with ``strerror`` and the path.
        RefusedError: If the store refuses.
        TemporaryError: If the store was out of reach all the time.
    """
    if as_remote(path) is None:
        return call()
    until = time.monotonic() + (PATIENCE if patience is None else patience)
    wait = FIRST_WAIT
    while True:
        try:
            return call()
        except Exception as error:  # libraries of stores raise errors of many kinds
            raised = _translated(error, path)
        if not isinstance(raised, TemporaryError) or time.monotonic() + wait > until:
            raise raised from None  # what a library says may hold what must not be shown
        level = logging.WARNING if wait >= TOLD_FROM else logging.DEBUG
        log.log(level, "%s; tried again in %.0f s", str(raised).removesuffix(AGAIN), wait)
        time.sleep(wait * random.uniform(0.75, 1.25))
        wait = min(2 * wait, LONGEST_WAIT)


def _translated(error: Exception, path: object) -> Exception:
    """What an error of a storage library means to the user; what is none stays as it is."""
    if isinstance(error, FaceauditError):
        return error
    code, status = _answer(error)
    said = without_secrets(" ".join(str(error).split()) or type(error).__name__, path)
    if code == "NoSuchBucket":
        return RefusedError(path, "there is no such bucket; create it, or correct the address")
    if status in UNKNOWN_OPERATION:
        return UnknownOperationError(path, f"the storage has no such operation: {said}")
    if status in BUSY or (status or 0) >= 500 or code in THROTTLED or _is_outage(error, status):
        return TemporaryError(f"{path}: storage unreachable: {said}{AGAIN}")
    if isinstance(error, FileNotFoundError) or status == 404:
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if isinstance(error, FileExistsError) or status == 412:
        return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    if isinstance(error, IsADirectoryError | NotADirectoryError):
        return type(error)(error.errno, said, str(path))
    if isinstance(error, PermissionError) or status in (401, 403) or "Forbidden" in said:
        return RefusedError(path, f"permission denied ({said}); check the credentials")
    if isinstance(error, _library_errors("wrong")):
        return RefusedError(path, f"cannot be used: {said}; see docs/storage.md on credentials")
    if isinstance(error, OSError) or status is not None:
        return RefusedError(path, f"the storage refuses: {said}")
    return error


def _is_outage(error: Exception, status: int | None) -> bool:
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if isinstance(error, _library_errors("outage")):
        return True
    return status is None and isinstance(error, OSError) and error.errno in OUT_OF_REACH


def _answer(error: BaseException) -> tuple[str | None, int | None]:
    """Code and HTTP status that a store answered with; None where it is not known."""
    for one in (error, error.__cause__, error.__context__):
        response = getattr(one, "response", None)
        if isinstance(response, Mapping):  # botocore
            facts = response.get("ResponseMetadata", {})
            return response.get("Error", {}).get("Code"), facts.get("HTTPStatusCode")
        status = getattr(one, "status", None) or getattr(one, "code", None)  # aiohttp, gcsfs
        if isinstance(status, int | str) and str(status).isdecimal():
            return None, int(status)
    return None, None


@functools.cache
def _library_errors(kind: str) -> tuple[type[Exception], ...]:
    """Errors of the libraries that are installed: of outages, or of what was given wrongly."""
    found: list[type[Exception]] = []
    outage = kind == "outage"
    try:
        from botocore import exceptions as botocore

        reached = (
            botocore.ConnectionError,
            botocore.HTTPClientError,
            botocore.IncompleteReadError,
        )
        found += reached if outage else (botocore.BotoCoreError, botocore.ClientError)
    except ImportError:
        pass
    try:
        import aiohttp

        found += [aiohttp.ClientError] if outage else []
    except ImportError:
        pass
    try:
        import google.auth.exceptions as google
        import requests

        found += (
            [requests.RequestException, google.TransportError]
            if outage
            else [google.GoogleAuthError]
        )
    except ImportError:
        pass
    return tuple(found)


# --- secrets ----------------------------------------------------------------------------------

_USER = re.compile(r"(?<=://)[^\s/@]*(:[^\s@]*)?@")
_QUERY = re.compile(r"(\bhttps?://[^\s?'\"]+)\?[^\s'\"]*")


def without_secrets(text: str, path: object = None) -> str:
    """A text without what must not be shown: passwords, queries of addresses, keys and tokens.

    Args:
        text: Such as the message of a library.
        path: Whose storage options must not be shown either.

    Example:
        >>> without_secrets("GET http://me:secret@host/x?X-Amz-Signature=1f2e failed")
        'GET http://host/x failed'
        >>> without_secrets("https://token@host/x")
        'https://host/x'
    """
    text = _QUERY.sub(r"\1", _USER.sub("", text))
    remote = as_remote(path)
    options = {} if remote is None else remote.storage_options
    hidden = [os.environ.get(name, "") for name in SECRETS] + list(_secrets_of(options))
    for value in sorted(hidden, key=len, reverse=True):
        if len(value) >= 8:  # shorter ones are no secrets, and would tear words apart
            text = text.replace(value, "***")
    return text


def _secrets_of(options: Mapping[str, object]) -> Iterator[str]:
    """Values of storage options, however deep, that must not be shown."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _secrets_of(value)
        elif isinstance(value, str) and SECRET_OPTION.search(name):
            yield value
