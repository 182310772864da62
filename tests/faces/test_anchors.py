from __future__ import annotations

import numpy as np
import pytest

from faceaudit.faces.anchors import anchors, decode_boxes, decode_landmarks


def test_every_cell_of_every_stride_has_two_anchors() -> None:
    found = anchors(64, 96)
    assert found.shape == (2 * (8 * 12 + 4 * 6 + 2 * 3), 3)
    np.testing.assert_array_equal(found[:3], [[4, 4, 16], [4, 4, 32], [12, 4, 16]])
    np.testing.assert_array_equal(found[2 * 12], [4, 12, 16])  # the second row of cells
    np.testing.assert_array_equal(found[-1], [80, 48, 512])


def test_anchors_are_shared_and_cannot_be_changed() -> None:
    assert anchors(64, 64) is anchors(64, 64)
    with pytest.raises(ValueError, match="read-only"):
        anchors(64, 64)[0] = 0


def test_no_offset_decodes_to_the_anchor_itself() -> None:
    at = np.array([[100, 50, 32]], np.float32)
    boxes = decode_boxes(np.zeros((1, 4), np.float32), at)
    np.testing.assert_allclose(boxes, [[84, 34, 116, 66]])
    landmarks = decode_landmarks(np.zeros((1, 10), np.float32), at)
    np.testing.assert_allclose(landmarks, np.broadcast_to([100, 50], (1, 5, 2)))


def test_decoding_agrees_with_the_definition() -> None:
    random = np.random.default_rng(0)
    at = anchors(64, 64)[::7]
    deltas = random.normal(size=(len(at), 4)).astype(np.float32)
    points = random.normal(size=(len(at), 10)).astype(np.float32)
    boxes, landmarks = decode_boxes(deltas, at), decode_landmarks(points, at)
    for k, (x, y, size) in enumerate(at):
        dx, dy, dw, dh = deltas[k]
        width, height = size * np.exp(0.2 * dw), size * np.exp(0.2 * dh)
        left, top = x + 0.1 * dx * size - width / 2, y + 0.1 * dy * size - height / 2
        np.testing.assert_allclose(
            boxes[k], [left, top, left + width, top + height], rtol=1e-4, atol=1e-3
        )
        for i in range(5):
            expected = [x + 0.1 * points[k, 2 * i] * size, y + 0.1 * points[k, 2 * i + 1] * size]
            np.testing.assert_allclose(landmarks[k, i], expected, rtol=1e-4, atol=1e-3)
