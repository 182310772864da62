from __future__ import annotations

import time
from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from faceaudit.errors import UnknownNameError
from faceaudit.faces import ALIGNMENTS, Face, crop_face
from faceaudit.faces.crop import (
    TEMPLATE,
    TEMPLATE_SIZE,
    aligned_view,
    box_view,
    draw_view,
    fit_similarity,
    pixel_indices,
    scale_of,
    whole_pixels,
)


def random_pixels(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def placed_face(scale: float, angle: float, x: float, y: float) -> Face:
    """A face whose landmarks are the template, turned, scaled and moved."""
    a = scale * np.exp(1j * angle)
    z = a * ((TEMPLATE - TEMPLATE_SIZE / 2) @ np.array([1, 1j])) + complex(x, y)
    landmarks = np.column_stack([z.real, z.imag]).astype(np.float32)
    half = scale * TEMPLATE_SIZE * 0.45
    return Face(x - half, y - half, x + half, y + half, 0.99, landmarks)


def through(matrix: NDArray[np.float64], points: NDArray[np.float32]) -> NDArray[np.float64]:
    return points @ matrix[:, :2].T + matrix[:, 2]


@given(
    scale=st.floats(0.05, 30),
    angle=st.floats(-3.1, 3.1),
    x=st.floats(-500, 5000),
    y=st.floats(-500, 5000),
)
def test_landmarks_land_on_the_template(scale: float, angle: float, x: float, y: float) -> None:
    face = placed_face(scale, angle, x, y)
    matrix = aligned_view(face, TEMPLATE_SIZE, 0.0)
    assert matrix is not None
    assert face.landmarks is not None
    precision = 1e-3 * (1 + (abs(x) + abs(y)) / scale / 1000)  # landmarks are float32
    assert np.abs(through(matrix, face.landmarks) - TEMPLATE).max() < precision


def test_landmarks_land_on_the_published_pixels() -> None:
    face = placed_face(2.0, 0.1, 130, 120)
    matrix = aligned_view(face, TEMPLATE_SIZE, 0.0)
    assert matrix is not None
    assert face.landmarks is not None
    found = through(pixel_indices(matrix), face.landmarks - 0.5)
    # Source: InsightFace, face_align.py, arcface_dst.
    np.testing.assert_allclose(found[0], [38.2946, 51.6963], atol=1e-3)
    np.testing.assert_allclose(found[4], [70.7299, 92.2041], atol=1e-3)


def test_the_fit_is_the_least_squares_similarity() -> None:
    random = np.random.default_rng(1)
    points = (TEMPLATE * 2.5 + random.normal(0, 6, TEMPLATE.shape)).astype(np.float32)
    x, y = points.T.astype(np.float64)
    one, zero = np.ones(5), np.zeros(5)
    equations = np.vstack([np.column_stack([x, -y, one, zero]), np.column_stack([y, x, zero, one])])
    (a, b, c, d), *_ = np.linalg.lstsq(equations, TEMPLATE.T.ravel())
    matrix = fit_similarity(points, TEMPLATE)
    assert matrix is not None
    np.testing.assert_allclose(matrix, [[a, -b, c], [b, a, d]], atol=1e-9)


def test_the_fit_never_mirrors() -> None:
    mirrored = TEMPLATE.copy()
    mirrored[:, 0] = TEMPLATE_SIZE - mirrored[:, 0]
    matrix = fit_similarity(mirrored.astype(np.float32), TEMPLATE)
    assert matrix is not None
    assert np.linalg.det(matrix[:, :2]) > 0


def test_a_face_already_on_the_template_is_returned_unchanged() -> None:
    image = random_pixels(TEMPLATE_SIZE, TEMPLATE_SIZE)
    face = placed_face(1.0, 0.0, TEMPLATE_SIZE / 2, TEMPLATE_SIZE / 2)
    crop = crop_face(image, face, size=TEMPLATE_SIZE, align="similarity", margin=0)
    np.testing.assert_array_equal(crop, image)


def test_margin_widens_the_view_of_a_face_in_all() -> None:
    image = random_pixels(300, 300)
    face = placed_face(1.0, 0.0, 150, 150)
    crop = crop_face(image, face, size=140, align="similarity", margin=0.25)
    np.testing.assert_array_equal(crop, image[80:220, 80:220])  # 112 * 1.25 = 140


def test_offset_looks_further_down_an_aligned_face() -> None:
    image = random_pixels(300, 300)
    face = placed_face(1.0, 0.0, 150, 150)
    crop = crop_face(image, face, size=112, align="similarity", margin=0, offset=0.125)
    np.testing.assert_array_equal(crop, image[94 + 14 : 206 + 14, 94:206])


def test_a_turned_face_is_cropped_upright() -> None:
    upright = np.asarray(cv2.GaussianBlur(random_pixels(400, 400), (0, 0), 4), np.uint8)
    quarter = np.ascontiguousarray(np.rot90(upright, -1))  # clockwise
    straight = crop_face(
        upright, placed_face(1.5, 0, 200, 200), size=96, align="similarity", margin=0
    )
    turned = crop_face(
        quarter, placed_face(1.5, np.pi / 2, 200, 200), size=96, align="similarity", margin=0
    )
    assert np.abs(straight.astype(int) - turned).max() <= 2


def test_without_alignment_the_box_is_the_crop() -> None:
    image = random_pixels(80, 90)
    crop = crop_face(image, Face(20, 10, 60, 50, 0.9), size=40, align="none", margin=0)
    np.testing.assert_array_equal(crop, image[10:50, 20:60])


def test_a_box_is_made_square_around_its_center() -> None:
    image = random_pixels(80, 90)
    crop = crop_face(image, Face(30, 10, 50, 50, 0.9), size=40, align="none", margin=0)
    np.testing.assert_array_equal(crop, image[10:50, 20:60])


def test_margin_adds_to_every_side_of_a_box() -> None:
    image = random_pixels(100, 100)
    crop = crop_face(image, Face(30, 30, 70, 70, 0.9), size=56, align="none", margin=0.2)
    np.testing.assert_array_equal(crop, image[22:78, 22:78])


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_what_lies_outside_repeats_the_border(align: str) -> None:
    image = np.full((60, 60, 3), 200, np.uint8)
    crop = crop_face(image, placed_face(1.0, 0.3, 0, 0), size=64, align=align, margin=0.2)
    assert (crop == 200).all()


@cache
def ramps(side: int) -> NDArray[np.uint8]:
    """Red grows to the right, green downwards."""
    ramp = np.linspace(0, 255, side)
    return np.stack(np.broadcast_arrays(ramp, ramp[:, None], 128.0), axis=2).astype(np.uint8)


@given(
    scale=st.floats(2.1, 30),
    angle=st.floats(-3.1, 3.1),
    x=st.floats(-300, 1300),
    y=st.floats(-300, 1300),
)
def test_a_large_view_shows_what_a_drawing_at_full_size_does(
    scale: float, angle: float, x: float, y: float
) -> None:
    side, size = 1001, 64
    image = ramps(side)
    matrix = box_view(placed_face(scale, angle, x, y), size, 0)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix[:, :2] = matrix[:, :2] @ turned
    matrix[:, 2] = size / 2 - matrix[:, :2] @ [x, y]
    pixels = (np.indices((size, size))[::-1].reshape(2, -1) + 0.5).T
    seen = (pixels - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    expected = (np.clip(seen, 0, side) / side * 255).reshape(size, size, 2)
    error = np.abs(draw_view(image, matrix, size)[..., :2] - expected).max(axis=2)
    step = 1 / scale_of(matrix)
    inside = ((seen > 2 * step) & (seen < side - 2 * step)).all(axis=1).reshape(size, size)
    assert error[inside].max(initial=0) <= 2  # half a pixel of the crop is more
    assert error.max() <= 2 + 255 / side * step  # the border is as coarse as what was halved


@pytest.mark.parametrize("side", [48, 96, 112, 131, 200, 224, 301, 640])
def test_a_whole_image_is_the_same_as_a_view_of_it(side: int) -> None:
    pixels = random_pixels(side, side)
    image = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 2), np.uint8)
    whole = crop_face(image, Face(0, 0, side, side), size=112, align="none", margin=0)
    hair = np.array([[1, 1e-9, 0], [-1e-9, 1, 0]])  # turned by next to nothing
    matrix = box_view(Face(0, 0, side, side), 112, 0)
    matrix[:, :2] = matrix[:, :2] @ hair[:, :2]
    assert whole_pixels(image, matrix, 112) is None
    assert np.abs(whole.astype(int) - draw_view(image, matrix, 112)).max() <= 1


def test_views_that_cut_pixels_or_leave_the_image_are_not_whole() -> None:
    image = random_pixels(100, 90)
    for x0, y0, side in ((10, 20, 50), (0, 0, 90), (40, 50, 50)):
        part = whole_pixels(image, box_view(Face(x0, y0, x0 + side, y0 + side, 0.9), 112, 0), 112)
        assert part is not None
        np.testing.assert_array_equal(part, image[y0 : y0 + side, x0 : x0 + side])
    for x0, y0, side in ((10.5, 20, 50), (-1, 0, 90), (1, 0, 90), (0, 11, 90)):
        face = Face(x0, y0, x0 + side, y0 + side, 0.9)
        assert whole_pixels(image, box_view(face, 112, 0), 112) is None


@pytest.mark.parametrize("shape", [(1, 4000), (4000, 1), (3, 3000), (2999, 2000)])
def test_a_long_image_is_shown_whole(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 77, np.uint8)
    face = Face(0, 0, shape[1], shape[0])
    crop = crop_face(image, face, size=64, align="none", margin=0)
    assert (crop == 77).all()


@pytest.mark.parametrize("width", [4000, 30_000, 60_000])
@pytest.mark.parametrize("height", [1, 3, 50])
def test_a_very_long_image_is_drawn_at_once(height: int, width: int) -> None:
    ramp = np.linspace(0, 255, width).astype(np.uint8)
    image = np.ascontiguousarray(np.broadcast_to(ramp[None, :, None], (height, width, 3)))
    expected = (np.arange(64) + 0.5) / 64 * 255
    for turned in (image, image.transpose(1, 0, 2)):
        face = Face(0, 0, *turned.shape[1::-1])
        start = time.perf_counter()
        crop = crop_face(np.ascontiguousarray(turned), face, size=64, align="none", margin=0)
        assert time.perf_counter() - start < 2
        along = crop[32] if turned is image else crop[:, 32]
        assert np.abs(along[:, 0] - expected).max() < 3


def test_shrinking_does_not_alias() -> None:
    image = np.zeros((800, 800, 3), np.uint8)
    image[::2, ::2] = image[1::2, 1::2] = 255
    for align in ALIGNMENTS:
        crop = crop_face(image, placed_face(6.0, 0.2, 400, 400), size=100, align=align, margin=0)
        assert np.abs(crop[10:-10, 10:-10].astype(int) - 127).max() < 12


def test_a_whole_square_image_is_resized_without_a_margin() -> None:
    image = random_pixels(200, 200)
    whole = Face(0, 0, 200, 200)
    for align in ALIGNMENTS:
        crop = crop_face(image, whole, size=100, align=align, margin=0.4)
        expected = cv2.resize(image, (100, 100), interpolation=cv2.INTER_AREA)
        np.testing.assert_allclose(crop, expected, atol=1)


def test_a_whole_oblong_image_is_padded_not_distorted() -> None:
    image = random_pixels(60, 100)
    crop = crop_face(image, Face(0, 0, 100, 60), size=100, align="none", margin=0)
    np.testing.assert_array_equal(crop[20:80], image)
    np.testing.assert_array_equal(crop[:20], np.broadcast_to(image[0], (20, 100, 3)))


@pytest.mark.parametrize(
    "landmarks",
    [
        None,
        np.full((5, 2), 40.0, np.float32),
        np.full((5, 2), np.nan, np.float32),
        (TEMPLATE * 0.01 + 40).astype(np.float32),
        (TEMPLATE * 20).astype(np.float32),
    ],
    ids=["missing", "one point", "not a number", "much too close", "much too far apart"],
)
def test_landmarks_that_cannot_be_trusted_give_the_box(
    landmarks: NDArray[np.float32] | None,
) -> None:
    image = random_pixels(100, 100)
    face = Face(20, 20, 60, 60, 0.9, landmarks)
    crop = crop_face(image, face, size=40, align="similarity", margin=0)
    np.testing.assert_array_equal(crop, image[20:60, 20:60])


@pytest.mark.parametrize("align", ALIGNMENTS)
@pytest.mark.parametrize("size", [1, 7, 112, 224])
def test_crops_are_square_bytes_of_the_size_asked_for(align: str, size: int) -> None:
    crop = crop_face(
        random_pixels(90, 70), placed_face(0.5, 0, 30, 40), size=size, align=align, margin=0.1
    )
    assert crop.shape == (size, size, 3)
    assert crop.dtype == np.uint8


def test_unknown_alignment_names_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="'eyes'; choose one of: similarity, none"):
        crop_face(random_pixels(9, 9), Face(0, 0, 9, 9), size=9, align="eyes", margin=0)


def test_pixel_indices_are_half_a_pixel_before_coordinates() -> None:
    matrix = box_view(Face(0, 0, 10, 10), 20, 0.0)
    # the middle of the first pixel, at 0.5 in the image, is at 1.0 in the crop: index 0.5
    np.testing.assert_allclose(pixel_indices(matrix) @ [0, 0, 1], [0.5, 0.5])
