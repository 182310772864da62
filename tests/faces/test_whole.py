from __future__ import annotations

import json

import numpy as np

from faceaudit.faces import open_detector


def test_the_whole_image_is_the_face() -> None:
    images = [np.zeros((30, 50, 3), np.uint8), np.zeros((7, 7, 3), np.uint8)]
    (first,), (second,) = open_detector("whole").detect(images)
    assert (first.x0, first.y0, first.x1, first.y1) == (0, 0, 50, 30)
    assert (second.width, second.height) == (7, 7)
    assert first.score is None
    assert first.landmarks is None


def test_facts_are_json() -> None:
    assert json.loads(json.dumps(open_detector("whole").facts())) == {"name": "whole"}
