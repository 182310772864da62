from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from faceaudit.errors import FaceauditError, TemporaryError, UsageError
from faceaudit.images.find import find_images
from faceaudit.leakage import prints
from faceaudit.leakage.find import EXACT, NEAR, Leaks, find_leaks
from faceaudit.leakage.sets import read_sets
from tests.leakage.conftest import draw, save


@pytest.fixture(scope="module")
def found(splits: tuple[Path, Path]) -> Leaks:
    return find_leaks(read_sets([str(one) for one in splits]), workers=2)


def row_of(found: Leaks, second: str) -> dict[str, object]:
    return found.pairs.filter(pl.col("second").str.contains(second)).row(0, named=True)


def test_copies_are_found_within_and_across(found: Leaks) -> None:
    assert found.groups == 4
    assert found.sizes == {2: 4}
    assert (found.count(EXACT), found.count(NEAR)) == (2, 2)
    train, test = found.sets
    assert (train.images, train.repeated, train.leaked) == (13, 2, 3)
    assert (test.images, test.repeated, test.leaked) == (14, 0, 3)
    assert [(one.images, one.exact) for one in found.overlaps] == [(3, 1), (3, 1)]


def test_each_pair_says_how_it_was_found(found: Leaks) -> None:
    equal = row_of(found, "20_1_0_20170109000000000")
    assert equal["kind"] == EXACT
    assert (equal["distance"], equal["similarity"]) == (0, 1.0)
    assert equal["first_sha256"] == equal["second_sha256"]
    assert (equal["gender_conflict"], equal["race_conflict"]) == (True, False)
    older = row_of(found, "30_0_0_20170109000000001")
    assert older["kind"] == NEAR
    assert (older["age_conflict"], older["age_gap"]) == (True, 9)
    turned = row_of(found, "22_0_0_20170109000000002")
    assert turned["mirrored"]
    assert not turned["age_conflict"]
    within = row_of(found, "30_0_0_20170102000000000")
    assert not within["across"]
    assert not within["leak"]
    assert found.pairs["across"].sum() == found.pairs["leak"].sum() == 3


def test_conflicts_are_counted_by_picture(found: Leaks) -> None:
    counts = {one.task: (one.groups, one.conflicting, one.exact) for one in found.conflicts}
    assert counts == {"gender": (4, 1, 1), "race": (4, 0, 0), "age": (4, 2, 1)}
    assert next(one.far for one in found.conflicts if one.task == "age") == 2


def test_images_that_cannot_be_read_are_counted_and_stop_nothing(found: Leaks) -> None:
    test = found.sets[1]
    assert (test.unreadable, test.bytes_alone) == (1, 1)
    assert found.errors[0][1] == "40_0_0_20170109000000008.jpg"


def test_empty_files_are_no_copies_of_each_other(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"")
    none = find_leaks(read_sets([str(tmp_path)]))
    assert none.groups == 0
    assert none.sets[0].unreadable == 2
    assert none.pairs.is_empty()


def test_even_pictures_are_compared_by_their_bytes_alone(tmp_path: Path) -> None:
    for number in range(3):
        save(draw(0) // 200 + 100 + number, tmp_path / f"{number}.jpg")
    found = find_leaks(read_sets([str(tmp_path)]))
    assert (found.groups, found.sets[0].bytes_alone) == (0, 3)


def test_byte_identical_groups_are_those_of_comparing_every_hash(tmp_path: Path) -> None:
    for number in range(30):
        save(draw(number % 7 if number % 3 else 50 + number), tmp_path / f"{number:02}.jpg")
    found = find_leaks(read_sets([str(tmp_path)]))
    digests = Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir())
    wanted = sorted(count for count in digests.values() if count > 1)
    sizes = found.pairs.filter(kind=EXACT).group_by("first_sha256").len()["len"] + 1
    assert sorted(sizes) == wanted


def test_a_leak_within_a_byte_identical_group_marks_all_its_pairs(tmp_path: Path) -> None:
    for folder, names in (("a", "123"), ("b", "4")):
        for name in names:
            save(draw(1), tmp_path / folder / f"{name}.jpg")
    found = find_leaks(read_sets([str(tmp_path / "a"), str(tmp_path / "b")]))
    assert found.pairs["across"].to_list() == [False, False, True]
    assert found.pairs["leak"].to_list() == [True, True, True]
    assert [one.leaked for one in found.sets] == [3, 1]


def test_a_table_is_compared_by_bytes_and_by_pixels_where_images_are_given(
    splits: tuple[Path, Path], tmp_path: Path
) -> None:
    train, test = splits
    files = sorted(test.iterdir())
    table = tmp_path / "test.parquet"
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    pl.DataFrame(
        {
            "image": [file.name for file in files],
            "sha256": digests,
            "gender_true": ["Female" if "_1_" in file.name else "Male" for file in files],
        }
    ).write_parquet(table)
    alone = find_leaks(read_sets([str(train), str(table)]))
    assert [(one.images, one.exact) for one in alone.overlaps] == [(1, 1), (1, 1)]
    assert alone.sets[1].bytes_alone == 13
    pixels = find_leaks(read_sets([str(train), str(table)], images=[str(test)]))
    assert [(one.images, one.exact) for one in pixels.overlaps] == [(3, 1), (3, 1)]
    assert pixels.conflicts[0].task == "gender"


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are UTF-8 elsewhere")
def test_names_that_are_no_utf8_are_found_again(splits: tuple[Path, Path], tmp_path: Path) -> None:
    folder, other = tmp_path / "images", tmp_path / "other"
    for seed, name in ((11, b"caf\xe9/a\xff.jpg"), (20, rb"caf\xe9 literal.jpg")):
        save(draw(seed), folder / os.fsdecode(name))
    save(draw(11), other / "1.jpg", quality=40)
    save(draw(20), other / "2.jpg", quality=40)
    names = [ref.name for ref in find_images(str(folder))]
    assert names == [r"caf\xe9 literal.jpg", r"caf\xe9/a\xff.jpg"]
    table = tmp_path / "t.parquet"
    pl.DataFrame({"image": names, "sha256": ["ab" * 32, "cd" * 32]}).write_parquet(table)
    found = find_leaks(read_sets([str(table), str(other)], images=[str(folder)]))
    assert [one.unreadable for one in found.sets] == [0, 0]
    assert found.count("near") == 2
    assert not found.notes


def test_an_image_that_is_gone_is_known_by_the_hash_in_its_table(tmp_path: Path) -> None:
    kept = save(draw(0), tmp_path / "images" / "a.jpg")
    digest = hashlib.sha256(kept.read_bytes()).hexdigest()
    other = save(draw(0), tmp_path / "other" / "b.jpg")
    empty = hashlib.sha256(b"").hexdigest()
    table = tmp_path / "t.parquet"
    names = ["a.jpg", "gone.jpg", "gone_empty.jpg"]
    pl.DataFrame({"image": names, "sha256": [digest, digest, empty]}).write_parquet(table)
    found = find_leaks(
        read_sets([str(table), str(other.parent)], images=[str(tmp_path / "images")])
    )
    assert found.pairs.select("first", "second", "kind").rows() == [
        ("a.jpg", "b.jpg", "exact"),
        ("a.jpg", "gone.jpg", "exact"),
    ]
    assert [(one.unreadable, one.bytes_alone) for one in found.sets] == [(1, 1), (0, 0)]
    assert found.notes == (
        f"{table}: 1 of its images could not be opened, and are compared by the sha256 of the "
        "table alone",
    )


def test_what_is_no_hash_is_equal_to_nothing(tmp_path: Path) -> None:
    same, other = "ab" * 32, "cd" * 32
    columns = {
        "a": {"a1.jpg": "", "a2.jpg": "NA", "a3.jpg": f" {same.upper()}", "a4.jpg": other},
        "b": {"b1.jpg": "", "b2.jpg": "NA", "b3.jpg": same, "b4.jpg": same[:-1]},
    }
    tables = []
    for name, digests in columns.items():
        tables.append(str(tmp_path / f"{name}.parquet"))
        table = pl.DataFrame({"image": list(digests), "sha256": list(digests.values())})
        table.write_parquet(tables[-1])
    found = find_leaks(read_sets(tables))
    assert found.pairs.select("first", "second").rows() == [("a3.jpg", "b3.jpg")]
    assert [one.unreadable for one in found.sets] == [2, 3]
    assert found.errors[0] == (tables[0], "a1.jpg", "sha256 is no hash of 64 hexadecimal digits")


def test_rows_without_a_name_are_an_image_each(tmp_path: Path) -> None:
    digests = ["ab" * 32, "cd" * 32, "ef" * 32, "ef" * 32]
    table = pl.DataFrame({"image": [None, None, "x.jpg", "x.jpg"], "sha256": digests})
    table.write_parquet(tmp_path / "t.parquet")
    (one,) = read_sets([str(tmp_path / "t.parquet")])
    assert (one.images, one.sha256) == (("", "", "x.jpg"), tuple(digests[:3]))


def test_a_picture_of_two_files_twice_each_is_one_that_conflicts(tmp_path: Path) -> None:
    for name, gender in (("a", 0), ("b", 1)):
        for quality in (90, 60):
            save(draw(4), tmp_path / f"30_{gender}_0_2017010{name == 'a':d}{quality}.jpg", quality)
    (gender, *_) = find_leaks(read_sets([str(tmp_path)], labels="utkface")).conflicts
    assert (gender.task, gender.groups, gender.conflicting, gender.exact) == ("gender", 1, 1, 1)


def test_crops_are_known_by_the_images_they_were_cut_from(tmp_path: Path) -> None:
    image = save(draw(3), tmp_path / "images" / "a.jpg")
    save(draw(3)[20:140, 20:140], tmp_path / "crops" / "crops" / "0.jpg")
    pl.DataFrame(
        {
            "file_name": ["crops/0.jpg"],
            "image": ["a.jpg"],
            "sha256": [hashlib.sha256(image.read_bytes()).hexdigest()],
            "align": ["similarity"],
            "margin": [0.4],
        }
    ).write_parquet(tmp_path / "crops" / "metadata.parquet")
    crops, images = read_sets([str(tmp_path / "crops"), str(tmp_path / "images")])
    assert crops.view == pytest.approx(1 / 1.4)
    (pair,) = find_leaks([crops, images]).pairs.to_dicts()
    own = (tmp_path / "crops" / "crops" / "0.jpg").read_bytes()
    digests = [hashlib.sha256(data).hexdigest() for data in (image.read_bytes(), own)]
    assert (pair["kind"], pair["first_sha256"], pair["second_sha256"]) == (EXACT, *digests[:1] * 2)
    assert (pair["first_file_sha256"], pair["second_file_sha256"]) == (digests[1], digests[0])


def test_lists_and_tars_are_sets_too(splits: tuple[Path, Path], tmp_path: Path) -> None:
    train, test = splits
    shard = shutil.make_archive(str(tmp_path / "test"), "tar", test)
    names = tmp_path / "train.txt"
    names.write_text("\n".join(str(path) for path in sorted(train.iterdir())))
    found = find_leaks(read_sets([str(names), shard]))
    assert [one.leaked for one in found.sets] == [3, 3]


def test_pictures_in_a_temporary_file_are_found_as_those_in_memory(
    splits: tuple[Path, Path], found: Leaks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prints, "IN_MEMORY", 3)
    again = find_leaks(read_sets([str(one) for one in splits]), workers=2)
    assert again.pairs.equals(found.pairs)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot reserve room")
def test_no_room_for_pictures_can_be_tried_again(
    splits: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(prints, "IN_MEMORY", 3)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(TemporaryError, match="TMPDIR"):
        find_leaks(read_sets([str(splits[0])]))


def test_a_full_memory_is_no_damaged_image(
    splits: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(prints, "decode_gray", full)
    with pytest.raises(TemporaryError, match=r"\.\w+: the memory does not suffice"):
        find_leaks(read_sets([str(splits[0])]))


def test_labels_that_cannot_be_read_are_said_and_left_out(tmp_path: Path) -> None:
    save(draw(1), tmp_path / "a.jpg")
    (tmp_path / "metadata.csv").write_bytes(b"file_name,gender\na.jpg,\xff\n")
    (found,) = read_sets([str(tmp_path)])
    assert found.labels is None
    assert "its labels were left out" in found.notes[0]
    with pytest.raises(FaceauditError, match="UTF-8"):
        read_sets([str(tmp_path)], labels="imagefolder")


@pytest.mark.parametrize(
    ("sources", "images", "message"),
    [
        ([], [], "give a folder"),
        (["no/such"], [], "no/such"),
        (["{0}", "{0}"], [], "given twice"),
        (["{0}", "file://{0}"], [], "given twice"),
        (["{0}/*.jpg", "{0}/*.jpg"], [], "given twice"),
        (["{0}"], ["{0}", "{0}"], "no set is a table"),
    ],
)
def test_what_cannot_work_is_said(
    splits: tuple[Path, Path], sources: list[str], images: list[str], message: str
) -> None:
    named = [[one.format(splits[0]) for one in given] for given in (sources, images)]
    with pytest.raises(FaceauditError, match=message):
        read_sets(named[0], images=named[1])


def test_a_missing_folder_of_a_table_is_said(splits: tuple[Path, Path], tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("image,sha256\na.jpg,00\n")
    with pytest.raises(FaceauditError, match="is no folder"):
        read_sets([str(table)], images=["no/such"])
    with pytest.raises(UsageError, match="2 folders for 1 tables"):
        read_sets([str(table)], images=["a", "b"])


@pytest.mark.data
@pytest.mark.slow
def test_utkface_has_its_known_byte_identical_groups(data_folder: Path) -> None:
    folder = data_folder / "utkface" / "val"
    found = find_leaks(read_sets([str(folder)]))
    digests = Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir())
    wanted = sorted(count for count in digests.values() if count > 1)
    sizes = found.pairs.filter(kind=EXACT).group_by("first_sha256").len()["len"] + 1
    assert sorted(sizes) == wanted
