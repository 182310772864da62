"""Work spread over threads whose results come back in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from threading import Thread
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Generator[Result, None, None]:
    """Results of a function over items, computed by threads and given back in the items' order.

    At most ``2 * workers`` items are under way or waiting, so memory does not grow with their
    number. Where the function raises, the exception is raised here and the rest is given up.
    """
    source = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Result]] = deque(
            pool.submit(function, item) for item in islice(source, 2 * workers)
        )
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(source, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()


def in_chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Consecutive lists of up to ``size`` items."""
    source = iter(items)
    while chunk := list(islice(source, size)):
        yield chunk


def in_background(function: Callable[[], Result]) -> Callable[[], Result | None]:
    """Call a function in a thread; what is returned gives its result, None before it is there.

    An error of the function is as no result.
    """
    found: list[Result] = []

    def call() -> None:
        with suppress(Exception):
            found.append(function())

    Thread(target=call, daemon=True).start()
    return lambda: found[0] if found else None
