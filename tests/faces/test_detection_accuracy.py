from __future__ import annotations

import pytest

from benchmarks import detection
from faceaudit.faces import Detector

pytestmark = pytest.mark.data


@pytest.mark.skipif(
    not detection.PHOTOGRAPHS.is_dir(), reason=f"no photographs in {detection.PHOTOGRAPHS}"
)
def test_published_faces_are_found_and_dogs_are_not(detector: Detector) -> None:
    results = detection.judge_photographs(detector)
    published, found = sum(r.published for r in results), sum(r.found for r in results)
    assert published >= 40
    assert found / published >= 0.95
    assert sum(len(r.strays) for r in results) <= 1
    assert next(r for r in results if r.name == "dogs.jpg").strays == ()
    errors = [error for r in results for error in r.landmark_errors]
    assert max(errors) < 0.3
    assert sum(errors) / len(errors) < 0.12


@pytest.mark.parametrize("name", detection.CROPS)
def test_a_face_is_found_in_almost_every_crop(detector: Detector, name: str) -> None:
    folder = detection.CROPS[name]
    if not folder.is_dir():
        pytest.skip(f"no crops in {folder}")
    result = detection.judge_crops(detector, name, folder, 300)
    assert result.images == 300
    assert result.without <= 3
