"""Chunks given to workers that end; no cluster is needed to see that nothing is lost."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceaudit.images.refs import ImageRef
from faceaudit.pipeline.inputs import Chunk
from faceaudit.pipeline.jobs import STRIKES, Job, Jobs


def chunks_of(sizes: list[int]) -> list[Chunk]:
    numbers = iter(range(sum(sizes)))
    found = []
    for size in sizes:
        refs = [ImageRef(str(next(numbers)), "") for _ in range(size)]
        found.append(Chunk(refs, {"place": [int(ref.name) for ref in refs]}))
    return found


def rows_of(chunk: Chunk, status: str = "ok") -> pa.Table:
    return pa.table({"place": chunk.extra["place"], "status": [status] * len(chunk)})


def given_up(chunk: Chunk) -> pa.Table:
    return rows_of(chunk, "unreadable")


class Workers:
    """Some workers that take up to two chunks, end over some images and also without a reason."""

    def __init__(self, number: int, deadly: set[int], chance: float, seed: int) -> None:
        self.held: list[list[Job]] = [[] for _ in range(number)]
        self.deadly = deadly
        self.chance = chance
        self.rng = random.Random(seed)
        self.ended = 0

    def run(self, jobs: Jobs) -> list[pa.Table]:
        tables: list[pa.Table] = []
        while True:
            tables += jobs.tables()
            for held in self.held:
                while len(held) < (1 if any(job.is_suspect for job in held) else 2):
                    job = jobs.take(idle=not held)
                    if job is None:
                        break
                    held.append(job)
            if jobs.are_done:
                return tables
            self.step(self.rng.choice([held for held in self.held if held]), jobs)

    def step(self, held: list[Job], jobs: Jobs) -> None:
        places = held[0].chunk.extra["place"]
        if self.deadly & set(places) or self.rng.random() < self.chance:
            self.ended += 1
            for job in held:
                jobs.fail(job)
            held.clear()
        else:
            job = held.pop(0)
            jobs.finish(job, rows_of(job.chunk))


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    workers=st.integers(1, 4),
    deadly=st.sets(st.integers(0, 40), max_size=3),
    seed=st.integers(0, 99),
)
def test_only_the_images_that_end_workers_are_given_up_and_order_is_kept(
    sizes: list[int], workers: int, deadly: set[int], seed: int
) -> None:
    chunks = chunks_of(sizes)
    jobs = Jobs(chunks, 4 * workers, given_up)
    tables = Workers(workers, deadly, 0.0, seed).run(jobs)
    assert [len(table) for table in tables] == sizes
    table = pa.concat_tables(tables)
    assert table["place"].to_pylist() == list(range(sum(sizes)))
    bad = [place for place, s in enumerate(table["status"].to_pylist()) if s != "ok"]
    assert bad == sorted(deadly & set(range(sum(sizes))))


def test_workers_that_end_for_other_reasons_cost_no_row() -> None:
    """Machines that fail now and then are no image's fault."""
    jobs = Jobs(chunks_of([8] * 200), 16, given_up)
    workers = Workers(4, set(), 0.1, seed=1)
    table = pa.concat_tables(workers.run(jobs))
    assert workers.ended > 15
    assert table["place"].to_pylist() == list(range(1600))
    assert set(table["status"].to_pylist()) == {"ok"}


def test_one_image_that_ends_workers_costs_few_of_them() -> None:
    workers = Workers(1, {0}, 0.0, seed=0)
    workers.run(Jobs(chunks_of([64] * 3), 4, given_up))
    halvings = 6
    assert workers.ended == STRIKES + (halvings - 1) + STRIKES


def test_no_more_chunks_are_taken_than_may_wait() -> None:
    taken = iter(chunks_of([1] * 100))
    jobs = Jobs(taken, 5, given_up)
    held = [jobs.take(idle=True) for _ in range(8)]
    assert [job is not None for job in held] == [True] * 5 + [False] * 3
    assert next(taken).images[0].name == "5"
    job = held[1]
    assert job is not None
    jobs.finish(job, rows_of(job.chunk))
    assert list(jobs.tables()) == []
    assert jobs.take(idle=True) is None, "the first chunk is still awaited"


def test_what_may_end_workers_is_given_to_one_that_has_nothing_else() -> None:
    jobs = Jobs(chunks_of([2] * 9), 9, given_up)
    first, second = jobs.take(idle=True), jobs.take(idle=False)
    assert first is not None
    assert second is not None
    jobs.fail(first)
    assert jobs.take(idle=False) is None
    assert jobs.take(idle=True) is first


@pytest.mark.parametrize("size", [0, 1])
def test_no_chunks_are_no_tables(size: int) -> None:
    jobs = Jobs(chunks_of([1] * size), 4, given_up)
    job = jobs.take(idle=True)
    assert (job is not None) == bool(size)
    if job is not None:
        assert not jobs.are_done
        jobs.finish(job, rows_of(job.chunk))
        assert len(list(jobs.tables())) == 1
        assert jobs.take(idle=True) is None
    assert jobs.are_done
