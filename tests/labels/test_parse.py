"""Annotated values in the spellings of people and spreadsheets."""

from __future__ import annotations

import calendar

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceaudit.labels.parse import age_groups, are_years, categories, years
from faceaudit.schema import AGE_BINS, SCHEMES, age_group_names, task_of_scheme
from faceaudit.tables.wording import DATE_LIKE, age_group, repaired_age_group


def text(*values: str | None) -> pl.Series:
    return pl.Series("raw", values, dtype=pl.String)


# --- gender and race --------------------------------------------------------------------------


def test_spellings_of_gender() -> None:
    column = categories("gender", text("M", " f ", "MALE", "female", "Woman", "man", "", None, "?"))
    expected = ["Male", "Female", "Male", "Female", "Female", "Male", None, None, None]
    assert column.values.to_list() == expected
    assert column.task is not None
    assert (column.task.scheme, column.task.classes) == ("gender2", ("Male", "Female"))
    assert column.notes == ()


def test_a_slip_is_null_and_counted() -> None:
    column = categories("gender", text("M", "F", "banana", "F"))
    assert column.values.to_list() == ["Male", "Female", None, "Female"]
    assert column.notes == ("1 of 4 gender labels was not understood and left empty: 'banana' (1)",)


@pytest.mark.parametrize(
    ("values", "scheme"),
    [
        (["White", "BLACK", "asian"], "fairface4"),
        (["White", "Asian", "other"], "utkface5"),
        (["White", "east_asian", "Latino Hispanic", "Middle-Eastern"], "fairface7"),
        (["white"], "fairface4"),
    ],
)
def test_the_smallest_scheme_that_fits_is_taken(values: list[str], scheme: str) -> None:
    column = categories("race", text(*values))
    assert column.task is not None
    assert column.task.scheme == scheme
    assert column.values.null_count() == 0
    assert set(column.values) <= set(SCHEMES[scheme])


def test_values_of_no_scheme_are_classes_of_their_own() -> None:
    column = categories("race", text("Nguni", "sotho", "Sotho", "Nguni", " Venda"))
    assert column.values.to_list() == ["Nguni", "sotho", "sotho", "Nguni", "Venda"]
    assert column.task is not None
    assert (column.task.scheme, column.task.classes) == ("custom", ("Nguni", "Venda", "sotho"))
    assert column.notes == (
        "the race labels are of no known scheme; they are taken as classes: "
        "'Nguni', 'Venda', 'sotho'",
    )


def test_a_frequent_value_outside_the_scheme_is_never_dropped() -> None:
    column = categories("gender", text(*["m"] * 40, *["F"] * 50, *["Non-binary"] * 10))
    assert column.task is not None
    assert column.task.classes == ("Female", "Male", "Non-binary")
    assert column.values.value_counts().height == 3


def test_a_format_with_a_fixed_scheme_takes_no_other() -> None:
    column = categories("race", text(*["Martian"] * 9, "White"), ("fairface7",))
    assert column.task is not None
    assert column.task.scheme == "fairface7"
    assert column.values.null_count() == 9


@given(st.sampled_from(sorted(SCHEMES)), st.data())
def test_case_and_marks_never_matter(scheme: str, data: st.DataObject) -> None:
    classes = data.draw(st.lists(st.sampled_from(SCHEMES[scheme]), min_size=1, max_size=20))
    changes = [str.upper, str.lower, str.title, lambda s: s.replace(" ", "_"), lambda s: f" {s}\n"]
    written = [data.draw(st.sampled_from(changes))(name) for name in classes]
    name = "gender" if scheme == "gender2" else "race"
    assert categories(name, text(*written), (scheme,)).values.to_list() == classes


@given(st.lists(st.one_of(st.none(), st.text(max_size=8), st.sampled_from(["M", "f", "White"]))))
def test_any_text_gives_null_or_a_class(values: list[str | None]) -> None:
    for name in ("gender", "race"):
        column = categories(name, text(*values))
        assert column.task is not None
        assert len(column.values) == len(values)
        assert set(column.values.drop_nulls()) <= set(column.task.classes)


# --- ages -------------------------------------------------------------------------------------


def test_years() -> None:
    column = years(
        text("0", " 25 ", "31.5", "116", "117", "-1", "old", "nan", "", None, "inf", "1e1")
    )
    expected = [0.0, 25.0, 31.5, 116.0, None, None, None, None, None, None, None, 10.0]
    assert column.values.to_list() == expected
    assert column.values.dtype == pl.Float32
    assert column.task is None
    assert column.notes[0].startswith("4 of 9 age labels were not understood")


def test_numbers_are_years_and_groups_are_not() -> None:
    assert are_years(text("25", "30", None, "x"))
    assert not are_years(text("20-29", "3-9", "70", None))


def test_a_decimal_comma_is_one_of_a_number() -> None:
    column = years(text("3,5", " 25,50", "40", "-1,5", "(3, 5)", "1,2,3"))
    assert column.values.to_list() == [3.5, 25.5, 40.0, None, None, None]
    assert are_years(text("3,5", "25,50"))


@pytest.mark.parametrize(
    "values", [["child", "adult"], ["0.5", "1.5"], ["25 years", "6 months"], ["3,5", "25,50"]]
)
def test_age_groups_by_other_names_than_bounds_are_told(values: list[str]) -> None:
    column = age_groups(text(*values))
    assert column.values.to_list() == values
    (note,) = column.notes
    assert note.startswith("the age_group labels are of no known scheme; they are taken as classes")
    assert all(repr(value) in note for value in values)
    assert age_groups(text("8-13", "25-32")).notes == ()


@pytest.mark.parametrize(
    ("written", "group"),
    [
        ("3-9", "3-9"),
        ("03-09", "3-9"),
        (" 3 - 9 ", "3-9"),
        ("3\N{EN DASH}9", "3-9"),
        ("(0, 2)", "0-2"),
        ("(0,2)", "0-2"),
        ("0, 2", "0-2"),
        ("3,5", None),
        ("25,50", None),
        ("more than 70", "70+"),
        ("More Than 70", "70+"),
        ("70 +", "70+"),
        ("70+", "70+"),
        ("9-3", None),
        ("70", None),
        ("3-9-12", None),
        ("", None),
        ("\u0663-\u0669", None),
    ],
)
def test_age_group(written: str, group: str | None) -> None:
    assert age_group(written) == group


@pytest.mark.parametrize(
    "written",
    [
        *("03-Sep", "3-Sep", "Sep-03", "9-Mar", "09-Mar", "Mar-09", "MAR-9", "9 March", "3. Sept"),
        *("2009-03-01", "2003-09-01", "2021-03-09", "2021-09-03 00:00:00", "2021-09-03T00:00:00"),
        *("3/9/2021", "9/3/21", "03-Sep-2021", "09.03.2021"),
    ],
)
def test_3_to_9_is_repaired(written: str) -> None:
    assert repaired_age_group(written) == "3-9"


@pytest.mark.parametrize(
    "written",
    [
        *("Oct-19", "19-Oct", "October 19", "2019-10-01", "2021-10-19", "10/19/2021", "19.10.2021"),
        *("2019-10-01 00:00:00", "1-Oct-19", "10/1/2019"),
    ],
)
def test_10_to_19_is_repaired(written: str) -> None:
    assert repaired_age_group(written) == "10-19"


@pytest.mark.parametrize(
    "written",
    [
        *("3-9", "10-19", "20-29", "1-Mar", "Mar", "3-Oct", "maybe 3-9", "Mayor-3", "2021", ""),
        *("3-9-x", "more than 70", "0-2", "9-9", "Nov-19"),
    ],
)
def test_what_is_no_date_of_an_age_group_is_not_repaired(written: str) -> None:
    assert repaired_age_group(written) is None


@given(st.integers(1, 12), st.integers(0, 99), st.sampled_from(["-", " ", "/"]), st.booleans())
def test_only_dates_made_of_both_bounds_are_repaired(
    month: int, number: int, mark: str, month_first: bool
) -> None:
    pair = [calendar.month_abbr[month], f"{number:02}"]
    group = repaired_age_group(mark.join(pair if month_first else pair[::-1]))
    assert group == (
        name if (name := f"{min(month, number)}-{max(month, number)}") in DATE_LIKE else None
    )


@given(st.text(max_size=20))
def test_any_text_is_a_group_or_none(written: str) -> None:
    for found in (age_group(written), repaired_age_group(written)):
        assert found is None or found[0].isdigit()


def test_every_named_group_is_read_as_itself() -> None:
    for scheme, bins in AGE_BINS.items():
        names = age_group_names(bins)
        column = age_groups(text(*names))
        assert column.task is not None
        assert (column.task.scheme, column.values.to_list()) == (scheme, list(names))


def test_repairs_and_slips_are_counted() -> None:
    column = age_groups(text("3-Sep", "9-Mar", "Oct-19", "20-29", "adult", None), "fairface9")
    assert column.values.to_list() == ["3-9", "3-9", "10-19", "20-29", None, None]
    assert column.notes == (
        "3 age groups were repaired from spreadsheet dates (such as '3-Sep' to 3-9)",
        "1 of 5 age_group labels was not understood and left empty: 'adult' (1)",
    )


def test_a_group_outside_the_scheme_is_null() -> None:
    column = age_groups(text("20-29", "20-30"), "fairface9")
    assert column.values.to_list() == ["20-29", None]


def test_bounds_without_gaps_are_a_scheme_with_bounds() -> None:
    column = age_groups(text("18-64", "65+", "0-17", "18-64"))
    assert column.task is not None
    assert (column.task.scheme, column.task.classes) == ("custom", ("0-17", "18-64", "65+"))


def test_groups_with_gaps_are_ordered_by_their_bounds() -> None:
    column = age_groups(text("100-120", "8-13", "25-32"))
    assert column.task is not None
    assert column.task.classes == ("8-13", "25-32", "100-120")


def test_groups_by_name_are_kept() -> None:
    column = age_groups(text("child", "adult", "Child", None))
    assert column.values.to_list() == ["child", "adult", "child", None]
    assert column.task is not None
    assert column.task.classes == ("adult", "child")


def test_labels_that_fit_several_schemes_say_so() -> None:
    few = categories("race", pl.Series(["White", "Black", "Asian"]))
    assert few.task == task_of_scheme("race", "fairface4")
    (note,) = few.notes
    assert note.startswith("the race labels fit fairface4 and utkface5 alike")
    assert categories("race", pl.Series(["White", "Black", "Asian", "Others"])).notes == ()
    assert categories("gender", pl.Series(["Male"])).notes == ()
