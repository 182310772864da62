"""The engine ``ray``: the pipeline in processes on the machines of a Ray cluster.

This process walks the images and keeps the rows; chunks of references go out, tables come back.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from faceaudit.errors import TemporaryError, UsageError
from faceaudit.models.bundle import Bundle, shipped
from faceaudit.ordered import available_cores
from faceaudit.pipeline.checks import choose_outputs
from faceaudit.pipeline.crops import CroppedImage
from faceaudit.pipeline.inputs import Chunk
from faceaudit.pipeline.jobs import STRIKES, Job, Jobs
from faceaudit.pipeline.plan import Facts, Settings
from faceaudit.pipeline.ray_worker import Opened, Refusal, Scorer
from faceaudit.pipeline.scores import predicted_tasks
from faceaudit.pipeline.table import to_arrow
from faceaudit.pipeline.witness import Witness
from faceaudit.schema import UNREADABLE

ADDRESS, HERE = "RAY_ADDRESS", "local"
"""Where a cluster is named, and what names one that is started here."""
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anyone
if os.environ.get(ADDRESS, HERE).startswith((HERE, "127.0.0.1")):
    # Ray then keeps to the loopback interface; else it opens ports to the network.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
import ray  # noqa: E402 - reads the environment
from ray.exceptions import RayError, RayTaskError  # noqa: E402

log = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 128 << 20
"""Of a cluster that is started here: chunks and tables are small, and images never pass it."""
QUEUED = 1
"""Chunks that a worker has beside those it works on, so that it need not wait for the next."""
AHEAD = 4
"""Chunks per worker that may be under way or wait for an earlier one."""
STARTS = 3
"""Workers in a row that may end as they start, beside one for each."""
PATIENCE = 600.0
"""Seconds that are waited for a first worker, or a new one when all are gone."""
STEP = 5.0
"""Seconds after which is looked whether workers are there, where nothing happens."""
_LABEL = re.compile(r"\w+: ")
"""A line of Ray's errors such as ``pid: 123``."""


class RayEngine:
    """Processes on the machines of a cluster, each of which takes chunks through every step."""

    scorer: type[Scorer] = Scorer
    """What runs there."""

    def __init__(self, settings: Settings, bundle: Bundle, workers: int | None) -> None:
        """Look at what there is.

        Args:
            settings: What the rows are made by.
            bundle: The model.
            workers: Processes; by default one per core of the cluster, or per GPU.

        Raises:
            UsageError: If a GPU by its number is asked for.
            TemporaryError: If the cluster does not answer.
        """
        if settings.device.startswith("cuda:"):
            raise UsageError(
                f"--device {settings.device} with --engine ray: each worker has a GPU of its own; "
                "give --device cuda"
            )
        self._started = False
        self._session: Path | None = None
        self._wanted = workers
        self._tasks = predicted_tasks(choose_outputs(bundle, settings.tasks), settings.age_bins)
        self._settings = replace(settings, model=_everywhere(settings.model))
        if settings.device == "cuda":
            self._connect()
            self.facts = self._facts_of_worker()
        else:
            self.facts = settings.open(bundle).facts()
            device = self.facts.preprocessing["runtime"]["device"]
            self._settings = replace(self._settings, device=device)

    def tables(self, chunks: Iterable[Chunk]) -> Generator[pa.Table, None, None]:
        source = iter(chunks)
        first = next(source, None)
        if first is None:
            return
        self._connect()
        crew = self._crew(Witness.of(first.images))
        jobs = Jobs(chain([first], source), AHEAD * crew.size, self._given_up)
        try:
            while True:
                yield from jobs.tables()
                crew.hand_out(jobs)
                if jobs.are_done:
                    return
                crew.wait(jobs)
        finally:
            crew.close()

    def close(self) -> None:
        if self._started:
            ray.shutdown()
        if self._session is not None:
            shutil.rmtree(self._session, ignore_errors=True)

    def _connect(self) -> None:
        """Find the cluster, or start one on this machine that nobody else can reach.

        Raises:
            UsageError: If its address cannot be one.
            TemporaryError: If the cluster does not answer.
        """
        if ray.is_initialized():
            return
        address = os.environ.get(ADDRESS, HERE)
        options: dict[str, Any] = {"address": address}
        if address == HERE:
            on_gpu = self._settings.device == "cuda"
            options |= {
                "num_cpus": (None if on_gpu else self._wanted) or available_cores(),
                "object_store_memory": OBJECT_STORE_BYTES,
                "include_dashboard": False,
                "_node_ip_address": "127.0.0.1",
            }
        with _signals_kept():
            try:
                found = ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, RuntimeError, ValueError) as error:
                where = "a cluster on this machine" if address == HERE else f"{ADDRESS}={address}"
                kind = UsageError if isinstance(error, ValueError) else TemporaryError
                raise kind(f"--engine ray: {where}: {_reason(error)}") from error
        self._started = True
        if address == HERE:  # logs and sockets of processes that end with this one
            self._session = Path(found.address_info["session_dir"])

    def _facts_of_worker(self) -> Facts:
        """What the settings come to where the workers are: here may be no GPU."""
        scorer = ray.remote(self.scorer).options(num_gpus=1, num_cpus=0).remote()
        try:
            answer = ray.get(scorer.open.remote(self._settings, None), timeout=PATIENCE)
        except RayTaskError:
            raise
        except RayError as error:
            raise TemporaryError(f"--engine ray: no worker with a GPU: {_reason(error)}") from (
                error
            )
        if isinstance(answer, Refusal):
            raise answer.as_error()
        ray.kill(scorer)
        facts: Facts = answer.facts
        return facts

    def _crew(self, witness: Witness | None) -> Crew:
        on_gpu = self._settings.device == "cuda"
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        there = int(sum(machine.get("GPU" if on_gpu else "CPU", 0) for machine in machines))
        number = self._wanted or there
        if not number:
            raise UsageError(
                f"--engine ray: no machine of the cluster has a {'GPU' if on_gpu else 'CPU'}; "
                "give --workers N where machines come when they are asked for"
            )
        threads = 1
        if on_gpu:  # one batch is on the device at a time; the other threads decode meanwhile
            shares = [m.get("CPU", 1) // m["GPU"] for m in machines if m.get("GPU")]
            threads = max(1, int(min(shares, default=1)))
        needs = {"num_cpus": threads, "num_gpus": int(on_gpu), "max_concurrency": threads}
        new_actor = ray.remote(self.scorer).options(**needs)
        return Crew(self._settings, self.facts, witness, number, threads, new_actor)

    def _given_up(self, chunk: Chunk) -> pa.Table:
        """The row of an image that no worker survived."""
        name = chunk.images[0].name
        reason = f"its worker ended {STRIKES} times"
        log.warning("%s: %s, as its row says", name, reason)
        image = CroppedImage(name, None, UNREADABLE, reason, None, None, (), ())
        return to_arrow([image], None, self._tasks, chunk.extra, self._settings.schema)


@dataclass(eq=False)
class Worker:
    """A process that scores, as seen from here."""

    actor: Any
    is_open: bool = False
    jobs: list[Job] = field(default_factory=list)
    """What it was given, in order."""


class Crew:
    """The processes that score; one that ends is replaced."""

    def __init__(
        self,
        settings: Settings,
        facts: Facts,
        witness: Witness | None,
        size: int,
        threads: int,
        new_actor: Any,
    ) -> None:
        """Start them.

        Args:
            settings: What the rows are made by.
            facts: What the settings come to; what is otherwise on a machine is refused.
            witness: An image that all machines must see.
            size: How many.
            threads: Chunks that each works on at a time.
            new_actor: What starts one.
        """
        self.size = size
        self._settings = ray.put(settings)
        self._facts = facts
        self._witness = witness
        self._slots = threads + QUEUED
        self._new_actor = new_actor
        self._workers: list[Worker] = []
        self._waiting: dict[Any, tuple[Worker, Job | None]] = {}
        """Who is working on what, by what Ray calls the result; None for a start."""
        self._ended_at_start = 0
        self._ended_in_a_row = 0
        self._was_open = False
        self._alone_since = time.monotonic()
        for _ in range(size):
            self._start()

    def hand_out(self, jobs: Jobs) -> None:
        """Give every worker what it has room for."""
        for worker in sorted(self._workers, key=lambda worker: len(worker.jobs)):
            while worker.is_open and self._has_room(worker):
                job = jobs.take(idle=not worker.jobs)
                if job is None:
                    break
                worker.jobs.append(job)
                self._waiting[worker.actor.score.remote(_sent(job.chunk))] = worker, job

    def wait(self, jobs: Jobs) -> None:
        """Wait until something happens, and note what did.

        Raises:
            FaceauditError: If a worker refuses to go on.
            TemporaryError: If workers end again and again, or none can be had.
        """
        refs = list(self._waiting)
        if ray.wait(refs, num_returns=1, timeout=STEP)[0]:
            for ref in ray.wait(refs, num_returns=len(refs), timeout=0)[0]:
                if ref in self._waiting:  # else its worker has ended meanwhile
                    self._note(ref, jobs)
        if any(worker.is_open for worker in self._workers):
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > PATIENCE:
            raise TemporaryError(
                f"--engine ray: no worker could be had for {PATIENCE:.0f} s; what was scored is "
                "kept: see that the cluster has machines, and run the same command"
            )

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            self._kill(worker)
        self._workers = []
        self._waiting = {}

    def _start(self) -> None:
        worker = Worker(self._new_actor.remote())
        self._workers.append(worker)
        opening = worker.actor.open.remote(self._settings, self._witness)
        self._waiting[opening] = worker, None

    def _has_room(self, worker: Worker) -> bool:
        alone = any(job.is_suspect for job in worker.jobs)
        return len(worker.jobs) < (1 if alone else self._slots)

    def _note(self, ref: Any, jobs: Jobs) -> None:
        """Note what a worker answered, or that it ended."""
        worker, job = self._waiting.pop(ref)
        try:
            answer = ray.get(ref)
        except RayTaskError:
            raise
        except RayError as error:
            self._replace(worker, job, jobs, error)
            return
        if isinstance(answer, Refusal):
            raise answer.as_error()
        if job is None:
            self._check(answer)
            worker.is_open = self._was_open = True
            self._ended_at_start = 0
            return
        worker.jobs.remove(job)
        jobs.finish(job, answer)
        self._ended_in_a_row = 0

    def _check(self, opened: Opened) -> None:
        """Check that a worker makes the rows that this process says it makes.

        Raises:
            UsageError: If another version or device is there.
        """
        if opened.facts != self._facts:
            raise UsageError(
                f"--engine ray: the worker on {opened.machine} differs from this process "
                f"({opened.facts.difference(self._facts)}); install the same everywhere"
            )

    def _replace(self, worker: Worker, job: Job | None, jobs: Jobs, error: RayError) -> None:
        """Put a worker in the place of one that ended, and what that had back to be done."""
        log.warning("a worker ended (%s); what it had is done again", _reason(error))
        self._kill(worker)
        self._workers.remove(worker)
        for ref in [ref for ref, (of, _) in self._waiting.items() if of is worker]:
            del self._waiting[ref]
        for lost in worker.jobs:
            jobs.fail(lost)
        if job is None:
            self._ended_at_start += 1
        else:
            self._ended_in_a_row += 1
        if self._ended_at_start > STARTS + self.size:
            kind = TemporaryError if self._was_open else UsageError
            raise kind(f"--engine ray: workers end as they start: {_reason(error)}")
        if self._ended_in_a_row > 10 * STRIKES + STRIKES * self.size:
            raise TemporaryError(
                f"--engine ray: {self._ended_in_a_row} workers ended one after another and none "
                f"finished a chunk: {_reason(error)}"
            )
        self._start()

    @staticmethod
    def _kill(worker: Worker) -> None:
        with suppress(RayError, ValueError):
            ray.kill(worker.actor)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Restore the handlers of signals that Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _everywhere(model: str) -> str:
    """A model by a name that does not depend on the current folder."""
    if model in shipped() or not Path(model).exists():
        return model
    return str(Path(model).absolute())


def _sent(chunk: Chunk) -> Chunk:
    """A chunk as it travels: without digests, its files by names that hold in every folder."""
    here = Path.cwd()
    images = [
        ref
        if ref.path.startswith("/") or ref.holder is not None
        else replace(ref, path=f"{here}/{ref.path}")
        for ref in chunk.images
    ]
    return Chunk(images, chunk.extra)


def _reason(error: BaseException) -> str:
    """What an error of Ray says of the cause: the first sentence that is neither head nor label."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines[1:] if not _LABEL.match(line)] or lines
    return causes[0].split(". ")[0].rstrip(".") if causes else type(error).__name__
