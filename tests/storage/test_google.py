from __future__ import annotations

import pytest

from faceaudit.errors import RefusedError
from faceaudit.storage import (
    as_path,
    atomic_write,
    has_folder,
    list_parts,
    local_copy,
    remove,
    sha256_of_file,
    write_text,
)


def test_files_are_written_read_listed_and_removed(google: str) -> None:
    path = as_path(f"{google}/night/part-00000.parquet")
    with atomic_write(path) as file:
        file.write(b"abc")
        assert not path.exists()
    assert path.read_bytes() == b"abc"
    assert sha256_of_file(path).startswith("ba7816bf8f01cfea")
    assert [str(part) for part in list_parts(path.parent)] == [str(path)]
    assert local_copy(path).read_bytes() == b"abc"
    assert path.parent.is_dir()
    with path.open("rb") as opened:
        opened.seek(1)
        assert opened.read() == b"bc"
    write_text(path, "second")
    assert path.read_text() == "second"
    remove(path.parent)
    assert not path.exists()
    assert list_parts(path.parent) == []


def test_what_is_missing_is_named(google: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"No such file.*none\.txt"):
        as_path(f"{google}/none.txt").read_bytes()
    missing = as_path("gs://no-such-bucket/out.txt")
    assert not has_folder(missing)
    with pytest.raises((RefusedError, FileNotFoundError)):
        write_text(missing, "x")
