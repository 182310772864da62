from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceaudit import errors
from faceaudit.errors import FaceauditError, SchemaError, UnknownNameError, UsageError
from faceaudit.schema import (
    AGE_BINS,
    METADATA_KEY,
    SCHEME_MAPS,
    SCHEMES,
    TableMetadata,
    age_bins_of,
    age_group_names,
    age_group_task,
    table_schema,
    task_of_scheme,
)


@given(st.sets(st.integers(1, 100), min_size=1).map(lambda found: (0, *sorted(found))))
def test_names_of_age_groups_tell_their_bounds(bins: tuple[int, ...]) -> None:
    names = age_group_names(bins)
    assert len(names) == len(bins)
    assert age_bins_of(names) == bins


@pytest.mark.parametrize("bins", [(), (5, 10), (0, 10, 10), (0, 20, 10), (0, 200)])
def test_bounds_that_cannot_be_are_refused(bins: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="--age-bins"):
        age_group_names(bins)


def test_other_class_names_are_no_age_groups() -> None:
    assert age_bins_of(("Male", "Female")) is None
    assert age_bins_of(("0-2", "4-9", "10+")) is None


def test_age_groups_are_written_as_promised() -> None:
    assert task_of_scheme("age_group", "fairface9").classes == (
        "0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+",
    )  # fmt: skip
    assert age_group_task(AGE_BINS["dj5"]).scheme == "dj5"
    assert age_group_task((0, 50)).scheme == "custom"
    with pytest.raises(UnknownNameError, match="utkface5"):
        task_of_scheme("race", "utkface6")


@pytest.mark.parametrize(("finer", "coarser"), SCHEME_MAPS)
def test_a_mapping_covers_both_schemes(finer: str, coarser: str) -> None:
    mapping = SCHEME_MAPS[finer, coarser]
    assert tuple(mapping) == SCHEMES[finer]
    assert set(mapping.values()) <= set(SCHEMES[coarser])


def test_metadata_reads_back() -> None:
    task = task_of_scheme("race", "fairface7")
    before = TableMetadata(tasks=(task,), model={"name": "m"}, options={"limit": None})
    assert TableMetadata.from_json(before.to_json(), "t") == before


def test_metadata_of_a_later_version_or_damaged_is_one_clear_error() -> None:
    later = json.loads(TableMetadata(tasks=()).to_json()) | {"schema_version": 99, "further": 1}
    with pytest.raises(SchemaError, match="upgrade faceaudit"):
        TableMetadata.from_json(json.dumps(later), "t.parquet")
    for text in (
        *("{", "[]", "null", "[" * 100_000, '{"tasks": [{}]}', '{"tasks": [], "other": 1}'),
        *(f'{{"tasks": [], "{name}": 3}}' for name in ("model", "detector", "labels", "options")),
        '{"tasks": [], "schema_version": "1"}',
        '{"tasks": [], "precision": {}}',
        '{"tasks": [], "labels": {"tasks": [{"classes": ["a", "b"]}]}}',
    ):
        with pytest.raises(SchemaError, match=r"t\.parquet"):
            TableMetadata.from_json(text, "t.parquet")


def test_columns_are_those_of_the_contract() -> None:
    schema = table_schema(
        [task_of_scheme("gender", "gender2")],
        with_age=True,
        labels=["gender_true", "age_true"],
        carried=[pa.field("site", pa.string())],
        metadata=TableMetadata(tasks=()),
    )
    assert schema.names == [
        "image", "sha256", "face", "status", "error", "width", "height",
        "box_x0", "box_y0", "box_x1", "box_y1", "detection_score",
        "gender_pred", "gender_probs", "age_pred", "gender_true", "age_true", "site",
    ]  # fmt: skip
    assert schema.field("age_true").type == pa.float32()
    assert [field.name for field in schema.field("gender_probs").type] == ["Male", "Female"]
    assert METADATA_KEY in schema.metadata


def test_the_tree_of_errors_is_the_one_that_is_drawn() -> None:
    drawn = {
        word
        for line in (errors.__doc__ or "").splitlines()
        for word in line.split()
        if word.endswith("Error")
    }
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, FaceauditError)
    }
    assert drawn == defined
