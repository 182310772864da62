"""How far a long run is: a bar on a terminal, a log line every ten seconds elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

LOG_SECONDS = 10.0


@contextmanager
def progress(
    what: str, total: int | Callable[[], int | None], *, done: int = 0, quiet: bool = False
) -> Iterator[Callable[[int], None]]:
    """A function that takes how many more are done.

    Args:
        what: Shown before the bar.
        total: How many there are; or a function that gives it as soon as it is known.
        done: How many were done before.
        quiet: Show nothing.
    """
    known = total if callable(total) else lambda: total
    if quiet:
        yield lambda count: None
    elif sys.stderr.isatty():
        with _bar(what, known, done) as advance:
            yield advance
    else:
        yield _logger(what, known, done)


@contextmanager
def _bar(
    what: str, total: Callable[[], int | None], before: int
) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total(), completed=before, rate="")
        begun, done = time.monotonic(), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            rate = done / max(time.monotonic() - begun, 1e-9)
            bar.update(task, total=total(), advance=count, rate=shown_rate(rate))

        yield advance


def _logger(what: str, total: Callable[[], int | None], before: int) -> Callable[[int], None]:
    begun = said = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal said, done
        done += count
        now = time.monotonic()
        if now - said >= LOG_SECONDS:
            said = now
            rate = done / (now - begun)
            of_all, left = "", ""
            if (number := total()) is not None:
                of_all = f" of {number:,}"
                left = f", {max(0, number - before - done) / rate:.0f} s left"
            shown = shown_rate(rate)
            log.info("%s: %d%s images, %s%s", what, before + done, of_all, shown, left)

    return advance


def shown_rate(rate: float) -> str:
    """Images per second, as they are shown.

    Example:
        >>> shown_rate(1572.3), shown_rate(9.14), shown_rate(0.326)
        ('1,572 images/s', '9.1 images/s', '0.33 images/s')
    """
    return f"{rate:,.0f} images/s" if rate >= 10 else f"{rate:.2g} images/s"
