"""Images and labels on an object store: the same as on this machine."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path

import boto3
import polars as pl
import pytest

from faceaudit.errors import InputError, TemporaryError
from faceaudit.images.find import find_images
from faceaudit.images.refs import read_bytes
from faceaudit.images.source import ImageSource
from faceaudit.labels import open_labels
from faceaudit.leakage.sets import read_sets
from faceaudit.storage import as_path, outages
from tests.storage.conftest import SECRET, Proxy, forget_stores


def put(place: str, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        path = as_path(f"{place}/{name}")
        if not place.startswith("s3://"):
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def contents(source: ImageSource) -> list[tuple[str, bytes]]:
    return [(image.name, read_bytes(image)) for image in source]


TREE = {
    name: name.encode()
    for name in (
        "b.jpg", "a/z.png", "a/b/c.webp", "B.jpg", "a.jpg", "ab/x y.jpg", "ab/日本.jpg", "a/n.txt",
        ".hidden/x.jpg", "ab/.x.jpg", "__MACOSX/x.jpg", "photo", "what?.jpg", "a+b%20.jpg",
    )
}  # fmt: skip


def test_a_folder_is_the_same_on_a_store_and_on_this_machine(
    aws: str, bucket: str, tmp_path: Path
) -> None:
    for place in (f"{bucket}/in", str(tmp_path)):
        put(place, TREE)
    put(bucket, {"in-other/x.jpg": b"other"})
    client = boto3.client("s3", endpoint_url=aws)
    for marker in ("in/", "in/a/"):  # as consoles of stores make folders
        client.put_object(Bucket=bucket.removeprefix("s3://"), Key=marker, Body=b"")
    here, there = find_images(tmp_path), find_images(f"{bucket}/in/")
    assert contents(there) == contents(here)
    assert [len(batch.refs) for batch in there.batches(4)] == [4, 4, 2]
    assert there.count() == 10
    assert str(there.folder).rstrip("/") == f"{bucket}/in"
    assert len({image.stamp() for image in there}) == 10
    assert contents(find_images(bucket))[:1] == [("in/B.jpg", b"B.jpg")]


def names(source: ImageSource) -> list[str]:
    return [image.name for image in source]


def test_a_stamp_is_of_what_the_file_holds(bucket: str) -> None:
    put(bucket, {"in/1.jpg": b"one", "list.txt": f"{bucket}/in/1.jpg\n{bucket}/2.jpg".encode()})
    (listed,) = find_images(f"{bucket}/in")
    named, missing = find_images(f"{bucket}/list.txt")
    before = listed.stamp()
    assert named.stamp() == before
    assert before.startswith("3 ")
    assert missing.stamp() == "missing"
    put(bucket, {"in/1.jpg": b"two"})
    (listed,) = find_images(f"{bucket}/in")
    assert listed.stamp() == named.stamp() != before


def test_one_image_and_globs(bucket: str) -> None:
    put(bucket, TREE)
    assert contents(find_images(f"{bucket}/ab/x y.jpg")) == [("x y.jpg", b"ab/x y.jpg")]
    assert names(find_images(f"{bucket}/*.jpg"))[:2] == ["B.jpg", "a+b%20.jpg"]
    assert contents(find_images(f"{bucket}/a*/*")) == [
        ("a/z.png", b"a/z.png"),
        ("ab/x y.jpg", b"ab/x y.jpg"),
        ("ab/日本.jpg", "ab/日本.jpg".encode()),
    ]


def test_images_in_a_folder_without_a_name_are_noted(bucket: str) -> None:
    put(bucket, {"in/1.jpg": b"1", "in//2.jpg": b"2", "in/a/3.jpg": b"3", "in/a//4.jpg": b"4"})
    found = find_images(f"{bucket}/in")
    assert names(found) == ["1.jpg", "a/3.jpg"]
    (note,) = found.notes
    assert "2 folders could not be read and are left out, such as '/*' (images are not" in note


def test_what_a_glob_lists_is_not_asked_for_again(proxy: Proxy, bucket: str) -> None:
    put(bucket, {"in/1.jpg": b"1", "in/2.jpg": b"2"})
    listed = {image.name: image.stamp() for image in find_images(f"{bucket}/in")}
    found = find_images(f"{bucket}/in/*.jpg")
    proxy.lines.clear()
    assert {image.name: image.stamp() for image in found} == listed
    assert proxy.lines == []


@pytest.mark.parametrize("name", ["../in/1.jpg", "a/../../in/1.jpg", "../../../in/1.jpg"])
def test_a_list_may_name_images_in_folders_above_it(bucket: str, name: str) -> None:
    put(bucket, {"in/1.jpg": b"1", "lists/list.txt": name.encode()})
    assert contents(find_images(f"{bucket}/lists/list.txt")) == [(name, b"1")]


def test_a_list_of_images_that_a_store_gives_none_of_is_refused(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, {"a.jpg": b"a"})
    listed = tmp_path / "list.txt"
    listed.write_text(f"{bucket}/a.jpg\n{bucket}/gone.jpg\n{tmp_path}/x.jpg\n")
    assert find_images(listed).count() == 3
    listed.write_text("s3://no-such-bucket-anywhere/a.jpg\n" * 3)
    with pytest.raises(
        InputError, match=r"list\.txt: s3://no-such-bucket-anywhere.*no such bucket"
    ):
        find_images(listed)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    forget_stores()
    listed.write_text(f"{bucket}/a.jpg\n")
    with pytest.raises(InputError, match="credentials"):
        find_images(listed)


@pytest.mark.parametrize("suffix", ["txt", "csv", "parquet"])
def test_lists_of_addresses_and_paths(bucket: str, tmp_path: Path, suffix: str) -> None:
    put(bucket, {"in/1.jpg": b"1", "lists/2.jpg": b"2"})
    put(str(tmp_path), {"3.jpg": b"3"})
    paths = [
        f"{bucket}/in/1.jpg",
        "2.jpg",
        f"file://{tmp_path}/3.jpg",
        f"{tmp_path}/3.jpg",
        f"{bucket}/no.jpg",
    ]
    file = io.BytesIO()
    if suffix == "parquet":
        pl.DataFrame({"path": paths}).write_parquet(file)
    else:
        file.write("\n".join(["path"] * (suffix == "csv") + paths).encode())
    put(bucket, {f"lists/list.{suffix}": file.getvalue(), "list.txt": b"in/1.jpg"})
    assert contents(find_images(f"{bucket}/list.txt")) == [("in/1.jpg", b"1")]
    found = find_images(f"{bucket}/lists/list.{suffix}")
    assert names(found) == paths
    *images, missing = found
    assert [read_bytes(image) for image in images] == [b"1", b"2", b"3", b"3"]
    with pytest.raises(FileNotFoundError) as caught:
        read_bytes(missing)
    assert caught.value.strerror == "No such file or directory"


def test_images_that_a_table_names_are_found_in_their_folder(bucket: str, tmp_path: Path) -> None:
    put(bucket, {"in/a/1.jpg": b"1"})
    put(str(tmp_path), {"a/1.jpg": b"2"})
    for folder, data in ((f"{bucket}/in", b"1"), (str(tmp_path), b"2")):
        table = tmp_path / "out.parquet"
        pl.DataFrame({"image": ["a/1.jpg"], "sha256": [None]}).write_parquet(table)
        (found,) = read_sets([str(table)], images=[folder])
        assert found.refs is not None
        assert [read_bytes(image) for image in found.refs] == [data]


def shard(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def test_shards(bucket: str) -> None:
    first = shard({"x.jpg": b"a" * 700, "x.json": json.dumps({"n": 1}).encode(), "e.jpg": b""})
    put(bucket, {"s/0.tar": first, "s/1.tar": shard({"y.jpg": b"b"})})
    one = find_images(f"{bucket}/s/0.tar")
    assert contents(one) == [("x.jpg", b"a" * 700), ("e.jpg", b"")]
    both = find_images(f"{bucket}/s/*.tar")
    assert contents(both)[2:] == [("1.tar/y.jpg", b"b")]
    assert [b.carried.rows() for b in both.batches(9) if b.carried is not None] == [
        [(1,), (None,)],
        [(None,)],
    ]
    assert len({image.stamp() for image in both}) == 3
    image, *_ = one
    put(bucket, {"s/0.tar": first[:600]})
    with pytest.raises(OSError, match="ends before"):
        read_bytes(image)


def test_parquet_with_images_and_pixel_files(bucket: str) -> None:
    for name in ("0", "1"):
        file = io.BytesIO()
        pl.DataFrame({"bytes": [b"x", b"y"], "site": [name, None]}).write_parquet(file)
        put(bucket, {f"p/{name}.parquet": file.getvalue()})
    found = find_images(f"{bucket}/p/*.parquet")
    assert contents(found)[1] == ("0.parquet/row-000002", b"y")
    assert found.count() == 4
    assert len({image.stamp() for image in found}) == 4
    put(bucket, {"faces.csv": b"age,gender,ethnicity,pixels\n20,1,2,0 1 2 3\n"})
    source = find_images(f"pixels:{bucket}/faces.csv")
    assert contents(source) == [("row-000001", b"P5 2 2 255\n\x00\x01\x02\x03")]
    labels = open_labels("auto", source)
    assert labels is not None
    assert labels.of(["row-000001"]).row(0) == ("Female", "Asian", 20.0)


@pytest.mark.parametrize(
    ("name", "table"),
    [
        (
            "labels.csv",
            "file,age,gender,race\nin/1.jpg,3-9,Male,Indian\nin/2.jpg,3-9,Male,Middle Eastern\n",
        ),
        ("metadata.csv", "file_name,gender,race\n1.jpg,Male,Indian\n2.jpg,Male,Others\n"),
    ],
)
def test_labels_that_lie_beside_the_images(bucket: str, name: str, table: str) -> None:
    put(bucket, {"in/1.jpg": b"1", "in/2.jpg": b"2", f"in/{name}": table.encode()})
    source = find_images(f"{bucket}/in")
    labels = open_labels("auto", source)
    assert labels is not None
    assert labels.of(["1.jpg"]).select("gender_true", "race_true").row(0) == ("Male", "Indian")
    assert labels.notes() == ()


def test_references_are_read_in_other_processes(bucket: str) -> None:
    put(bucket, {"in/1.jpg": b"1", "s.tar": shard({"x.jpg": b"a"})})
    for given in ("in", "s.tar"):
        (image,) = find_images(f"{bucket}/{given}")
        copied = pickle.loads(pickle.dumps(image))
        assert read_bytes(copied) == read_bytes(image)
        assert copied.stamp() == image.stamp()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("nothing", "there is no such file or folder"),
        ("*.jpg", "no images found there"),
        ("side", "no images found there"),
        ("side/a.json", "a .json file is no image"),
        ("bad.tar", "cannot be read as a tar"),
        ("bad.parquet", "is not a Parquet file with a column of paths"),
    ],
)
def test_one_clear_error(bucket: str, given: str, words: str) -> None:
    put(bucket, {"side/a.json": b"{}", "bad.tar": b"x" * 600, "bad.parquet": b"x" * 600})
    with pytest.raises(InputError, match=words) as caught:
        find_images(f"{bucket}/{given}")
    assert "\n" not in str(caught.value)
    assert f"{bucket}/{given}" in str(caught.value)


def test_a_bucket_that_is_not_there(bucket: str) -> None:
    with pytest.raises(InputError, match="there is no such bucket"):
        find_images(f"{bucket}-not/in")


def test_outages_are_waited_for(proxy: Proxy, bucket: str) -> None:
    put(bucket, {"in/1.jpg": b"1", "in/a/2.jpg": b"2"})
    proxy.failures = 3
    found = find_images(f"{bucket}/in")
    proxy.failures = 3
    images = list(found)
    proxy.failures = 3
    assert read_bytes(images[1]) == b"2"
    assert proxy.failures == 0


def test_an_image_that_is_refused_costs_itself_and_an_outage_ends_the_run(
    proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, {"in/1.jpg": b"1"})
    (image,) = find_images(f"{bucket}/in")
    proxy.how, proxy.failures = 403, 1
    with pytest.raises(OSError, match="permission denied") as caught:
        read_bytes(image)
    assert "permission denied" in caught.value.strerror
    assert SECRET not in str(caught.value)
    monkeypatch.setattr(outages, "PATIENCE", 0.2)
    proxy.how, proxy.failures = 503, 1_000
    with pytest.raises(TemporaryError, match="storage unreachable"):
        read_bytes(image)


def test_a_subfolder_that_is_refused_is_noted(proxy: Proxy, bucket: str) -> None:
    put(bucket, {"in/1.jpg": b"1", "in/a/2.jpg": b"2", "in/b/3.jpg": b"3"})
    found = find_images(f"{bucket}/in")
    proxy.how, proxy.failures, proxy.only = 403, 1, "in%2Fa%2F"
    assert names(found) == ["1.jpg", "b/3.jpg"]
    assert len(found.notes) == 1
    assert "1 folder could not be read and is left out, such as 'a' (permission" in found.notes[0]
