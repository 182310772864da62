"""Faces whose composition is asked for, and faces that are labeled: counted for corrections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl

from faceaudit.audit.metrics import Values, ratio
from faceaudit.audit.quantify import Codes
from faceaudit.audit.results import Subgroup
from faceaudit.audit.subgroups import Feature, unit_feature
from faceaudit.audit.tally import BLOCKS, CellCoder, CellCounts, Tally, block_of, cut
from faceaudit.audit.tally.cells import Counter
from faceaudit.schema import Task
from faceaudit.tables import PredictionTable, score_columns

Source = Literal["sample", "labels", "bundle"]
CONFIDENCE_BINS = 5
EM_FACES = 20_000
"""The scores of so many faces of a larger set are used."""
FEW_IN_STRATUM = 3
"""Strata with fewer labeled faces than this are taken together with their neighbor."""
BATCH_ROWS = 131_072
UNIT, BY = "_unit", "_by "
"""Columns of labeled faces: whose they are, and values of features (with the feature's name)."""


@dataclass(frozen=True)
class LabelledFaces:
    """Labeled faces of one task, with what the model made of them; n faces.

    ``cell`` is the face's place among ``shape``: annotated class, predicted class and bin of
    confidence. ``weight`` is how many faces it stands for, ``stratum`` what it was drawn from and
    ``unit`` the block of its unit, None where faces are independent; ``times`` says how many such
    faces there are.
    """

    cell: Codes  # (n,)
    weight: Values  # (n,)
    stratum: Codes  # (n,), from 0
    shape: tuple[int, int, int]  # K, K, bins of confidence
    times: Values  # (n,)
    unit: Codes | None = None  # (n,): block
    groups: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    """Feature -> its value for every face, where it is known."""

    @classmethod
    def of_counts(cls, counts: Values) -> LabelledFaces:
        """Faces of which only counts (K, K, B) are known."""
        cell = np.flatnonzero(counts)
        ones, zeros = np.ones(len(cell)), np.zeros(len(cell), np.int64)
        size, _, bins = counts.shape
        return cls(cell, ones, zeros, (size, size, bins), counts.ravel()[cell])

    @property
    def true(self) -> Codes:
        """Annotated class, (n,)."""
        return np.asarray(self.cell // (self.shape[1] * self.shape[2]))

    @property
    def pred(self) -> Codes:
        """Predicted class, (n,)."""
        return np.asarray(self.cell // self.shape[2] % self.shape[1])

    @cached_property
    def joint(self) -> Values:
        """Faces that they stand for by annotated class, predicted class and bin, (K, K, B)."""
        size = int(np.prod(self.shape))
        totals = np.bincount(self.cell, self.weight * self.times, size).astype(np.float64)
        return np.asarray(totals.reshape(self.shape))

    def among(self, subgroup: Subgroup) -> Values:
        """Which faces belong to a subgroup, (n,): 1 or 0."""
        return _among(self.groups, len(self.cell), subgroup)


@dataclass(frozen=True)
class UnseenFaces:
    """Drawn faces of strata of which no face is labeled, so that none stands for them; m faces."""

    pred: Codes = field(default_factory=lambda: np.zeros(0, np.int64))  # (m,)
    weight: Values = field(default_factory=lambda: np.zeros(0))  # (m,)
    groups: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    """As of ``LabelledFaces``."""

    def by_class(self, size: int, subgroup: Subgroup) -> Values:
        """How many faces of a subgroup they stand for, by predicted class, (K,)."""
        weight = self.weight * _among(self.groups, len(self.pred), subgroup)
        return np.bincount(self.pred, weight, size).astype(np.float64)


def _among(groups: Mapping[str, Sequence[str | None]], size: int, subgroup: Subgroup) -> Values:
    """Which of the faces with these values belong to a subgroup: 1 or 0."""
    found = np.ones(size, bool)
    for name, value in subgroup.items():
        found &= np.array([one == value for one in groups[name]], bool)
    return found.astype(np.float64)


@dataclass(frozen=True)
class Calibration:
    """Faces of one task that are annotated and predicted: how the model confuses its classes."""

    task: Task
    source: Source
    where: str
    faces: LabelledFaces
    edges: Values  # (B - 1,): upper edges of the bins of confidence but the last
    scores: Values | None = None  # (n, K); None where those of single faces are not known
    unlabelled: int = 0
    """How many faces were drawn that have no label."""
    unseen: UnseenFaces = field(default_factory=UnseenFaces)
    merged: str = ""
    """How finer classes of the labels were merged, in one line."""

    @property
    def unseen_share(self) -> float:
        """What share of all faces the strata without a label stand for."""
        unseen = float(self.unseen.weight.sum())
        return unseen / (unseen + float(self.joint.sum())) if unseen else 0.0

    @property
    def labelled(self) -> int:
        """How many faces are labeled."""
        return int(self.faces.times.sum())

    @property
    def joint(self) -> Values:
        """As ``LabelledFaces.joint``."""
        return self.faces.joint


@dataclass(frozen=True)
class FaceSet:
    """The scored faces whose composition is asked for."""

    blocks: Values  # (U, K, B): faces by block of units, class and confidence; U is 1 without units
    scores: Values | None = None  # (N, K), of at most ``EM_FACES``
    unit: Codes | None = None  # (N,): block of each

    @cached_property
    def counts(self) -> Values:
        """Faces by class and confidence, (K, B)."""
        return np.asarray(self.blocks.sum(axis=0))

    @property
    def faces(self) -> int:
        """How many there are."""
        return int(self.counts.sum())

    @property
    def shares(self) -> Values:
        """Shares of the classes, (K,)."""
        return ratio(self.counts.sum(axis=1), self.counts.sum())


@dataclass(frozen=True)
class FaceSets:
    """The faces of a table by subgroup."""

    counted: Tally | CellCoder
    counts: CellCounts  # cells, blocks, K, B
    features: tuple[str, ...]

    def whole(self) -> FaceSet:
        """All faces."""
        return FaceSet(cut(self.counted, ()).blocks(self.counts, 0).astype(np.float64))

    def by_subgroup(self, by: Sequence[str]) -> list[tuple[Subgroup, FaceSet]]:
        """The faces of every subgroup of a grouping."""
        cells = cut(self.counted, by)
        return [
            (subgroup, FaceSet(cells.blocks(self.counts, index).astype(np.float64)))
            for index, subgroup in enumerate(cells.subgroups)
        ]


def calibrate(
    task: Task,
    faces: pl.DataFrame,
    where: str,
    source: Source,
    features: Sequence[str] = (),
) -> Calibration:
    """Calibration from single faces.

    Args:
        task: The task.
        faces: Canonical columns of the task, a row per face; ``weight`` and ``stratum`` (numbers)
            are 1 and 0 where missing, and faces are independent without a column ``UNIT`` (text).
            Faces without annotation or prediction are left out, and those of their stratum stand
            for them, where it has any.
        where: Where the faces come from, for the page.
        source: What the faces are to the set.
        features: What subgroups are formed by, each in a column named ``BY`` and it.
    """
    every = _with_strata(task, faces)
    own, without = _weighted(every.filter("_known")), every.filter(~pl.col("_known"))
    columns = [name for name in score_columns(task) if name in own.columns]
    scores = own.select(columns).to_numpy() if columns else None
    if scores is not None and not np.isfinite(scores).all():
        scores = None
    confidence = np.zeros(own.height) if scores is None else scores.max(axis=1)
    edges = np.zeros(0)
    if scores is not None and len(confidence):
        cuts = np.linspace(0, 1, CONFIDENCE_BINS + 1)[1:-1]
        edges = np.unique(np.quantile(confidence, cuts).round(4))
    size, bins = len(task.classes), len(edges) + 1
    true, pred = (_codes(own[column], task) for column in (task.true_column, task.pred_column))
    labelled = LabelledFaces(
        (true * size + pred) * bins + np.searchsorted(edges, confidence, side="left"),
        own["weight"].cast(pl.Float64).to_numpy(),
        _numbered(own["stratum"]),
        (size, size, bins),
        np.ones(own.height),
        block_of(own[UNIT]) if UNIT in own.columns else None,
        {name: own[BY + name].to_list() for name in features},
    )
    without = without.filter(pl.col(task.pred_column).is_in(task.classes))
    missed = without.filter("_unseen")
    unseen = UnseenFaces(
        _codes(missed[task.pred_column], task),
        missed["weight"].cast(pl.Float64).to_numpy(),
        {name: missed[BY + name].to_list() for name in features},
    )
    return Calibration(task, source, where, labelled, edges, scores, without.height, unseen)


def _codes(labels: pl.Series, task: Task) -> Codes:
    """Classes by number."""
    return np.asarray(labels.cast(pl.Enum(task.classes)).to_physical().cast(pl.Int64))


def _with_strata(task: Task, faces: pl.DataFrame) -> pl.DataFrame:
    """Faces with weights and strata, and whether they, and any of their stratum, have a label."""
    every = faces.with_columns(
        pl.lit(1.0).alias(name) if name == "weight" else pl.lit(0).alias(name)
        for name in ("weight", "stratum")
        if name not in faces.columns
    )
    known = pl.col(task.true_column).is_in(task.classes) & pl.col(task.pred_column).is_in(
        task.classes
    )
    return every.with_columns(known.fill_null(value=False).alias("_known")).with_columns(
        (~pl.col("_known").any().over("stratum")).alias("_unseen"),
        pl.col("weight").sum().over("stratum").alias("_total"),
    )


def _weighted(own: pl.DataFrame) -> pl.DataFrame:
    """Labeled faces, with weights such that they stand for all of their stratum."""
    # Faces without a label are taken to be like those of their stratum.
    return own.with_columns(
        pl.col("weight") * pl.col("_total") / pl.col("weight").sum().over("stratum")
    )


def _numbered(values: pl.Series) -> Codes:
    """Equal values as equal numbers from 0."""
    return np.asarray(np.unique(values.to_numpy(), return_inverse=True)[1], np.int64)


def merged_strata(stratum: Codes) -> Codes:
    """Strata of which each has a few faces: small ones are joined with the next."""
    sizes = np.bincount(stratum)
    place, new, filled = np.zeros(len(sizes), np.int64), 0, 0
    for old, size in enumerate(sizes):
        place[old] = new
        filled += size
        if filled >= FEW_IN_STRATUM:
            new, filled = new + 1, 0
    if filled and new:  # What is left over belongs to the last one that is complete.
        place[place == new] = new - 1
    return np.asarray(np.unique(place[stratum], return_inverse=True)[1], np.int64)


# --- the set ----------------------------------------------------------------------------------


def read_sets(
    table: PredictionTable | Tally,
    task: Task,
    edges: Values,
    features: Sequence[Feature] = (),
    unit: str | None = None,
    *,
    annotated: bool = False,
) -> FaceSets:
    """The faces of a table by subgroup, block, class and confidence, in one pass.

    Args:
        table: A table, or a tally, which has no confidences.
        task: The task.
        edges: Upper edges of the bins of confidence but the last.
        features: What subgroups are formed by.
        unit: Column whose values name rows that are not independent.
        annotated: Whether annotated classes are counted, not predicted ones.
    """
    names = tuple(feature.name for feature in features)
    if isinstance(table, Tally):
        counts = table.confusion[task.name].without(1) if annotated else table.predicted[task.name]
        return FaceSets(table, CellCounts(counts.codes, counts.values, (*counts.shape, 1)), names)
    coder = CellCoder.of(table, features)
    scored = task.name in table.scored and not annotated
    bins, blocks = len(edges) + 1 if scored else 1, BLOCKS if unit else 1
    counter = Counter((len(coder.cells), blocks, len(task.classes), bins))
    column = task.true_column if annotated else task.pred_column
    number = pl.col(column).cast(pl.Enum(task.classes), strict=False).to_physical()
    known = pl.col(task.pred_column).is_not_null()
    top = pl.max_horizontal(score_columns(task)) if scored else pl.lit(0.0)
    rows = (
        table.frame.filter(known)
        .select(
            *coder.feature_codes(table.frame),
            number.cast(pl.Int64).alias("class"),
            top.fill_null(0.0).alias("top"),
            *([unit_feature(table, unit).values(table.frame).alias(UNIT)] if unit else []),
        )
        .filter(pl.col("class").is_not_null())
    )
    for batch in rows.collect_batches(chunk_size=BATCH_ROWS, maintain_order=False):
        place = coder.cell_numbers(batch) * blocks
        place += block_of(batch[UNIT]) if unit else 0
        place = place * len(task.classes) + batch["class"].to_numpy()
        confidence = np.searchsorted(edges[: bins - 1], batch["top"].to_numpy(), side="left")
        counter.add(place * bins + confidence)
    return FaceSets(coder, counter.counts(), names)


def read_set(
    table: PredictionTable | Tally, task: Task, edges: Values, unit: str | None = None
) -> FaceSet:
    """All faces of a table, with their scores where it has them (``read_sets``)."""
    return with_scores(read_sets(table, task, edges, unit=unit).whole(), table, task, unit)


def with_scores(
    faces: FaceSet, table: PredictionTable | Tally, task: Task, unit: str | None
) -> FaceSet:
    """The same faces with their scores, where the table has them; of a large set, of some."""
    if isinstance(table, Tally) or task.name not in table.scored:
        return faces
    columns = score_columns(task)
    stride = max(faces.faces // EM_FACES, 1)
    given = [unit_feature(table, unit).values(table.frame).alias(UNIT)] if unit else []
    frame = table.frame.filter(pl.col(task.pred_column).is_not_null()).select(*columns, *given)
    some = frame.drop_nulls(columns).gather_every(stride).collect()
    scores = some.select(columns).to_numpy()
    return FaceSet(faces.blocks, scores, block_of(some[UNIT]) if unit else None)
