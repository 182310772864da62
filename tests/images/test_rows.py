"""Images in the rows of Parquet files."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceaudit.errors import InputError
from faceaudit.images import rows
from faceaudit.images.find import find_images
from faceaudit.images.refs import ImageRef, read_bytes

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def written(path: Path, images: Sequence[Any], *, group: int = 4, **columns: Any) -> Path:
    """A Parquet file with images as Hugging Face Datasets writes them."""
    table = pa.table({"image": pa.array(images, IMAGE), **columns})
    pq.write_table(table, path, row_group_size=group)
    return path


def structs(*names: str | None) -> list[dict[str, Any]]:
    return [{"bytes": f"bytes of {name}".encode(), "path": name} for name in names]


def test_images_of_hugging_face_datasets(tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(10)]
    path = written(tmp_path / "a.parquet", structs(*names), age=range(10))
    found = find_images(str(path))
    assert found.count() == 10
    assert found.folder == tmp_path
    batches = list(found.batches(3))
    assert [len(batch.refs) for batch in batches] == [3, 3, 3, 1]
    assert [ref.name for batch in batches for ref in batch.refs] == names
    assert [ref.name for ref in found] == names
    assert [read_bytes(ref) for ref in found] == [f"bytes of {name}".encode() for name in names]
    carried = pl.concat([batch.carried for batch in batches if batch.carried is not None])
    assert carried["age"].to_list() == list(range(10))
    assert found.carried_schema is not None
    assert carried.schema == found.carried_schema.schema


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("column", ["bytes", "img"])
def test_plain_bytes_with_and_without_names(tmp_path: Path, kind: pa.DataType, column: str) -> None:
    path = tmp_path / "a.parquet"
    table = {column: pa.array([b"1", b"2", b"3"], kind), "file_name": ["x", None, "x"]}
    pq.write_table(pa.table(table), path)
    found = find_images(str(path))
    assert [ref.name for ref in found] == ["x", "row-000002", "x#3"]
    assert [read_bytes(ref) for ref in found] == [b"1", b"2", b"3"]
    assert found.carried_schema is None
    pq.write_table(pa.table({column: table[column]}), path)
    assert [ref.name for ref in find_images(str(path))][1] == "row-000002"


def test_a_row_without_bytes_still_gets_a_row(tmp_path: Path) -> None:
    images = [{"bytes": None, "path": "x.jpg"}, None, *structs("y.jpg")]
    path = written(tmp_path / "a.parquet", images, site=["a", "b", "c"])
    first, second, third = find_images(str(path))
    assert (first.name, second.name, third.name) == ("x.jpg", "row-000002", "y.jpg")
    for ref in (first, second):
        with pytest.raises(OSError, match="the row holds no image"):
            read_bytes(ref)
    assert read_bytes(third) == b"bytes of y.jpg"


def test_a_glob_of_files_is_one_source(tmp_path: Path) -> None:
    written(tmp_path / "1.parquet", structs("x", "y"), site=["a", "b"])
    written(tmp_path / "0.parquet", structs("x"), site=["c"])
    found = find_images(f"{tmp_path}/*.parquet")
    assert [ref.name for ref in found] == ["0.parquet/x", "1.parquet/x", "1.parquet/y"]
    assert [read_bytes(ref)[-1:] for ref in found] == [b"x", b"x", b"y"]
    assert [batch.carried.rows() for batch in found.batches(9) if batch.carried is not None] == [
        [("c",)],
        [("a",), ("b",)],
    ]
    written(tmp_path / "2.parquet", structs("x"), place=["c"])
    with pytest.raises(InputError, match=r"2\.parquet: has other columns than .*0\.parquet"):
        find_images(f"{tmp_path}/*.parquet")


def test_classes_are_carried_by_name_and_own_facts_are_not(tmp_path: Path) -> None:
    features = {"gender": {"names": ["Male", "Female"], "_type": "ClassLabel"}}
    table = pa.table(
        {
            "image": pa.array(structs("a", "b", "c", "d"), IMAGE),
            "gender": [1, 0, -1, None],
            "width": [1, 2, 3, 4],
            "mask": [b"", b"", b"", b""],
            "tags": [["x"], [], None, ["y", "z"]],
            "kind": pa.array(["p", "q", "p", None]).dictionary_encode(),
        }
    )
    info = json.dumps({"info": {"features": features}})
    pq.write_table(table.replace_schema_metadata({"huggingface": info}), tmp_path / "a.parquet")
    found = find_images(str(tmp_path / "a.parquet"))
    (batch,) = found.batches(9)
    assert batch.carried is not None
    assert batch.carried.to_dict(as_series=False) == {
        "gender": ["Female", "Male", None, None],
        "tags": [["x"], [], None, ["y", "z"]],
        "kind": ["p", "q", "p", None],
    }
    assert found.notes == (f"{tmp_path}/a.parquet: columns that are not carried: 'width', 'mask'",)


@pytest.mark.parametrize("values", [["Male", "x"], [1.5, 0.0], [[0], [1]]])
def test_names_of_classes_are_those_of_whole_numbers_only(
    tmp_path: Path, values: list[object]
) -> None:
    features = {"gender": {"names": ["Male", "Female"], "_type": "ClassLabel"}}
    table = pa.table({"image": pa.array(structs("a", "b"), IMAGE), "gender": values})
    info = json.dumps({"info": {"features": features}})
    pq.write_table(table.replace_schema_metadata({"huggingface": info}), tmp_path / "a.parquet")
    (batch,) = find_images(str(tmp_path / "a.parquet")).batches(9)
    assert batch.carried is not None
    assert batch.carried["gender"].to_list() == values


@pytest.mark.parametrize("name", ["image", "place"])
def test_columns_of_one_name_are_one_clear_error(tmp_path: Path, name: str) -> None:
    images = pa.array(structs("a"), IMAGE)
    other = images if name == "image" else pa.array([1])
    table = pa.Table.from_arrays([images, other, other], ["image", name, name])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match=rf"a\.parquet: has several columns of the name '{name}'"):
        find_images(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize("name", ["path", "place"])
def test_text_that_is_no_utf8_is_one_clear_error(tmp_path: Path, name: str) -> None:
    bad = pa.array([b"a.jpg", b"b\xff.jpg"])
    text = pa.Array.from_buffers(pa.string(), len(bad), bad.buffers())
    pq.write_table(pa.table({"image": [b"1", b"2"], name: text}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=rf"a\.parquet: the column '{name}' cannot be read .*UTF"):
        list(find_images(str(tmp_path / "a.parquet")).batches(9))


@pytest.mark.parametrize("content", [b"PAR1", b"", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_what_is_no_parquet_file_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    for source in ("a.parquet", "*.parquet"):
        with pytest.raises(InputError, match=r"a\.parquet: is no") as caught:
            find_images(f"{tmp_path}/{source}")
        assert "\n" not in str(caught.value)


def test_parquet_files_without_images_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["a.jpg"]}), tmp_path / "list.parquet")
    with pytest.raises(InputError, match="has no column of images"):
        find_images(f"{tmp_path}/*.parquet")


def test_a_file_that_is_damaged_or_gone_costs_its_images_only(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", structs(*map(str, range(8))))
    refs = list(find_images(str(path)))
    data = bytearray(path.read_bytes())
    data[4:60] = b"\xff" * 56
    path.write_bytes(data)
    with pytest.raises(OSError, match="damaged Parquet file"):
        read_bytes(refs[0])
    assert read_bytes(refs[7]) == b"bytes of 7"
    fresh = list(find_images(str(path)))
    path.unlink()
    with pytest.raises(OSError, match="No such file"):
        read_bytes(fresh[0])


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(40)), held=st.integers(1, 2000), group=st.integers(1, 40))
def test_rows_are_read_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], held: int, group: int
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any-{group}.parquet"
    written(path, structs(*map(str, range(40))), group=group)
    refs = list(find_images(str(path)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "BLOCK_BYTES", 60)
        patch.setattr(rows, "HELD_BYTES", held)
        assert [read_bytes(refs[row]) for row in order] == [b"bytes of %d" % row for row in order]


def test_threads_share_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BLOCK_BYTES", 400)
    path = written(tmp_path / "a.parquet", structs(*map(str, range(400))), group=100)
    refs = list(find_images(str(path)))
    blocks: list[int] = []
    init = rows._Block.__init__

    def counted(self: rows._Block, *args: Any, **kwargs: Any) -> None:
        blocks.append(1)
        init(self, *args, **kwargs)

    monkeypatch.setattr(rows._Block, "__init__", counted)
    barrier = threading.Barrier(4)

    def read(part: Sequence[ImageRef]) -> list[bytes]:
        barrier.wait()
        return [read_bytes(ref) for ref in part]

    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(read, [refs[start::4] for start in range(4)]))
    for start, part in enumerate(parts):
        assert part == [b"bytes of %d" % row for row in range(start, 400, 4)]
    once = sum(len(batch.refs) for batch in find_images(str(path)).batches(100)) * 20 // 400
    assert len(blocks) < 4 * once  # each block once, not once per thread


def test_references_travel_to_other_processes(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", structs("x", "y"))
    refs = pickle.loads(pickle.dumps(list(find_images(str(path)))))
    assert [read_bytes(ref) for ref in refs] == [b"bytes of x", b"bytes of y"]
    assert refs[0].stamp() != refs[1].stamp()


def test_references_that_travel_in_pieces_share_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks come to a worker one by one, which must not begin each row group anew."""
    written(tmp_path / "in.parquet", structs(*"0123"))
    monkeypatch.chdir(tmp_path)
    refs = list(find_images("in.parquet"))
    pieces = [pickle.dumps(refs[:2]), pickle.dumps(refs[2:])]
    monkeypatch.chdir(tmp_path.parent)
    first, second = map(pickle.loads, pieces)
    assert [read_bytes(ref)[-1:] for ref in (*first, *second)] == [b"0", b"1", b"2", b"3"]
    assert first[0].holder is second[0].holder
