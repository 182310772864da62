"""Labels keyed by path or file name, brought to images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from faceaudit.labels.annotations import UnmatchedError, counted, have, were

IMAGE, KEY = "image", "key"

_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
"""Folders whose files often bear the same names but show other faces."""

Parts = tuple[str, ...]


def join(
    table: pl.DataFrame, images: Sequence[str], folder: Path | None, source: str
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Annotations of images, one row each, and notes on what did not find its partner.

    A key belongs to the image whose path it is, or ends: with its folders or by file name alone.
    Only where no key with folders is the end of any path, the folders of keys are left aside:
    first those before the image's own name, then all of them.

    Args:
        table: ``key`` and annotated columns, one row per label.
        images: Names of the images.
        folder: What the names are relative to.
        source: The label file, for messages.

    Raises:
        UnmatchedError: If no label is of any image.
    """
    table, clashes = _one_row_per_key(table)
    rows = dict(zip(table[KEY].to_list(), table.drop(KEY).rows(), strict=True))
    match = _match(rows, list(dict.fromkeys(images)), folder)
    if images and rows and not match.key_of and not match.ambiguous:
        raise UnmatchedError(
            f"{source}: no label is of an image here; labels are of images like "
            f"{next(iter(rows))!r}, the images are like {images[0]!r}"
        )
    named = pl.DataFrame(
        {IMAGE: list(images), KEY: [match.key_of.get(image) for image in images]},
        schema={IMAGE: pl.String, KEY: pl.String},
    )
    joined = named.join(table, on=KEY, how="left", maintain_order="left").drop(KEY)
    return joined, tuple(_notes(clashes, match, rows, images))


def _one_row_per_key(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Labels with each key once; values that contradict each other are null, their keys listed."""
    columns = [name for name in table.columns if name != KEY]
    if not table[KEY].is_duplicated().any():
        return table, []
    groups = table.group_by(KEY, maintain_order=True)
    agreed = groups.agg(
        pl.when(pl.col(name).drop_nulls().n_unique() == 1).then(pl.col(name).drop_nulls().first())
        for name in columns
    )
    clashing = groups.agg(pl.col(name).drop_nulls().n_unique() > 1 for name in columns)
    return agreed, clashing.filter(pl.any_horizontal(columns))[KEY].to_list()


# --- which key belongs to which image ---------------------------------------------------------


@dataclass
class _Match:
    """Which key belongs to which image, and why some belong to none."""

    key_of: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    """Keys that belong to an image, or to several."""
    ambiguous: list[str] = field(default_factory=list)
    """Images that share a key with another, or whose keys contradict each other."""
    by_name: list[str] = field(default_factory=list)
    """Images whose key has other folders: only the file name brings them together."""


def _match(rows: Mapping[str, Any], images: Sequence[str], folder: Path | None) -> _Match:
    match = _Match({image: image for image in images if image in rows})
    match.used.update(match.key_of)
    keys = {key: _parts(key) for key in rows if key not in match.used}
    above = f"{folder.absolute()}/" if folder else ""
    full = {image: _parts(above + image) for image in images if image not in match.key_of}
    for depth in sorted({len(parts) for parts in keys.values()}, reverse=True):
        whole = {key: parts for key, parts in keys.items() if len(parts) == depth}
        _pair(match, rows, full, whole, depth)
    if len(match.used) == len(rows) or any("/" in key for key in match.used):
        return match
    own = {image: image.count("/") + 1 for image in full}
    for depth in sorted({1, *own.values()}, reverse=True):
        named = {image: parts for image, parts in full.items() if depth in (1, own[image])}
        before = set(match.key_of)
        _pair(match, rows, named, keys, depth)
        if depth == 1:
            match.by_name += [image for image in match.key_of if image not in before]
    return match


def _parts(path: str) -> Parts:
    parts = path.split("/")
    if "" in parts or "." in parts:
        parts = [part for part in parts if part not in ("", ".")]
    return tuple(parts)


def _pair(
    match: _Match,
    rows: Mapping[str, Any],
    images: Mapping[str, Parts],
    keys: Mapping[str, Parts],
    depth: int,
) -> None:
    """Bring together images and keys whose last ``depth`` parts are the same."""
    ends_of_keys = _ends(keys, depth, match.used)
    for end, candidates in _ends(images, depth, {*match.key_of, *match.ambiguous}).items():
        fitting = [
            key
            for key in ends_of_keys.get(end, ())
            if any(_same_split(keys[key], images[image]) for image in candidates)
        ]
        if not fitting:
            continue
        match.used.update(fitting)
        if len(candidates) == 1 and len({rows[key] for key in fitting}) == 1:
            match.key_of[candidates[0]] = fitting[0]
        else:
            match.ambiguous += candidates


def _ends(paths: Mapping[str, Parts], depth: int, done: Collection[str]) -> dict[Parts, list[str]]:
    """Paths that are still without a partner, by their last ``depth`` parts."""
    found: dict[Parts, list[str]] = defaultdict(list)
    for name, parts in paths.items():
        if len(parts) >= depth and name not in done:
            found[parts[-depth:]].append(name)
    return found


def _same_split(key: Parts, image: Parts) -> bool:
    """Whether the last folders do not name different splits of a data set."""
    if len(key) == 1 or len(image) == 1 or key[-2] == image[-2]:
        return True
    folders = {key[-2].lower(), image[-2].lower()}
    return not folders <= _SPLITS or len({folder[:3] for folder in folders}) == 1


# --- notes ------------------------------------------------------------------------------------


def _notes(
    clashes: Sequence[str], match: _Match, keys: Collection[str], images: Sequence[str]
) -> Iterator[str]:
    if clashes:
        yield (
            f"{counted(len(clashes), 'image')} {have(len(clashes))} labels that contradict each "
            f"other, which {were(len(clashes))} left empty ({_such_as(clashes)})"
        )
    if match.ambiguous:
        yield (
            f"{counted(len(match.ambiguous), 'image')} {were(len(match.ambiguous))} left without "
            "labels, because several images or labels have the same file name "
            f"({_such_as(match.ambiguous)})"
        )
    if match.by_name:
        yield (
            f"{counted(len(match.by_name), 'image')} got labels by file name alone, the folders "
            f"being others ({_such_as(match.by_name)} from {match.key_of[match.by_name[0]]!r})"
        )
    unused = [key for key in keys if key not in match.used]
    if unused:
        yield f"{counted(len(unused), 'label')} {have(len(unused))} no image ({_such_as(unused)})"
    matched = match.key_of.keys() | set(match.ambiguous)
    missing = [image for image in images if image not in matched]
    if missing:
        number = len(missing)
        yield f"{counted(number, 'image')} {have(number)} no label ({_such_as(missing)})"


def _such_as(names: Iterable[str]) -> str:
    return f"for example {next(iter(names))!r}"
