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

Gray = NDArray[np.uint8] | NDArray[np.float32]
Warp = NDArray[np.float32]
"""Where each pixel of one picture lies in the other, (2, 3): linear part and shift in pixels."""

SIMILAR = 0.96
"""Correlation from which two pictures are one.

Chosen by looking at pairs of 21,336 faces of UTKFace: from 0.96 on they were one picture, scaled,
cropped, toned, compressed, watermarked or mirrored; below 0.96 lookalikes come in.
"""
DETAIL = 0.7
"""Correlation that their detail must reach as well: outlines alone can make faces agree.

Of 168 pairs that correlated by 0.96 or more, UTKFace's and FairFace's, one stayed below: two
different people, dark before a bright window. Altered copies stay above.
"""
DETAIL_WIDTHS = (1.0, 4.0)
"""Standard deviations of the blurs that detail lies between, pixels."""
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
        A value from -1 to 1; 0 where one of them is even. Where pictures agree by 0.96 or more but
        their detail by less than ``DETAIL``, it is the correlation of the detail.

    Source:
        Evangelidis, Psarakis: Parametric Image Alignment Using Enhanced Correlation Coefficient
        Maximization, TPAMI 30(10), 2008, as cv2.findTransformECC.
    """
    whole = np.ones(first.shape, bool)
    plain = _agreement(first, second, whole)
    if plain >= PLAIN:
        return plain
    half = (SIDE // 2, SIDE // 2)
    small = [
        np.asarray(cv2.resize(one, half, interpolation=cv2.INTER_AREA), np.uint8)
        for one in (first, second)
    ]
    warp = _align(small[0], small[1], np.eye(2, 3, dtype=np.float32))
    if warp is None:
        return plain
    laid, seen = _laid(small[1], warp)
    if seen.mean() < LEAST_OVERLAP or correlation(small[0][seen], laid[seen]) < WORTHWHILE:
        return plain
    # Pixel centers lie half a pixel within: a shift at half size is twice as much and this more.
    warp[:, 2] = 2 * warp[:, 2] + (warp[:, :2].sum(axis=1) - 1) / 2
    warp = _align(first, second, warp)
    if warp is None:
        return plain
    laid, seen = _laid(second, warp)
    return plain if seen.mean() < LEAST_OVERLAP else max(plain, _agreement(first, laid, seen))


def _agreement(first: Gray, laid: Gray, seen: NDArray[np.bool_]) -> float:
    """Correlation of two pictures where both are seen; that of their detail where it is too low."""
    found = correlation(first[seen], laid[seen])
    if found < SIMILAR:
        return found
    detail = correlation(_detail(first)[seen], _detail(laid)[seen])
    return found if detail >= DETAIL else detail


def _detail(picture: Gray) -> NDArray[np.float32]:
    """What is larger than noise and smaller than outlines: the difference of two blurs."""
    values = picture.astype(np.float32)
    fine, coarse = (cv2.GaussianBlur(values, (0, 0), width) for width in DETAIL_WIDTHS)
    return np.asarray(fine - coarse, np.float32)


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


def _laid(picture: Picture, warp: Warp) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A picture laid onto another one, and where the other one shows it."""
    size = picture.shape[::-1]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(picture.astype(np.float32), warp, size, flags=flags)
    inside = cv2.warpAffine(np.ones(picture.shape, np.float32), warp, size, flags=flags)
    return np.asarray(laid, np.float32), np.asarray(inside > 0.999)
