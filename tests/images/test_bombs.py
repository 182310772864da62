"""Small files that claim or hold huge images or texts: told without the memory they ask for."""

from __future__ import annotations

import io
import json
import struct
import sys
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import fuzz
from benchmarks.fuzz import mended, png_chunk, saved, tiled_tiff
from benchmarks.processes import peak_mb, run_alone
from faceaudit.images import decode as decoding
from faceaudit.images.decode import decode
from faceaudit.images.formats import find_format
from faceaudit.images.pillow import read_with_pillow

INFLATED = 128 << 20
FLAT_MB = 48
HUGE = 60_000


def zeros() -> bytes:
    """As many zeros as fill memory, compressed."""
    packer = zlib.compressobj(1)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(INFLATED >> 20)) + packer.flush()


def png_with(name: bytes, body: bytes, place: int = 33) -> bytes:
    data = saved("PNG")
    return data[:place] + png_chunk(name, body) + data[place:]


def png_of_too_many_rows() -> bytes:
    data = saved("PNG")
    return data[:33] + png_chunk(b"IDAT", zeros()) + data[-12:]


def patched(data: bytes, place: int, form: str, *values: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(form, changed, place, *values)
    return bytes(changed)


def tiff_with(data: bytes, **values: int) -> bytes:
    """A TIFF whose first entries of these tags have other values."""
    for tag, value in values.items():
        place = max(data.find(struct.pack("<HH", int(tag[1:]), kind)) for kind in (3, 4))
        data = patched(data, place + 2, "<HLL", 4, 1, value)
    return data


def jpeg(side: int) -> bytes:
    data = saved("JPEG")
    return patched(data, data.index(b"\xff\xc0") + 5, ">HH", side, side)


def jpeg_of_many_scans() -> bytes:
    """Every scan makes the decoder go over four million pixels."""
    file = io.BytesIO()
    Image.new("RGB", (2000, 2000)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 2000 + b"\xff\xd9"


def jpeg_of_many_segments() -> bytes:
    data = saved("JPEG")
    return data[:2] + b"\xff\xe4\x00\x02" * 5_000_000 + data[2:]


def gif_of_a_huge_frame() -> bytes:
    data = saved("GIF")
    return patched(data, data.index(b"\x2c", 13 + 3 * 256) + 5, "<HH", HUGE, HUGE)


def jpeg2000(side: int) -> bytes:
    data = saved("JPEG2000")
    data = patched(data, data.index(b"\xff\x51") + 6, ">LL", side, side)
    return patched(data, data.index(b"ihdr") + 4, ">LL", side, side)


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "png": ("too_large", lambda: mended(patched(saved("PNG"), 16, ">LL", HUGE, HUGE))),
    "png-text": ("ok", lambda: png_with(b"zTXt", b"Comment\0\0" + zeros())),
    "png-text-in-any-language": ("ok", lambda: png_with(b"iTXt", b"C\0\1\0\0\0" + zeros())),
    "png-text-at-the-end": ("ok", lambda: png_with(b"zTXt", b"Comment\0\0" + zeros(), -12)),
    "png-profile": ("ok", lambda: png_with(b"iCCP", b"profile\0\0" + zeros())),
    "png-more-rows-than-it-has": ("ok", png_of_too_many_rows),
    "webp": ("too_large", lambda: patched(saved("WEBP"), 26, "<HH", 16383, 16383)),
    "gif-screen": ("too_large", lambda: patched(saved("GIF"), 6, "<HH", HUGE, HUGE)),
    "gif-frame": ("too_large", gif_of_a_huge_frame),
    "tiff": ("too_large", lambda: tiff_with(saved("TIFF"), t256=HUGE, t257=HUGE)),
    "tiff-tile": ("unreadable", lambda: tiff_with(tiled_tiff(8), t322=65536, t323=65536)),
    "tiff-samples": ("unreadable", lambda: tiff_with(tiled_tiff(8), t277=HUGE)),
    "bmp": ("too_large", lambda: patched(saved("BMP"), 18, "<ll", HUGE, HUGE)),
    "ppm": ("too_large", lambda: b"P6 60000 60000 255\n" + bytes(100)),
    "jpeg": ("too_large", lambda: jpeg(65500)),
    "jpeg-scans": ("unreadable", jpeg_of_many_scans),
    "jpeg-segments": ("ok", jpeg_of_many_segments),
    "jpeg2000": ("too_large", lambda: jpeg2000(HUGE)),
}


def main(name: str) -> None:
    """Decode one bomb in this process; print its status, time and memory."""

    class Here:
        decode = staticmethod(read_with_pillow)

    decoding.POOL = Here()  # type: ignore[assignment]
    bomb = BOMBS[name][1]()
    found = find_format(bomb)
    assert found is not None
    decode(saved("PNG"))
    before, begun = peak_mb(), time.process_time()
    result = decode(bomb)
    facts = {
        "status": result.status,
        "error": result.error,
        "seconds": time.process_time() - begun,
        "mb": peak_mb() - before,
    }
    print(json.dumps(facts))  # noqa: T201


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_neither_memory_nor_time(name: str) -> None:
    script = f"import runpy; runpy.run_path({__file__!r})['main']({name!r})"
    run = run_alone([sys.executable, "-c", script])
    assert run.code == 0
    facts: dict[str, Any] = json.loads(run.output)
    assert facts["status"] == BOMBS[name][0], facts
    assert facts["mb"] < FLAT_MB, facts
    assert facts["seconds"] < 1, facts


def test_a_bomb_is_seen_from_a_large_process() -> None:
    ballast = np.ones(300 << 20, np.uint8)
    script = (
        "from benchmarks.processes import peak_mb\n"
        "before = peak_mb(); block = bytearray(b'1') * (100 << 20); print(peak_mb() - before)"
    )
    added = float(run_alone([sys.executable, "-c", script]).output)
    assert 2 * FLAT_MB < added < len(ballast) >> 20


def test_texts_that_pillow_refuses_leave_the_pixels() -> None:
    plain = decode(saved("PNG"))
    for data in (BOMBS["png-text"][1](), BOMBS["png-text-at-the-end"][1]()):
        result = decode(data)
        assert result.image is not None
        assert plain.image is not None
        assert (result.image == plain.image).all()


def test_an_orientation_behind_the_pixels_of_a_png_counts() -> None:
    data = saved("PNG")
    block = png_chunk(b"eXIf", fuzz.exif(6).removeprefix(b"Exif\x00\x00"))
    result = decode(data[:-12] + block + data[-12:])
    assert (result.width, result.height) == (47, 61)
