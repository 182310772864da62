"""Sensitive features: which columns form subgroups, and which groupings are cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from faceaudit.errors import SchemaError, UnknownNameError
from faceaudit.schema import AGE_GROUP, AGE_PRED, AGE_TRUE, GENDER, RACE
from faceaudit.tables import PredictionTable

MAX_VALUES = 200
"""More different values than this are measurements or names, not subgroups."""
DEFAULT_FEATURES = (GENDER, RACE)


@dataclass(frozen=True)
class Feature:
    """A sensitive feature: the name a reader sees and the column it is read from."""

    name: str
    column: str
    order: tuple[str, ...] = ()
    """Values in the order to show them; others follow, sorted."""

    @property
    def predicted(self) -> bool:
        """Whether the model's own output forms the subgroups."""
        return self.column.endswith("_pred")

    def rank(self, value: str | None) -> tuple[int, str]:
        """Sort key of a value: declared order first, then by name, missing last."""
        if value is None:
            return (len(self.order) + 1, "")
        return (
            self.order.index(value) if value in self.order else len(self.order),
            value,
        )

    def values(self, frame: pl.LazyFrame) -> pl.Expr:
        """The column as text without blanks around it; whole numbers without a fraction."""
        value = pl.col(self.column)
        if not frame.collect_schema()[self.column].is_float():
            text = value.cast(pl.String).str.strip_chars()
            return pl.when(text != "").then(text)
        whole = value.cast(pl.Int64, strict=False)
        text = pl.when(value == whole).then(whole.cast(pl.String)).otherwise(value.cast(pl.String))
        return pl.when(value.is_not_nan()).then(text)


def find_features(table: PredictionTable, by: Sequence[str] | None) -> tuple[Feature, ...]:
    """Features that subgroups are formed by.

    Args:
        table: The table of predictions.
        by: Names: ``race`` means the column ``race``, else ``race_true``; a predicted group goes
            only by its full name, ``race_pred``. None takes every annotated one of gender and race.

    Raises:
        UnknownNameError: If a name is no column.
        SchemaError: If a feature has too many values, or none.
    """
    if by is None:
        names = [name for name in DEFAULT_FEATURES if _is_annotated(table, name)]
        return tuple(_feature(table, name) for name in names)
    features = tuple(_feature(table, name) for name in each_name(by))
    _check_values(table, features)
    return features


def unit_feature(table: PredictionTable, unit: str) -> Feature:
    """The column that says which rows belong together.

    Raises:
        UnknownNameError: If it is no column.
    """
    if unit not in table.features:
        _check_type(table, unit)
        raise UnknownNameError("column to take units from", unit, table.features)
    known = table.frame.select(Feature(unit, unit).values(table.frame).is_not_null().any())
    if not known.collect(engine="streaming").item():
        raise SchemaError(f"{table.path}: {unit!r} has no value in any row")
    return Feature(unit, unit)


def chosen_features(features: Sequence[Feature], by: Sequence[str] | None) -> tuple[Feature, ...]:
    """Features of a tally that subgroups are formed by; None takes all that it has.

    Raises:
        UnknownNameError: If the tally has no such feature.
    """
    if by is None:
        return tuple(features)
    known = {feature.name: feature for feature in features}
    for name in each_name(by):
        if name not in known:
            raise UnknownNameError("feature in the tally", name, list(known))
    return tuple(known[name] for name in each_name(by))


def each_name(by: Sequence[str]) -> list[str]:
    """Each name once; a text is one name, not its letters."""
    return list(dict.fromkeys([by] if isinstance(by, str) else by))


def find_groupings(features: Sequence[Feature]) -> tuple[tuple[str, ...], ...]:
    """Every feature alone, and their intersection."""
    names = tuple(feature.name for feature in features)
    singles = tuple((name,) for name in names)
    return (*singles, names) if len(names) > 1 else singles


def _is_annotated(table: PredictionTable, name: str) -> bool:
    if name in table.annotated or name in table.features:
        return True
    true = f"{name}_true"
    if true not in table.features:
        return False
    return bool(table.frame.select(pl.col(true).is_not_null().any()).collect().item())


def _feature(table: PredictionTable, name: str) -> Feature:
    column = name if name in table.features else f"{name}_true"
    if column not in table.features:
        _check_type(table, name)
        raise UnknownNameError("column to form subgroups by", name, _offered(table))
    task_name = column.removesuffix("_true").removesuffix("_pred")
    orders = [task.classes for task in table.tasks if task.name == task_name]
    return Feature(name, column, orders[0] if orders else ())


def _check_type(table: PredictionTable, name: str) -> None:
    """Say of a column that is there why it cannot be taken."""
    dtype = table.frame.collect_schema().get(name)
    if dtype is not None and (dtype.is_nested() or dtype == pl.Binary):
        raise SchemaError(
            f"{table.path}: {name!r} is of type {dtype}; give a column of texts, numbers or dates"
        )


def _offered(table: PredictionTable) -> list[str]:
    """Names that work in ``--by``: annotated tasks first, then every other column."""
    short = [name.removesuffix("_true") for name in table.features if name.endswith("_true")]
    return [*short, *(name for name in table.features if not name.endswith("_true"))]


def _check_values(table: PredictionTable, features: Sequence[Feature]) -> None:
    if not features:
        return
    columns = dict.fromkeys(feature.column for feature in features)
    counted = table.frame.select(pl.col(name).drop_nulls().n_unique() for name in columns)
    counts = counted.collect(engine="streaming").row(0, named=True)
    for feature in features:
        count = counts[feature.column]
        if count > MAX_VALUES:
            advice = (
                f"; ages can be grouped: --by {AGE_GROUP}"
                if feature.column in (AGE_TRUE, AGE_PRED)
                else ""
            )
            raise SchemaError(
                f"{table.path}: {feature.name!r} has {count:,} different values, too many for "
                f"subgroups (up to {MAX_VALUES}){advice}"
            )
        different = table.frame.select(pl.col(feature.column).unique()).collect(engine="streaming")
        lazy = different.lazy()
        if not lazy.select(feature.values(lazy).is_not_null().any()).collect().item():
            raise SchemaError(f"{table.path}: {feature.name!r} has no value in any row")
