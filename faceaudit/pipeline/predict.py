"""`faceaudit predict`: images to one table. The whole flow is on this screen."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from faceaudit.errors import EXIT_DONE, EXIT_TOO_MANY_FAILURES, TemporaryError, UsageError
from faceaudit.images.find import find_images
from faceaudit.labels.annotations import counted
from faceaudit.models.bundle import DEFAULT_BUNDLE
from faceaudit.models.load import load_model
from faceaudit.ordered import in_background
from faceaudit.pipeline.checks import (
    DEFAULT_BATCH,
    DEFAULT_MAX_PIXELS,
    allowed_failures,
    annotations_of,
    check_count,
    check_output,
    checked,
    choose_outputs,
)
from faceaudit.pipeline.custody import describe
from faceaudit.pipeline.digest import ImageDigest, total
from faceaudit.pipeline.engines import ENGINES, Engine
from faceaudit.pipeline.extra import labels_of, make_schema, warn_of
from faceaudit.pipeline.inputs import Chunk, Inputs
from faceaudit.pipeline.known import compare
from faceaudit.pipeline.plan import Settings
from faceaudit.pipeline.purged import purged_file, read_purged
from faceaudit.pipeline.stopping import Stop, stop_on_signals
from faceaudit.pipeline.target import Target, open_target
from faceaudit.pipeline.witness import Watch
from faceaudit.progress import progress
from faceaudit.schema import AGE_BINS, DEFAULT_AGE_SCHEME, OK, TASK_OPTIONS
from faceaudit.storage import as_path, exclusive, followed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What a run did, and what the table holds."""

    table: Path
    images: int
    """In the table."""
    faces: int
    statuses: Mapping[str, int]
    """Images by status."""
    seconds: float
    labels: str | None
    """The label format that was taken, or None."""
    scored: int = 0
    """Images that this run scored; the others were in the table already."""
    projected_seconds: float | None = None
    """With a limit: how long all images of the source would take, at this run's rate."""
    available: int | None = None
    """With a limit: images that the source has in all."""
    already_complete: bool = False
    """Whether there was nothing to do."""
    stopped: str | None = None
    """The signal that asked the run to end when nothing was left but to finish the table."""
    max_failures: str | int | None = None
    """Images that may fail: a count, or a share such as ``2%``."""

    @property
    def failed(self) -> int:
        """Images without a scored face."""
        return self.images - self.statuses.get(OK, 0)

    @property
    def exit_code(self) -> int:
        """What a scheduler sees: 4 if more images failed than may, else 0."""
        too_many = self.failed > allowed_failures(self.max_failures)(self.images)
        return EXIT_TOO_MANY_FAILURES if too_many else EXIT_DONE


def predict(
    images: str | Path,
    out: str | Path,
    *,
    model: str = DEFAULT_BUNDLE,
    detector: str = "retinaface",
    faces: str = "largest",
    align: str | None = None,
    margin: float | None = None,
    labels: str = "auto",
    provenance: str = "annotated",
    tasks: Sequence[str] = TASK_OPTIONS,
    age_bins: Sequence[int] = AGE_BINS[DEFAULT_AGE_SCHEME],
    limit: int | None = None,
    max_failures: str | int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    runtime: str | None = None,
    engine: str = "local",
    part_rows: int | None = None,
    restart: bool = False,
    quiet: bool = True,
) -> Prediction:
    """Predict age, gender and race of every face in images, into one Parquet table.

    Every image gets at least one row; what became of it stands in ``status``. A run that was
    interrupted is gone on with, and images that the table lacks, or could not read then, are added.

    Args:
        images: A folder, an image, a glob, a list of paths or a tar.
        out: The table to write: ``name.parquet``, which appears when it is complete, or a folder
            of ``part-*.parquet``.
        model: A bundle that ships, a bundle's folder, an ``.onnx`` file with a sidecar, or
            ``package.module:factory``, a function that returns a torch network and its facts.
        detector: A name in ``faces.DETECTORS``.
        faces: A name in ``faces.FACE_POLICIES``.
        align: How crops are aligned; by default as the model was trained.
        margin: Widening of crops; by default as the model was trained.
        labels: ``auto``, ``none``, or a label format with an optional ``:PATH``.
        provenance: Where labels come from: ``annotated``, ``self-reported`` or ``predicted``.
        tasks: What to predict, of ``gender``, ``race`` and ``age``.
        age_bins: Lower bounds of the age groups, in years.
        limit: Take only the first so many images.
        max_failures: Images that may fail, a count or a share such as ``2%``; the table is
            complete whatever fails, and ``Prediction.exit_code`` says whether more did.
        max_pixels: Larger images are not decoded.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto``, ``float32``, ``bfloat16``, ``float16`` (GPU) or ``int8`` (CPU).
        batch_size: Images per chunk of work.
        workers: Threads that each read, detect and infer, by default one per core; with the
            engine ``ray`` processes, by default one per core of the cluster, or per GPU.
        runtime: A name in ``runtimes.RUNTIMES``; by default what fits the device.
        engine: A name in ``engines.ENGINES``.
        part_rows: Rows of each part, where ``out`` is a folder.
        restart: Discard what was made before, be it a table or an unfinished run.
        quiet: Show no progress.

    Raises:
        TemporaryError: If a signal or an outage ended the run; the same command goes on with it.
        FaceauditError: With what was given, where, and what would work.
    """
    begun = time.monotonic()
    allowed_failures(max_failures)
    for option, number in (("limit", limit), ("batch-size", batch_size), ("workers", workers)):
        check_count(option, number)
    out = check_output(followed(as_path(out)), images, part_rows)
    open_engine = ENGINES[checked("engine", engine, ENGINES)]
    bundle = load_model(model)
    outputs, age_bins = choose_outputs(bundle, tasks), tuple(age_bins)
    source = find_images(images)
    chosen = labels_of(source, labels, provenance)
    left_out = annotations_of(set(TASK_OPTIONS).difference(tasks))
    inputs = Inputs(source, chosen.labels, outputs, age_bins, limit, chosen.notes, left_out)
    found = inputs.labels
    total = in_background(source.count)
    settings = Settings(
        model=model,
        tasks=tuple(tasks),
        age_bins=age_bins,
        detector=detector,
        faces=faces,
        align=align,
        margin=margin,
        max_pixels=max_pixels,
        device=device,
        precision=precision,
        runtime=runtime,
        schema=make_schema(outputs, age_bins, inputs.extra),
    )
    with closing(open_engine(settings, bundle, workers)) as crew:
        metadata = describe(bundle, crew.facts, found, outputs, age_bins)
        if bundle.notice:
            log.warning("model %s: %s", bundle.name, bundle.notice)
        with exclusive(out) as still_mine, stop_on_signals() as stop:
            inputs.purged = read_purged(out)
            target = open_target(
                out, settings.schema, metadata, part_rows, restart=restart, still_mine=still_mine
            )
            try:
                work = Work(inputs, target, stop, batch_size)
                already_complete = work.is_done(out)
                if not already_complete:
                    with progress("predict", total, done=work.before, quiet=quiet) as advance:
                        work.score(crew, advance)
                    warn_of(source.notes, inputs.notes())
                    target.finish(inputs.names, inputs.notes(), work.images)
                totals, rate = target.totals(), work.rate
            finally:
                target.tidy()
            if inputs.passed_over:
                log.warning(
                    "%s: purged from it and passed over: %s (%s)",
                    out, counted(inputs.passed_over, "image"), purged_file(out),
                )  # fmt: skip
    available = None if limit is None else source.count()
    return Prediction(
        table=out,
        images=totals.images,
        faces=totals.faces,
        statuses=totals.statuses,
        seconds=time.monotonic() - begun,
        labels=None if found is None else found.format,
        scored=work.kept,
        projected_seconds=available / rate if available and rate else None,
        available=available,
        already_complete=already_complete,
        stopped=stop.name,
        max_failures=max_failures,
    )


class Work:
    """The images that are left to score, and what is kept of them."""

    def __init__(self, inputs: Inputs, target: Target, stop: Stop, batch_size: int | None) -> None:
        self._inputs = inputs
        self._target = target
        self._stop = stop
        self._batch_size = batch_size or DEFAULT_BATCH
        self._under_way: deque[Chunk] = deque()
        self._watch = Watch(inputs)
        self._begun = time.monotonic()
        self.before = len(target.known)
        """Images that the table had."""
        self.kept = 0
        """Images scored so far."""
        self._again: frozenset[str] = frozenset()
        self.images = ImageDigest()
        """Those of the source that the table has."""

    @property
    def rate(self) -> float:
        """Images per second since the work began."""
        return self.kept / (time.monotonic() - self._begun)

    def is_done(self, out: Path) -> bool:
        """Whether the table is finished and has all images of the source, as they are now.

        Raises:
            UsageError: If files or labels changed since they were scored.
        """
        if not self.before:
            return False
        found = compare(self._target.known, self._inputs.listed, self._inputs.columns)
        for what, names in (("images", found.changed_files), ("labels", found.changed_labels)):
            if names:
                raise UsageError(
                    f"{out}: was made with other {what} of {len(names):,} of its images, such as "
                    f"{names[0]}; --restart makes it anew, or give another name"
                )
        if found.gone and self._inputs.limit is None:
            log.info(
                "%s: the rows stay of %s that the source lacks", out, counted(found.gone, "image")
            )
        if found.readable:
            self._score_again(out, found.readable)
        self._target.note(found.verified)
        self.before -= len(self._again)
        self.images = replace(found.same, images=self.before)
        return self._target.complete and not found.new and not self._again

    def _score_again(self, out: Path, images: frozenset[str]) -> None:
        """Have images scored that could not be read before, where their rows can be replaced."""
        many = counted(len(images), "image")
        if self._target.replaces_rows:
            self._again = images
            log.info("%s: %s that could not be read before can be now: scored again", out, many)
        else:
            log.warning(
                "%s: %s that could not be read before can be now, such as %s; in a folder of parts "
                "their rows stay, --restart makes it anew", out, many, min(images),
            )  # fmt: skip

    def score(self, crew: Engine, advance: Callable[[int], None]) -> None:
        """Score the images that the table lacks, and keep their rows.

        Args:
            crew: Who does it.
            advance: Called with how many more images are kept.

        Raises:
            TemporaryError: If a signal ended the run, or the images can be seen no more, such as
                those of a volume that is gone; the rows that were made are kept.
        """
        self._target.rows.reopen()
        with closing(crew.tables(self._chunks())) as tables:
            for table in tables:
                advance(self._keep(table))
        self._target.rows.flush()
        if self._stop.name is not None:
            raise TemporaryError(
                f"{self._stop.name}: the run ended after {self.kept:,} images, which are kept; the "
                "same command goes on from there"
            )

    def _chunks(self) -> Iterator[Chunk]:
        """Chunks of images that the table lacks, until a signal comes."""
        known = self._target.known
        again = self._again
        wanted = None
        if len(known):
            wanted = lambda name: name in again or known.group_of(name) is None  # noqa: E731
        for chunk in self._stop.until(self._inputs.chunks(self._batch_size, wanted)):
            self._under_way.append(chunk)
            yield chunk

    def _keep(self, table: pa.Table) -> int:
        """Keep the rows of the next chunk; how many images it had."""
        chunk = self._under_way.popleft()
        self._watch.check(chunk.images, table)
        digests = chunk.digests
        self._target.rows.add(table, digests)
        self.kept += len(digests)
        self.images += total(digests)
        return len(digests)
