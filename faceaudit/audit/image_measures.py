"""Histograms of what is measured of images and faces, whatever their labels."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from faceaudit.audit.subgroups import unit_feature
from faceaudit.audit.tally import BLOCKS, CONFIDENCE_BINS, block_of
from faceaudit.schema import OK
from faceaudit.tables import IMAGE, STATUS, PredictionTable, face_number

DETECTION_SCORE, SHORTER_SIDE = "detection_score", "shorter_side"
SIZES_PER_OCTAVE, LARGEST_SIZE = 8, 20
OWNER = "_unit"


def measures(table: PredictionTable, unit: str | None = None) -> dict[str, NDArray[np.int64]]:
    """Histograms of the detector's scores of faces and, of images, the shorter side in pixels.

    Each is (blocks of units, bins); one block without units. An image
    of several units is of the first of them.
    """
    names = table.frame.collect_schema()
    owner = unit_feature(table, unit).values(table.frame) if unit else pl.lit("")
    ok = table.frame.with_columns(owner.alias(OWNER)).filter(pl.col(STATUS) == OK)
    bins: dict[str, tuple[pl.Expr, int]] = {}
    if DETECTION_SCORE in names and names[DETECTION_SCORE].is_numeric():
        place = (pl.col(DETECTION_SCORE) * CONFIDENCE_BINS).clip(0, CONFIDENCE_BINS - 1)
        bins[DETECTION_SCORE] = place, CONFIDENCE_BINS
    if all(name in names and names[name].is_numeric() for name in ("width", "height")):
        side = pl.min_horizontal("width", "height").cast(pl.Float64)
        place = (side.log(2) * SIZES_PER_OCTAVE).clip(0, LARGEST_SIZE * SIZES_PER_OCTAVE - 1)
        bins[SHORTER_SIDE] = place, LARGEST_SIZE * SIZES_PER_OCTAVE
    found = {}
    images = _images(ok)
    for name, (place, count) in bins.items():
        whole = place.cast(pl.Int64, strict=False).alias("bin")
        measured = (images if name == SHORTER_SIDE else ok).select(whole, OWNER)
        by_unit = measured.filter(pl.col("bin").is_not_null()).group_by("bin", OWNER).len()
        counted = by_unit.collect(engine="streaming")
        if counted.height:
            blocks = block_of(counted[OWNER]) if unit else 0
            places = blocks * count + counted["bin"].to_numpy()
            size = (BLOCKS if unit else 1) * count
            found[name] = np.bincount(places, counted["len"], size).reshape(-1, count).astype(int)
    return found


def _images(ok: pl.LazyFrame) -> pl.LazyFrame:
    """One row per image, where images have several faces; those without a name are rows."""
    names = ok.collect_schema().names()
    several = ok.select((face_number(ok) != 0).any()).collect(engine="streaming").item()
    if IMAGE not in names or not several:
        return ok
    sides = [name for name in ("width", "height") if name in names]
    firsts = pl.col(sides).max(), pl.col(OWNER).drop_nulls().min()
    named = ok.filter(pl.col(IMAGE).is_not_null()).group_by(IMAGE).agg(*firsts)
    unnamed = ok.filter(pl.col(IMAGE).is_null()).select(IMAGE, *sides, OWNER)
    return pl.concat([named, unnamed])
