"""Labels keyed by path or file name, brought to images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from faceaudit.labels.annotations import (
    Annotations,
    Names,
    Tallied,
    UnmatchedError,
    counted,
    have,
    were,
)
from faceaudit.schema import Task
from faceaudit.storage import is_remote

KEY, _RAW, _ROW = "key", "raw", "row"

_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
"""Folders whose files often bear the same names but show other faces."""

Parts = tuple[str, ...]


class Joined(Annotations):
    """The rows of a label table, brought to images batch by batch.

    A key belongs to the image whose path it is, or ends: with its folders or by file name alone.
    Only where no key with folders is the end of any path, the folders of keys are left aside:
    first those before the image's own name, then all of them. A key that could be of several images
    is of none.

    All of this depends only on images and keys with the same file name, and on whether folders are
    left aside. Where the first names of a large source are keys as they stand, paths alone count.
    Else the source is walked once, and what images of one file name share is settled beforehand;
    8 bytes an image are held meanwhile.
    """

    def __init__(
        self,
        source: str,
        table: pl.DataFrame,
        names: Names,
        folder: Path | None,
        *,
        tasks: tuple[Task, ...] = (),
        said: tuple[str, ...] = (),
    ) -> None:
        """Decide how images find their labels.

        Args:
            source: The label file, for messages.
            table: ``key`` and annotated columns, one row per label.
            names: Of the images.
            folder: What the names are relative to.
            tasks: Of the annotated columns.
            said: Notes on the columns.

        Raises:
            UnmatchedError: If there are no labels, or none is of any image.
        """
        self.source, self.tasks, self._said = source, tasks, said
        spelled = table.with_columns(_tidy(table[KEY]), table[KEY].alias(_RAW))
        spelled = spelled.filter(pl.col(KEY) != "")
        labels, self._clashes = _one_row_per_key(spelled.drop(_RAW))
        self._values = labels.drop(KEY)
        self._keys, self._rows = _with_spellings(labels[KEY], spelled[KEY], spelled[_RAW])
        hashes = _hashes_of_files(self._keys)
        self._order = hashes.argsort(kind="stable")
        self._hashes = hashes[self._order]
        whole = folder.absolute() if folder and not is_remote(folder) else folder
        self._above = f"{whole}/" if whole else ""
        self._used = np.zeros(labels.height, np.bool_)
        self._ambiguous, self._by_name, self._missing = Tallied(), Tallied(), Tallied()
        self._key_by_name = ""
        self._ends, self._aside = True, True
        self._settled = self._settle(names)

    def of(self, images: Sequence[str]) -> pl.DataFrame:
        settled = self._settled
        found = self._match([image for image in images if image not in settled.images])
        decided = [(image, settled if image in settled.images else found) for image in images]
        self._ambiguous.add([image for image, match in decided if image in match.ambiguous])
        by_name = [image for image, match in decided if image in match.by_name]
        if by_name and not self._by_name.count:
            self._key_by_name = (settled.key_of | found.key_of)[by_name[0]]
        self._by_name.add(by_name)
        rows = [match.row_of.get(image) for image, match in decided]
        without = zip(decided, rows, strict=True)
        self._missing.add([i for (i, m), row in without if row is None and i not in m.ambiguous])
        return self._values.select(pl.all().gather(pl.Series(rows, dtype=pl.Int64)))

    def notes(self) -> tuple[str, ...]:
        return (*self._said, *self._said_of_images())

    def _said_of_images(self) -> Iterator[str]:
        if number := len(self._clashes):
            yield (
                f"{counted(number, 'image')} {have(number)} labels that contradict each other, "
                f"which {were(number)} left empty (for example {self._clashes[0]!r})"
            )
        if number := self._ambiguous.count:
            yield (
                f"{counted(number, 'image')} {were(number)} left without labels, because several "
                f"images or labels have the same file name (for example {self._ambiguous.first!r})"
            )
        if number := self._by_name.count:
            yield (
                f"{counted(number, 'image')} got labels by file name alone, the folders being "
                f"others (for example {self._by_name.first!r} from {self._key_by_name!r})"
            )
        unused = np.flatnonzero(~self._used)
        if number := len(unused):
            yield (
                f"{counted(number, 'label')} {have(number)} no image "
                f"(for example {self._keys[int(unused[0])]!r})"
            )
        if number := self._missing.count:
            yield (
                f"{counted(number, 'image')} {have(number)} no label "
                f"(for example {self._missing.first!r})"
            )

    def _settle(self, names: Names) -> _Match:
        """What cannot be decided from an image and its keys alone."""
        first = self._match(names.first)
        if names.are_all:
            self._check(first, names)
            return first
        if first.key_of.items() and all(key == image for image, key in first.key_of.items()):
            self._ends = bool(first.ambiguous)
        if not self._ends:
            return _Match()
        shared = self._walk(names, by_path=first.by_path)
        if not first.used and not any(self._match(block).used for block in names.blocks()):
            self._check(first, names)
        self._used[:] = False  # of trials
        return self._match([i for block in names.blocks() for i in _of_files(block, shared)])

    def _walk(self, names: Names, *, by_path: bool) -> NDArray[np.uint64]:
        """Decide whether folders are left aside; hashes of file names that images share.

        Args:
            names: Of all images.
            by_path: Whether a key with folders is known to be the end of a path.
        """
        self._aside = False
        by_path = by_path or not self._keys.str.contains("/", literal=True).any()
        seen = []
        for block in names.blocks():
            seen.append(_hashes_of_files(pl.Series(block, dtype=pl.String)))
            by_path = by_path or self._match(block).by_path
        self._aside = not by_path
        hashes, counts = np.unique(np.concatenate(seen), return_counts=True)
        return np.intersect1d(hashes[counts > 1], self._hashes)

    def _check(self, match: _Match, names: Names) -> None:
        if names.first and not len(self._keys):
            raise UnmatchedError(
                f"{self.source}: no row of it names an image; give a row for each image that is "
                "labeled"
            )
        if names.first and not match.used:
            raise UnmatchedError(
                f"{self.source}: no label is of an image here; labels are of images like "
                f"{self._keys[0]!r}, the images are like {names.first[0]!r}"
            )

    def _match(self, images: Sequence[str]) -> _Match:
        """Which of the labels are of these images, were there no others."""
        hashes = np.unique(_hashes_of_files(pl.Series(images, dtype=pl.String)))
        starts, stops = (np.searchsorted(self._hashes, hashes, side) for side in ("left", "right"))
        places = [np.arange(start, stop) for start, stop in zip(starts, stops, strict=True)]
        fitting = self._order[np.concatenate(places)] if places else self._order[:0]
        rows = self._rows[fitting]
        keys = self._keys.gather(fitting).to_list()
        values = dict(zip(keys, self._values.select(pl.all().gather(rows)).rows(), strict=True))
        match = _match(values, images, self._above, ends=self._ends, aside=self._aside)
        row_of_key = dict(zip(keys, rows.tolist(), strict=True))
        match.row_of = {image: row_of_key[key] for image, key in match.key_of.items()}
        self._used[[row_of_key[key] for key in match.used]] = True
        return match


def _tidy(keys: pl.Series) -> pl.Series:
    """Keys without spaces around them and ``./``, with slashes."""
    path = pl.col(KEY).str.strip_chars().str.replace(r"^(\./)+", "")
    slashed = path.str.replace_all("\\", "/", literal=True)
    tidy = pl.when(path.str.contains("/", literal=True)).then(path).otherwise(slashed)
    return keys.alias(KEY).to_frame().select(tidy.alias(KEY)).to_series()


def _with_spellings(
    keys: pl.Series, tidy: pl.Series, raw: pl.Series
) -> tuple[pl.Series, NDArray[np.int64]]:
    """Keys, other spellings of them that are no keys themselves, and the row of each.

    An image may be named just as an untidy key is, or in the other form of Unicode: a Mac may write
    a letter and its accent as two characters, others write one.
    """
    known = pl.DataFrame({KEY: keys, _ROW: pl.Series(range(len(keys)), dtype=pl.Int64)})
    accented = keys.filter(keys.str.len_bytes() != keys.str.len_chars())
    forms = (accented.str.normalize("NFC"), accented.str.normalize("NFD"))
    others = pl.concat(
        pl.DataFrame({KEY: of, _RAW: spelling})
        for of, spelling in ((tidy, raw), *((accented, form) for form in forms))
    ).unique([KEY, _RAW], maintain_order=True)
    others = others.filter(~pl.col(_RAW).is_in(keys.implode())).unique(_RAW, keep="none")
    further = others.join(known, on=KEY).select(pl.col(_RAW).alias(KEY), _ROW)
    both = pl.concat([known, further])
    return both[KEY], both[_ROW].to_numpy()


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


def _hashes_of_files(paths: pl.Series) -> NDArray[np.uint64]:
    """Hashes of file names, (N,)."""
    return paths.str.split("/").list.last().hash().to_numpy()


def _of_files(paths: Sequence[str], hashes: NDArray[np.uint64]) -> list[str]:
    """The paths whose file names have one of these hashes."""
    chosen = np.isin(_hashes_of_files(pl.Series(paths, dtype=pl.String)), hashes)
    return [paths[int(place)] for place in np.flatnonzero(chosen)]


# --- which key belongs to which image ---------------------------------------------------------


@dataclass
class _Match:
    """Which key belongs to which image, and why some belong to none."""

    images: frozenset[str] = frozenset()
    """Images that this decides about."""
    key_of: dict[str, str] = field(default_factory=dict)
    row_of: dict[str, int] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    """Keys that belong to an image, or to several."""
    ambiguous: set[str] = field(default_factory=set)
    """Images that share a key with another, or whose keys contradict each other."""
    by_path: bool = False
    """Whether a key with folders is the end of a path."""
    by_name: set[str] = field(default_factory=set)
    """Images whose key has other folders: only the file name brings them together."""


def _match(
    rows: Mapping[str, Any], images: Collection[str], above: str, *, ends: bool, aside: bool
) -> _Match:
    """Bring together images and keys.

    Args:
        rows: Annotations by key.
        images: Names of the images.
        above: The folder that they are relative to, with a slash at its end.
        ends: Whether a key may be the end of a path.
        aside: Whether the folders of keys are left aside where no key with folders is one.
    """
    unique = dict.fromkeys(images)
    match = _Match(frozenset(unique), {image: image for image in unique if image in rows})
    match.used.update(match.key_of)
    if ends:
        keys = {key: _parts(key) for key in rows if key not in match.used}
        full = {image: _parts(above + image) for image in unique if image not in match.key_of}
        for depth in sorted({len(parts) for parts in keys.values()}, reverse=True):
            whole = {key: parts for key, parts in keys.items() if len(parts) == depth}
            _pair(match, rows, full, whole, depth)
    match.by_path = any("/" in key for key in match.used)
    if not ends or not aside or match.by_path:
        return match
    own = {image: image.count("/") + 1 for image in full}
    for depth in sorted({1, *own.values()}, reverse=True):
        named = {image: parts for image, parts in full.items() if depth in (1, own[image])}
        before = set(match.key_of)
        _pair(match, rows, named, keys, depth)
        if depth == 1:
            match.by_name.update(match.key_of.keys() - before)
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
            match.ambiguous.update(candidates)


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
