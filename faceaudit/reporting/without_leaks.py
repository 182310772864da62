"""A table without the images that are in several sets, and what these had changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from faceaudit.audit.intervals import difference_interval
from faceaudit.audit.results import Audit, Estimate, LeakEffect, LeaksLeftOut
from faceaudit.audit.run import audit
from faceaudit.audit.tally import Tally
from faceaudit.errors import InputError, SchemaError, UsageError
from faceaudit.leakage.sets import SHA256, hashes
from faceaudit.reporting.source import Source
from faceaudit.schema import AGE
from faceaudit.storage import local_copy, sha256_of_file
from faceaudit.tables import IMAGE, PredictionTable
from faceaudit.tables.part import rows_where

HASHES = ("first_sha256", "second_sha256", "first_file_sha256", "second_file_sha256")
"""Of images; and of crops, whose images the first two are of."""
NEEDED = ("first", "second", *HASHES, "leak")
NO_LEAKED = "no row is leaked"


@dataclass(frozen=True)
class Divided:
    """A source without leaked rows, and the tables that are compared with it."""

    source: Source
    every: PredictionTable
    leaked: PredictionTable | None
    """None where no row is leaked."""
    path: Path
    matched_by: str
    pairs: int

    def facts(self, effects: Sequence[LeakEffect] = ()) -> LeaksLeftOut:
        """What was left out, and what it had changed where that was looked for."""
        return LeaksLeftOut(
            path=str(self.path),
            sha256=sha256_of_file(self.path),
            matched_by=self.matched_by,
            pairs=self.pairs,
            rows=self.leaked.rows if self.leaked else 0,
            images=self.leaked.images if self.leaked else 0,
            of_rows=self.every.rows,
            effects=tuple(effects),
        )


def leave_out(source: Source, path: Path) -> Divided:
    """The source without the rows whose image is in several of the sets that were searched.

    Rows are matched by the hash of their image's bytes; in a table without hashes, by its name.

    Args:
        source: A table of predictions.
        path: The table that ``faceaudit leaks`` wrote.

    Raises:
        UsageError: If the source is a tally.
        SchemaError: If the file is no such table.
        InputError: If it cannot be read, or no row is left.
    """
    table = source.table
    if isinstance(table, Tally):
        raise UsageError("--without-leaks: a tally has no rows to leave out; give the table")
    pairs = _read(path).filter(pl.col("leak"))
    hashed = SHA256 in table.features and _any_hash(table)
    if not hashed and not table.named:
        raise SchemaError(
            f"{table.path}: has neither sha256 nor image, by which leaked images are known; "
            "write one of them"
        )
    column, ends = (SHA256, HASHES) if hashed else (IMAGE, ("first", "second"))
    values = pl.concat([pairs[end].rename(column) for end in ends]).drop_nulls().unique()
    known = hashes(SHA256) if hashed else pl.col(IMAGE)
    is_leaked = known.is_in(values.implode()).fill_null(value=False)
    kept, leaked = rows_where(table, ~is_leaked), rows_where(table, is_leaked)
    if not kept.rows:
        raise InputError(f"{table.path}: every row is leaked by {path}; nothing is left to audit")
    return Divided(
        source=replace(source, table=kept),
        every=table,
        leaked=leaked if leaked.rows else None,
        path=path,
        matched_by=column,
        pairs=pairs.height,
    )


def _read(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; write it with `faceaudit leaks`")
    try:
        if path.suffix.lower() == ".csv":
            table = pl.read_csv(
                local_copy(path),
                infer_schema_length=None,
                schema_overrides=dict.fromkeys(("first", "second"), pl.String),
                glob=False,
            )
        else:
            table = pl.read_parquet(local_copy(path), glob=False)
        missing = [name for name in NEEDED if name not in table.columns]
        if missing and set(missing) <= {*HASHES[2:]}:
            raise SchemaError(
                f"{path}: an earlier version of `faceaudit leaks` wrote it, without "
                f"{' and '.join(missing)}; run `faceaudit leaks` again"
            )
        if missing:
            raise SchemaError(
                f"{path}: is not what `faceaudit leaks` wrote: no column {', '.join(missing)}"
            )
        names = pl.col("first", "second").cast(pl.String)
        return table.select(names, *map(hashes, HASHES), pl.col("leak").cast(pl.Boolean))
    except pl.exceptions.PolarsError as error:
        reason = str(error).split("\n", 1)[0]
        raise InputError(f"{path}: cannot be read ({reason}); run `faceaudit leaks`") from error


def _any_hash(table: PredictionTable) -> bool:
    found = table.frame.select(hashes(SHA256).is_not_null().any()).collect(engine="streaming")
    return bool(found.item())


def with_effects(
    found: Audit,
    divided: Divided,
    *,
    unit: str | None,
    confidence: float,
    replicates: int,
    seed: int,
) -> Audit:
    """The audit of the rows that are left, with what the leaked rows had changed."""
    both = [
        None
        if table is None
        else audit(
            table,
            by=(),
            unit=unit,
            confidence=confidence,
            replicates=replicates,
            seed=seed,
            verify="never",
        )
        for table in (divided.every, divided.leaked)
    ]
    every, leaked = both
    assert every is not None  # a table has rows
    names = [(task.name, "accuracy") for task in found.tasks] + [(AGE, "mae")]
    effects = [
        effect
        for task, metric in names
        if (effect := _effect(task, metric, every, leaked, found)) is not None
    ]
    facts = divided.facts(effects)
    return replace(found, leaks=facts, notes=(*found.notes, note_of(facts)))


def note_of(facts: LeaksLeftOut) -> str:
    """What was left out, in words."""
    if not facts.pairs:
        return f"{facts.path} found no picture in several sets: nothing was left out."
    if not facts.rows:
        return (
            f"No row of the table is among the leaked images of {facts.path} (compared by "
            f"{facts.matched_by}): nothing was left out. Check that it was made from these images."
        )
    by_name = (
        " They were matched by the names of images, because the table has no hashes: an image of "
        "another set that has the same name would be left out, too."
        if facts.matched_by == IMAGE
        else ""
    )
    return (
        f"{facts.rows:,} of {facts.of_rows:,} rows were left out: {facts.path} found their "
        f"picture in several sets.{by_name}"
    )


def is_doubtful(facts: LeaksLeftOut) -> bool:
    """Whether leaks were found, and none of them in the table that they should be of."""
    return bool(facts.pairs and not facts.rows)


def _effect(
    task: str, metric: str, every: Audit, leaked: Audit | None, without: Audit
) -> LeakEffect | None:
    estimates = [_overall(one, task, metric) if one else None for one in (every, leaked, without)]
    if estimates[0] is None:
        return None
    undefined = Estimate(None, None, None, 0, NO_LEAKED)
    all_rows, of_leaked, rest = (one or undefined for one in estimates)
    return LeakEffect(
        task, metric, all_rows, of_leaked, rest, _difference(all_rows, of_leaked, rest)
    )


def _overall(found: Audit, task: str, metric: str) -> Estimate | None:
    return next(
        (
            value.estimate
            for value in found.metrics
            if (value.task, value.metric, value.label) == (task, metric, None)
            and not value.subgroup
        ),
        None,
    )


def _difference(every: Estimate, leaked: Estimate, rest: Estimate) -> Estimate:
    """All rows minus those that are left.

    A mean over all rows is the mean of the leaked and of the other rows by their numbers; so the
    difference is the leaked rows' share of the distance between the two, which are independent.
    """
    if every.value is None or leaked.value is None or rest.value is None:
        reason = every.reason or leaked.reason or rest.reason
        return Estimate(None, None, None, leaked.n, reason or "a figure is not defined")
    bounds = [
        (one.value, one.low, one.high)
        for one in (leaked, rest)
        if one.value is not None and one.low is not None and one.high is not None
    ]
    value = every.value - rest.value
    if len(bounds) < 2:
        return Estimate(value, None, None, leaked.n, leaked.reason or rest.reason)
    low, high = map(float, difference_interval(bounds[0], bounds[1]))
    share = leaked.n / every.n
    return Estimate(value, share * low, share * high, leaked.n)
