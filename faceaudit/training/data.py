"""Prepared crops with their labels: read, split, seen in random views."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import polars as pl
import simplejpeg
from numpy.typing import NDArray

from faceaudit.errors import InputError, LabelError, UsageError
from faceaudit.faces import ViewKind, view_side
from faceaudit.faces.crop import pixel_indices
from faceaudit.labels.tables import recorded_tasks
from faceaudit.models.bundle import Bundle
from faceaudit.schema import AGE, MAX_AGE, task_of_scheme
from faceaudit.training.folders import folders_of
from faceaudit.training.labels import UNKNOWN, age_intervals, class_rows
from faceaudit.training.recipe import NO_AUGMENTATION, Augmentation, Data, Recipe

log = logging.getLogger(__name__)

METADATA_FILE = "metadata.parquet"
COLUMNS = {
    "file_name": pl.String,
    "sha256": pl.String,
    "align": pl.String,
    "margin": pl.Float64,
    "offset": pl.Float64,
    "view": pl.String,
}
"""What a table of prepared crops has of every crop."""
SHA256 = "^[0-9a-fA-F]{64}$"

Pixels = NDArray[np.uint8]
"""RGB, (H, W, 3)."""
DECODING_ERRORS = (OSError, ValueError)
"""What reading a damaged or missing crop raises."""


@dataclass(frozen=True)
class CropSet:
    """Crops on disk and what is known of them; arrays have shape (N,) unless stated."""

    files: tuple[Path, ...]
    views: NDArray[np.float64]
    """Width of each stored crop as a multiple of the view that the model is used with."""
    labels: dict[str, NDArray[np.int64]]
    """Row of ``class_sets`` by task, ``UNKNOWN`` where not annotated; ``age_low``, ``age_high`` in
    years."""
    sha256: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def take(self, rows: NDArray[np.int64]) -> CropSet:
        """The crops at these positions."""
        return CropSet(
            tuple(self.files[row] for row in rows),
            self.views[rows],
            {name: values[rows] for name, values in self.labels.items()},
            tuple(self.sha256[row] for row in rows),
        )


def read_crops(folder: Path, recipe: Recipe) -> CropSet:
    """The crops of a folder that ``faceaudit prepare`` wrote, with the labels of a recipe's tasks.

    Raises:
        InputError: If the folder was not prepared, or not with the recipe's alignment.
        LabelError: If it has no label for one of the tasks.
    """
    table, views = read_folder(folder, recipe)
    labels: dict[str, NDArray[np.int64]] = {}
    annotated = recorded_tasks([folder / METADATA_FILE])
    for name, task in recipe.tasks.items():
        if name == AGE:
            ends = age_intervals(table, folder)
            labels["age_low"], labels["age_high"] = (np.minimum(one, MAX_AGE) for one in ends)
        else:
            head = task_of_scheme(name, task.scheme)
            labels[name] = class_rows(table, head, annotated.get(name), folder)
    crops = CropSet(
        files=tuple(folder / name for name in table["file_name"]),
        views=views,
        labels=labels,
        sha256=tuple(table["sha256"]),
    )
    return crops.take(_wanted(table, recipe, folder))


def read_folder(folder: Path, model: Recipe | Bundle) -> tuple[pl.DataFrame, NDArray[np.float64]]:
    """The table of a folder that ``faceaudit prepare`` wrote, and the views of its crops, (N,).

    A view is the width of the stored crop as a multiple of what ``predict`` would cut of that face
    for the model: a box or a whole image where landmarks are missing.

    Raises:
        InputError: If the folder was not prepared, or not with the model's alignment, or its table
            is damaged.
    """
    path = folder / METADATA_FILE
    if not path.is_file():
        raise InputError(
            f"{folder}: has no {METADATA_FILE}; make it with `faceaudit prepare IMAGES {folder}`"
        )
    table = _read_table(path)
    align, margin, offset = (table[name][0] for name in ("align", "margin", "offset"))
    aligned = model.align == "similarity"  # boxes are not moved
    if align != model.align or margin < model.margin or (aligned and offset != model.offset):
        moved = aligned and offset != model.offset
        options = f"--align {model.align} --margin {max(margin, model.margin):g}"
        raise InputError(
            f"{folder}: was prepared with align {align}, margin {margin:g}, offset {offset:g}; "
            f"{model.name} needs align {model.align}, margin {model.margin:g} or more"
            f"{f', offset {model.offset:g}' if aligned else ''}: `faceaudit prepare IMAGES FOLDER "
            f"{options}{f' --offset {model.offset:g}' if moved else ''}`"
        )
    kinds = table["view"].to_list()
    if strange := set(kinds) - set(get_args(ViewKind)):
        raise InputError(
            f"{path}: view is {strange.pop()!r}; it must be one of {', '.join(get_args(ViewKind))}"
        )
    views = [view_side(kind, margin) / view_side(kind, model.margin) for kind in kinds]
    return table, np.asarray(views, np.float64)


def _read_table(path: Path) -> pl.DataFrame:
    """The table of prepared crops, with what every crop must have."""
    again = "make it again with `faceaudit prepare`"
    try:
        table = pl.read_parquet(path, glob=False)
        if table.is_empty():
            raise InputError(f"{path.parent}: has no crops; `faceaudit prepare` found no face")
        table = table.with_columns(pl.col(name).cast(kind) for name, kind in COLUMNS.items())
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).split("\n", 1)[0]
        raise InputError(f"{path}: is no table of prepared crops ({reason}); {again}") from error
    for name in COLUMNS:
        if missing := table[name].null_count():
            raise InputError(f"{path}: {name} is missing of {missing} crops; {again}")
    wrong = table["sha256"].filter(~table["sha256"].str.contains(SHA256))
    if len(wrong):
        raise InputError(f"{path}: sha256 is {wrong[0]!r}, which is no hash of an image; {again}")
    return table


def _wanted(table: pl.DataFrame, recipe: Recipe, folder: Path) -> NDArray[np.int64]:
    """Positions of the crops that the recipe's data filters keep.

    Raises:
        LabelError: If they keep none.
    """
    kept = np.ones(len(table), bool)
    for task, name in recipe.data.where.items():
        column = f"{task}_true"
        if column not in table.columns:
            raise LabelError(f"{folder}: no column {column}, which data.where names")
        values = table[column].cast(pl.String)
        kept &= (values == name).fill_null(False).to_numpy()
        if name not in values:
            known = ", ".join(values.drop_nulls().unique().sort()) or "none"
            raise LabelError(
                f"{folder}: data.where {task} = {name!r} keeps no crop; its {column} are: {known}"
            )
    first, last = recipe.data.ages
    if (first, last) != Data.ages:
        low, high = age_intervals(table, folder)
        kept &= (low >= max(first, 0)) & (high <= last)
        if not kept.any():
            known = f"{low[low >= 0].min()} to {high.max()}" if (low >= 0).any() else "not known"
            raise LabelError(
                f"{folder}: data.ages {first} to {last} keep no crop"
                f"{' that data.where keeps' if recipe.data.where else ''}; its ages are {known}"
            )
    if not kept.any():
        raise LabelError(f"{folder}: no crop is all that data.where names; leave something out")
    return np.flatnonzero(kept)


def check_labels(crops: CropSet, recipe: Recipe) -> None:
    """Check that every task of a recipe has a label to learn from.

    Raises:
        LabelError: If no crop has one.
    """
    advice = "run `faceaudit prepare` with --labels"
    for name, task in recipe.tasks.items():
        if name == AGE and (crops.labels["age_low"] == UNKNOWN).all():
            raise LabelError(f"--data: no crop has an age; {advice}")
        if name != AGE and (crops.labels[name] == UNKNOWN).all():
            raise LabelError(
                f"--data: no {name}_true is a class of the scheme {task.scheme}; {advice}"
            )


def enlargements(crops: CropSet, folders: Sequence[Path], recipe: Recipe) -> list[str]:
    """A sentence for each prepared folder whose views a recipe would only enlarge.

    Stored crops show more than the view that is trained on; what is left of their pixels in the
    view must be as many as the network's largest input, or the input has no more to see.

    Args:
        crops: Those to train on.
        folders: That ``faceaudit prepare`` wrote.
        recipe: Has the sizes of the inputs.
    """
    size = max(stage.size for stage in recipe.stages)
    place = np.asarray(folders_of(crops.files, folders))
    found = []
    for number, folder in enumerate(folders):
        rows = np.flatnonzero(place == number)
        stored = next(filter(None, (_stored_size(crops.files[row]) for row in rows)), None)
        if stored is None:
            continue
        view = float(np.median(crops.views[rows]))
        if round(stored / view) < size:
            found.append(
                f"{folder}: its crops have {stored} pixels, of which the view of "
                f"{recipe.name} takes {stored / view:.0f}, enlarged to {size}; where images "
                f"show more, `faceaudit prepare --size {math.ceil(size * view)}` keeps it"
            )
    return found


def _stored_size(path: Path) -> int | None:
    """Height of a prepared crop in pixels; None where it cannot be read."""
    try:
        return int(simplejpeg.decode_jpeg_header(path.read_bytes())[0])
    except DECODING_ERRORS:
        return None


def is_held_out(sha256: str, validation_share: float) -> bool:
    """Whether an image with this hash of its bytes belongs to the validation part."""
    return int(sha256[:8], 16) / 2**32 < validation_share


def read_crop(path: Path) -> Pixels:
    """RGB pixels of a prepared crop, (H, W, 3).

    Raises:
        OSError: If the file cannot be read (``DECODING_ERRORS``).
        ValueError: If it cannot be decoded.
    """
    return np.asarray(simplejpeg.decode_jpeg(path.read_bytes(), colorspace="RGB"), np.uint8)


def view_matrix(
    stored: int, size: int, scale: float, angle: float, shift: tuple[float, float], mirror: bool
) -> NDArray[np.float64]:
    """Affine map from indices of stored pixels to indices of view pixels, (2, 3).

    Args:
        stored: Width of the stored crop in pixels.
        size: Width of the view in pixels.
        scale: Width of the view as a share of the stored crop.
        angle: Degrees, counter-clockwise.
        shift: Of the view's center, as shares of the view.
        mirror: Whether left and right are exchanged.
    """
    zoom = size / (scale * stored)
    matrix = np.asarray(cv2.getRotationMatrix2D((stored / 2, stored / 2), angle, zoom), np.float64)
    matrix[:, 2] += size / 2 - stored / 2 + np.asarray(shift) * size
    matrix = pixel_indices(matrix)
    if mirror:
        matrix[0] = -matrix[0]
        matrix[0, 2] += size - 1
    return matrix


def central_view(crop: Pixels, size: int, view: float) -> Pixels:
    """The part of a stored crop that the model is used with, (size, size, 3)."""
    matrix = view_matrix(crop.shape[0], size, 1 / view, 0.0, (0.0, 0.0), False)
    return _warp(crop, matrix, size, crop.shape[0] / view / size)


def _warp(crop: Pixels, matrix: NDArray[np.float64], size: int, shrink: float) -> Pixels:
    if shrink > 1.5:  # bilinear sampling alone would skip pixels
        crop = _blur(crop, 0.4 * (shrink - 0.5))
    view = cv2.warpAffine(
        crop, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(view, np.uint8)


def _blur(image: Pixels, sigma: float) -> Pixels:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def _resize(image: Pixels, size: int, interpolation: int) -> Pixels:
    return np.asarray(cv2.resize(image, (size, size), interpolation=interpolation), np.uint8)


def augmented_view(
    crop: Pixels,
    size: int,
    view: float,
    settings: Augmentation,
    rng: np.random.Generator,
) -> Pixels:
    """One random view of a stored crop, (size, size, 3)."""
    loose = rng.random() < settings.loose_share
    scale = rng.uniform(*(settings.loose if loose else settings.near)) / view
    spread = settings.shift if loose else settings.shift / 2
    angle = rng.normal(0, settings.rotation / (2 if loose else 4))
    shift = (rng.normal(0, spread), rng.normal(0, spread))
    matrix = view_matrix(
        crop.shape[0], size, scale, angle, shift, rng.random() < settings.mirror_share
    )
    image = _warp(crop, matrix, size, scale * crop.shape[0] / size)
    image = _degrade(image, size, settings, rng)
    image = _recolor(image, settings, rng)
    if rng.random() < settings.erase_share:
        width, height = rng.integers(size // 6, size // 2, 2)
        left, top = rng.integers(0, size - width), rng.integers(0, size - height)
        image[top : top + height, left : left + width] = rng.integers(0, 256, 3)
    return image


def _degrade(image: Pixels, size: int, settings: Augmentation, rng: np.random.Generator) -> Pixels:
    if rng.random() < settings.blur_share:
        image = _blur(image, rng.uniform(0.4, 1.6))
    if rng.random() < settings.resample_share:
        small = int(size * rng.uniform(0.3, 0.8))
        image = _resize(image, small, cv2.INTER_AREA)
        image = _resize(image, size, cv2.INTER_LINEAR)
    if rng.random() < settings.jpeg_share:
        data = simplejpeg.encode_jpeg(
            np.ascontiguousarray(image), int(rng.integers(25, 85)), colorspace="RGB"
        )
        image = np.asarray(simplejpeg.decode_jpeg(data, colorspace="RGB"), np.uint8)
    return image


def _recolor(image: Pixels, settings: Augmentation, rng: np.random.Generator) -> Pixels:
    """Random brightness, contrast and channel balance, rarely no color: one affine color map."""
    gain = rng.uniform(1 - settings.color, 1 + settings.color)
    balance = rng.uniform(1 - settings.color / 5, 1 + settings.color / 5, 3)
    keep = 0.0 if rng.random() < settings.gray_share else rng.uniform(1 - settings.color, 1.0)
    luma = np.asarray([0.299, 0.587, 0.114])  # ITU-R BT.601
    mix = keep * np.eye(3) + (1 - keep) * np.tile(luma, (3, 1))
    matrix = gain * balance[:, None] * mix
    offset = rng.uniform(-settings.color, settings.color) * 64 + 128 * (1 - gain)
    colors = cv2.transform(image, np.column_stack([matrix, np.full(3, offset)]))
    return np.asarray(colors, np.uint8)


def training_view(
    crop: Pixels,
    size: int,
    view: float,
    augmentation: Augmentation | None,
    seed: tuple[int, ...],
) -> Pixels:
    """A stored crop as a network learns from it, (size, size, 3).

    Args:
        crop: RGB, (H, H, 3).
        size: Width of the view in pixels.
        view: Width of the crop as a multiple of the view that the model is used with.
        augmentation: What varies; None for the central view.
        seed: Decides what the view looks like.
    """
    if augmentation is None or plain(augmentation):
        return central_view(crop, size, view)
    return augmented_view(crop, size, view, augmentation, np.random.default_rng(seed))


def plain(settings: Augmentation) -> bool:
    """Whether settings leave every crop at its central view."""
    return replace(settings, mixup_share=0.0, cutmix_share=0.0) == NO_AUGMENTATION


def read_folders(folders: Sequence[Path], recipe: Recipe, limit: int | None = None) -> CropSet:
    """The crops of folders that ``faceaudit prepare`` wrote, as one set (see ``read_crops``).

    Args:
        folders: Each once.
        recipe: Whose labels are read.
        limit: Crops at most; they are taken from all folders alike.

    Raises:
        UsageError: If no folder is given, or one twice.
        InputError: If a folder was not prepared, or not with the recipe's alignment.
        LabelError: If a folder has no label for one of the tasks.
    """
    places = [folder.resolve() for folder in folders]
    for place, folder in zip(places, folders, strict=True):
        if places.count(place) > 1:
            raise UsageError(f"--data {folder}: is given twice; its faces would count twice")
    crops = join_crops([read_crops(folder, recipe) for folder in folders])
    columns = {
        name for folder in folders for name in pl.read_parquet_schema(folder / METADATA_FILE)
    }
    if not any(name.endswith("_true") for name in columns):
        raise LabelError(
            f"{folders[0]}: no labels of gender, race or age; run `faceaudit prepare IMAGES "
            f"{folders[0]}` with --labels"
        )
    return some_of(crops, limit) if limit else crops


def some_of(crops: CropSet, count: int) -> CropSet:
    """So many crops at most: those whose hashes, read backward, come first.

    Read forward they decide which crops are held out (``is_held_out``).
    """
    order = np.argsort(np.asarray([digest[::-1] for digest in crops.sha256]), kind="stable")
    return crops.take(np.sort(order[:count]))


def join_crops(sets: Sequence[CropSet]) -> CropSet:
    """Several crop sets as one.

    Raises:
        UsageError: If none is given.
    """
    if not sets:
        raise UsageError("--data: name at least one folder that `faceaudit prepare` wrote")
    return CropSet(
        files=tuple(file for crops in sets for file in crops.files),
        views=np.concatenate([crops.views for crops in sets]),
        labels={
            name: np.concatenate([crops.labels[name] for crops in sets]) for name in sets[0].labels
        },
        sha256=tuple(digest for crops in sets for digest in crops.sha256),
    )
