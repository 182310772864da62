from __future__ import annotations

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from faceaudit.leakage.prints import SIDE, small_picture, without_border
from faceaudit.leakage.verify import SIMILAR, correlation, similarity
from tests.leakage.conftest import draw

Image = NDArray[np.uint8]


def gray(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def compressed(image: Image) -> Image:
    return np.asarray(simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(image, 25)), np.uint8)


COPIES = {
    "compressed": compressed,
    "smaller": lambda image: cv2.resize(image, (70, 90), interpolation=cv2.INTER_AREA),
    "darker": lambda image: (image * 0.5).astype(np.uint8),
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), 1.5),
    "cropped by 5 %": lambda image: np.ascontiguousarray(image[:152, 8:]),
    "turned by 2 degrees": lambda image: cv2.warpAffine(
        image, cv2.getRotationMatrix2D((80, 80), 2, 1), (160, 160), borderMode=cv2.BORDER_REPLICATE
    ),
    "bordered": lambda image: cv2.copyMakeBorder(
        image, 12, 12, 20, 20, cv2.BORDER_CONSTANT, value=(0, 0, 0)
    ),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_similar(name: str) -> None:
    for seed in range(3):
        original = small_picture(gray(draw(seed)))
        copy = small_picture(gray(np.asarray(COPIES[name](draw(seed)), np.uint8)))
        assert similarity(original, copy) >= SIMILAR


def test_another_picture_is_not_similar() -> None:
    pictures = [small_picture(gray(draw(seed))) for seed in range(8)]
    found = [similarity(a, b) for k, a in enumerate(pictures) for b in pictures[:k]]
    assert max(found) < SIMILAR


def test_pictures_of_one_outline_and_other_detail_are_not_similar() -> None:
    outline = np.full((SIDE, SIDE), 230.0)
    outline[16:, 12:52] = 20.0
    outline = cv2.GaussianBlur(outline, (0, 0), 8)
    faces = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        detail = cv2.GaussianBlur(rng.normal(0, 60, (SIDE, SIDE)), (0, 0), 1.5)
        faces.append(np.clip(outline + detail, 0, 255).astype(np.uint8))
    assert correlation(*faces) >= SIMILAR
    assert similarity(*faces) < SIMILAR
    assert similarity(faces[0], (faces[0] * 0.5).astype(np.uint8)) >= SIMILAR


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.2, 1.0), st.integers(0, 50))
def test_correlation_is_numpys_and_ignores_tone(seed: int, gain: float, offset: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 256, (2, 12, 12)).astype(np.uint8)
    expected = np.corrcoef(first.ravel(), second.ravel())[0, 1]
    assert correlation(first, second) == pytest.approx(expected, abs=1e-5)
    assert correlation(first, first * gain + offset) == pytest.approx(1, abs=1e-5)


def test_an_even_picture_is_similar_to_none() -> None:
    even = np.full((SIDE, SIDE), 90, np.uint8)
    assert similarity(even, small_picture(gray(draw(0)))) == 0
    assert similarity(even, even) == 0


@settings(max_examples=25, deadline=None)
@given(*(st.integers(0, 20) for _ in range(4)), st.integers(0, 255))
def test_border_of_any_tone_is_taken_off(
    top: int, bottom: int, left: int, right: int, tone: int
) -> None:
    inner = np.random.default_rng(0).integers(0, 256, (90, 100)).astype(np.uint8)
    framed = cv2.copyMakeBorder(inner, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(tone,))
    assert np.array_equal(without_border(np.asarray(framed, np.uint8)), inner)


def test_an_even_picture_keeps_its_middle() -> None:
    assert without_border(np.zeros((40, 80), np.uint8)).shape == (20, 40)
    assert without_border(np.zeros((1, 1), np.uint8)).shape == (1, 1)


def test_of_prepared_crops_only_the_view_counts() -> None:
    inner = gray(draw(5, 100))
    padded = cv2.copyMakeBorder(inner, 20, 20, 20, 20, cv2.BORDER_REPLICATE)
    found = small_picture(np.asarray(padded, np.uint8), view=100 / 140)
    assert np.array_equal(found, small_picture(inner))
