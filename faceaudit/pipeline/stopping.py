"""Signals that end a run in good order: what is under way is finished and kept."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

log = logging.getLogger(__name__)

Item = TypeVar("Item")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether a signal asked the run to end, and which."""

    name: str | None = None

    def until(self, items: Iterable[Item]) -> Iterator[Item]:
        """The same items, until a signal comes."""
        for item in items:
            if self.name is not None:
                return
            yield item


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Let SIGINT and SIGTERM set a flag; a second one acts as it would have without this.

    Outside of the main thread signals cannot be caught, and nothing is changed.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        stop.name = signal.Signals(number).name
        log.warning("%s: finishing the images under way; again to end at once", stop.name)
        restore()

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        restore()
