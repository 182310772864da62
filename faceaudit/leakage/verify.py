"""Whether two small pictures are one: how well they agree once one is laid onto the other.

A hash says where to look; it also pairs faces of different people that are lit and framed alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from faceaudit.leakage.duplicates import Pairs
from faceaudit.leakage.prints import SIDE, Picture
from faceaudit.ordered import in_chunks, in_order

Warp = NDArray[np.float32]
"""Where each pixel of one picture lies in the other, (2, 3): linear part and shift in pixels."""

SIMILAR = 0.96
"""Correlation from which two pictures are one.

Chosen by looking at pairs of 21,336 faces of UTKFace: from 0.96 on they were one picture, scaled,
cropped, toned, compressed, watermarked or mirrored; below 0.96 lookalikes come in.
"""
PLAIN = 0.99
"""Pictures that agree so well as they are need not be laid onto each other."""
WORTHWHILE = 0.92
"""Pictures that agree less at half their size are not compared at full size."""
LEAST_OVERLAP = 0.6
"""Share of a picture that must be seen in the other."""
STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
SMOOTHING = 5
"""Width of the filter under which pictures are aligned, pixels."""
PAIRS_AT_ONCE = 256


def similarities(pictures: NDArray[np.uint8], pairs: Pairs, workers: int) -> NDArray[np.float64]:
    """How well the pictures of each pair agree, (P,).

    Args:
        pictures: Gray, (N, SIDE, SIDE).
        pairs: Candidates; of a mirrored one, the second picture is turned before.
        workers: Threads.
    """
    found = np.empty(len(pairs))
    work = partial(_similarities, pictures, pairs)
    done = 0
    with closing(in_order(work, in_chunks(range(len(pairs)), PAIRS_AT_ONCE), workers)) as parts:
        for part in parts:
            found[done : done + len(part)] = part
            done += len(part)
    return found


def _similarities(
    pictures: NDArray[np.uint8], pairs: Pairs, rows: Sequence[int]
) -> NDArray[np.float64]:
    found = np.empty(len(rows))
    for place, row in enumerate(rows):
        second = pictures[pairs.second[row]]
        if pairs.mirrored[row]:
            second = np.ascontiguousarray(second[:, ::-1])
        found[place] = similarity(pictures[pairs.first[row]], second)
    return found


def similarity(first: Picture, second: Picture) -> float:
    """Correlation of two pictures where they overlap, after the second is laid onto the first.

    Scale, shift, turn and shear are found at half size and refined at full size. A brighter or
    less contrasted picture correlates as the original does.

    Args:
        first: Gray, (SIDE, SIDE).
        second: Gray, (SIDE, SIDE).

    Returns:
        A value from -1 to 1; 0 where one of them is even.

    Source:
        Evangelidis, Psarakis: Parametric Image Alignment Using Enhanced Correlation Coefficient
        Maximization, TPAMI 30(10), 2008, as cv2.findTransformECC.
    """
    plain = correlation(first, second)
    if plain >= PLAIN:
        return plain
    half = (SIDE // 2, SIDE // 2)
    small = [
        np.asarray(cv2.resize(one, half, interpolation=cv2.INTER_AREA), np.uint8)
        for one in (first, second)
    ]
    warp = _align(small[0], small[1], np.eye(2, 3, dtype=np.float32))
    if warp is None or _overlaid(small[0], small[1], warp) < WORTHWHILE:
        return plain
    # Pixel centers lie half a pixel within: a shift at half size is twice as much and this more.
    warp[:, 2] = 2 * warp[:, 2] + (warp[:, :2].sum(axis=1) - 1) / 2
    refined = _align(first, second, warp)
    return plain if refined is None else max(plain, _overlaid(first, second, refined))


def correlation(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    """Pearson's correlation of gray values, -1 to 1; 0 where one picture is even."""
    a, b = first.astype(np.float32).ravel(), second.astype(np.float32).ravel()
    a -= a.mean()
    b -= b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else 0.0


def _align(first: Picture, second: Picture, start: Warp) -> Warp | None:
    """Where the first picture's pixels lie in the second; None where no fit is found."""
    try:
        everywhere = np.full(second.shape, 255, np.uint8)
        _, warp = cv2.findTransformECC(
            first, second, start.copy(), cv2.MOTION_AFFINE, STOP, everywhere, SMOOTHING
        )
    except cv2.error:  # it does not converge, or one picture is even
        return None
    return np.asarray(warp, np.float32)


def _overlaid(first: Picture, second: Picture, warp: Warp) -> float:
    """Correlation where the two overlap; -1 where that is too little."""
    size = first.shape[::-1]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(second.astype(np.float32), warp, size, flags=flags)
    seen = cv2.warpAffine(np.ones(second.shape, np.float32), warp, size, flags=flags) > 0.999
    if seen.mean() < LEAST_OVERLAP:
        return -1.0
    return correlation(first[seen], laid[seen])
