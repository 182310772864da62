"""How far a long run is: a bar on a terminal, a log line every ten seconds elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

log = logging.getLogger(__name__)

Item = TypeVar("Item")

LOG_SECONDS = 10.0


@contextmanager
def progress(
    what: str,
    total: int | Callable[[], int | None],
    *,
    done: int = 0,
    quiet: bool | None = None,
    note: Callable[[], str] = str,
) -> Iterator[Callable[[int], None]]:
    """A function that takes how many more are done.

    Args:
        what: Shown before the bar.
        total: How many there are; or a function that gives it as soon as it is known.
        done: How many were done before.
        quiet: Show nothing; without it, where the package's log tells nothing of that kind.
        note: Gives what else is shown, such as a loss.
    """
    known = total if callable(total) else lambda: total
    if quiet is None:
        quiet = not log.isEnabledFor(logging.INFO)
    if quiet:
        yield lambda count: None
    elif sys.stderr.isatty():
        with _bar(what, known, done, note) as advance:
            yield advance
    else:
        yield _logger(what, known, done, note)


def counted(
    what: str, items: Iterable[Item], total: int, images: Callable[[Item], int] = lambda one: 1
) -> Iterator[Item]:
    """Items as they come, with a bar of how many images of them all are done.

    Args:
        what: Shown before the bar.
        items: What is done; each counts when the next one is asked for.
        total: Images of all items.
        images: Gives those of one item.
    """
    with progress(what, total) as advance:
        for item in items:
            yield item
            advance(images(item))


@contextmanager
def _bar(
    what: str, total: Callable[[], int | None], before: int, note: Callable[[], str]
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
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total(), completed=before, rate="", note="")
        begun, done = time.monotonic(), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            rate = done / max(time.monotonic() - begun, 1e-9)
            bar.update(task, total=total(), advance=count, rate=shown_rate(rate), note=note())

        yield advance


def _logger(
    what: str, total: Callable[[], int | None], before: int, note: Callable[[], str]
) -> Callable[[int], None]:
    begun = last = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal last, done
        done += count
        now = time.monotonic()
        if now - last >= LOG_SECONDS:
            last = now
            rate = done / (now - begun)
            of_all, left = "", ""
            if (number := total()) is not None:
                of_all = f" of {number:,}"
                left = f", {shown_time(max(0, number - before - done) / rate)} left"
            shown, more = shown_rate(rate), f", {said}" if (said := note()) else ""
            log.info("%s: %d%s images, %s%s%s", what, before + done, of_all, shown, left, more)

    return advance


def shown_rate(rate: float) -> str:
    """Images per second, as they are shown.

    Example:
        >>> shown_rate(1572.3), shown_rate(9.14), shown_rate(0.326)
        ('1,572 images/s', '9.1 images/s', '0.33 images/s')
    """
    return f"{rate:,.0f} images/s" if rate >= 10 else f"{rate:.2g} images/s"


def shown_time(seconds: float) -> str:
    """A span of time, as it is shown.

    Example:
        >>> shown_time(75), shown_time(320), shown_time(9000)
        ('75 s', '5 min', '2 h 30 min')
    """
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
