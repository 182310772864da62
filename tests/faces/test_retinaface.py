from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from faceaudit.faces import Detector, Face, open_detector
from faceaudit.faces.anchors import anchors
from faceaudit.faces.retinaface import (
    BATCH_PIXELS,
    WEIGHTS,
    RetinaFaceDetector,
    batches,
    is_inside,
    merge_looks,
    suppress_overlaps,
    to_canvas,
    working_side,
)

Image = NDArray[np.uint8]
DrawFace = Callable[..., Image]


def same_faces(found: Sequence[Face], expected: Sequence[Face]) -> bool:
    """Whether two lists of faces are equal to the last bit."""
    return len(found) == len(expected) and all(
        (a.x0, a.y0, a.x1, a.y1, a.score) == (b.x0, b.y0, b.x1, b.y1, b.score)
        and np.array_equal(a.landmarks, b.landmarks)  # type: ignore[arg-type]
        for a, b in zip(found, expected, strict=True)
    )


@pytest.fixture
def mixed_images(draw_face: DrawFace) -> list[Image]:
    """Images of several shapes, some alike in shape, one without a face, one seen twice."""
    return [
        draw_face(200, 200, center=(100, 105), radius=70),
        np.full((200, 200, 3), 90, np.uint8),
        draw_face(300, 480, center=(150, 150), radius=60, angle=0.2),
        draw_face(200, 200, center=(90, 100), radius=60, angle=-0.2),
        draw_face(700, 500, center=(250, 350), radius=200),
        draw_face(60, 60, center=(30, 30), radius=22),
    ]


@pytest.mark.parametrize("radius", [25, 60, 110])
@pytest.mark.parametrize("angle", [-0.3, 0.0, 0.3])
def test_a_face_is_found_with_its_landmarks(
    detector: Detector,
    draw_face: DrawFace,
    drawn_landmarks: NDArray[np.float64],
    radius: float,
    angle: float,
) -> None:
    image = draw_face(400, 500, center=(230, 190), radius=radius, angle=angle)
    (faces,) = detector.detect([image])
    (face,) = faces
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    expected = drawn_landmarks @ turn.T * radius + [230, 190]
    assert face.landmarks is not None
    assert face.landmarks.shape == (5, 2)
    errors = np.linalg.norm(face.landmarks - expected, axis=1)
    assert errors.max() < 0.25 * radius
    assert face.score is not None
    assert 0.85 <= face.score <= 1
    assert abs(face.center[0] - 230) < 0.3 * radius
    assert 0.9 * radius < face.width < 2.1 * radius


def test_two_faces_are_two_faces(detector: Detector, draw_face: DrawFace) -> None:
    image = draw_face(300, 500, center=(120, 150), radius=50)
    image = draw_face(300, 500, center=(370, 150), radius=60, onto=image)
    (faces,) = detector.detect([image])
    assert sorted(round(face.center[0] / 50) for face in faces) == [2, 7]
    scores = [face.score or 0.0 for face in faces]
    assert scores == sorted(scores, reverse=True)


def test_boxes_are_in_pixels_of_the_image_given(detector: Detector, draw_face: DrawFace) -> None:
    large = draw_face(1500, 2000, center=(900, 700), radius=200)
    small = np.asarray(cv2.resize(large, (500, 375), interpolation=cv2.INTER_AREA), np.uint8)
    ((at_large,), (at_small,)) = detector.detect([large, small])
    for side in ("x0", "y0", "x1", "y1"):
        assert abs(getattr(at_large, side) / 4 - getattr(at_small, side)) < 5


@pytest.mark.parametrize("side", [300, 500, 1200])
def test_a_face_that_fills_a_large_image_is_one_face(
    detector: Detector, draw_face: DrawFace, drawn_landmarks: NDArray[np.float64], side: int
) -> None:
    image = draw_face(side, side, center=(side / 2, side / 2), radius=0.62 * side)
    (faces,) = detector.detect([image])
    (face,) = faces
    assert face.area > 0.6 * side * side
    assert face.landmarks is not None
    errors = np.linalg.norm(face.landmarks - (drawn_landmarks * 0.62 + 0.5) * side, axis=1)
    assert errors.max() < 0.2 * side


def test_boxes_stay_inside_the_image(detector: Detector, draw_face: DrawFace) -> None:
    image = draw_face(240, 240, center=(35, 120), radius=70)
    (faces,) = detector.detect([image])
    assert faces
    for face in faces:
        assert 0 <= face.x0 < face.x1 <= 240
        assert 0 <= face.y0 < face.y1 <= 240


@pytest.mark.parametrize(
    "shape", [(1, 1), (2, 900), (900, 2), (33, 31), (128, 128), (640, 480), (1300, 700)]
)
def test_an_image_without_a_face_has_none(detector: Detector, shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert detector.detect([np.zeros_like(noise), noise]) == [[], []]


def test_no_images_give_no_lists(detector: Detector) -> None:
    assert detector.detect([]) == []


def test_the_result_does_not_depend_on_the_batch(
    detector: Detector, mixed_images: list[Image]
) -> None:
    alone = [detector.detect([image])[0] for image in mixed_images]
    assert [len(faces) for faces in alone] == [1, 0, 1, 1, 1, 1]
    together = detector.detect([*mixed_images, *mixed_images[::-1]])
    for found, expected in zip(together, [*alone, *alone[::-1]], strict=True):
        assert same_faces(found, expected)


def test_the_result_does_not_depend_on_the_number_of_threads(mixed_images: list[Image]) -> None:
    one = open_detector("retinaface", threads=1).detect(mixed_images)
    two = open_detector("retinaface", threads=2).detect(mixed_images)
    assert all(same_faces(a, b) for a, b in zip(one, two, strict=True))


def test_one_detector_serves_several_threads(detector: Detector, mixed_images: list[Image]) -> None:
    expected = detector.detect(mixed_images)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(detector.detect, [mixed_images] * 6))
    for answer in answers:
        assert all(same_faces(a, b) for a, b in zip(answer, expected, strict=True))


def test_images_are_left_as_they_are(detector: Detector, mixed_images: list[Image]) -> None:
    copies = [image.copy() for image in mixed_images]
    detector.detect(mixed_images)
    assert all(np.array_equal(a, b) for a, b in zip(mixed_images, copies, strict=True))


def test_views_of_other_arrays_are_images_too(detector: Detector, draw_face: DrawFace) -> None:
    image = draw_face(300, 400, center=(200, 150), radius=60)
    bgr = np.ascontiguousarray(image[:, :, ::-1])
    assert same_faces(detector.detect([bgr[:, :, ::-1]])[0], detector.detect([image])[0])


def test_facts_name_the_weights(detector: Detector) -> None:
    facts = json.loads(json.dumps(detector.facts()))
    assert facts["weights"] == WEIGHTS.name
    assert len(facts["sha256"]) == 64
    assert WEIGHTS.stat().st_size < 2_000_000


@pytest.mark.parametrize(
    ("height", "width", "side", "padded"),
    [
        (200, 200, 192, (192, 192, 3)),
        (50, 40, 128, (128, 128, 3)),
        (480, 640, 640, (480, 640, 3)),
        (3000, 4500, 640, (448, 640, 3)),
        (10, 5000, 640, (32, 640, 3)),
    ],
)
def test_the_canvas_depends_on_the_size_of_the_image_alone(
    height: int, width: int, side: int, padded: tuple[int, int, int]
) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    assert working_side(image) == side
    canvas = to_canvas(image, side)
    assert canvas.pixels.shape == padded
    assert canvas.scale_x == pytest.approx(side / width, rel=0.02) or height > width


def test_padding_is_the_color_the_network_sees_as_zero() -> None:
    canvas = to_canvas(np.zeros((100, 160, 3), np.uint8), 160)
    assert canvas.pixels.shape == (128, 160, 3)
    assert (canvas.pixels[:100] == 0).all()
    assert (canvas.pixels[100:] == (123, 117, 104)).all()


def test_the_best_of_overlapping_boxes_is_kept() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [30, 0, 40, 10]], np.float32)
    scores = np.array([0.95, 0.9, 0.88], np.float32)
    assert suppress_overlaps(boxes, scores) == [0, 2]


def test_the_second_look_decides_only_where_it_sees_a_large_face() -> None:
    image = np.zeros((600, 600, 3), np.uint8)
    part, elsewhere = Face(100, 100, 250, 250, 0.99), Face(500, 20, 540, 60, 0.9)
    large, dubious = Face(50, 50, 420, 420, 0.95), Face(450, 400, 500, 450, 0.9)
    assert merge_looks(image, [part, elsewhere], [large, dubious]) == [large, elsewhere]
    assert merge_looks(image, [part, elsewhere], [dubious]) == [part, elsewhere]
    assert merge_looks(image, [part], []) == [part]


def test_faces_of_both_looks_are_in_the_order_of_their_scores() -> None:
    image = np.zeros((600, 600, 3), np.uint8)
    better, large = Face(500, 20, 540, 60, 0.99), Face(50, 50, 420, 420, 0.9)
    assert merge_looks(image, [better], [large]) == [better, large]


class OneAnchorSession:
    """A network that reports one face, at the last anchor, on canvases of one size."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.seen: list[tuple[int, ...]] = []

    def run(self, outputs: None, inputs: dict[str, NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        count, height, width, _ = inputs["images"].shape
        self.seen.append((count, height, width))
        total = len(anchors(height, width))
        scores = np.zeros((count, total), np.float32)
        scores[:, -1] = 0.95 if height == self.side else 0.1
        return [scores, *(np.zeros((count, total, k), np.float32) for k in (4, 10))]


def test_an_image_in_which_nothing_is_found_is_seen_again_at_half_the_size() -> None:
    image = np.zeros((1280, 1280, 3), np.uint8)
    session = OneAnchorSession(side=320)
    ((face,),) = RetinaFaceDetector(session, "").detect([image])
    assert session.seen == [(1, 640, 640), (1, 320, 320)]
    assert (face.x1, face.y1) == (1280, 1280)
    assert face.landmarks is not None
    np.testing.assert_allclose(face.landmarks[0], [(320 - 16) * 4] * 2)


def test_a_large_face_in_a_small_image_is_trusted_at_once() -> None:
    session = OneAnchorSession(side=320)
    image = np.zeros((320, 320, 3), np.uint8)
    (faces,) = RetinaFaceDetector(session, "").detect([image])
    assert len(faces) == 1
    assert session.seen == [(1, 320, 320)]


def test_batches_hold_every_image_once_and_limited_pixels() -> None:
    large, small = (np.zeros((side, side, 3), np.uint8) for side in (640, 320))
    canvases = [to_canvas(image, len(image)) for image in [large, small] * 7]
    found = list(batches(canvases))
    assert sorted(i for batch in found for i in batch) == list(range(14))
    for batch in found:
        assert len({canvases[i].pixels.shape for i in batch}) == 1
        assert sum(canvases[i].pixels[..., 0].size for i in batch) <= BATCH_PIXELS
    assert len(found) == 7 + 2


def test_half_of_a_box_inside_is_inside() -> None:
    outer = Face(0, 0, 100, 100, 0.9)
    assert is_inside(Face(90, 0, 110, 20, 0.9), outer)
    assert not is_inside(Face(95, 0, 115, 20, 0.9), outer)
    assert not is_inside(Face(200, 200, 210, 210, 0.9), outer)
    assert is_inside(outer, outer)
