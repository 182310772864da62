from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from faceaudit.faces.shrink import halve, halvings


def test_every_pixel_is_the_mean_of_those_it_replaces() -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    means = image.reshape(12, 4, 20, 4, 3).mean(axis=(1, 3))
    assert np.abs(halve(image, 2) - means).max() <= 1  # rounded twice


def test_odd_pixels_at_the_end_are_left_out() -> None:
    image = np.zeros((7, 9, 3), np.uint8)
    image[6:], image[:, 8:] = 255, 255
    assert halve(image, 1).shape == (3, 4, 3)
    assert (halve(image, 1) == 0).all()


def test_gray_images_stay_gray() -> None:
    assert halve(np.zeros((8, 8), np.uint8), 1).shape == (4, 4)


@given(st.floats(1e-5, 100), st.integers(1, 9000), st.integers(1, 9000))
def test_an_image_is_never_halved_below_its_scale_or_to_nothing(
    scale: float, height: int, width: int
) -> None:
    times = halvings(scale, height, width)
    assert times >= 0
    assert times == 0 or 2.0**-times >= scale * (1 - 1e-6)
    assert min(height, width) >> times >= 1
    smaller = 2.0 ** -(times + 1) >= scale and min(height, width) >> (times + 1) >= 1
    assert not smaller
