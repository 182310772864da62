from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from faceaudit.errors import EXIT_USAGE, RefusedError, TemporaryError, UsageError
from faceaudit.storage import (
    as_path,
    atomic_write,
    check_outputs,
    has_folder,
    list_parts,
    local_copy,
    make_folder,
    outages,
    remove,
    sha256_of_file,
    write_text,
)
from tests.storage.conftest import SECRET, Proxy


def test_a_file_appears_only_when_it_is_complete(bucket: str) -> None:
    path = as_path(f"{bucket}/night/out.parquet")
    with atomic_write(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert path.is_file()
    assert not path.is_dir()
    assert path.parent.is_dir()
    assert path.stat().st_size == 4
    assert [str(one) for one in path.parent.iterdir()] == [str(path)]


def test_an_error_leaves_the_previous_file_and_nothing_else(bucket: str) -> None:
    path = as_path(f"{bucket}/out.txt")
    write_text(path, "before")
    with pytest.raises(TypeError), atomic_write(path) as file:
        file.write("text, where bytes are due")  # type: ignore[arg-type]
    assert path.read_text() == "before"
    assert [one.name for one in path.parent.iterdir()] == ["out.txt"]


def numbers(count: int) -> bytes:
    return b"".join(k.to_bytes(4, "big") for k in range(count // 4))


def test_a_large_file_is_sent_in_parts_and_read_in_ranges(
    proxy: Proxy, bucket: str, small_parts: None
) -> None:
    path, data = as_path(f"{bucket}/large.bin"), numbers(11 << 20)
    with atomic_write(path) as file:
        file.write(data)
    assert sum("partNumber=" in line for line in proxy.lines) == 3
    assert sha256_of_file(path) == hashlib.sha256(data).hexdigest()
    with path.open("rb") as file:
        file.seek(7_000_001)
        assert file.read(10) == data[7_000_001:7_000_011]
        file.seek(-5, io.SEEK_END)
        assert file.read() == data[-5:]
        assert file.read(1) == b""
    assert local_copy(path).read_bytes() == data


def test_of_what_could_not_be_sent_whole_no_part_stays(
    proxy: Proxy, bucket: str, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    monkeypatch.setattr(outages, "PATIENCE", 0.5)
    proxy.only, proxy.failures = "partNumber=2", 1_000
    path = as_path(f"{bucket}/large.bin")
    with pytest.raises(TemporaryError, match="storage unreachable"), atomic_write(path) as file:
        file.write(numbers(11 << 20))
    assert not path.exists()
    s3, name = boto3.client("s3"), bucket[5:]
    begun = s3.list_multipart_uploads(Bucket=name).get("Uploads", [])  # s3fs may begin one twice
    uploads = [{"Bucket": name, "Key": one["Key"], "UploadId": one["UploadId"]} for one in begun]
    assert not [one for one in uploads if s3.list_parts(**one).get("Parts")]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of the least size that a store takes, so that a test need not send 100 MB."""
    import s3fs.core

    monkeypatch.setattr(s3fs.core, "calculate_chunksize", lambda size, chunksize: 5 << 20)


def test_text_is_read_line_by_line(bucket: str) -> None:
    path = as_path(f"{bucket}/list.txt")
    write_text(path, "a.jpg\nä.jpg\n")
    with path.open(encoding="utf-8") as file:
        assert list(file) == ["a.jpg\n", "ä.jpg\n"]
    with pytest.raises(ValueError, match="atomic_write"):
        path.open("w")


def test_parts_are_listed_in_order_and_what_others_write_is_seen(bucket: str) -> None:
    import boto3

    folder = as_path(f"{bucket}/[night]*")
    for name in ("part-00002.parquet", "part-00001.parquet", "manifest.json"):
        (folder / name).write_bytes(b"x")
    assert [part.name for part in list_parts(folder)] == [
        "part-00001.parquet",
        "part-00002.parquet",
    ]
    other = boto3.client("s3")
    other.put_object(Bucket=bucket[5:], Key="[night]*/part-00003.parquet", Body=b"x")
    other.put_object(Bucket=bucket[5:], Key="[night]*/", Body=b"")
    assert len(list_parts(folder)) == 3
    assert list_parts(as_path(f"{bucket}/none")) == []


def test_removing_a_folder_leaves_its_neighbors(bucket: str) -> None:
    for name in ("out/a", "out/b/c", "out.parquet", "outer/a"):
        as_path(f"{bucket}/{name}").write_bytes(b"x")
    remove(as_path(f"{bucket}/out"))
    remove(as_path(f"{bucket}/out"))
    assert sorted(one.name for one in as_path(bucket).iterdir()) == ["out.parquet", "outer"]
    as_path(f"{bucket}/out.parquet").unlink()
    as_path(f"{bucket}/out.parquet").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError, match=r"out\.parquet"):
        as_path(f"{bucket}/out.parquet").unlink()
    remove(as_path(bucket))
    assert as_path(bucket).is_dir()


def test_a_copy_is_fetched_once_and_goes_with_its_path(bucket: str) -> None:
    path = as_path(f"{bucket}/out.parquet")
    path.write_bytes(b"first")
    copy = local_copy(path)
    path.write_bytes(b"second")
    assert local_copy(path) == copy
    assert copy.read_bytes() == b"first"
    assert copy.name == "out.parquet"
    del path
    assert not copy.exists()
    assert local_copy(Path("here")) == Path("here")


def test_a_copy_is_of_one_version(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = as_path(f"{bucket}/out.parquet")
    path.write_bytes(b"first")
    fetch, times = path.fs.get_file, [1]

    def replaced(*given: str) -> None:
        fetch(*given)
        if times[0]:
            times[0] -= 1
            path.write_bytes(f"then {times[0]}".encode())

    monkeypatch.setattr(path.fs, "get_file", replaced)
    assert local_copy(path).read_bytes() == b"then 0"
    times[0] = 1_000
    with pytest.raises(TemporaryError, match=r"out\.parquet: is replaced again and again"):
        local_copy(as_path(f"{bucket}/out.parquet"))


def test_a_missing_file_is_named(bucket: str) -> None:
    path = as_path(f"{bucket}/none.parquet")
    for read in (path.read_bytes, path.open, lambda: local_copy(path), path.stat):
        with pytest.raises(FileNotFoundError, match=r"No such file.*none\.parquet"):
            read()


def test_a_missing_bucket_is_named_in_one_line(bucket: str) -> None:
    path = as_path("s3://no-such-bucket-of-faces/out.parquet")
    for use in (path.exists, path.read_bytes, lambda: write_text(path, "x")):
        with pytest.raises(RefusedError, match="no such bucket") as caught:
            use()
        assert caught.value.exit_code == EXIT_USAGE
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(str(path))
    assert not has_folder(path)
    with pytest.raises(UsageError, match="no bucket no-such-bucket-of-faces"):
        check_outputs([path], [])


def test_an_output_that_is_also_read_is_refused(bucket: str, tmp_path: Path) -> None:
    table = as_path(f"{bucket}/out.parquet")
    table.write_bytes(b"x")
    check_outputs([as_path(f"{bucket}/out.html"), tmp_path / "out.html"], [table])
    with pytest.raises(UsageError, match="is read"):
        check_outputs([table], [f"{bucket}/out.parquet"])
    part = as_path(f"{bucket}/data/part-1.parquet")
    part.write_bytes(b"x")
    with pytest.raises(UsageError, match="is read"):
        check_outputs([part], [f"{bucket}/data"])
    with pytest.raises(UsageError, match="is a folder"):
        check_outputs([part.parent], [])


def test_storage_options_are_used_and_never_shown(
    bucket: str, aws: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from upath import UPath

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    given = UPath(f"{bucket}/out.txt", key="AKIDEXAMPLE", secret=SECRET, endpoint_url=aws)
    path = as_path(given)
    write_text(path, "x")
    assert (path.parent / "out.txt").read_text() == "x"
    missing = as_path(UPath("s3://no-such/x", **given.storage_options))
    with pytest.raises(RefusedError) as caught:
        missing.read_bytes()
    assert SECRET not in f"{caught.value!r} {path!r} {path}"


def test_what_others_write_is_seen_through_a_path_with_options(bucket: str) -> None:
    import boto3
    from upath import UPath

    as_path(f"{bucket}/in/1.jpg").write_bytes(b"x")
    for number in (1, 2):
        folder = as_path(UPath(f"{bucket}/in", default_block_size=1 << 20))
        assert len(list(folder.iterdir())) == number
        boto3.client("s3").put_object(Bucket=bucket[5:], Key="in/2.jpg", Body=b"x")


def test_a_path_that_holds_credentials_is_refused() -> None:
    from upath import UPath

    with pytest.raises(UsageError, match="must not hold credentials") as caught:
        as_path(UPath(f"s3://AKIDEXAMPLE:{SECRET}@faces/x"))
    assert SECRET not in str(caught.value)


def test_a_path_on_another_kind_of_storage_is_refused() -> None:
    from upath import UPath

    with pytest.raises(UsageError, match="memory"):
        as_path(UPath("memory://faces/x"))


def test_a_small_file_is_read_by_one_request(proxy: Proxy, bucket: str) -> None:
    path = as_path(f"{bucket}/out.txt")
    write_text(path, "x")
    proxy.lines.clear()
    assert path.read_text() == "x"
    assert len(proxy.lines) == 1


@pytest.mark.parametrize("given", ["s3://faces/crops", Path("s3://faces/crops")], ids=str)
def test_what_is_made_in_a_folder_of_this_machine_is_not_made_on_a_store(given: str | Path) -> None:
    with pytest.raises(UsageError, match=r"^s3://faces/crops: .* give a folder of this machine"):
        make_folder(as_path(given))
    with pytest.raises(UsageError, match="give a folder of this machine"):
        make_folder(Path(given))
