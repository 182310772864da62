"""Chunks given to workers that may end at any moment: nothing is lost, doubled or out of order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from faceaudit.pipeline.inputs import Chunk

STRIKES = 3
"""Workers that may end over a chunk before it is split, and over an image before it is given up."""


@dataclass(eq=False)
class Job:
    """A chunk to score, or a half of one that ended its workers."""

    chunk: Chunk
    is_half: bool = False
    ended: int = 0
    """Workers that ended while they had it."""
    table: pa.Table | None = None
    halves: tuple[Job, ...] = ()

    @property
    def is_suspect(self) -> bool:
        """Whether it may be what ends workers; then a worker has it alone."""
        return self.is_half or self.ended > 0

    @property
    def is_at_its_end(self) -> bool:
        """Whether trying it as it is once more is not worth another worker."""
        return self.ended >= (1 if self.is_half and len(self.chunk) > 1 else STRIKES)

    def rows(self) -> pa.Table | None:
        """Its table; None while something of it is left to do."""
        if not self.halves:
            return self.table
        tables = [half.rows() for half in self.halves]
        return None if None in tables else pa.concat_tables(tables)


class Jobs:
    """Chunks taken one by one as workers ask for them, and their tables in the chunks' order.

    When a worker ends, each chunk that it had is tried again, now by a worker that has nothing
    else: so what ends workers is told from what was beside it. A chunk over which ``STRIKES``
    workers ended is halved until one image is left, which gets a row that says so.
    """

    def __init__(
        self, chunks: Iterable[Chunk], ahead: int, give_up: Callable[[Chunk], pa.Table]
    ) -> None:
        """Nothing is taken yet.

        Args:
            chunks: Walked as they are asked for.
            ahead: Chunks that may be under way, or wait for an earlier one.
            give_up: Rows of an image that no worker survived.
        """
        self._chunks = iter(chunks)
        self._ahead = ahead
        self._give_up = give_up
        self._order: deque[Job] = deque()
        self._suspects: deque[Job] = deque()
        self._is_exhausted = False

    @property
    def are_done(self) -> bool:
        """Whether every chunk was taken and every table given."""
        return self._is_exhausted and not self._order

    def take(self, *, idle: bool) -> Job | None:
        """What a worker does next; None for nothing now.

        Args:
            idle: Whether it has nothing else to do.
        """
        if self._suspects:
            return self._suspects.popleft() if idle else None
        if self._is_exhausted or len(self._order) >= self._ahead:
            return None
        for chunk in islice(self._chunks, 1):
            self._order.append(Job(chunk))
            return self._order[-1]
        self._is_exhausted = True
        return None

    def finish(self, job: Job, table: pa.Table) -> None:
        """Note the table of a job."""
        job.table = table

    def fail(self, job: Job) -> None:
        """Note that a worker ended while it had a job."""
        job.ended += 1
        if not job.is_at_its_end:
            self._suspects.append(job)
        elif len(job.chunk) == 1:
            job.table = self._give_up(job.chunk)
        else:
            job.halves = tuple(Job(half, is_half=True) for half in job.chunk.halves())
            self._suspects.extend(job.halves)

    def tables(self) -> Iterator[pa.Table]:
        """Tables whose turn it is."""
        while self._order and (table := self._order[0].rows()) is not None:
            self._order.popleft()
            yield table
