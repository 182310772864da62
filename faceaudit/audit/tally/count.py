"""Counting a table in batches of rows, whatever its size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
from numpy.typing import NDArray

from faceaudit.audit.subgroups import Feature, unit_feature
from faceaudit.audit.tally.bins import (
    AGE_YEARS,
    BLOCKS,
    CALIBRATION_BINS,
    COARSE,
    COARSE_BINS,
    CONFIDENCE_BINS,
    ERROR_BINS,
    SCORE_BINS,
    block_of,
    calibration_bin,
    confidence_bin,
    error_bin,
    score_bin,
    year_bin,
)
from faceaudit.audit.tally.cells import CellCounts, Codes, Counter, side_by_side, stacked
from faceaudit.audit.tally.rows import (
    ROWS,
    Batch,
    CellCoder,
    batches_of,
    coded_rows,
    confidence_column,
    order_of_faces,
)
from faceaudit.audit.tally.tally import (
    KINDS,
    LOSSES,
    POWERS,
    TableFacts,
    Tally,
    sorted_statuses,
)
from faceaudit.schema import AGE, AGE_GROUP, AGE_PRED, AGE_TRUE, OK, Task
from faceaudit.tables import IMAGE, STATUS, PredictionTable, face_number, readable, score_columns

Values = NDArray[np.float64]
SMALLEST = float(np.finfo(np.float64).eps)
"""Probabilities are raised to this before their logarithm, as scikit-learn's log_loss does."""
BLOCK, CELL = "_block", "_cell"
ROW = "row "
"""With a blank, which columns of a table have not around their names."""
NO_NAME = ""
"""Task of what is counted of images."""


def tally(
    table: PredictionTable, features: Sequence[Feature] = (), *, unit: str | None = None
) -> Tally:
    """Count a table, in batches of rows.

    Args:
        table: The table of predictions.
        features: Sensitive features that subgroups will be formed by.
        unit: A column; rows with one value of it (a person, a video) are not independent. Numbers
            are then kept apart for ``BLOCKS`` shares of its values.

    Raises:
        UnknownNameError: If the unit is no column.
    """
    owner = None if unit is None else unit_feature(table, unit)
    coder = CellCoder.of(table, features)
    shape = (len(coder.cells), BLOCKS if owner else 1)
    counters: list[_Classes | _Years] = [_Classes(table, task, shape) for task in table.tasks]
    if AGE in table.annotated:
        counters.append(_Years(table, shape))
    images = _Images() if table.images == table.rows else None
    # Counting releases the interpreter's lock for the most part: tasks are counted side by side.
    with readable(table.path), ThreadPoolExecutor(len(counters) or 1) as pool:
        for rows in batches_of(table, coded_rows(table, coder, owner)):
            batch = Batch.of(rows, coder)
            waiting = [pool.submit(counter.add, batch) for counter in counters]
            if images is not None:
                images.add(batch)
            for done in waiting:
                done.result()
        counted = _merged_images(table, coder, owner) if images is None else images.counted()
    statuses, by_status = _by_status(counted, shape)
    numbers: dict[str, dict[str, CellCounts]] = {kind: {} for kind in KINDS}
    for counter in counters:
        for kind, counts in counter.numbers().items():
            numbers[kind][counter.name] = counts
    for kind, counts in by_status.items():
        numbers[kind][NO_NAME] = counts
    return Tally(
        tasks=table.tasks,
        features=coder.features,
        cells=coder.cells,
        statuses=statuses,
        unit=unit,
        tables=(facts_of(table),),
        numbers=numbers,
    )


def facts_of(table: PredictionTable) -> TableFacts:
    """What a tally tells of its table."""
    return TableFacts(
        str(table.path), table.sha256, table.rows, table.images, table.notes, table.metadata
    )


# --- tasks ------------------------------------------------------------------------------------


class _Classes:
    """Counts one task: its classes and, where it is scored, its scores."""

    def __init__(self, table: PredictionTable, task: Task, shape: tuple[int, int]) -> None:
        size = len(task.classes)
        self.name = task.name
        self.task = task
        self.predicted = Counter((*shape, size))
        annotated, scored = task.name in table.annotated, task.name in table.scored
        self.confidence = Counter((*shape, CONFIDENCE_BINS)) if scored else None
        self.confusion = Counter((*shape, size, size)) if annotated else None
        self.missed = Counter((*shape, size)) if annotated else None
        self.scores = _Scores(task, shape) if annotated and scored else None

    def add(self, batch: Batch) -> None:
        pred, size = batch.column(self.task.pred_column), len(self.task.classes)
        known = pred >= 0
        self.predicted.add(batch.places(known) * size + pred[known], batch.weights(known))
        if self.confidence is not None:
            confidence = batch.rows[confidence_column(self.task)]
            given = confidence.is_not_null().to_numpy()
            bins = confidence_bin(confidence.to_numpy()[given])
            self.confidence.add(batch.places(given) * CONFIDENCE_BINS + bins)
        if self.confusion is None or self.missed is None:
            return
        true = batch.column(self.task.true_column)
        missed = ~known & (true >= 0)
        self.missed.add(batch.places(missed) * size + true[missed], batch.weights(missed))
        both = known & (true >= 0)
        places = (batch.places(both) * size + true[both]) * size + pred[both]
        self.confusion.add(places, batch.weights(both))
        if self.scores is not None:
            self.scores.add(batch, true)

    def numbers(self) -> Mapping[str, CellCounts]:
        found = {"predicted": self.predicted.counts()}
        if self.confidence is not None:
            found["confidence"] = self.confidence.counts()
        if self.confusion is not None and self.missed is not None:
            found |= {"confusion": self.confusion.counts(), "missed": self.missed.counts()}
        return found if self.scores is None else {**found, **self.scores.numbers()}


class _Scores:
    """Counts the scores of one task: histograms, losses and calibration."""

    def __init__(self, task: Task, shape: tuple[int, int]) -> None:
        self.columns = score_columns(task)
        classes = range(len(task.classes))
        cells, blocks = shape
        self.bins = [Counter((cells, 1, 2, SCORE_BINS)) for _ in classes]
        self.coarse = [Counter((*shape, 2, COARSE_BINS)) for _ in classes if blocks > 1]
        self.losses = [Counter(shape, np.float64) for _ in range(LOSSES)]
        self.calibration = [Counter((*shape, CALIBRATION_BINS), np.float64) for _ in range(3)]

    def add(self, batch: Batch, true: Codes) -> None:
        kept = (true >= 0) & batch.rows[self.columns[0]].is_not_null().to_numpy()
        scores = batch.rows[self.columns].to_numpy(order="fortran")
        if not kept.all():
            scores, true = np.asfortranarray(scores[kept]), true[kept]
        self._add_bins(batch, kept, scores, true)
        places = batch.places(kept)
        self._add_losses(places, scores, true)
        self._add_calibration(places, scores, true)

    def _add_bins(self, batch: Batch, kept: NDArray[np.bool_], scores: Values, true: Codes) -> None:
        cells, places = batch.cells[kept], batch.places(kept)
        for k, counter in enumerate(self.bins):
            own, bins = true == k, score_bin(scores[:, k])
            counter.add((cells * 2 + own) * SCORE_BINS + bins)
            if self.coarse:
                self.coarse[k].add((places * 2 + own) * COARSE_BINS + bins // COARSE)

    def _add_losses(self, places: Codes, scores: Values, true: Codes) -> None:
        own = scores[np.arange(len(true)), true]
        log_loss = -np.log(np.clip(own, SMALLEST, 1))
        # Half the squared distance to the annotated class: between 0 and 1, whatever the classes.
        brier = (np.square(scores).sum(axis=1) - np.square(own) + np.square(1 - own)) / 2
        parts = (None, log_loss, np.square(log_loss), brier, np.square(brier))
        for counter, part in zip(self.losses, parts, strict=True):
            counter.add(places, part)

    def _add_calibration(self, places: Codes, scores: Values, true: Codes) -> None:
        confidence = scores.max(axis=1)
        right = (scores.argmax(axis=1) == true).astype(np.float64)
        codes = places * CALIBRATION_BINS + calibration_bin(confidence)
        for counter, part in zip(self.calibration, (None, confidence, right), strict=True):
            counter.add(codes, part)

    def numbers(self) -> Mapping[str, CellCounts]:
        found = {
            "scores": stacked([counter.counts() for counter in self.bins]),
            "losses": side_by_side([counter.counts() for counter in self.losses]),
            "calibration": side_by_side([counter.counts() for counter in self.calibration]),
        }
        if self.coarse:
            found["coarse_scores"] = stacked([counter.counts() for counter in self.coarse])
        return found


class _Years:
    """Counts errors in years of faces with both ages."""

    name = AGE

    def __init__(self, table: PredictionTable, shape: tuple[int, int]) -> None:
        self.task = next((task for task in table.tasks if task.name == AGE_GROUP), None)
        self.groups = len(self.task.classes) if self.task else 0
        self.errors = Counter((*shape, self.groups + 1, ERROR_BINS))
        self.sums = [Counter((*shape, self.groups + 1), np.float64) for _ in range(POWERS)]
        self.ages = Counter((*shape, AGE_YEARS, AGE_YEARS))
        self.missed = Counter((*shape, 1))

    def add(self, batch: Batch) -> None:
        true, pred = batch.rows[AGE_TRUE], batch.rows[AGE_PRED]
        kept = (true.is_not_null() & pred.is_not_null()).to_numpy()
        self.missed.add(batch.places((true.is_not_null() & pred.is_null()).to_numpy()))
        years, guesses = true.to_numpy()[kept], pred.to_numpy()[kept]
        error, places = guesses - years, batch.places(kept)
        groups = places * (self.groups + 1) + self._group(batch)[kept]
        self.errors.add(groups * ERROR_BINS + error_bin(error))
        powers = (error, np.abs(error), np.square(error), np.square(np.square(error)))
        for counter, power in zip(self.sums, powers, strict=True):
            counter.add(groups, power)
        self.ages.add((places * AGE_YEARS + year_bin(years)) * AGE_YEARS + year_bin(guesses))

    def _group(self, batch: Batch) -> Codes:
        """The annotated age group of each row; the last is "not known"."""
        if self.task is None or self.task.true_column not in batch.rows.columns:
            return np.full(batch.rows.height, self.groups)
        group = batch.column(self.task.true_column)
        return np.asarray(np.where(group < 0, self.groups, group))

    def numbers(self) -> Mapping[str, CellCounts]:
        return {
            "errors": self.errors.counts(),
            "error_sums": side_by_side([counter.counts() for counter in self.sums]),
            "ages": self.ages.counts(),
            "missed": self.missed.counts(),
        }


# --- images -----------------------------------------------------------------------------------


class _Images:
    """Counts images by cell and status, where every row is an image of its own."""

    keys = (STATUS, CELL, BLOCK)

    def __init__(self) -> None:
        self.found: list[pl.DataFrame] = []

    def add(self, batch: Batch) -> None:
        blocks = 0 if batch.blocks is None else pl.Series(batch.blocks)
        placed = {CELL: pl.Series(batch.cells), BLOCK: blocks}
        rows = batch.rows.with_columns(**placed).group_by(self.keys)
        grouped = ROWS in batch.rows.columns
        self.found.append(
            rows.agg(pl.col(ROWS).sum().alias("_images")) if grouped else rows.len("_images")
        )

    def counted(self) -> pl.DataFrame:
        every = pl.concat(self.found).group_by(self.keys).sum()
        return every.with_columns(pl.lit(0).alias("_several"))


def _merged_images(table: PredictionTable, coder: CellCoder, owner: Feature | None) -> pl.DataFrame:
    """Images by cell, block and status, and how many of them have several faces.

    An image with several rows counts once: as scored if any row is, and in the subgroup and with
    the unit of one face, which ``order_of_faces`` puts first.
    """
    found = table.frame.select(pl.col(STATUS).unique()).collect(engine="streaming")
    order = [OK, *sorted(set(found[STATUS]) - {OK})]
    status = pl.col(STATUS).cast(pl.Enum(order)).to_physical()
    # Hashes and small numbers, because names and texts of millions of images fill the memory.
    rows = table.frame.with_row_index(ROW)
    codes = [code.cast(pl.UInt32) for code in coder.feature_codes(rows)]
    annotations = zip(coder.features, codes, strict=True)
    known = [code > 0 for feature, code in annotations if not feature.predicted]
    units = [owner.values(rows).alias("_unit")] if owner else []
    named = rows.select(
        pl.col(IMAGE).hash(),
        status,
        (status == 0).alias("_faces"),
        order_of_faces(pl.col(ROW), face_number(rows), known).alias(ROW),
        *codes,
        *units,
    )
    of_one_face = [*coder.codes, *(["_unit"] if owner else [])]
    images = named.group_by(IMAGE).agg(
        pl.col(STATUS).min(), pl.col("_faces").sum(), pl.col(of_one_face).min_by(ROW)
    )
    several = (pl.col("_faces") > 1).sum().alias("_several")
    counted = images.group_by(STATUS, *of_one_face).agg(pl.len().alias("_images"), several)
    found = counted.collect(engine="streaming").with_columns(
        pl.col(STATUS).replace_strict(dict(enumerate(order)), return_dtype=pl.String),
    )
    blocks = pl.Series(block_of(found["_unit"])) if owner else 0
    return found.with_columns(**{CELL: pl.Series(coder.cell_numbers(found)), BLOCK: blocks})


def _by_status(
    counted: pl.DataFrame, shape: tuple[int, int]
) -> tuple[tuple[str, ...], dict[str, CellCounts]]:
    """Statuses, and images by cell, block and status and with several faces."""
    statuses = sorted_statuses(set(counted[STATUS]))
    at = np.array([statuses.index(status) for status in counted[STATUS]])
    places = counted[CELL].to_numpy() * shape[1] + counted[BLOCK].to_numpy()
    size = len(statuses)
    images, several = Counter((*shape, size)), Counter((*shape, 1))
    images.add(places * size + at, counted["_images"].to_numpy())
    several.add(places, counted["_several"].to_numpy())
    return statuses, {"images": images.counts(), "several": several.counts()}
