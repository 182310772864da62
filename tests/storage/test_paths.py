from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from faceaudit.errors import EXIT_USAGE, MissingExtraError, UsageError
from faceaudit.storage import as_path, has_folder, is_remote, list_parts, remove


@pytest.mark.parametrize("given", ["out.parquet", "a/b", "./s:/x", "C:/x", "table:/x.csv", "s3:x"])
def test_what_is_no_address_is_a_local_path(given: str) -> None:
    assert as_path(given) == Path(given)
    assert not is_remote(as_path(Path(given)))


def test_an_address_of_a_file_is_a_local_path() -> None:
    assert as_path("file:///data/a%20b.parquet") == Path("/data/a b.parquet")
    assert as_path(Path("file:///data/x")) == Path("/data/x")


def test_all_that_follows_the_machine_is_the_name_of_a_file() -> None:
    assert as_path("file:///data/a#1?b.jpg") == Path("/data/a#1?b.jpg")
    assert as_path("file://localhost/data/x") == Path("/data/x")


@pytest.mark.parametrize("given", ["file://images", "file://images/1.jpg"])
def test_a_file_on_another_machine_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match=r"'images' would be another machine; .* file:///"):
        as_path(given)


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_an_address_of_a_store_keeps_its_spelling(scheme: str) -> None:
    path = as_path(f"{scheme}://faces/night 1/out.parquet")
    assert is_remote(path)
    assert str(path) == f"{scheme}://faces/night 1/out.parquet"
    assert str(path.parent / f"{path.stem}.html") == f"{scheme}://faces/night 1/out.html"
    assert (path.name, path.suffix) == ("out.parquet", ".parquet")
    assert str(as_path(path)) == str(path)


def test_the_slash_that_a_path_takes_from_an_address_is_given_back() -> None:
    assert str(Path("s3://faces/out.parquet")) == "s3:/faces/out.parquet"
    assert str(as_path(Path("s3://faces/out.parquet"))) == "s3://faces/out.parquet"


@pytest.mark.parametrize(
    "given",
    [
        "s3://AKIDEXAMPLE:hush-hush@faces/out.parquet",
        "s3://AKIDEXAMPLE:hush/hush@faces/out.parquet",
        "gs://hush-hush@faces/out.parquet",
        Path("s3://AKIDEXAMPLE:hush-hush@faces/out.parquet"),
    ],
)
def test_an_address_with_credentials_is_refused_and_not_repeated(given: str | Path) -> None:
    with pytest.raises(UsageError, match="must not hold credentials") as caught:
        as_path(given)
    assert "hush" not in str(caught.value)
    assert "AKID" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        "https://faces.s3.amazonaws.com/x.parquet?X-Amz-Signature=hush",
        Path("https://faces.s3.amazonaws.com/x.parquet?X-Amz-Signature=hush"),
        "sftp://me:hush@host/x",
        "az://faces/hush",
    ],
)
def test_an_address_of_another_scheme_is_named_by_it_alone(given: str | Path) -> None:
    with pytest.raises(UsageError, match=r"begins with s3://, gs://, file://") as caught:
        as_path(given)
    assert caught.value.exit_code == EXIT_USAGE
    assert "hush" not in str(caught.value)


def test_an_address_without_a_bucket_is_refused() -> None:
    with pytest.raises(UsageError, match="names no bucket"):
        as_path("s3:///out.parquet")


def test_what_is_no_path_is_refused() -> None:
    with pytest.raises(TypeError, match="int"):
        as_path(3)  # type: ignore[arg-type]


def test_without_the_extra_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "upath", None)
    monkeypatch.delitem(sys.modules, "faceaudit.storage.remote", raising=False)
    with pytest.raises(MissingExtraError, match=r"s3://faces/x needs .* 'faceaudit\[remote\]'"):
        as_path("s3://faces/x")


def test_local_paths_import_nothing_that_reads_stores(tmp_path: Path) -> None:
    code = (
        "import sys; from faceaudit.storage import as_path, atomic_write, exclusive, write_text\n"
        f"write_text(as_path({str(tmp_path / 'x.txt')!r}), 'x')\n"
        f"with exclusive(as_path({str(tmp_path / 'y')!r})): pass\n"
        "print(sorted({'fsspec', 'upath', 's3fs', 'botocore', 'polars'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_parts_are_listed_in_order_and_a_folder_is_removed(tmp_path: Path) -> None:
    for name in ("part-00002.parquet", "part-00001.parquet", "manifest.json"):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name).touch()
    parts = list_parts(tmp_path / "out")
    assert [part.name for part in parts] == ["part-00001.parquet", "part-00002.parquet"]
    remove(tmp_path / "out")
    remove(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert has_folder(tmp_path / "x")
    assert not has_folder(tmp_path / "out" / "x")
