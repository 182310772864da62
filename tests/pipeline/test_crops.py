"""Large photographs are decoded smaller than they are, and their rows hardly tell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faceaudit.faces import Face, open_detector
from faceaudit.images.refs import ImageRef
from faceaudit.pipeline import crops as pipeline
from faceaudit.pipeline.crops import CroppedImage, CropSettings, crop_images
from faceaudit.showcase.images import photograph


class Box:
    """A detector that reports one box, given in shares of the image's sides."""

    name = "box"

    def __init__(self, share: float, enough_side: int | None) -> None:
        self.share, self.enough_side = share, enough_side
        self.shapes: list[tuple[int, ...]] = []

    def facts(self) -> dict[str, Any]:
        return {}

    def detect(self, images: Any) -> list[list[Face]]:
        self.shapes += [image.shape[:2] for image in images]
        return [[self.face(*image.shape[1::-1])] for image in images]

    def face(self, width: int, height: int) -> Face:
        side = self.share * width
        return Face(width / 4, height / 4, width / 4 + side, height / 4 + side, 0.9)


def settings(detector: Any, size: int = 112) -> CropSettings:
    return CropSettings(detector, "largest", size, "none", 0.0, 0.0, 100_000_000)


def write(path: Path, width: int, height: int, **options: Any) -> ImageRef:
    """The demo's photograph, enlarged."""
    large = photograph().convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    large.save(path, **options)
    return ImageRef(path.name, str(path))


def one(image: ImageRef, chosen: CropSettings) -> CroppedImage:
    (found,) = crop_images([image], chosen)
    assert found.status == "ok", found.error
    return found


def gray_levels_apart(a: CroppedImage, b: CroppedImage) -> float:
    return float(np.abs(a.crops[0].astype(int) - b.crops[0]).mean())


@pytest.mark.parametrize(
    ("side", "seen"), [(2559, 2559), (2560, 1280), (2561, 1281), (5120, 1280), (10240, 1280)]
)
def test_the_smallest_size_that_is_enough_is_decoded(tmp_path: Path, side: int, seen: int) -> None:
    detector = Box(0.5, 1280)
    image = write(tmp_path / "a.jpg", side, side // 16)
    found = one(image, settings(detector))
    assert detector.shapes[0][1] == seen
    assert (found.width, found.height) == (side, side // 16)


def test_a_detector_that_needs_every_pixel_gets_it(tmp_path: Path) -> None:
    detector = Box(0.5, None)
    one(write(tmp_path / "a.jpg", 3000, 2000), settings(detector))
    assert detector.shapes == [(2000, 3000)]


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_formats_other_than_jpeg_are_decoded_whole(tmp_path: Path, kind: str) -> None:
    detector = Box(0.5, 640)
    one(write(tmp_path / f"a.{kind}", 1600, 300), settings(detector))
    assert detector.shapes == [(300, 1600)]


def test_a_progressive_jpeg_is_decoded_whole_for_nothing_would_be_saved(tmp_path: Path) -> None:
    detector = Box(0.5, 640)
    one(write(tmp_path / "a.jpg", 1600, 1000, progressive=True), settings(detector))
    assert detector.shapes == [(1000, 1600)]


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("share", [0.03, 0.06, 0.12, 0.3])
def test_boxes_and_crops_are_those_of_the_full_size(
    tmp_path: Path, share: float, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = write(tmp_path / "a.jpg", 2560, 1600, quality=95, exif=exif)
    part, full = (one(image, settings(Box(share, side))) for side in (640, None))
    assert (part.width, part.height) == (full.width, full.height)
    for edge in ("x0", "y0", "x1", "y1"):
        assert getattr(part.faces[0], edge) == pytest.approx(getattr(full.faces[0], edge), abs=1e-3)
    assert gray_levels_apart(part, full) < 2


@pytest.mark.parametrize(
    ("share", "reductions"), [(0.3, [8]), (0.1, [8, 4]), (0.05, [8, 2]), (0.02, [8, 1])]
)
def test_a_small_face_has_the_photograph_decoded_again_as_large_as_its_crop_needs(
    tmp_path: Path, share: float, reductions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    decode = pipeline.decode

    def spy(data: bytes, **options: Any) -> Any:
        seen.append(decode(data, **options))
        return seen[-1]

    monkeypatch.setattr(pipeline, "decode", spy)
    found = one(write(tmp_path / "a.jpg", 5200, 1200), settings(Box(share, 640)))
    assert [result.reduction for result in seen] == reductions
    view = 5200 * share / 112  # pixels of the photograph per pixel of the crop
    assert reductions[-1] <= max(1.0, view) < 2 * reductions[-1] or reductions == [8]
    assert found.crops[0].shape == (112, 112, 3)


def test_images_of_data_sets_keep_all_their_pixels(tmp_path: Path) -> None:
    chosen = settings(open_detector("whole"))
    assert chosen.enough_side == 640
    image = write(tmp_path / "a.jpg", 1279, 900)
    assert pipeline.open_image(image, chosen).decoded.reduction == 1


def test_the_detector_finds_the_same_face_in_a_photograph_decoded_at_half_its_size(
    tmp_path: Path,
) -> None:
    detector = open_detector("retinaface")
    image = write(tmp_path / "a.jpg", 3200, 3200, quality=92)
    chosen = replace(settings(detector), align="similarity")
    part = one(image, chosen)
    assert pipeline.open_image(image, chosen).decoded.reduction == 2
    full = one(image, replace(chosen, detector=_WithAllPixels(detector)))
    side = full.faces[0].width
    for edge in ("x0", "y0", "x1", "y1"):
        apart = getattr(part.faces[0], edge) - getattr(full.faces[0], edge)
        assert abs(apart) < 0.03 * side
    assert gray_levels_apart(part, full) < 4


class _WithAllPixels:
    """A detector that is given photographs at their full size."""

    enough_side = None

    def __init__(self, detector: Any) -> None:
        self.name, self.facts, self.detect = detector.name, detector.facts, detector.detect


def test_a_file_of_odd_size_keeps_its_last_pixels_within_the_image(tmp_path: Path) -> None:
    class Edge(Box):
        def face(self, width: int, height: int) -> Face:
            return Face(width - 50.0, height - 50.0, float(width), float(height), 0.9)

    found = one(write(tmp_path / "a.jpg", 1999, 1501), settings(Edge(0.1, 640)))
    assert (found.faces[0].x1, found.faces[0].y1) == (1999, 1501)


def test_the_table_says_how_photographs_were_decoded(tmp_path: Path) -> None:
    assert settings(open_detector("retinaface")).enough_side == 1280
    assert settings(open_detector("retinaface"), size=800).enough_side == 1600
    assert settings(Box(0.1, None)).enough_side is None
