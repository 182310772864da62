"""Where scores, confidences and errors are counted: the bins of every histogram."""

from __future__ import annotations

import zlib

import numpy as np
import polars as pl
from numpy.typing import NDArray

Values = NDArray[np.float64]
Places = NDArray[np.int64]

SCORE_BINS = 1024
SCORE_LOGIT = 14.0
"""Bins of scores are equally wide in log odds within ± this, so they are dense near 0 and 1."""
COARSE = 16
"""So many bins of scores are one in the histograms of blocks, which serve for spread alone."""
COARSE_BINS = SCORE_BINS // COARSE
CALIBRATION_BINS = 20
"""Bins of confidence, equally wide."""
CONFIDENCE_BINS = 100
"""Bins of the confidence of all faces, labeled or not."""
ERROR_LIMIT = 100
"""Signed age errors are counted in bins of a year up to this; the outer bins hold the rest."""
ERROR_BINS = 2 * ERROR_LIMIT + 1
AGE_YEARS = 131
"""Whole years 0 to 130; older and younger predictions count at the ends."""
BLOCKS = 256
"""Shares that units are hashed into."""

_CALIBRATION_EDGES = np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1]


def score_bin(score: Values) -> Places:
    """Bin of each score in [0, 1]; scores of 0 and 1 have bins of their own with their like."""
    # Scores are stored in single precision; logarithms in it are several times faster.
    place = np.minimum(score, 1).astype(np.float32)
    with np.errstate(divide="ignore"):
        np.divide(place, 1 - place, out=place)
        np.log(place, out=place)
    place *= (SCORE_BINS - 2) / (2 * SCORE_LOGIT)
    place += (SCORE_BINS - 2) / 2 + 1
    # Cut in place: conversion drops the fraction, and nothing negative is left.
    return np.clip(place, 0, SCORE_BINS - 1, out=place).astype(np.int64)


def score_edges() -> Values:
    """Lower edge of each score bin, (SCORE_BINS,)."""
    place = (np.arange(SCORE_BINS) - 1) / (SCORE_BINS - 2) * 2 - 1
    edges = 1 / (1 + np.exp(-place * SCORE_LOGIT))
    edges[0] = 0.0
    return np.asarray(edges)


def calibration_bin(confidence: Values) -> Places:
    """Bin of each confidence in [0, 1]; an edge belongs to the bin below it."""
    return np.asarray(np.searchsorted(_CALIBRATION_EDGES, confidence), np.int64)


def confidence_bin(confidence: Values) -> Places:
    """Hundredth of each confidence in [0, 1]; 1 belongs to the last."""
    return np.minimum(confidence * CONFIDENCE_BINS, CONFIDENCE_BINS - 1).astype(np.int64)


def error_bin(error: Values) -> Places:
    """Bin of each signed error in years.

    Bin ``ERROR_LIMIT`` counts errors of exactly 0, bin ``ERROR_LIMIT + k`` those in (k - 1, k] and
    bin ``ERROR_LIMIT - k`` those in [-k, 1 - k), so that sums of bins are exact at whole years.
    """
    away = np.sign(error) * np.ceil(np.abs(error))
    return np.asarray(np.clip(away, -ERROR_LIMIT, ERROR_LIMIT) + ERROR_LIMIT, np.int64)


def year_bin(years: Values) -> Places:
    """Whole years of each age, cut at 0 and ``AGE_YEARS - 1``."""
    return np.asarray(np.clip(np.floor(years), 0, AGE_YEARS - 1), np.int64)


def block_of(units: pl.Series) -> Places:
    """Block of each unit's name; the same in every run and on every machine.

    Units without a name share one block.
    """
    named = units.fill_null("")
    names = named.unique()
    blocks = [zlib.crc32(name.encode()) % BLOCKS for name in names]
    return named.replace_strict(names, blocks, return_dtype=pl.Int64).to_numpy()
