"""Lists as people and programs write them: paths of Windows, odd names, odd headers."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from faceaudit.errors import InputError
from faceaudit.images.find import find_images
from faceaudit.images.refs import read_bytes


def written(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def held(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


@pytest.mark.parametrize("beside", [True, False], ids=["beside", "current folder"])
def test_paths_of_windows_are_read_with_slashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    held(tmp_path, "img/10_1.jpg", "img/b/11_0.jpg")
    (tmp_path / "lists").mkdir()
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ("list.txt" if beside else "lists/list.txt")
    source = written(path, r"img\10_1.jpg", r".\img\b\11_0.jpg", r"img/10_1.jpg", r"no\where.jpg")
    found = find_images(source)
    assert [image.name for image in found] == ["img/10_1.jpg", "img/b/11_0.jpg", "no/where.jpg"]
    assert read_bytes(next(iter(found))) == b"img/10_1.jpg"
    assert found.notes == (
        f"{path}: 1 row repeats one before, and counts as one with it",
        f"{path}: backslashes in 3 paths were read as slashes",
    )


@pytest.mark.parametrize("first", [r"a\b.jpg", r"not\there.jpg"])
def test_a_backslash_stays_where_no_slash_is_meant(tmp_path: Path, first: str) -> None:
    held(tmp_path, r"a\b.jpg", "a/b.jpg")
    found = find_images(written(tmp_path / "list.txt", first, r"c\d.jpg"))
    assert [image.name for image in found] == [first, r"c\d.jpg"]
    assert found.notes == ()


def test_a_first_name_that_no_file_can_have_is_a_row(tmp_path: Path) -> None:
    held(tmp_path, "a.jpg")
    names = [f"{'x' * 300}.jpg", "a.jpg"]
    found = find_images(written(tmp_path / "list.txt", *names))
    assert [image.name for image in found] == names
    assert read_bytes(list(found)[1]) == b"a.jpg"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_columns_are_known_without_the_blanks_around_their_names(tmp_path: Path, kind: str) -> None:
    frame = pl.DataFrame({" image ": ["a.jpg"], "site ": [1]})
    path = tmp_path / f"list.{kind}"
    getattr(frame, f"write_{kind}")(path)
    found = find_images(str(path))
    assert [image.name for image in found] == ["a.jpg"]
    assert found.carried_schema is not None
    assert found.carried_schema.columns == ["site"]
    getattr(frame.rename({"site ": "face "}), f"write_{kind}")(path)
    with pytest.raises(InputError, match=r"writes columns of these names itself.*: face"):
        find_images(str(path))


@pytest.mark.parametrize("header", ["image,site,site", "image,site, site", "site,image,site,site"])
def test_a_column_that_stands_twice_is_refused(tmp_path: Path, header: str) -> None:
    row = ",".join(str(number) for number in range(header.count(",") + 1))
    source = written(tmp_path / "list.csv", header, row)
    with pytest.raises(InputError, match="the column 'site' occurs more than once; keep one"):
        find_images(source)


def test_columns_without_a_name_are_no_column_twice(tmp_path: Path) -> None:
    found = find_images(written(tmp_path / "list.csv", "image,site,,", "a.jpg,1,,"))
    assert [image.name for image in found] == ["a.jpg"]


def test_films_sound_and_settings_beside_images_are_left_out(tmp_path: Path) -> None:
    suffixes = ["wmv", "flv", "3gp", "m4v", "mpeg", "ogg", "flac", "aac", "xmp", "aae", "XMP"]
    held(tmp_path, "a.jpg", *(f"x.{suffix}" for suffix in suffixes))
    assert [image.name for image in find_images(str(tmp_path))] == ["a.jpg"]
