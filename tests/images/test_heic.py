"""HEIC photographs, where the extra for them is installed, and what is said where it is not."""

from __future__ import annotations

import base64
import random

import pytest

from benchmarks.fuzz import checked, damaged
from faceaudit.images import formats
from faceaudit.images.decode import decode

# A red picture of 64 x 48 pixels, its upper left quarter blue, stored for a camera held clockwise.
PICTURE = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAchtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAA"
    "AAAAAAAAADRpbG9jAAAAAERAAAIAAQAAAAAB7AABAAAAAAAAAFUAAgAAAAACQQABAAAAAAAAACQAAAA4aWluZgAAAAAA"
    "AgAAABVpbmZlAgAAAAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAABB2lwcnAAAADm"
    "aXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAq"
    "QgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQAN"
    "AAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBp"
    "eGkAAAAAAwgICAAAAAlpcm90AwAAABlpcG1hAAAAAAAAAAEAAQaBAgMFhIYAAAAaaXJlZgAAAAAAAAAOY2RzYwACAAEA"
    "AQAAAIFtZGF0AAAAUSgBrwngITip//XWbX+ysf/ycCeVp79Y9xkcf/KfW/jtbdH6SbI89Fh7pO//v1AFvsYkOCw3nruy"
    "Avl80S1CXW2ssgdx0FFt4Gy9RiJbXC5mYAAAAAZFeGlmAABNTQAqAAAACAABARIAAwAAAAEABgAAAAAAAA=="
)


@pytest.fixture
def _reader() -> None:
    pytest.importorskip("pi_heif", reason="needs the extra heif")


@pytest.mark.usefixtures("_reader")
def test_a_heic_photograph_is_upright_rgb() -> None:
    result = decode(PICTURE)
    assert (result.status, result.width, result.height) == ("ok", 48, 64)
    assert result.image is not None
    red, _, blue = result.image[2, -3]  # what was upper left
    assert blue > 180
    assert red < 60
    assert result.image[-3, 2, 0] > 180


@pytest.mark.usefixtures("_reader")
def test_a_large_heic_photograph_is_told_by_its_header() -> None:
    result = decode(PICTURE, max_pixels=1000)
    assert (result.status, result.width, result.height) == ("too_large", 48, 64)


@pytest.mark.usefixtures("_reader")
def test_damaged_heic_files_end_in_a_status() -> None:
    # Some crash the library: pi-heif 1.4.0 where an item of metadata has an unknown type.
    crash = PICTURE.replace(b"Exif", b"\xff\xff\0\0", 1)
    files = [damaged(PICTURE, random.Random(number)) for number in range(60)]
    for data in (crash, *files):
        assert checked(decode(data, max_pixels=1_000_000)).status
    assert decode(PICTURE).status == "ok"


def test_without_the_extra_a_heic_photograph_is_unsupported_and_told_what_reads_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = tuple(known for known in formats.FORMATS if known.name != "HEIC")
    monkeypatch.setattr(formats, "FORMATS", kept)
    result = decode(PICTURE)
    assert result.status == "unsupported"
    assert "pip install 'faceaudit[heif]'" in (result.error or "")
