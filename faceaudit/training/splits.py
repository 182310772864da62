"""Training, validation and test parts of which none shows another's pictures.

Crops of one picture (equal bytes, or nearly equal pixels, also mirrored, by the test of
``faceaudit.leakage``) form a group, and a group lies on one side. Its side is decided by the
smallest hash of its members, so that runs and data sets agree as far as they have the same
pictures.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import polars as pl
import simplejpeg
from numpy.typing import NDArray

from faceaudit.errors import InputError
from faceaudit.leakage.duplicates import (
    NEAR,
    Pairs,
    conflicting_intervals,
    conflicting_sets,
    exact_groups,
    find_candidates,
    join_groups,
    picture_hashes,
)
from faceaudit.leakage.find import CANDIDATE
from faceaudit.leakage.prints import small_picture
from faceaudit.leakage.verify import SIMILAR, similarities
from faceaudit.ordered import available_cores
from faceaudit.progress import counted
from faceaudit.schema import AGE
from faceaudit.storage import atomic_write
from faceaudit.training.data import CropSet, Pixels, is_held_out
from faceaudit.training.folders import folders_of
from faceaudit.training.labels import class_sets
from faceaudit.training.recipe import Recipe

log = logging.getLogger(__name__)

HASHES, SPLITS = "hashes.npz", "splits.parquet"
PARTS = TRAINING, VALIDATION, TEST = "training", "validation", "test"
LEFT_OUT = "left out"
CONFLICT, UNREADABLE = "conflicting labels", "cannot be decoded"
LEARNED = "a start or teacher may have learned it"
LEFT_OUT_AS_LEARNED, LEFT_OUT_AS_UNREADABLE = "left_out_as_learned_before", "left_out_as_unreadable"
"""Keys of a model card."""
HASHED_SIZE = 64
"""Crops are decoded to this width or a little more before they are hashed, in pixels."""


@dataclass(frozen=True)
class Split:
    """The parts of a training, and where each crop went."""

    training: CropSet
    validation: CropSet
    test: CropSet
    table: pl.DataFrame
    """``file``, ``sha256``, ``group``, ``part`` and ``reason`` of every crop."""

    def without(self, rows: NDArray[np.bool_], reason: str) -> Split:
        """The split without some crops, (N,), which are left out for a reason."""
        part = self.table["part"].to_numpy()
        training, validation, test = (
            crops.take(np.flatnonzero(~rows[part == name]))
            for name, crops in zip(PARTS, (self.training, self.validation, self.test), strict=True)
        )
        left = pl.Series(rows)
        table = self.table.with_columns(
            part=pl.when(left).then(pl.lit(LEFT_OUT)).otherwise("part"),
            reason=pl.when(left).then(pl.lit(reason)).otherwise("reason"),
        )
        return Split(training, validation, test, table)

    def record(self, work: Path) -> None:
        """Write ``splits.parquet``."""
        with atomic_write(work / SPLITS) as file:
            self.table.write_parquet(file)

    def facts(self) -> dict[str, int]:
        """Counts for the model card."""
        sizes = self.table["group"].value_counts()["count"]
        reasons = self.table["reason"].value_counts()
        found = {name: count for name, count in reasons.iter_rows() if name}
        return {
            "crops": len(self.table),
            "groups_of_duplicates": int((sizes > 1).sum()),
            "crops_with_duplicates": int(sizes.filter(sizes > 1).sum()),
            "left_out_for_conflicting_labels": found.get(CONFLICT, 0),
            LEFT_OUT_AS_UNREADABLE: found.get(UNREADABLE, 0),
            LEFT_OUT_AS_LEARNED: found.get(LEARNED, 0),
        }


def divide(
    crops: CropSet, recipe: Recipe, folders: Sequence[Path], work: Path, *, record: bool = True
) -> Split:
    """Split crops by groups of duplicates, and record it in ``work``.

    Args:
        crops: All that take part.
        recipe: ``data`` has the shares, and what happens to duplicates whose labels disagree; or
            the split of another training, which is taken as it is.
        folders: Where the crops come from; pictures in several of them are logged.
        work: Folder of ``hashes.npz``, which saves decoding again, and of ``splits.parquet``.
        record: Whether to write ``splits.parquet``: of processes that train together, one does.

    Raises:
        InputError: If ``data.split`` names what is no split, or none of these crops.
    """
    if recipe.data.split:
        known = _as_recorded(crops, Path(recipe.data.split))
        return _parts(crops, known, work if record else None)
    groups, readable = find_groups(crops, work / HASHES if recipe.data.near_duplicates else None)
    conflict = in_conflict(crops, groups, recipe)
    _warn(crops, groups, readable, conflict, folders)
    part = np.asarray([_side(digest, recipe) for digest in smallest_hashes(crops.sha256, groups)])
    reason = np.where(readable, "", UNREADABLE).astype(object)
    if recipe.data.conflicts == "drop":
        reason[conflict & readable & (part == TRAINING)] = CONFLICT
    part = np.where(reason == "", part, LEFT_OUT)
    table = pl.DataFrame(
        {
            "file": [str(file) for file in crops.files],
            "sha256": crops.sha256,
            "group": groups,
            "part": part.tolist(),
            "reason": reason.tolist(),
        }
    )
    return _parts(crops, table, work if record else None)


def _as_recorded(crops: CropSet, path: Path) -> pl.DataFrame:
    """The split of these crops that another training recorded.

    A face is known by the hash of its image and the name of its crop, which has the numbers of
    both; else by the hash and its own number; else, as a split that names no crops, by the hash.
    """
    facts = ("group", "part", "reason")
    try:
        known = pl.read_parquet(path)
        known = known.select("sha256", *facts, *_faces(known))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(
            f"data.split: {path}: no split can be read from it; give the {SPLITS} of a training"
        ) from error
    own = pl.DataFrame({"file": [str(file) for file in crops.files], "sha256": crops.sha256})
    own = own.with_columns(_faces(own))
    found = []
    for keys in (["sha256", "crop"], ["sha256", "face"], ["sha256"]):
        first = known.unique(keys, keep="first", maintain_order=True).select(*keys, *facts)
        joined = own.join(first, on=keys, how="left", maintain_order="left")
        found.append(joined.select(facts))
    best = [pl.coalesce(*(one[name] for one in found)).alias(name) for name in facts]
    table = own.select("file", "sha256", *best)
    missing = table["part"].null_count()
    if missing:
        first = table.filter(pl.col("part").is_null())["file"][0]
        raise InputError(
            f"data.split: {path}: says nothing of {missing:,} of {len(crops):,} crops, such as "
            f"{first}; give the {SPLITS} of a training on the same crops"
        )
    return table


def _faces(table: pl.DataFrame) -> list[pl.Series]:
    """The name of each crop without its ending, and the number of its face, as columns."""
    names = table["file"].to_list() if "file" in table.columns else [None] * len(table)
    crops = [None if name is None else Path(name).stem for name in names]
    faces = [None if crop is None else crop.rpartition("_")[2] for crop in crops]
    return [pl.Series("crop", crops, pl.String), pl.Series("face", faces, pl.String)]


def _parts(crops: CropSet, table: pl.DataFrame, work: Path | None) -> Split:
    """Crops by their part in the table, which is recorded in a folder where one is given."""
    part = table["part"].to_numpy()
    training, validation, test = (crops.take(np.flatnonzero(part == name)) for name in PARTS)
    split = Split(training, validation, test, table)
    if work is not None:
        split.record(work)
    return split


def _side(digest: str, recipe: Recipe) -> str:
    """Part of a group; the validation part does not depend on the size of the test part."""
    share = recipe.data.validation_share
    if is_held_out(digest, share):
        return VALIDATION
    return TEST if is_held_out(digest, share + recipe.data.test_share) else TRAINING


def find_groups(crops: CropSet, cache: Path | None) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Number of each crop's group of duplicates, (N,), and whether it can be decoded, (N,).

    Args:
        crops: To be grouped.
        cache: File that keeps the hashes of pictures; None groups equal bytes alone and decodes
            nothing.
    """
    exact = exact_groups(crops.sha256)
    if cache is None:
        return exact, np.ones(len(crops), bool)
    hashes, readable = _cached_hashes(crops, cache)
    known = np.flatnonzero(readable)
    found = find_candidates(
        np.ascontiguousarray(hashes[known, 0]),
        np.ascontiguousarray(hashes[known, 1]),
        CANDIDATE,
        available_cores(),
    ).at(known)
    near = found.distance <= NEAR
    same = near | (_agreement(crops, found.take(~near), ~near) >= SIMILAR)
    return join_groups(exact, found.take(same)), readable


def _agreement(crops: CropSet, pairs: Pairs, among: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How well the pictures of pairs agree, at their places among all pairs, 0 at the others."""
    rows, place = np.unique([pairs.first, pairs.second], return_inverse=True)
    first, second = place.reshape(2, -1)
    with ThreadPoolExecutor(available_cores()) as pool:
        grays = pool.map(lambda row: _decoded(crops.files[row]), rows.tolist())
        views = (1 / crops.views[rows]).tolist()
        small = [small_picture(gray, view) for gray, view in zip(grays, views, strict=True)]
        pictures = np.asarray(small, np.uint8)
    inner = replace(pairs, first=first, second=second)
    found = np.zeros(len(among))
    found[among] = similarities(pictures, inner, available_cores())
    return found


def _decoded(file: Path) -> Pixels:
    """Gray pixels of a crop, (H, W)."""
    return np.asarray(simplejpeg.decode_jpeg(file.read_bytes(), "GRAY")[:, :, 0], np.uint8)


def _cached_hashes(crops: CropSet, cache: Path) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    key = hashlib.sha256()
    for file, view in zip(crops.files, crops.views.tolist(), strict=True):
        facts = file.stat() if file.is_file() else None
        stamp = (facts.st_size, facts.st_mtime_ns) if facts else None
        key.update(f"{file}\0{stamp}\0{view}\n".encode("utf-8", "surrogateescape"))
    known = _known_hashes(cache, key.hexdigest())
    if known is not None:
        return known
    with ThreadPoolExecutor(available_cores()) as pool:
        hashed = pool.map(hashes_of, crops.files, crops.views.tolist())
        found = list(counted("look for duplicates", hashed, len(crops)))
    readable = np.asarray([one is not None for one in found], bool)
    none = np.zeros((2, 32), np.uint8)
    hashes = np.stack([none if one is None else one for one in found]) if found else none[:0]
    with atomic_write(cache) as file_:
        np.savez(file_, key=np.asarray(key.hexdigest()), hashes=hashes, readable=readable)
    return hashes, readable


def _known_hashes(cache: Path, key: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]] | None:
    """What a file keeps of crops with this key; None where it is of others, or damaged."""
    if not cache.is_file():
        return None
    with (
        suppress(OSError, EOFError, ValueError, KeyError, BadZipFile),
        cache.open("rb") as file,
        np.load(file, allow_pickle=False) as known,
    ):
        if str(known["key"]) == key:
            return known["hashes"], known["readable"]
    return None


def hashes_of(file: Path, view: float) -> NDArray[np.uint8] | None:
    """Hashes of the central view of a stored crop and of its mirror image, (2, 32).

    None where it cannot be decoded. Around the view, many crops show repeated border, which would
    make different faces alike.

    Args:
        file: A prepared crop.
        view: Width of the crop as a multiple of the view.
    """
    try:
        gray = simplejpeg.decode_jpeg(
            file.read_bytes(), "GRAY", min_height=HASHED_SIZE, min_width=HASHED_SIZE
        )[:, :, 0]
    except (OSError, ValueError):
        return None
    edge = round(gray.shape[0] * (1 - 1 / view) / 2)
    return picture_hashes(gray[edge : gray.shape[0] - edge, edge : gray.shape[1] - edge])


def smallest_hashes(sha256: Sequence[str], groups: NDArray[np.int64]) -> list[str]:
    """The smallest hash in the group of each crop."""
    smallest: dict[int, str] = {}
    for digest, group in zip(sha256, groups.tolist(), strict=True):
        smallest[group] = min(digest, smallest.get(group, digest))
    return [smallest[group] for group in groups.tolist()]


def in_conflict(crops: CropSet, groups: NDArray[np.int64], recipe: Recipe) -> NDArray[np.bool_]:
    """Whether each crop is in a group whose labels of a recipe's task exclude each other, (N,).

    Ages do by their years or groups as annotated, whatever groups the recipe learns.
    """
    found = np.zeros(len(crops), bool)
    for name, task in recipe.tasks.items():
        if name == AGE:
            low, high = crops.labels["age_low"], crops.labels["age_high"]
            found |= conflicting_intervals(groups, low, high)
        else:
            rows = crops.labels[name]
            allowed = class_sets(task.scheme)[np.maximum(rows, 0)] & (rows >= 0)[:, None]
            found |= conflicting_sets(groups, allowed)
    return found


def _warn(
    crops: CropSet,
    groups: NDArray[np.int64],
    readable: NDArray[np.bool_],
    conflict: NDArray[np.bool_],
    folders: Sequence[Path],
) -> None:
    """One line for each thing that a user would want to know of the data."""
    if not readable.all():
        first = crops.files[int(np.argmin(readable))]
        log.warning("%d crops cannot be decoded, such as %s", (~readable).sum(), first)
    if conflict.any():
        rows = np.flatnonzero(groups == groups[int(np.argmax(conflict))])[:2]
        names = " and ".join(str(crops.files[row]) for row in rows)
        log.warning(
            "%d crops are duplicates with different labels, such as %s", conflict.sum(), names
        )
    where = np.asarray(folders_of(crops.files, folders), int)
    shared = conflicting_intervals(groups, where, where)
    if shared.any():
        several = len(np.unique(groups[shared]))
        log.warning("%d pictures are in several of the folders; each stays on one side", several)
