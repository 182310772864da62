"""Finding images: folders, globs, lists, shards, and what must never hang or vanish."""

from __future__ import annotations

import io
import json
import os
import socket
import tarfile
import threading
import tracemalloc
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceaudit.errors import InputError
from faceaudit.images.find import find_images
from faceaudit.images.folders import IMAGE_SUFFIXES, SIDE_SUFFIXES
from faceaudit.images.refs import ImageRef, read_bytes, stamps_of
from faceaudit.images.source import ImageSource, unique_names
from faceaudit.storage.numerals import typed


def fill(folder: Path, *names: str) -> None:
    """Small files of these names, each holding its own name."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def names_of(source: ImageSource) -> list[str]:
    names = [image.name for image in source]
    batches = list(source.batches(2))
    assert [ref.name for batch in batches for ref in batch.refs] == names
    assert source.count() == len(names)
    assert all(0 < len(batch.refs) <= 2 for batch in batches)
    return names


def carried_by(source: ImageSource) -> dict[str, list[object]]:
    """Further columns, batch by batch, all of one schema."""
    schema = source.carried_schema
    assert schema is not None
    parts = [schema]
    for batch in source.batches(2):
        assert batch.carried is not None
        assert batch.carried.height == len(batch.refs)
        parts.append(batch.carried)
    return pl.concat(parts).to_dict(as_series=False)


def names_in(folder: Path) -> list[str]:
    return names_of(find_images(str(folder)))


# --- folders ----------------------------------------------------------------------------------


def test_files_of_a_folder_come_before_its_subfolders(tmp_path: Path) -> None:
    fill(
        tmp_path, "b.jpg", "a/z.png", "a/b/c.webp", "B.jpg", "a.jpg", "ab/x.jpg", "10.jpg", "9.jpg"
    )
    expected = ["10.jpg", "9.jpg", "B.jpg", "a.jpg", "b.jpg", "a/z.png", "a/b/c.webp", "ab/x.jpg"]
    found = find_images(f"{tmp_path}/")
    assert names_of(found) == expected
    assert found.folder == tmp_path
    assert [read_bytes(image).decode() for image in found] == expected


def test_side_files_and_hidden_files_are_left_out_and_unknown_ones_are_not(tmp_path: Path) -> None:
    fill(
        tmp_path, "a.txt", "labels.CSV", ".hidden.jpg", ".git/x.jpg", "__MACOSX/x.jpg", "b.parquet"
    )
    fill(tmp_path, "photo", "photo.xyz", "UPPER.JPG", "a.jpg.chip.jpg", "x.tar")
    assert names_in(tmp_path) == ["UPPER.JPG", "a.jpg.chip.jpg", "photo", "photo.xyz"]


def test_suffixes_are_of_one_kind() -> None:
    assert not IMAGE_SUFFIXES & SIDE_SUFFIXES
    assert all(suffix.startswith(".") for suffix in IMAGE_SUFFIXES | SIDE_SUFFIXES)


def test_odd_names_survive(tmp_path: Path) -> None:
    odd = [
        "новый.jpg",
        "a b.jpg",
        "q\"uo'te.jpg",
        "new\nline.jpg",
        "comma,.jpg",
        "日本/顔.jpg",
        "x\\y.jpg",
    ]
    fill(tmp_path, *odd)
    found = find_images(str(tmp_path))
    assert sorted(names_of(found)) == sorted(odd)
    assert all(read_bytes(image).decode() == image.name for image in found)


def test_a_name_that_is_no_utf8_can_be_written_and_read(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    try:
        Path(os.fsdecode(raw)).write_bytes(b"here")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    (image,) = find_images(str(tmp_path))
    (alone,) = find_images(os.fsdecode(raw))
    for found in (image, alone):
        assert found.name.encode("utf-8") == b"caf\\xe9.jpg"
        assert read_bytes(found) == b"here"


def test_links_are_followed_once_and_never_in_circles(tmp_path: Path) -> None:
    fill(tmp_path / "in", "a/1.jpg", "b/2.jpg")
    fill(tmp_path / "out", "3.jpg")
    for link, target in [
        ("in/a/up", tmp_path / "in"),
        ("in/a/other", tmp_path / "in/b"),
        ("in/far", tmp_path / "out"),
        ("in/far2", tmp_path / "out"),
        ("out/back", tmp_path / "in"),
        ("in/file.jpg", tmp_path / "out/3.jpg"),
        ("in/self", tmp_path / "in/self"),
    ]:
        (tmp_path / link).symlink_to(target)
    assert names_in(tmp_path / "in") == ["file.jpg", "self", "a/1.jpg", "b/2.jpg", "far/3.jpg"]


def test_a_linked_folder_is_a_source(tmp_path: Path) -> None:
    fill(tmp_path / "real", "1.jpg", "a/2.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert names_in(tmp_path / "link") == ["1.jpg", "a/2.jpg"]


def test_pipes_sockets_and_broken_links_never_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "good.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "folder.jpg").mkdir()
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
        found = find_images(str(tmp_path))
        assert names_of(found) == ["broken.jpg", "good.jpg", "pipe.jpg", "socket.jpg"]
        for image in found:
            if image.name != "good.jpg":
                with pytest.raises(OSError, match=r".+"):
                    read_bytes(image)


def test_a_file_is_read_when_it_can_be(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.jpg", Path("nul\0l.jpg")):
        with pytest.raises(OSError, match=r".+"):
            read_bytes(ImageRef("x", str(path)))


# --- other sources ----------------------------------------------------------------------------


def test_one_image(tmp_path: Path) -> None:
    fill(tmp_path, "face.jpg", "other.jpg")
    found = find_images(str(tmp_path / "face.jpg"))
    assert (names_of(found), found.folder) == (["face.jpg"], tmp_path)


def test_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a/1.jpg", "a/2.png", "b/1.jpg", "b/.1.jpg", "b/c/1.jpg", "1.jpg", "a/1.txt")
    found = find_images(f"{tmp_path}/*/1.*")
    assert (names_of(found), found.folder) == (["a/1.jpg", "b/1.jpg"], tmp_path)
    assert names_of(find_images(f"{tmp_path}/**/*.jpg")) == [
        "1.jpg",
        "a/1.jpg",
        "b/1.jpg",
        "b/c/1.jpg",
    ]
    monkeypatch.chdir(tmp_path)
    assert names_of(find_images("./a/*")) == ["1.jpg", "2.png"]


def test_a_folder_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    fill(tmp_path, "[old]/1.jpg")
    assert names_in(tmp_path / "[old]") == ["1.jpg"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("missing", "there is no such file or folder"),
        ("*.jpg", "no images"),
        ("**.jpg", "glob"),
        ("empty", "no images"),
        ("table.json", "no image"),
        ("x.tar.gz", "not compressed"),
        ("pipe", "neither a folder nor a file"),
        ("bad.tar", "cannot be read as a tar"),
        ("bad.parquet", "not a Parquet file"),
        ("latin.txt", "UTF-8"),
        ("latin.csv", "UTF-8"),
        ("ragged.csv", "cannot be read as CSV"),
        ("cut.csv", "is cut off: its last row, 'y.jpg,1', has 2 fields and the header 3"),
        ("other.csv", "no column of paths"),
        ("twice.csv", "more than once"),
        ("taken.csv", "status"),
        ("web.txt", r"web\.txt: https://\.\.\.: no such address is read"),
        ("secret.txt", "an address must not hold credentials"),
        ("void.csv", "cannot be read as CSV"),
        ("void.txt", "no images"),
    ],
)
def test_one_clear_error(tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    contents: Mapping[str, bytes] = {
        "table.json": b"{}",
        "x.tar.gz": b"\x1f\x8b",
        "bad.tar": b"no tar at all" * 100,
        "bad.parquet": b"PAR1",
        "latin.txt": b"caf\xe9.jpg\n",
        "latin.csv": b"image\ncaf\xe9.jpg\n",
        "ragged.csv": b"image,a\nx.jpg,1,2,3\n",
        "cut.csv": b"image,a,b\nx.jpg,1,2\ny.jpg,1",
        "other.csv": b"name,a\nx.jpg,1\n",
        "twice.csv": b"image,a\nx.jpg,1\n./x.jpg,2\n",
        "taken.csv": b"image,status\nx.jpg,1\n",
        "web.txt": b"https://host/x.jpg\n",
        "secret.txt": b"a.jpg\ns3://key:secret@bucket/x.jpg\n",
        "void.csv": b"",
        "void.txt": b"\n\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        find_images(f"{tmp_path}/{source}")
    assert "\n" not in str(caught.value)
    assert ":secret" not in str(caught.value)
    assert source in str(caught.value)


def test_a_folder_of_shards_says_what_to_give(tmp_path: Path) -> None:
    fill(tmp_path, "0001.tar", "0000.tar")
    with pytest.raises(InputError, match=r"give one of them or all, such as .*\*\.tar"):
        find_images(str(tmp_path))


# --- lists ------------------------------------------------------------------------------------


def test_list_of_lines(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.jpg", "2.jpg")
    (tmp_path / "list.txt").write_bytes(
        "\ufeffa/1.jpg\r\n\r\n ./2.jpg\nmissing.jpg\na/1.jpg".encode()
    )
    found = find_images(str(tmp_path / "list.txt"))
    assert names_of(found) == ["a/1.jpg", "2.jpg", "missing.jpg"]
    assert found.carried_schema is None
    assert read_bytes(list(found)[1]) == b"2.jpg"
    with pytest.raises(FileNotFoundError):
        read_bytes(list(found)[2])


def test_equal_lines_of_a_list_are_one_and_said(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.jpg\nb.jpg\n./a.jpg\na.jpg\n")
    found = find_images(str(tmp_path / "list.txt"))
    assert [image.name for image in found] == ["a.jpg", "b.jpg"]
    assert [note.partition("list.txt: ")[2] for note in found.notes] == [
        "2 rows repeat one before, and count as one with it"
    ]


def test_list_relative_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "a/1.jpg")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/list.txt").write_text("a/1.jpg\n")
    monkeypatch.chdir(tmp_path)
    found = find_images("lists/list.txt")
    assert read_bytes(next(iter(found))) == b"a/1.jpg"


def test_list_of_absolute_paths(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.jpg")
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a/1.jpg\n")
    (image,) = find_images(str(tmp_path / "list.txt"))
    assert image.name == f"{tmp_path}/a/1.jpg"
    assert read_bytes(image) == b"a/1.jpg"


def test_csv_list_carries_its_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(
        'seed;path;prompt;subject;score\n1;a.jpg;"a; ""face""\nof";007;0.5\n'
        ";b.jpg;;008;1\n3;;x;1;1\n"
    )
    found = find_images(str(path))
    assert names_of(found) == ["a.jpg", "b.jpg"]
    assert carried_by(found) == {
        "seed": [1, None],
        "prompt": ['a; "face"\nof', None],
        "subject": ["007", "008"],
        "score": [0.5, 1.0],
    }
    assert found.notes == (f"{path}: 1 row names no image",)


def test_parquet_list_keeps_its_types(tmp_path: Path) -> None:
    frame = pl.DataFrame({"file_name": ["a.jpg", None, "b.jpg"], "seed": [1, 2, 3]})
    frame.write_parquet(tmp_path / "list.parquet")
    found = find_images(str(tmp_path / "list.parquet"))
    assert names_of(found) == ["a.jpg", "b.jpg"]
    assert carried_by(found) == {"seed": [1, 3]}


@pytest.mark.parametrize(
    "values",
    [
        ["18446744073709551615", "18446744073709551614"],
        ["9007199254740993", "0.5"],
        ["1.1", "1.10", "1.100"],
        ["1.10", "1.9"],
        ["1", "1.0"],
        ["1.0", "2"],
        ["1e5", "100000"],
        ["0.12345678901234567890"],
        ["nan", "inf", "1"],
        ["007", "1"],
        ["+1", "2"],
        ["1e999", "1"],
        [" 1", "2"],
    ],
)
def test_a_column_that_would_not_be_written_the_same_again_stays_text(values: list[str]) -> None:
    assert typed(pl.Series("x", values)).to_list() == values


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        (["9007199254740993", "-9223372036854775808"], [2**53 + 1, -(2**63)]),
        (["0.50", "1.25", "-3.00"], [0.5, 1.25, -3.0]),
        (["1", "2.5"], [1.0, 2.5]),
        (["1.0", "1e-05", "0.30000000000000004"], [1.0, 1e-05, 0.1 + 0.2]),
        (["0.000", "0.125"], [0.0, 0.125]),
    ],
)
def test_a_column_of_numbers_in_one_form_becomes_numbers(
    values: list[str], numbers: list[float]
) -> None:
    assert typed(pl.Series("x", values)).to_list() == numbers


@given(st.lists(st.one_of(st.none(), st.integers(-(2**70), 2**70).map(str), st.text(max_size=5))))
def test_a_column_becomes_numbers_only_where_nothing_is_lost(values: list[str | None]) -> None:
    column = typed(pl.Series("x", values, dtype=pl.String))
    assert column.is_null().to_list() == [value is None for value in values]
    if column.dtype == pl.Float64:
        assert all(Decimal(v) == Decimal(repr(n)) for v, n in zip(values, column, strict=True) if v)
    else:
        assert column.cast(pl.String).to_list() == values


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_floats_as_python_writes_them_become_the_same_floats(values: list[float]) -> None:
    assert typed(pl.Series("x", list(map(repr, values)))).to_list() == values


@pytest.mark.parametrize("pattern", ["", "/*.jpg"], ids=["folder", "glob"])
def test_names_that_are_no_utf8_are_nobody_elses(tmp_path: Path, pattern: str) -> None:
    for name in (b"\\\\xff", b"\\xff", b"\xff", b"\xc3\xbc"):
        (tmp_path / os.fsdecode(name + b".jpg")).write_bytes(name)
        if not pattern:
            (tmp_path / os.fsdecode(name)).mkdir()
            (tmp_path / os.fsdecode(name) / "x.jpg").write_bytes(name)
    held = {image.name: read_bytes(image) for image in find_images(f"{tmp_path}{pattern}")}
    plain = {r"\\xff": rb"\\xff", r"\xff": rb"\xff", r"\\\xff": b"\xff", "ü": "ü".encode()}
    assert held == {
        f"{name}{end}": data
        for name, data in plain.items()
        for end in ([".jpg"] if pattern else [".jpg", "/x.jpg"])
    }


# --- shards -----------------------------------------------------------------------------------


def write_shard(path: Path, members: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)


def test_shard_keeps_its_order_and_carries_fields(tmp_path: Path) -> None:
    path = tmp_path / "000.tar"
    facts = {"seed": 1, "site": "Köln", "tags": ["x"], "ok": True, "width": 9, "big": 2**70}
    write_shard(
        path,
        {
            "s/2.jpg": b"two",
            "s/2.json": json.dumps(facts).encode(),
            "s/2.txt": b"caption",
            "s/1.face.png": b"one",
            "s/1.json": json.dumps({"seed": 2.5, "late": None}).encode(),
            "s/0.webp": b"",
            "s/0.json": b"{broken",
            "._junk.jpg": b"x",
        },
    )
    found = find_images(str(path))
    assert found.folder is None
    assert names_of(found) == ["s/2.jpg", "s/1.face.png", "s/0.webp"]
    assert [read_bytes(image) for image in found] == [b"two", b"one", b""]
    assert carried_by(found) == {
        "seed": [1.0, 2.5, None],
        "site": ["Köln", None, None],
        "tags": ['["x"]', None, None],
        "ok": [True, None, None],
        "big": [str(2**70), None, None],
        "late": [None, None, None],
    }
    assert len(found.notes) == 1
    assert "s/0.json" in found.notes[0]


def test_half_a_character_in_the_fields_of_a_shard_is_replaced(tmp_path: Path) -> None:
    fields = b'{"caption": "so \\ud83d", "\\ude00": ["\\ud83d\\ude00", {"x": "\\udc00!"}]}'
    write_shard(tmp_path / "0.tar", {"1.jpg": b"x", "1.json": fields})
    assert carried_by(find_images(str(tmp_path / "0.tar"))) == {
        "caption": ["so \ufffd"],
        "\ufffd": ['["\U0001f600", {"x": "\ufffd!"}]'],
    }


@pytest.mark.parametrize("source", ["all.tar", "[0-2].tar"])
def test_integers_beside_floats_keep_their_digits(tmp_path: Path, source: str) -> None:
    members = {}
    for number, seed in enumerate([2**53 + 1, 0.5, 3]):
        fields = {f"{number}.jpg": b"x", f"{number}.json": json.dumps({"seed": seed}).encode()}
        write_shard(tmp_path / f"{number}.tar", fields)
        members |= fields
    write_shard(tmp_path / "all.tar", members)
    assert carried_by(find_images(str(tmp_path / source))) == {
        "seed": ["9007199254740993", "0.5", "3"]
    }


def test_shard_that_ends_early(tmp_path: Path) -> None:
    path = tmp_path / "000.tar"
    write_shard(path, {"1.jpg": b"x" * 5000, "2.jpg": b"y" * 5000})
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"000\.tar"):
        find_images(str(path))


def damaged_shard(path: Path, change: Callable[[bytes], bytes]) -> None:
    write_shard(path, {f"{number}.jpg": b"x" * 700 for number in range(4)})
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda data: data[:3222] + b"?" + data[3223:], "the header at byte 3,072 is damaged"),
        (lambda data: data[:3200], "the header at byte 3,072 is cut off"),
        (lambda data: data[:2500], "unexpected end of data after the beginning of '1.jpg'"),
        (lambda data: data[:1536] + bytes(1536) + data[3072:], "marked at byte 1,536, but more"),
        (lambda data: data + data, "marked at byte 6,656, but more follows"),
    ],
    ids=["a damaged header", "a header cut off", "an image cut off", "a hole", "two joined"],
)
def test_a_shard_is_refused_where_images_would_be_lost_after_a_place(
    tmp_path: Path, change: Callable[[bytes], bytes], match: str
) -> None:
    damaged_shard(tmp_path / "0.tar", change)
    with pytest.raises(InputError, match=rf"0\.tar: cannot be read as a tar .*{match}"):
        find_images(str(tmp_path / "0.tar"))


def test_a_shard_without_a_mark_of_its_end_is_read_with_a_note(tmp_path: Path) -> None:
    damaged_shard(tmp_path / "0.tar", lambda data: data[:3072])
    found = find_images(str(tmp_path / "0.tar"))
    assert names_of(found) == ["0.jpg", "1.jpg"]
    (note,) = found.notes
    assert "no end is marked in '0.tar'" in note


def test_links_in_a_shard_are_the_images_that_they_lead_to(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name, target, kind in [
            ("./a/early.jpg", "../.store", tarfile.SYMTYPE),
            ("./a/1.jpg", "", tarfile.REGTYPE),
            ("./.store", "", tarfile.REGTYPE),
            ("./b/hard.jpg", "./a/1.jpg", tarfile.LNKTYPE),
            ("./b/soft.jpg", "hard.jpg", tarfile.SYMTYPE),
            ("./b/again.jpg", "again.jpg", tarfile.SYMTYPE),
            ("./b/away.jpg", "/srv/away.jpg", tarfile.SYMTYPE),
            ("./c", "a", tarfile.SYMTYPE),
            ("./b/hard.json", "./a/1.json", tarfile.LNKTYPE),
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            member.size = len(name) if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(name.encode()))
    found = find_images(str(tmp_path / "0.tar"))
    assert {image.name: read_bytes(image) for image in found} == {
        "./a/early.jpg": b"./.store",
        "./a/1.jpg": b"./a/1.jpg",
        "./b/hard.jpg": b"./a/1.jpg",
        "./b/soft.jpg": b"./a/1.jpg",
    }
    assert [note.partition("0.tar: ")[2] for note in found.notes] == [
        "the JSON members './b/hard.json' hold no fields",
        "2 links lead to no image of the same tar and are left out: './b/again.jpg', "
        "'./b/away.jpg'",
    ]


def test_pipes_and_devices_in_a_shard_are_counted(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name, kind in [
            ("a.jpg", tarfile.REGTYPE),
            ("b.jpg", tarfile.FIFOTYPE),
            ("c.jpg", tarfile.CHRTYPE),
            ("d.jpg", tarfile.BLKTYPE),
            (".e.jpg", tarfile.FIFOTYPE),
            ("f.txt", tarfile.FIFOTYPE),
            ("g.jpg", tarfile.DIRTYPE),
        ]:
            member = tarfile.TarInfo(name)
            member.type = kind
            tar.addfile(member)
    found = find_images(str(tmp_path / "0.tar"))
    assert [image.name for image in found] == ["a.jpg"]
    assert [note.partition("0.tar: ")[2] for note in found.notes] == [
        "3 members are no file but a pipe or device, and left out: 'b.jpg', 'c.jpg', 'd.jpg'"
    ]


def test_a_shard_with_sparse_files_is_refused(tmp_path: Path) -> None:
    member = tarfile.TarInfo("holes.bmp")
    member.size = 4
    # Of ten bytes, four from the sixth on are stored, as `tar --sparse --format=pax` writes it.
    member.pax_headers = {"GNU.sparse.size": "10", "GNU.sparse.map": "6,4"}
    with tarfile.open(tmp_path / "0.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(member, io.BytesIO(b"data"))
    with pytest.raises(InputError, match=r"0\.tar: stores 'holes\.bmp' .*without --sparse"):
        find_images(str(tmp_path / "0.tar"))


def test_members_of_one_name_get_names_of_their_own(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for number, name in enumerate(["x.jpg", "y.jpg", "x.jpg", "x.jpg#3", "x.jpg"]):
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(str(number).encode()))
    found = find_images(str(tmp_path / "0.tar"))
    names = ["x.jpg", "y.jpg", "x.jpg#3#3", "x.jpg#3", "x.jpg#5"]
    assert [image.name for image in found] == names
    assert [read_bytes(image) for image in found] == [b"0", b"1", b"2", b"3", b"4"]


@given(st.lists(st.sampled_from(["a", "a#2", "a#3", "a#2#2", "a#3#3", "b"]), max_size=8))
def test_names_are_made_unique_and_the_first_of_each_stays(given: list[str]) -> None:
    names = unique_names(pl.Series(given, dtype=pl.String)).to_list()
    assert len(set(names)) == len(names)
    for place, name in enumerate(given):
        assert names[place].startswith(name)
        assert (names[place] == name) == (name not in given[:place])


def test_member_that_was_cut_off_after_the_shard_was_read(tmp_path: Path) -> None:
    path = tmp_path / "000.tar"
    write_shard(path, {"1.jpg": b"x" * 5000})
    (image,) = find_images(str(path))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(OSError, match="ends before"):
        read_bytes(image)


def test_an_empty_path_is_not_the_current_folder() -> None:
    with pytest.raises(InputError, match="empty path"):
        find_images("")


# --- walking ----------------------------------------------------------------------------------


def test_a_folder_is_listed_while_it_is_walked(tmp_path: Path) -> None:
    fill(tmp_path, "1.jpg", "a/2.jpg", "b/3.jpg", "b/c/4.jpg")
    found = find_images(str(tmp_path))
    batches = found.batches(1)
    assert next(batches).refs[0].name == "1.jpg"
    fill(tmp_path, "a/new.jpg", "late/5.jpg")
    (tmp_path / "b/3.jpg").unlink()
    names = [batch.refs[0].name for batch in batches]
    assert names == ["a/2.jpg", "a/new.jpg", "b/c/4.jpg"]  # the first folder was listed before
    assert names_of(found) == ["1.jpg", "a/2.jpg", "a/new.jpg", "b/c/4.jpg", "late/5.jpg"]


def test_a_walk_holds_the_names_of_one_folder_only(tmp_path: Path) -> None:
    for number in range(50):
        fill(tmp_path, *(f"{number:02}/{'x' * 40}{name}.jpg" for name in range(100)))
    found = find_images(str(tmp_path))
    tracemalloc.start()
    try:
        assert sum(len(batch.refs) for batch in found.batches(64)) == 5000
        peak = tracemalloc.get_traced_memory()[1]
        assert peak < 300_000  # one folder takes about 25,000 bytes, a reference 300
        assert len(list(found)) == 5000
        assert tracemalloc.get_traced_memory()[1] > 1_000_000
    finally:
        tracemalloc.stop()


def test_folders_that_cannot_be_read_are_noted_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "1.jpg", "a/2.jpg", "b/3.jpg", "c/4.jpg")
    scandir = os.scandir

    def guarded(place: str) -> object:
        if place.rstrip("/").endswith(("/a", "/c")):
            raise PermissionError(13, "Permission denied", place)
        return scandir(place)

    found = find_images(str(tmp_path))
    monkeypatch.setattr(os, "scandir", guarded)
    assert found.notes == ()
    assert names_of(found) == ["1.jpg", "b/3.jpg"]
    assert found.notes == (
        f"{tmp_path}: 2 folders could not be read and are left out, such as 'a' "
        "(Permission denied)",
    )


@pytest.mark.parametrize(
    ("pattern", "kept", "note"),
    [
        ("*/*.jpg", ["b/3.jpg"], "2 folders could not be read and are left out, such as "),
        ("**/*.jpg", ["1.jpg", "b/3.jpg"], "2 folders could not be read and are left out"),
        ("**/3.jpg", ["b/3.jpg"], "2 folders could not"),
        ("*/*.tar", ["b/5.tar/x.jpg"], "2 folders could not"),
        ("[b]/*.jpg", ["b/3.jpg"], ""),
        ("*/3.jpg", ["b/3.jpg"], ""),
    ],
)
def test_folders_that_a_glob_cannot_read_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, kept: list[str], note: str
) -> None:
    fill(tmp_path, "1.jpg", "a/2.jpg", "b/3.jpg", "c/4.jpg", "lost+found/6.jpg")
    write_shard(tmp_path / "b/5.tar", {"x.jpg": b"a"})
    scandir = os.scandir

    def guarded(place: str | Path) -> object:
        if Path(place).name in ("a", "c", "lost+found"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", guarded)
    found = find_images(f"{tmp_path}/{pattern}")
    assert names_of(found) == kept
    assert len(found.notes) == bool(note)
    assert all(note in said and "(Permission denied)" in said for said in found.notes)


def test_a_folder_that_vanishes_is_noted(tmp_path: Path) -> None:
    fill(tmp_path, "1.jpg", "a/2.jpg")
    found = find_images(str(tmp_path))
    (tmp_path / "a/2.jpg").unlink()
    (tmp_path / "a").rmdir()
    assert [image.name for image in found] == ["1.jpg"]
    assert "1 folder could not be read and is left out, such as 'a' (No such" in found.notes[0]


def test_the_source_itself_must_be_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(place: str) -> object:
        raise PermissionError(13, "Permission denied", place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
        find_images(str(tmp_path))


def test_a_stamp_changes_with_the_file_and_the_place(tmp_path: Path) -> None:
    path = tmp_path / "1.jpg"
    ref = ImageRef("1.jpg", str(path))
    assert ref.stamp() == "missing"
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 1))
    assert ref.stamp() == "3 1"
    assert ImageRef("1.jpg", str(path), offset=2, size=1).stamp() == "3 1 2"
    os.utime(path, ns=(1, 2))
    assert ref.stamp() == "3 2"
    assert ImageRef("x", "nul\0l").stamp() == "missing"


# --- several shards ---------------------------------------------------------------------------


class Together:
    """A store that tells stamps only to as many as ask at once."""

    def __init__(self, number: int) -> None:
        self.all_here = threading.Barrier(number, timeout=20)

    def read(self, ref: ImageRef) -> bytes:
        return b""

    def stamp(self, path: str) -> str:
        self.all_here.wait()
        return f"1 {path}"


def test_stamps_are_asked_of_a_store_side_by_side() -> None:
    store = Together(8)
    refs = [ImageRef(str(number), f"s3://b/{number}", holder=store) for number in range(8)]
    assert stamps_of(refs) == [f"1 s3://b/{number}" for number in range(8)]


def test_a_glob_of_shards_has_the_fields_of_all(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    write_shard(tmp_path / "s/1.tar", {"x.jpg": b"b", "x.json": b'{"n": 2.5, "site": "y"}'})
    write_shard(tmp_path / "s/0.tar", {"x.jpg": b"a", "x.json": b'{"n": 1, "odd": null}'})
    write_shard(tmp_path / "s/2.tar", {"x.jpg": b"c", "y.jpg": b"d", "y.json": b'{"site": 7}'})
    write_shard(tmp_path / "s/3.tar", {})
    found = find_images(f"{tmp_path}/s/*.tar")
    assert names_of(found) == ["0.tar/x.jpg", "1.tar/x.jpg", "2.tar/x.jpg", "2.tar/y.jpg"]
    assert [read_bytes(image) for image in found] == [b"a", b"b", b"c", b"d"]
    assert carried_by(found) == {
        "n": [1.0, 2.5, None, None],
        "odd": [None, None, None, None],
        "site": [None, "y", None, "7"],
    }


def test_a_damaged_shard_among_others_is_named(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", {"x.jpg": b"a"})
    (tmp_path / "1.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(InputError, match=r"1\.tar: cannot be read as a tar"):
        find_images(f"{tmp_path}/*.tar")


def test_a_shard_that_vanishes_is_one_clear_error(tmp_path: Path) -> None:
    for name in ("0.tar", "1.tar"):
        write_shard(tmp_path / name, {"x.jpg": b"a"})
    found = find_images(f"{tmp_path}/*.tar")
    (tmp_path / "1.tar").unlink()
    with pytest.raises(InputError, match=r"1\.tar: cannot be read \(No such file"):
        names_of(found)
