from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from faceaudit.leakage import duplicates
from faceaudit.leakage.duplicates import (
    BANDED,
    NEAR,
    Pairs,
    conflicting_intervals,
    conflicting_sets,
    difference_hash,
    exact_groups,
    find_candidates,
    find_pairs,
    join_groups,
    picture_hashes,
)
from faceaudit.showcase.images import photograph

NO_PAIRS = Pairs(*(np.empty(0, kind) for kind in (np.int64, np.int64, np.int64, bool)))


def random_hashes(count: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32), dtype=np.uint8)


def flipped(hashes: NDArray[np.uint8], bits: int, seed: int) -> NDArray[np.uint8]:
    """The same hashes, each with this many random bits changed."""
    rng = np.random.default_rng(seed)
    noise = np.zeros((len(hashes), 256), bool)
    for row in noise:
        row[rng.choice(256, bits, replace=False)] = True
    return hashes ^ np.packbits(noise, axis=1)


def distance(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> int:
    return int(np.unpackbits(first ^ second).sum())


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    return np.asarray(photograph().convert("RGB").crop((120, 40, 380, 300)))


def test_a_scaled_compressed_or_brighter_picture_is_near(picture: NDArray[np.uint8]) -> None:
    import cv2
    import simplejpeg

    small = cv2.resize(picture, (90, 90), interpolation=cv2.INTER_AREA)
    compressed = simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(picture, 30))
    bright = np.clip(picture * 1.2 + 10, 0, 255).astype(np.uint8)
    for changed in (small, compressed, bright):
        assert distance(difference_hash(picture), difference_hash(changed)) <= NEAR
    other = np.asarray(photograph().convert("RGB").crop((0, 0, 200, 200)))
    assert distance(difference_hash(picture), difference_hash(other)) > 3 * NEAR


def test_grey_and_color_of_a_picture_have_one_hash(picture: NDArray[np.uint8]) -> None:
    import cv2

    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    assert np.array_equal(difference_hash(grey), difference_hash(picture))


def test_a_mirrored_picture_is_found_as_such(picture: NDArray[np.uint8]) -> None:
    found = np.stack([picture_hashes(picture), picture_hashes(picture[:, ::-1])])
    pairs = find_pairs(found[:, 0], found[:, 1])
    assert (len(pairs), pairs.distance.tolist(), pairs.mirrored.tolist()) == (1, [0], [True])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 60))
def test_pairs_are_those_of_comparing_each_with_each(seed: int, near: int) -> None:
    base = random_hashes(40, seed)
    copies = flipped(base[:20], seed % 26, seed + 1)
    hashes, mirrored = np.concatenate([base, copies]), random_hashes(60, seed + 2)
    mirrored[:5] = flipped(base[30:35], near, seed + 3)
    found = find_pairs(hashes, mirrored, near)
    wanted = {
        (min(i, j), max(i, j))
        for i in range(60)
        for j in range(60)
        if i != j
        and (distance(hashes[i], hashes[j]) <= near or distance(hashes[i], mirrored[j]) <= near)
    }
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == wanted
    assert len(found) == len(wanted)


def test_every_pair_at_the_largest_distance_is_found() -> None:
    base = random_hashes(3000, 0)
    hashes = np.concatenate([base, flipped(base, NEAR, 1)])
    found = find_pairs(hashes, random_hashes(6000, 2))
    assert np.array_equal(found.first, np.arange(3000))
    assert np.array_equal(found.second, np.arange(3000) + 3000)
    assert set(found.distance) == {NEAR}
    assert not found.mirrored.any()


def test_a_negative_is_no_copy() -> None:
    hashes = random_hashes(20, 0)
    both = np.concatenate([hashes, ~hashes])
    for near in (NEAR, BANDED + 1, 40):
        assert len(find_pairs(both, ~random_hashes(40, 1), near)) == 0


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("count", [700, 701])
def test_threads_and_tiles_find_what_comparing_each_with_each_does(
    monkeypatch: pytest.MonkeyPatch, count: int, workers: int
) -> None:
    monkeypatch.setattr(duplicates, "ROWS_AT_ONCE", 50)
    monkeypatch.setattr(duplicates, "TILE", (8, 64))
    hashes, mirrored = random_hashes(count, 5), random_hashes(count, 6)
    hashes[300:400] = flipped(hashes[:100], 40, 7)
    hashes[400:500] = flipped(hashes[:100], 41, 8)
    mirrored[500:600] = flipped(hashes[100:200], 40, 9)
    mirrored[-1] = hashes[0]
    found = find_candidates(hashes, mirrored, 40, workers)
    bits, turned = (np.unpackbits(one, axis=1).astype(int) for one in (hashes, mirrored))
    for other, flag in ((bits, False), (turned, True)):
        apart = bits.sum(1)[:, None] + other.sum(1) - 2 * bits @ other.T
        apart = np.minimum(apart, apart.T)
        first, second = np.nonzero(np.triu(apart <= 40, 1))
        rows = found.mirrored == flag
        assert found.first[rows].tolist() == first.tolist()
        assert found.second[rows].tolist() == second.tolist()
        assert found.distance[rows].tolist() == apart[first, second].tolist()
        assert len(first) > 99


def test_equal_hashes_are_compared_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "PAIRS_AT_ONCE", 7)
    hashes = np.repeat(random_hashes(2, 0), [9, 5], axis=0)
    found = find_pairs(hashes, random_hashes(14, 1))
    assert len(found) == 9 * 8 // 2 + 5 * 4 // 2


def test_no_images_have_no_pairs_and_no_groups() -> None:
    empty = np.empty((0, 32), np.uint8)
    assert len(find_pairs(empty, empty)) == 0
    assert len(join_groups(exact_groups([]), NO_PAIRS)) == 0
    assert len(conflicting_sets(np.empty(0, np.int64), np.empty((0, 3), bool))) == 0


def test_groups_join_equal_bytes_and_chains_of_pairs() -> None:
    exact = exact_groups(["a", "b", "c", "a", "d", "e"])
    pairs = Pairs(
        np.asarray([3, 1]), np.asarray([1, 4]), np.asarray([5, 2]), np.asarray([False, True])
    )
    assert join_groups(exact, NO_PAIRS).tolist() == [0, 1, 2, 0, 4, 5]
    assert join_groups(exact, pairs).tolist() == [0, 0, 2, 0, 0, 5]


def test_classes_conflict_where_no_class_is_allowed_by_all() -> None:
    groups = np.asarray([0, 0, 2, 2, 4, 4])
    allowed = np.asarray(
        [[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0]], bool
    )  # a wider class that holds the other; two different ones; an unknown one
    assert conflicting_sets(groups, allowed).tolist() == [False, False, True, True, False, False]


def test_years_conflict_where_the_intervals_are_apart() -> None:
    groups = np.asarray([7, 7, 3, 3, 5, 5])
    low = np.asarray([20, 25, 20, 30, -1, 40])
    high = np.asarray([29, 25, 29, 39, -1, 40])
    found = conflicting_intervals(groups, low, high)
    assert found.tolist() == [False, False, True, True, False, False]
