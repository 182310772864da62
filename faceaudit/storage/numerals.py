"""Numbers as text: whether each can be written again as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

_WHOLE = r"^(?:0|-?[1-9][0-9]*)$"
_DECIMAL = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?$"
# As programs write what is very large or small; "12e4" and "1E5" are codes.
_SCIENTIFIC = r"^-?[1-9](?:\.[0-9]*[1-9])?[eE][-+][0-9]+$"


def typed(column: pl.Series) -> pl.Series:
    """A text column as numbers, where each can be written as it was: ``007`` stays text.

    Also text are versions such as ``1.1`` and ``1.10``, integers of more than 64 bits, digits that
    a 64-bit float does not hold, codes such as ``12e4``, ``nan`` and ``inf``.
    """
    import polars as pl

    text = pl.col(column.name)
    asked = (integers(text), decimals(text), has_exponents(text))
    frame = column.to_frame()
    whole, decimal, scientific = frame.select(
        expression.alias(str(number)) for number, expression in enumerate(asked)
    ).row(0)
    if column.null_count() == len(column):
        return column
    if whole:
        return column.cast(pl.Int64)
    if decimal and (not scientific or frame.select(are_apart(text)).item()):
        return column.cast(pl.Float64)
    return column


def integers(text: pl.Expr) -> pl.Expr:
    """Whether all are integers of 64 bits, without leading zeros and plus signs."""
    import polars as pl

    same = text.cast(pl.Int64, strict=False).cast(pl.String) == text
    return (text.is_null() | same.fill_null(value=False)).all()


def decimals(text: pl.Expr) -> pl.Expr:
    """Whether all are decimals in one form, and have no more digits than 64-bit floats hold."""
    import polars as pl

    after = text.str.extract(r"\.([0-9]+)")
    length = pl.when(text.is_not_null()).then(after.str.len_bytes().fill_null(0))
    padded = after.str.ends_with("0")
    in_one_form = (
        (length.min() == length.max())  # as in 0.50 and 1.25
        | ~padded.any()  # as in 1 and 2.5
        | ((~padded | (after == "0")).all() & ~text.str.contains(_WHOLE).any())
    )
    numbers = text.cast(pl.Float64, strict=False)
    written = text.str.contains(_DECIMAL) | text.str.contains(_SCIENTIFIC)
    held = _digits(text) == _digits(numbers.cast(pl.String))
    return in_one_form & written.all() & held.all()


def has_exponents(text: pl.Expr) -> pl.Expr:
    """Whether two ``decimals`` may be one number: ``are_apart`` then says whether any are."""
    return text.str.contains("[eE]").any()


def are_apart(text: pl.Expr) -> pl.Expr:
    """Whether different texts are different numbers, which ``100000`` and ``1e+05`` are not."""
    import polars as pl

    numbers = text.cast(pl.Float64, strict=False)
    return text.n_unique() == numbers.cast(pl.String).n_unique()  # -0.0 and 0.0 are two


def _digits(numbers: pl.Expr) -> pl.Expr:
    """Significant digits."""
    return numbers.str.replace(r"[eE].*", "").str.replace_all(r"[-.]", "").str.strip_chars("0")
