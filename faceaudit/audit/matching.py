"""Rows of two tables that show the same face: by the bytes of the image, else by its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from faceaudit.audit.tally import order_of_faces
from faceaudit.tables import FACE, IMAGE, PredictionTable, face_number

SHA256 = "sha256"
ROW, FIRST, SECOND = "row", "first", "second"
COUNTED = "counted"
STAGES: tuple[tuple[str, ...], ...] = (
    (SHA256, IMAGE, FACE),
    (SHA256, FACE),
    (IMAGE, FACE),
)
"""Columns that must agree, tried one after the other on the rows that are left."""
FACES_TELL = "a column face with numbers from 0 tells several faces of one image apart"


@dataclass(frozen=True)
class Matching:
    """How many rows of two tables belong together, and why others do not."""

    rows_first: int
    rows_second: int
    matched: int
    by_bytes: int
    """Of the matched rows, those of images with the same SHA-256; the others have the same name."""
    only_first: int
    only_second: int
    ambiguous_first: int
    """Rows whose partner is not clear: the image or its bytes occur more than once."""
    ambiguous_second: int
    other_bytes: int
    """Images of the same name in both tables whose bytes differ: not taken for the same."""

    def __add__(self, other: Matching) -> Matching:
        return Matching(
            *(mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True))
        )

    @property
    def counts(self) -> tuple[int, ...]:
        """All numbers, in order."""
        return tuple(vars(self).values())

    @property
    def shared(self) -> float:
        """Matched rows as a share of the smaller table."""
        return self.matched / max(min(self.rows_first, self.rows_second), 1)

    @property
    def unclear(self) -> float:
        """Rows whose partner is not clear, as a share of the smaller table; of the fewer ones."""
        fewer = min(self.ambiguous_first, self.ambiguous_second)
        return fewer / max(min(self.rows_first, self.rows_second), 1)


def match_rows(first: PredictionTable, second: PredictionTable) -> tuple[pl.DataFrame, Matching]:
    """Row numbers that belong together, as columns ``first`` and ``second``, and the counts.

    Two rows belong together if both tables know the SHA-256 of the image and it agrees, or one
    does not know it and the names agree; and if the face has the same number. What occurs more
    than once is ambiguous and left out. Costs a few sorted joins: linear in the rows but for
    a logarithm.
    """
    left, right = _keys(first), _keys(second)
    rows = left.height, right.height
    found, by_bytes, ambiguous = [], 0, [0, 0]
    for stage in STAGES:
        pairs, unclear = _paired(left, right, stage)
        found.append(pairs)
        by_bytes += pairs.height if SHA256 in stage else 0
        for index, one in enumerate(unclear):
            ambiguous[index] += one.len()
        left = _without(left, [pairs[FIRST], unclear[0]])
        right = _without(right, [pairs[SECOND], unclear[1]])
    matched = pl.concat(found).sort(FIRST)
    other = left.filter(pl.col(SHA256).is_not_null()).join(
        right.filter(pl.col(SHA256).is_not_null()), on=IMAGE, how="semi"
    )
    return matched, Matching(
        rows_first=rows[0],
        rows_second=rows[1],
        matched=matched.height,
        by_bytes=by_bytes,
        only_first=left.height,
        only_second=right.height,
        ambiguous_first=ambiguous[0],
        ambiguous_second=ambiguous[1],
        other_bytes=other[IMAGE].n_unique(),
    )


def images_once(
    table: PredictionTable, rows: pl.Series, scored: Sequence[pl.Series], known: pl.DataFrame
) -> pl.DataFrame:
    """Which matched rows stand for their images, so that each is counted once, as in an audit.

    Args:
        table: The first table.
        rows: Numbers of its rows that were matched.
        scored: Whether these rows are scored in the first and in the second table.
        known: Whether each annotation that forms subgroups is known.

    Returns:
        Of each matched row, as columns ``first`` and ``second``, whether that table scored its
        image, and as ``counted`` whether the image is counted in this row.
    """
    found = pl.DataFrame(dict(zip((FIRST, SECOND), scored, strict=True)))
    if table.images == table.rows:
        return found.with_columns(pl.lit(value=True).alias(COUNTED))
    faces = table.frame.select(pl.col(IMAGE).hash(), face_number(table.frame).alias(FACE))
    named = faces.collect(engine="streaming")[rows].with_row_index(ROW)
    order = order_of_faces(pl.col(ROW), pl.col(FACE), map(pl.lit, known))
    return named.with_columns(order.alias(ROW), *found).select(
        pl.col(FIRST, SECOND).any().over(IMAGE),
        (pl.col(ROW) == pl.col(ROW).min().over(IMAGE)).alias(COUNTED),
    )


def _keys(table: PredictionTable) -> pl.DataFrame:
    """Row number, and hashes of what a row is known by; text of millions fills the memory."""
    names = table.frame.collect_schema()
    sha = pl.col(SHA256).cast(pl.String) if SHA256 in names else pl.lit(None, pl.String)
    return (
        table.frame.select(
            pl.col(IMAGE).hash(),
            pl.when(sha.is_not_null()).then(sha.hash()).alias(SHA256),
            # An image that failed has no face, and is compared as its first.
            face_number(table.frame).alias(FACE),
        )
        .with_row_index(ROW)
        .collect(engine="streaming")
    )


def _paired(
    left: pl.DataFrame, right: pl.DataFrame, stage: Sequence[str]
) -> tuple[pl.DataFrame, tuple[pl.Series, pl.Series]]:
    """Pairs of rows that agree and are the only ones of their kind, and the ambiguous rows."""
    if SHA256 in stage:
        left, right = (one.filter(pl.col(SHA256).is_not_null()) for one in (left, right))
    else:
        left, right = _unless_both_have_bytes(left, right)
    on = list(stage)
    once = [one.filter(pl.len().over(on) == 1) for one in (left, right)]
    pairs = (
        once[0]
        .join(once[1], on=on, suffix="_second")
        .select(pl.col(ROW).alias(FIRST), pl.col(f"{ROW}_second").alias(SECOND))
    )
    unclear = [
        one.join(other, on=on, how="semi")[ROW] for one, other in ((left, right), (right, left))
    ]
    return pairs, (
        unclear[0].filter(~unclear[0].is_in(pairs[FIRST].implode())),
        unclear[1].filter(~unclear[1].is_in(pairs[SECOND].implode())),
    )


def _unless_both_have_bytes(
    left: pl.DataFrame, right: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows that may be matched by name: those of which one table does not know the bytes."""
    known = [
        one.group_by(IMAGE).agg(pl.col(SHA256).is_not_null().all().alias("_known"))
        for one in (left, right)
    ]
    both = known[0].join(known[1], on=IMAGE).filter(pl.col("_known") & pl.col("_known_right"))
    return left.join(both, on=IMAGE, how="anti"), right.join(both, on=IMAGE, how="anti")


def _without(rows: pl.DataFrame, taken: Sequence[pl.Series]) -> pl.DataFrame:
    return rows.join(pl.concat(taken).alias(ROW).to_frame(), on=ROW, how="anti")
