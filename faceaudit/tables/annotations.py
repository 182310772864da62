"""Names of images, and the annotations that are joined by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from faceaudit.errors import LabelError, SchemaError
from faceaudit.schema import AGE_GROUP, AGE_TRUE
from faceaudit.tables.table import FACE, IMAGE, Draft, face_number

_BEFORE = " before"  # with a blank, which columns have not around their names


def with_image(draft: Draft) -> Draft:
    """An image name in every row; without names every row is an image of its own."""
    if IMAGE in draft.dtypes:
        if draft.dtypes[IMAGE].is_nested():
            raise SchemaError(
                f"{draft.path}: image is of type {draft.dtypes[IMAGE]}; give names of images"
            )
        return draft.having(draft.frame.with_columns(pl.col(IMAGE).cast(pl.String)))
    frame = draft.frame.with_row_index(IMAGE).with_columns(pl.col(IMAGE).cast(pl.String))
    return replace(draft, named=False).having(frame)


def with_labels(draft: Draft, labels: pl.DataFrame | None) -> Draft:
    """Annotations joined by image; an image's label belongs to its face 0.

    Raises:
        LabelError: If none can be joined, or an image has several rows of them.
    """
    if labels is None:
        return draft
    check_named(draft)
    _check_joinable(draft, labels)
    trues = [name for name in labels.columns if name != IMAGE]
    replaced = [name for name in trues if name in draft.dtypes]
    frame = draft.frame.rename({name: f"{name}{_BEFORE}" for name in replaced})
    if AGE_TRUE in trues and f"{AGE_GROUP}_true" not in trues:
        # Groups of years that no longer hold; they are formed anew.
        frame = frame.drop(f"{AGE_GROUP}_true", strict=False)
    frame = frame.join(labels.lazy(), on=IMAGE, how="left", maintain_order="left")
    if FACE in draft.dtypes:
        first = face_number(frame) == 0
        frame = frame.with_columns(pl.when(first).then(pl.col(name)).alias(name) for name in trues)
    notes = _lost_notes(frame, replaced)
    frame = frame.drop(f"{name}{_BEFORE}" for name in replaced)
    return replace(draft, labels_joined=True, sliceable=False).having(frame, *notes)


def check_named(draft: Draft) -> None:
    """Refuse to join labels to a table that does not say which images its rows are of.

    Raises:
        LabelError: If it has no column of images.
    """
    if not draft.named:
        raise LabelError(f"{draft.path}: labels are joined by the column image, which is missing")


def _check_joinable(draft: Draft, labels: pl.DataFrame) -> None:
    """Refuse labels of other images, several of one, and those that are of no face 0."""
    duplicates = labels.height - labels[IMAGE].n_unique()
    if duplicates:
        raise LabelError(f"the labels name {duplicates} images more than once; give one row each")
    of_any, of_labeled = (pl.col(IMAGE).is_in(names.implode()) for names in _names(labels))
    rows = draft.frame.select(
        of_any.sum().alias("any"),
        of_labeled.sum().alias("labeled"),
        (of_labeled & (face_number(draft.frame) == 0)).sum().alias("first"),
    )
    found = rows.collect(engine="streaming").row(0, named=True)
    if not found["any"]:
        raise LabelError(
            f"{draft.path}: no image of the table is among the {labels.height} labeled images; "
            f"the labels name images like {labels[IMAGE].head(1).to_list()}"
        )
    if found["labeled"] and not found["first"]:
        raise LabelError(
            f"{draft.path}: the labels are of {found['labeled']:,} rows, none of which is the face "
            f"0 of its image, to which a label belongs; count the faces of an image in {FACE} from "
            "0, or leave the column out where every image has one face"
        )


def _names(labels: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    """Images of labels: all, and those of which something is said."""
    said = pl.any_horizontal(pl.exclude(IMAGE).is_not_null())
    return labels[IMAGE], labels.filter(said)[IMAGE]


def _lost_notes(frame: pl.LazyFrame, replaced: Sequence[str]) -> list[str]:
    """How many annotations of the table have nothing in their place."""
    if not replaced:
        return []
    facts = [
        expression.alias(f"{name} {what}")
        for name in replaced
        for what, expression in {
            "given": pl.col(f"{name}{_BEFORE}").is_not_null().sum(),
            "lost": (pl.col(f"{name}{_BEFORE}").is_not_null() & pl.col(name).is_null()).sum(),
        }.items()
    ]
    found = frame.select(facts).collect(engine="streaming").row(0, named=True)
    return [
        f"{found[f'{name} lost']:,} of {found[f'{name} given']:,} values of {name} that the table "
        "had were replaced by nothing: the labels say nothing of these faces."
        for name in replaced
        if found[f"{name} lost"]
    ]
