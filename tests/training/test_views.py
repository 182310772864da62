"""What a training sees of a prepared crop is what predict would cut of the face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from PIL import Image

from faceaudit.errors import InputError
from faceaudit.faces import Face, crop_face
from faceaudit.faces.crop import TEMPLATE, TEMPLATE_SIZE
from faceaudit.models.bundle import load_bundle
from faceaudit.pipeline import prepare as module
from faceaudit.pipeline.prepare import prepare
from faceaudit.training.data import (
    central_view,
    enlargements,
    join_crops,
    read_crop,
    read_crops,
    view_matrix,
)
from faceaudit.training.quantize import read_views
from faceaudit.training.recipe_files import load_recipe

BOX = (130.0, 120.0, 270.0, 280.0)
POINTS = (TEMPLATE * 140 / TEMPLATE_SIZE + (130, 130)).astype(np.float32)
FACES = {
    400: ("aligned", Face(*BOX, 0.9, POINTS)),
    401: ("box", Face(*BOX, 0.9)),
    402: ("box", Face(*BOX, 0.9, POINTS * 0 + 200)),
    403: ("whole", None),
}
"""By the width of their image: which view is taken of a face, and the face; None: the image."""


class Told:
    """A detector that knows the faces."""

    enough_side = None

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Face]]:
        return [[face_in(image)] for image in images]


def face_in(image: NDArray[np.uint8]) -> Face:
    width = image.shape[1]
    return FACES[width][1] or module.open_detector("whole", threads=1).detect([image])[0][0]


@pytest.fixture
def images(tmp_path: Path) -> dict[str, NDArray[np.uint8]]:
    """Smooth random pictures by name, one for each face."""
    folder = tmp_path / "images"
    folder.mkdir()
    found = {}
    for width in FACES:
        noise = np.random.default_rng(width).integers(0, 256, (12, 12, 3), np.uint8)
        name = f"2{width - 400}_0_0_20170101000000000.png"
        found[name] = cv2.resize(noise, (width, 400), interpolation=cv2.INTER_CUBIC)
        Image.fromarray(found[name]).save(folder / name)
    return found


def test_every_crop_is_seen_as_predict_would_cut_it(
    images: dict[str, NDArray[np.uint8]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = module.open_detector
    faces = {name: face_in(image) for name, image in images.items()}
    monkeypatch.setattr(
        module, "open_detector", lambda name, **named: Told() if name == "told" else opened(name)
    )
    prepare(tmp_path / "images", tmp_path / "crops", detector="told")
    table = pl.read_parquet(tmp_path / "crops" / "metadata.parquet")
    assert table["view"].to_list() == [kind for kind, _ in FACES.values()]
    recipe = load_recipe("fairface")
    crops = read_crops(tmp_path / "crops", recipe)
    assert crops.views == pytest.approx([1.4 / 0.95, 1.8 / 0.9, 1.8 / 0.9, 1.0])
    cut = {"size": 112, "align": recipe.align, "margin": recipe.margin, "offset": recipe.offset}
    for row, name in enumerate(table["image"]):
        seen = central_view(read_crop(crops.files[row]), 112, float(crops.views[row])).astype(int)
        wanted = crop_face(images[name], faces[name], **cut)  # type: ignore[arg-type]
        assert np.abs(seen - wanted).mean() < 1
        as_before = central_view(read_crop(crops.files[row]), 112, 1.4 / 0.95).astype(int)
        assert (np.abs(as_before - wanted).mean() > 10) == (row > 0)
    assert np.array_equal(
        read_views(tmp_path / "crops", load_bundle("fairface")).views, crops.views
    )
    assert np.array_equal(crops.take(np.asarray([3, 0])).views, crops.views[[3, 0]])


@pytest.mark.parametrize(("size", "limit"), [(48, 4.0), (100, 1.5), (300, 1.5)])
def test_a_view_is_where_predict_cuts_it_at_any_size(size: int, limit: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    image = cv2.resize(noise, (400, 400), interpolation=cv2.INTER_CUBIC)
    cut = {"size": size, "align": "none", "margin": 0.2}
    wanted = crop_face(image, FACES[401][1], **cut).astype(int)  # type: ignore[arg-type]
    stored = crop_face(image, FACES[401][1], size=192, align="none", margin=0.4)  # type: ignore[arg-type]
    seen = central_view(stored, size, 1.8 / 1.4).astype(int)
    assert np.abs(seen - wanted).mean() < limit


@pytest.mark.parametrize("angle", [0.0, 30.0])
def test_the_mirror_of_a_view_is_the_view_of_the_mirror(angle: float) -> None:
    crop = np.random.default_rng(1).integers(0, 256, (96, 96, 3), np.uint8)
    crop = cv2.GaussianBlur(crop, (0, 0), 3)
    for size in (40, 96, 150):
        plain, mirrored = (
            cv2.warpAffine(one, view_matrix(96, size, 0.8, turn, (0, 0), mirror), (size, size))
            for one, turn, mirror in ((crop, angle, False), (crop[:, ::-1], -angle, True))
        )
        assert np.abs(plain.astype(int) - mirrored).max() <= 3


def test_whole_images_are_seen_whole_with_any_alignment(
    images: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    recipe = load_recipe("fairface")
    for align in ("similarity", "none"):
        prepare(tmp_path / "images", tmp_path / align, detector="whole", align=align)
        crops = read_crops(tmp_path / align, replace(recipe, align=align))
        assert crops.views.tolist() == [1.0] * len(FACES)


def test_views_of_folders_are_joined_with_their_crops(
    images: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    recipe = load_recipe("fairface")
    prepare(tmp_path / "images", tmp_path / "crops", detector="whole")
    path = tmp_path / "crops" / "metadata.parquet"
    whole = read_crops(tmp_path / "crops", recipe)
    table = pl.read_parquet(path).with_columns(view=pl.lit("aligned"))
    table.write_parquet(path)
    both = join_crops([read_crops(tmp_path / "crops", recipe), whole])
    assert both.views.tolist() == [1.4 / 0.95] * len(FACES) + [1.0] * len(FACES)
    table.drop("view").write_parquet(path)
    with pytest.raises(InputError, match=r"no table of prepared crops .*view.*make it again"):
        read_crops(tmp_path / "crops", recipe)


def test_a_folder_without_a_crop_is_named(tmp_path: Path) -> None:
    pl.DataFrame({"file_name": [], "view": []}).write_parquet(tmp_path / "metadata.parquet")
    with pytest.raises(InputError, match="has no crops; `faceaudit prepare` found no face"):
        read_crops(tmp_path, load_recipe("fairface"))


def test_views_that_a_recipe_only_enlarges_are_named(
    images: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    crops = tmp_path / "crops"
    prepare(tmp_path / "images", crops, detector="whole", size=100)
    recipe = load_recipe("fairface")
    read = read_crops(crops, recipe)
    (doubt,) = enlargements(read, [crops], recipe)
    assert doubt == (
        f"{crops}: its crops have 100 pixels, of which the view of fairface takes 100, enlarged to "
        "112; where images show more, `faceaudit prepare --size 112` keeps it"
    )
    small = replace(recipe, stages=(replace(recipe.stages[0], size=100),))
    assert not enlargements(read, [crops], small)
    twice = replace(read, views=read.views * 2)
    assert "takes 50, enlarged to 100" in enlargements(twice, [crops], small)[0]
    assert "--size 200" in enlargements(twice, [crops], small)[0]
    for file in read.files:
        file.write_bytes(b"damaged")
    assert not enlargements(read, [crops], recipe)
