"""`faceaudit leaks`: pictures that several images show, as a table, a page and JSON."""

from __future__ import annotations

import base64
import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.exceptions import PolarsError
from scipy.stats import binomtest

import faceaudit
from faceaudit.errors import (
    EXIT_DONE,
    EXIT_RULE_FAILED,
    InputError,
    UsageError,
    check_names,
)
from faceaudit.images.decode import decode
from faceaudit.images.refs import ImageRef, read_bytes
from faceaudit.labels import AUTO
from faceaudit.labels.annotations import counted, were
from faceaudit.leakage.find import (
    CANDIDATE,
    EXACT,
    FAR_AGES,
    MAX_PIXELS,
    NEAR,
    Leaks,
    find_leaks,
)
from faceaudit.leakage.sets import ImageSet, read_sets
from faceaudit.leakage.verify import SIMILAR
from faceaudit.reporting.format import class_name, file_name, number
from faceaudit.reporting.html import make_environment
from faceaudit.reporting.source import label_file
from faceaudit.reporting.tables import Cell, Column, Footnotes, Row, RowGroup, Table, count_cell
from faceaudit.schema import SCHEMA_VERSION
from faceaudit.storage import as_path, atomic_write, check_outputs, write_text

log = logging.getLogger(__name__)

SCHEMA_FILE = Path(__file__).parent / "leaks.schema.json"
TABLE_SUFFIXES = (".parquet", ".csv")
ACROSS, CONFLICT, NOTHING = "across", "conflict", "none"
FAILURES: dict[str, tuple[str, Callable[[Leaks], int]]] = {
    ACROSS: ("images whose picture is in several sets", lambda found: found.leaked),
    EXACT: ("pairs of byte-identical images", lambda found: found.count(EXACT)),
    NEAR: ("pairs of nearly equal images", lambda found: found.count(NEAR)),
    CONFLICT: (
        "pictures with annotations that exclude each other",
        lambda found: found.conflicting,
    ),
}
"""What ``--fail-on`` can name: words for the count, and the count."""
MOST_SHOWN = 60
THUMBNAIL = 96
"""Height and width of shown images, pixels."""


@dataclass(frozen=True)
class LeakFiles:
    """The files that were written, the table first, what they hold, and what it means."""

    paths: tuple[Path, ...]
    leaks: Leaks
    failures: tuple[str, ...]
    """What was found of ``fail_on``, in words."""

    @property
    def exit_code(self) -> int:
        """What a scheduler is told."""
        return EXIT_RULE_FAILED if self.failures else EXIT_DONE


@dataclass(frozen=True)
class ShownPair:
    """Two images side by side, as data URIs."""

    first: str
    second: str
    words: str


@dataclass(frozen=True)
class LeaksPage:
    """Values of the page."""

    title: str
    leaks: Leaks
    exact: int
    near: int
    sets: Table
    overlaps: Table | None
    conflicts: Table | None
    sizes: Table | None
    sentences: tuple[str, ...]
    similar: float
    candidate: int
    shown: tuple[ShownPair, ...]
    table: str


def leaks(
    sources: str | Path | Sequence[str | Path],
    *,
    output: Path = Path("leaks.parquet"),
    images: Sequence[str] = (),
    labels: str = AUTO,
    fail_on: Sequence[str] = (ACROSS,),
    max_pixels: int = MAX_PIXELS,
    workers: int | None = None,
    show_images: bool = False,
    title: str | None = None,
    formats: Sequence[str] = ("html", "json"),
    quiet: bool = True,
) -> LeakFiles:
    """Find images that show one picture, within and across sets, and labels that contradict.

    Args:
        sources: Each a set: a folder, a list, a tar, a prepared folder, or a table with ``image``
            and ``sha256``.
        output: The table of pairs, ``NAME.parquet`` or ``NAME.csv``; page and JSON lie beside it.
        images: Folders that the names in tables are relative to; without them, images of tables
            are compared by their bytes alone.
        labels: As ``predict`` takes them, for all sets that are no tables.
        fail_on: What makes ``exit_code`` 10: names of ``FAILURES``.
        max_pixels: Larger images are compared by their bytes alone.
        workers: Threads; None is one per core.
        show_images: Whether the page shows images of pairs, to be judged by eye.
        title: Of the page.
        formats: ``html``, ``json``, or both.
        quiet: Show no progress.

    Raises:
        FaceauditError: With what was given, where, and what would work.
    """
    given = sources if isinstance(sources, Sequence) and not isinstance(sources, str) else [sources]
    output = _checked(as_path(output), formats, fail_on)
    targets = [output, *(output.with_suffix(f".{name}") for name in formats)]
    check_outputs(targets, (*given, label_file(labels)))
    _check_pairs(output)
    sets = read_sets(
        [str(one) for one in given], images=[str(one) for one in images], labels=labels
    )
    found = find_leaks(sets, max_pixels=max_pixels, workers=workers, quiet=quiet)
    for note in found.notes:
        log.warning("%s", note)
    _check_read(found)
    failures = tuple(_failures(found, fail_on))
    shown = _shown_pairs(sets, found.pairs, max_pixels) if show_images else ()
    page = replace(_page(found, title, output), shown=shown)
    made = {
        "html": lambda: _render(page),
        "json": lambda: leaks_json(found, EXIT_RULE_FAILED if failures else EXIT_DONE),
    }
    texts = [made[name]() for name in formats]
    with atomic_write(output) as file:
        if output.suffix == ".csv":
            found.pairs.write_csv(file)
        else:
            found.pairs.write_parquet(file)
    for path, text in zip(targets[1:], texts, strict=True):
        write_text(path, text)
    return LeakFiles(tuple(targets), found, failures)


def _checked(output: Path, formats: Sequence[str], fail_on: Sequence[str]) -> Path:
    if output.suffix not in TABLE_SUFFIXES:
        raise UsageError(f"{output}: the table of pairs is named NAME.parquet or NAME.csv")
    check_names("format of leaks", formats, ("html", "json"))
    check_names("value of --fail-on", fail_on, (*FAILURES, NOTHING))
    return output


def _check_pairs(output: Path) -> None:
    """Refuse to write over a table that is none of pairs.

    Raises:
        UsageError: If there is one.
    """
    if not output.is_file():
        return
    try:
        columns = (
            pl.read_csv(output, n_rows=0, infer_schema=False).columns
            if output.suffix == ".csv"
            else pl.read_parquet_schema(output)
        )
    except (OSError, PolarsError):
        columns = []
    if not {"first", "second", "leak"} <= set(columns):
        raise UsageError(
            f"{output}: was not written by `faceaudit leaks`; give another --output, or move it "
            "away"
        )


def _check_read(found: Leaks) -> None:
    """Refuse a set of which nothing could be read: it was compared with nothing, and shows none."""
    for one in found.sets:
        if one.unreadable == one.images:
            reason = next((text for name, _, text in found.errors if name == one.name), "no bytes")
            raise InputError(
                f"{one.name}: no image of it can be read ({reason}), so nothing was compared; give "
                "a folder, a list or a tar of images, or a table with image and sha256"
            )


def _failures(found: Leaks, fail_on: Sequence[str]) -> list[str]:
    failed = []
    for name in fail_on:
        if name != NOTHING:
            words, count = FAILURES[name]
            if number := count(found):
                failed.append(f"{number:,} {words}")
    return failed


# --- JSON -------------------------------------------------------------------------------------


def leaks_json(found: Leaks, exit_code: int) -> str:
    """What was found, for programs; ``leaks.schema.json`` describes it, the table has the pairs."""
    facts = {
        "schema_version": SCHEMA_VERSION,
        "sets": [vars(one) for one in found.sets],
        "pairs": {EXACT: found.count(EXACT), NEAR: found.count(NEAR)},
        "candidates": found.candidates,
        "groups": found.groups,
        "group_sizes": {str(size): groups for size, groups in found.sizes.items()},
        "overlaps": [vars(one) for one in found.overlaps],
        "conflicts": [vars(one) for one in found.conflicts],
        "definition": {"hash_bits": CANDIDATE, "similarity": SIMILAR, "far_ages_years": FAR_AGES},
        "exit_codes": [exit_code],
        "notes": list(found.notes),
    }
    return json.dumps(facts, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


# --- the page ---------------------------------------------------------------------------------


def _render(page: LeaksPage) -> str:
    template = make_environment().get_template("leaks.html")
    return template.render(v=page, version=faceaudit.__version__)


def _page(found: Leaks, title: str | None, output: Path) -> LeaksPage:
    names = " and ".join(short_names([one.name for one in found.sets]))
    return LeaksPage(
        title=title or f"Leaks in {names}",
        leaks=found,
        exact=found.count(EXACT),
        near=found.count(NEAR),
        sets=_sets(found),
        overlaps=_overlaps(found) if found.overlaps else None,
        conflicts=_conflicts(found) if any(one.groups for one in found.conflicts) else None,
        sizes=_sizes(found) if found.sizes else None,
        sentences=tuple(sentences(found)),
        similar=SIMILAR,
        candidate=CANDIDATE,
        shown=(),
        table=output.name,
    )


def short_names(names: Sequence[str]) -> list[str]:
    """The last parts of paths, as many as tell them apart.

    Example:
        >>> short_names(["data/train", "data/val"]), short_names(["a/train", "b/train"])
        (['train', 'val'], ['a/train', 'b/train'])
    """
    ends = [file_name(name) for name in names]
    return ends if len(set(ends)) == len(ends) else list(names)


def sentences(found: Leaks) -> list[str]:
    """What was found, one sentence a fact, for the page and the terminal."""
    short = dict(
        zip(
            (one.name for one in found.sets),
            short_names([one.name for one in found.sets]),
            strict=True,
        )
    )
    totals = {one.name: one.images for one in found.sets}
    said = []
    for one in found.overlaps:
        if one.images:
            share = number(one.images / totals[one.of], "share")
            said.append(
                f"{one.images:,} of {totals[one.of]:,} images of {short[one.of]} ({share}) "
                f"{'shows' if one.images == 1 else 'show'} a picture that is also in "
                f"{short[one.other]}; {one.exact:,} of them {'is' if one.exact == 1 else 'are'} "
                "byte-identical to an image there."
            )
    if len(found.sets) > 1 and not found.leaked:
        said.append("No picture was found in more than one of the sets.")
    for facts in found.sets:
        if facts.repeated:
            said.append(
                f"{facts.repeated:,} of {facts.images:,} images of {short[facts.name]} "
                f"{'shows' if facts.repeated == 1 else 'show'} a picture that another "
                "image of the same set shows."
            )
    for conflict in found.conflicts:
        if conflict.conflicting:
            share = number(conflict.conflicting / conflict.groups, "share")
            far = (
                f", {conflict.far:,} by more than {FAR_AGES} years"
                if conflict.far is not None
                else ""
            )
            said.append(
                f"Of {counted(conflict.groups, 'picture')} whose {class_name(conflict.task)} is "
                f"annotated more than once, {conflict.conflicting:,} ({share}) "
                f"{'is' if conflict.conflicting == 1 else 'are'} annotated differently{far}."
            )
    unlabeled = [facts for facts in found.sets if not facts.labels]
    if len(unlabeled) < len(found.sets):
        for facts in unlabeled:
            said.append(
                f"{short[facts.name]} came without labels that can be read: its images have no "
                "part in the comparison of annotations."
            )
    if not any(found.sizes):
        said.append("No picture was found in more than one image.")
    unread = sum(one.unreadable for one in found.sets)
    if unread:
        said.append(f"{counted(unread, 'image')} could not be read.")
    alone = sum(one.bytes_alone for one in found.sets)
    if alone:
        said.append(f"{counted(alone, 'image')} {were(alone)} compared by the bytes alone.")
    return said


def _sets(found: Leaks) -> Table:
    rows = [
        Row(
            name,
            (
                count_cell(one.images),
                count_cell(one.unreadable),
                count_cell(one.bytes_alone),
                *_share(one.repeated, one.images),
                *(_share(one.leaked, one.images) if len(found.sets) > 1 else ()),
            ),
        )
        for one, name in zip(found.sets, short_names([one.name for one in found.sets]), strict=True)
    ]
    columns = [
        Column("Images"),
        Column("Unreadable"),
        Column("Bytes alone"),
        Column("Repeated", "within the set"),
        Column("Share"),
    ]
    if len(found.sets) > 1:
        columns += [Column("Leaked", "also in another set"), Column("Share")]
    return Table("Images by set", "Set", tuple(columns), (RowGroup("", tuple(rows)),))


def _share(part: int, whole: int) -> tuple[Cell, Cell]:
    return count_cell(part), Cell(part / whole if whole else None, "share", reason="no images")


def _bounds(part: int, whole: int) -> tuple[float | None, float | None]:
    """Bounds of the 95 % Wilson interval of a share."""
    if not whole:
        return None, None
    found = binomtest(part, whole).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def _overlaps(found: Leaks) -> Table:
    totals = {one.name: one.images for one in found.sets}
    short = dict(zip(totals, short_names(list(totals)), strict=True))
    rows = [
        Row(
            f"{short[one.of]} in {short[one.other]}",
            (
                count_cell(totals[one.of]),
                count_cell(one.exact),
                count_cell(one.images - one.exact),
                *_share(one.images, totals[one.of]),
            ),
        )
        for one in found.overlaps
    ]
    columns = (
        Column("Images"),
        Column("Byte-identical"),
        Column("Nearly equal"),
        Column("Together"),
        Column("Share"),
    )
    return Table(
        "Images of one set whose picture is in another",
        "Set",
        columns,
        (RowGroup("", tuple(rows)),),
    )


def _conflicts(found: Leaks) -> Table:
    footnotes = Footnotes()
    rows = []
    for one in found.conflicts:
        reason = None if one.groups else "no picture has two annotated images"
        rows.append(
            Row(
                class_name(one.task).capitalize(),
                (
                    count_cell(one.groups),
                    count_cell(one.conflicting),
                    Cell(
                        one.conflicting / one.groups if one.groups else None,
                        "share",
                        *_bounds(one.conflicting, one.groups),
                        reason=reason,
                        note=footnotes.number(reason),
                    ),
                    count_cell(one.exact),
                    count_cell(one.images),
                ),
            )
        )
    columns = (
        Column("Pictures", "annotated more than once"),
        Column("Differently"),
        Column("Share", "95% interval"),
        Column("Of these", "equal bytes differ"),
        Column("Images", "of these pictures"),
    )
    return Table(
        "Pictures whose annotations exclude each other",
        "Annotated",
        columns,
        (RowGroup("", tuple(rows)),),
        footnotes.texts,
    )


def _sizes(found: Leaks) -> Table:
    rows = [
        Row(f"{size:,} images", (count_cell(groups), count_cell(size * groups)))
        for size, groups in found.sizes.items()
    ]
    columns = (Column("Pictures"), Column("Images"))
    return Table(
        "How many images show one picture", "Shown by", columns, (RowGroup("", tuple(rows)),)
    )


# --- images, where they are asked for ----------------------------------------------------------


def _shown_pairs(
    sets: Sequence[ImageSet], pairs: pl.DataFrame, max_pixels: int
) -> tuple[ShownPair, ...]:
    """Pairs drawn at random, the least similar first, for judging by eye."""
    refs = {
        (one.name, image): ref
        for one in sets
        for image, ref in zip(one.images, one.refs or (), strict=False)
    }
    near = pairs.filter(pl.col("kind") == NEAR)
    drawn = near.sample(min(MOST_SHOWN, len(near)), seed=0).sort("similarity", "first", "second")
    shown = []
    for row in drawn.iter_rows(named=True):
        first = refs.get((row["first_split"], row["first"]))
        second = refs.get((row["second_split"], row["second"]))
        mirrored = ", mirrored" if row["mirrored"] else ""
        similar = math.floor(1000 * row["similarity"]) / 1000  # 1 is for equal pixels
        words = f"similarity {similar:.3f}, {counted(row['distance'], 'bit')}{mirrored}"
        if first and second:
            left, right = (_data_uri(one, max_pixels) for one in (first, second))
            shown.append(ShownPair(left, right, words))
    return tuple(shown)


def _data_uri(ref: ImageRef, max_pixels: int) -> str:
    """An image reduced to a thumbnail."""
    try:
        data = read_bytes(ref)
        found = decode(data, max_pixels=max_pixels, enough_side=THUMBNAIL * 2).image
    except OSError:
        found = None
    if found is None:
        raise InputError(f"{ref.path}: changed while the images were compared; run again")
    size = (THUMBNAIL, THUMBNAIL)
    small: NDArray[Any] = cv2.resize(found, size, interpolation=cv2.INTER_AREA)
    written = cv2.imencode(".jpg", np.ascontiguousarray(small[:, :, ::-1]))[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(written).decode()}"
