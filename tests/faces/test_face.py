from __future__ import annotations

import pytest

from faceaudit.errors import UnknownNameError
from faceaudit.faces import FACE_POLICIES, Face, choose_faces

SMALL_CENTER = Face(45, 45, 55, 55, 0.9)
LARGE_CORNER = Face(0, 0, 30, 30, 0.8)
MIDDLE_SIZE = Face(70, 70, 90, 90, 0.99)
FACES = [SMALL_CENTER, MIDDLE_SIZE, LARGE_CORNER]


def test_largest_takes_the_largest_box_not_the_best_score() -> None:
    assert choose_faces(FACES, "largest", 100, 100) == [LARGE_CORNER]


def test_center_takes_the_face_nearest_to_the_center_of_the_image() -> None:
    assert choose_faces(FACES, "center", 100, 100) == [SMALL_CENTER]
    assert choose_faces(FACES, "center", 160, 160) == [MIDDLE_SIZE]
    assert choose_faces(FACES, "center", 10, 10) == [LARGE_CORNER]


def test_all_takes_every_face_the_largest_first() -> None:
    assert choose_faces(FACES, "all", 100, 100) == [LARGE_CORNER, MIDDLE_SIZE, SMALL_CENTER]


@pytest.mark.parametrize("policy", FACE_POLICIES)
def test_an_image_without_faces_has_no_chosen_face(policy: str) -> None:
    assert choose_faces([], policy, 100, 100) == []


@pytest.mark.parametrize("policy", FACE_POLICIES)
def test_order_of_detection_does_not_matter(policy: str) -> None:
    left, right = Face(0, 40, 20, 60, 0.9), Face(80, 40, 100, 60, 0.9)
    better = Face(0, 0, 20, 20, 0.95)
    faces = [left, right, better]
    expected = choose_faces(faces, policy, 100, 100)
    assert choose_faces(faces[::-1], policy, 100, 100) == expected


def test_equally_large_faces_are_ordered_by_score() -> None:
    worse, better = Face(0, 0, 20, 20, 0.9), Face(50, 0, 70, 20, 0.95)
    assert choose_faces([worse, better], "largest", 100, 100) == [better]


def test_unknown_policy_names_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="'biggest'; choose one of: largest, center, all"):
        choose_faces(FACES, "biggest", 100, 100)


def test_only_a_face_without_score_stands_for_the_whole_image() -> None:
    assert Face(0, 0, 10, 10).is_whole_image
    assert not Face(0, 0, 10, 10, 0.0).is_whole_image
