"""Text that numbers would write again, and text that they would not."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceaudit.storage.numerals import typed


@pytest.mark.parametrize(
    "values",
    [
        ["007", "1"],
        ["+1", "2"],
        ["1.10", "1.1"],
        ["1", "1.0"],
        ["12e4", "120e3"],
        ["1E5", "3.5"],
        ["1e+05", "100000"],
        ["0.12345678901234567890"],
        ["18446744073709551615"],
        ["nan", "1.0"],
        ["inf"],
        [None],
        [],
    ],
)
def test_what_numbers_would_write_differently_stays_text(values: list[str | None]) -> None:
    column = pl.Series("x", values, dtype=pl.String)
    assert typed(column).equals(column)


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))))
def test_integers_become_integers(values: list[int | None]) -> None:
    text = pl.Series("x", [None if one is None else str(one) for one in values], dtype=pl.String)
    found = typed(text)
    assert found.to_list() == values
    assert found.dtype == (pl.Int64 if found.count() else pl.String)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_floats_as_python_writes_them_become_the_same_floats(values: list[float]) -> None:
    assert typed(pl.Series("x", [*map(repr, values)])).to_list() == values
