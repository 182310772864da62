"""Damage image files at random and decode them: ``python -m benchmarks.fuzz [NAME ...]``.

Every file is damaged by a random number generator whose seed is its name and a number, so a case
can be run again: ``python -m benchmarks.fuzz png-palette --first 17 --cases 1``. Each case must end
in a status with a one-line error or in an image, within bounds of processor time and memory, and
twice the same. Everything is decoded in this process, so that a crash shows: the case that was
under way stands in the last line.
"""

from __future__ import annotations

import argparse
import io
import random
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.processes import peak_mb
from faceaudit.images import decode as decoding
from faceaudit.images.decode import Decoded, decode, decode_gray
from faceaudit.images.isolation import DecoderPool
from faceaudit.images.pillow import read_with_pillow
from faceaudit.schema import OK, TOO_LARGE, UNREADABLE, UNSUPPORTED

MAX_PIXELS = 4_000_000
CPU_SECONDS = 3.0
"""Most processor time that one damaged file may take."""
PEAK_MB = 400
"""Most memory that the process may gain over all cases."""


# --- files to damage --------------------------------------------------------------------------


def picture(width: int = 61, height: int = 47) -> Image.Image:
    """A smooth picture with some noise."""
    x, y = np.meshgrid(np.linspace(0, 200, width), np.linspace(0, 200, height))
    noise = np.random.default_rng(0).integers(0, 55, (height, width, 3))
    return Image.fromarray((np.stack([x, y, (x + y) / 2], axis=2) + noise).astype(np.uint8))


def saved(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    """The picture as a file."""
    file = io.BytesIO()
    (image or picture()).save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int = 6) -> bytes:
    """An EXIF block with an orientation and a text."""
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010E] = "a description that does not fit the entry itself"
    return block.tobytes()


def deep() -> Image.Image:
    """The picture in 16 bits."""
    return Image.fromarray(np.asarray(picture().convert("L")).astype(np.uint16) * 257)


def frames() -> dict[str, Any]:
    """Options that make the picture an animation."""
    return {"save_all": True, "append_images": [picture().rotate(180), picture().convert("L")]}


def png_chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG with its checksum."""
    return struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body))


def interlaced_png() -> bytes:
    """A PNG whose pixels come in seven passes.

    Source:
        Portable Network Graphics Specification, 8: interlacing (Adam7).
    """
    pixels = np.asarray(picture())
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
              (1, 0, 2, 1))  # fmt: skip
    rows = [
        b"\x00" + row.tobytes()
        for top, left, down, right in passes
        for row in pixels[top::down, left::right]
    ]
    height, width = pixels.shape[:2]
    header = struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 1)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(b"".join(rows)))
        + png_chunk(b"IEND", b"")
    )


def png_with_metadata() -> bytes:
    """A PNG with compressed texts and a color profile, before and after its pixels."""
    data = saved("PNG", exif=exif())
    text = png_chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(b"words " * 500))
    profile = png_chunk(b"iCCP", b"profile\x00\x00" + zlib.compress(bytes(3000)))
    return data[:33] + text + profile + data[33:-12] + text + data[-12:]


def tiled_tiff(compression: int) -> bytes:
    """A TIFF of 64 x 48 pixels in twelve tiles, as they are (1) or deflated (8)."""
    pixels = np.asarray(picture(64, 48))
    tiles = [
        np.ascontiguousarray(pixels[y : y + 16, x : x + 16]).tobytes()
        for y in range(0, 48, 16)
        for x in range(0, 64, 16)
    ]
    if compression == 8:
        tiles = [zlib.compress(tile) for tile in tiles]
    starts = np.cumsum([8, *map(len, tiles)])
    offsets, sizes = int(starts[-1]), int(starts[-1]) + 4 * len(tiles)
    bits, count = sizes + 4 * len(tiles), len(tiles)
    entries = [
        (256, 3, 1, 64), (257, 3, 1, 48), (258, 3, 3, bits), (259, 3, 1, compression),
        (262, 3, 1, 2), (277, 3, 1, 3), (322, 3, 1, 16), (323, 3, 1, 16),
        (324, 4, count, offsets), (325, 4, count, sizes),
    ]  # fmt: skip
    return (
        struct.pack("<2sHL", b"II", 42, bits + 6)
        + b"".join(tiles)
        + struct.pack(f"<{count}L", *map(int, starts[:-1]))
        + struct.pack(f"<{count}L", *map(len, tiles))
        + struct.pack("<3H", 8, 8, 8)
        + struct.pack("<H", len(entries))
        + b"".join(struct.pack("<HHLL", *entry) for entry in entries)
        + bytes(4)
    )


def rle_bmp() -> bytes:
    """A BMP of 256 colors in runs.

    Source:
        Microsoft: Bitmap Compression (RLE8).
    """
    rows = np.asarray(picture().convert("L"))[::-1] // 32
    body = (
        b"".join(b"".join(bytes((1, value)) for value in row) + b"\0\0" for row in rows) + b"\0\1"
    )
    palette = b"".join(bytes((value, value, value, 0)) for value in range(256))
    height, width = rows.shape
    start = 54 + len(palette)
    return (
        struct.pack("<2sLLL", b"BM", start + len(body), 0, start)
        + struct.pack("<LllHHLLllLL", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
        + palette
        + body
    )


SPECIMENS: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: saved("JPEG", exif=exif()),
    "jpeg-gray": lambda: saved("JPEG", picture().convert("L")),
    "jpeg-444": lambda: saved("JPEG", subsampling=0, quality=98),
    "jpeg-progressive": lambda: saved("JPEG", progressive=True),
    "jpeg-restarts": lambda: saved("JPEG", restart_marker_blocks=2),
    "jpeg-cmyk": lambda: saved("JPEG", picture().convert("CMYK")),
    "jpeg-pages": lambda: saved("MPO", **frames()),
    "png": lambda: saved("PNG", exif=exif()),
    "png-palette": lambda: saved("PNG", picture().convert("P"), transparency=0),
    "png-alpha": lambda: saved("PNG", picture().convert("RGBA")),
    "png-bilevel": lambda: saved("PNG", picture().convert("1")),
    "png-16": lambda: saved("PNG", deep()),
    "png-interlaced": interlaced_png,
    "png-animated": lambda: saved("PNG", **frames()),
    "png-metadata": png_with_metadata,
    "webp": lambda: saved("WEBP", exif=exif()),
    "webp-lossless": lambda: saved("WEBP", lossless=True),
    "webp-alpha": lambda: saved("WEBP", picture().convert("RGBA")),
    "webp-animated": lambda: saved("WEBP", **frames()),
    "gif": lambda: saved("GIF"),
    "gif-animated": lambda: saved("GIF", disposal=2, **frames()),
    "gif-interlaced": lambda: saved("GIF", interlace=1, transparency=0),
    "tiff": lambda: saved("TIFF", exif=exif()),
    "tiff-lzw": lambda: saved("TIFF", compression="tiff_lzw"),
    "tiff-deflate": lambda: saved("TIFF", compression="tiff_adobe_deflate"),
    "tiff-packbits": lambda: saved("TIFF", compression="packbits"),
    "tiff-jpeg": lambda: saved("TIFF", compression="jpeg"),
    "tiff-fax": lambda: saved("TIFF", picture().convert("1"), compression="group4"),
    "tiff-tiles": lambda: tiled_tiff(1),
    "tiff-tiles-deflate": lambda: tiled_tiff(8),
    "tiff-float": lambda: saved("TIFF", picture().convert("F")),
    "tiff-16": lambda: saved("TIFF", deep()),
    "tiff-cmyk": lambda: saved("TIFF", picture().convert("CMYK")),
    "tiff-big": lambda: saved("TIFF", big_tiff=True),
    "tiff-pages": lambda: saved("TIFF", **frames()),
    "bmp": lambda: saved("BMP"),
    "bmp-palette": lambda: saved("BMP", picture().convert("P")),
    "bmp-rle": rle_bmp,
    "ppm": lambda: saved("PPM"),
    "avif": lambda: saved("AVIF", exif=exif()),
    "avif-alpha": lambda: saved("AVIF", picture().convert("RGBA")),
    "avif-animated": lambda: saved("AVIF", **frames()),
    "jpeg2000": lambda: saved("JPEG2000"),
    "jpeg2000-lossless": lambda: saved("JPEG2000", irreversible=False, tile_size=(32, 32)),
}
"""What each case damages; every one decodes as long as it is whole."""


# --- damage -----------------------------------------------------------------------------------

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The file cut off, changed, with a gap, with a part of itself again, or several of these."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        data = chance.choice(DAMAGES)(data, chance)
    return mended(data) if chance.random() < 0.8 else data


def mended(data: bytes) -> bytes:
    """A PNG with right checksums: readers look no further where one is wrong."""
    if not data.startswith(b"\x89PNG"):
        return data
    parts, place = [data[:8]], 8
    while place + 12 <= len(data):
        (size,) = struct.unpack_from(">L", data, place)
        parts.append(png_chunk(data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
        place += 12 + size
    return b"".join(parts) + data[place:]


def _place(data: bytes, chance: random.Random) -> int:
    """A position, in the first bytes as often as anywhere."""
    end = len(data) if chance.random() < 0.5 else min(len(data), 200)
    return chance.randrange(end) if end else 0


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _change(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 20)) if data else 0):
        changed[_place(data, chance)] = chance.choice((0, 255, chance.randrange(256)))
    return bytes(changed)


def _overwrite(data: bytes, chance: random.Random) -> bytes:
    """A field set to a value where programs go wrong."""
    place, order = _place(data, chance), chance.choice("<>")
    size, kind = chance.choice(((2, "H"), (4, "L")))
    field = struct.pack(order + kind, chance.choice(EXTREMES) & ((1 << 8 * size) - 1))
    return data[:place] + field + data[place + size :]


def _gap(data: bytes, chance: random.Random) -> bytes:
    place = _place(data, chance)
    return data[:place] + data[place + chance.randrange(1, 60) :]


def _repeat(data: bytes, chance: random.Random) -> bytes:
    place, start = _place(data, chance), _place(data, chance)
    return data[:place] + data[start : start + chance.randrange(1, 400)] + data[place:]


DAMAGES = (_cut, _change, _change, _overwrite, _overwrite, _gap, _repeat)


# --- cases ------------------------------------------------------------------------------------


class _Here(DecoderPool):
    """Decodes in this process."""

    decode = staticmethod(read_with_pillow)  # type: ignore[assignment]


def check(data: bytes) -> str:
    """The status of a file, decoded twice in color and once in gray.

    Raises:
        AssertionError: If a result is not what a result must be.
    """
    begun = time.process_time()
    first = checked(decode(data, max_pixels=MAX_PIXELS))
    seconds = time.process_time() - begun
    assert seconds < CPU_SECONDS, f"{seconds:.1f} s of processor time"
    second = checked(decode(data, max_pixels=MAX_PIXELS))
    assert facts(first) == facts(second), f"{facts(first)} and then {facts(second)}"
    if first.image is not None and second.image is not None:
        assert np.array_equal(first.image, second.image), "other pixels the second time"
    gray = decode_gray(data, 20, max_pixels=MAX_PIXELS)
    assert facts(gray) == facts(first) or gray.status != OK, f"gray: {facts(gray)}"
    peak = peak_mb()
    assert peak - START_MB < PEAK_MB, f"{peak:.0f} MB of memory"
    return first.status


def checked(result: Decoded) -> Decoded:
    """The result, whose parts fit each other."""
    assert result.status in (OK, UNREADABLE, UNSUPPORTED, TOO_LARGE), result.status
    assert (result.status == OK) == (result.image is not None) == (result.error is None)
    if result.image is not None:
        assert result.image.shape == (result.height, result.width, 3), result.image.shape
        assert result.image.dtype == np.uint8
        assert result.image.flags.c_contiguous
    if result.error is not None:
        assert result.error.strip(), "an empty error"
        assert len(result.error) < 300
        assert result.error.isprintable(), repr(result.error)
        assert " at 0x" not in result.error, result.error
    return result


def facts(result: Decoded) -> tuple[Any, ...]:
    """All of a result but its pixels."""
    return result.status, result.error, result.width, result.height


START_MB = peak_mb()


def main() -> None:
    """Run the cases; the exit code is 1 if one of them is not what it must be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SPECIMENS)}; all by default")
    parser.add_argument("--cases", type=int, default=1000, help="of each")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--trace", action="store_true", help="print every case before it is run")
    arguments = parser.parse_args()
    decoding.POOL = _Here()
    failures = 0
    for name in arguments.names or SPECIMENS:
        whole = SPECIMENS[name]()
        assert check(whole) == OK, name
        statuses: Counter[str] = Counter()
        for number in range(arguments.first, arguments.first + arguments.cases):
            if arguments.trace:
                print(name, number, flush=True)
            try:
                statuses[check(damaged(whole, random.Random(f"{name} {number}")))] += 1
            except Exception as error:
                failures += 1
                print(f"FAILED {name} {number}: {type(error).__name__}: {error}", flush=True)
        print(f"{name}: {dict(sorted(statuses.items()))}", flush=True)
    print(f"{failures} failures; {peak_mb() - START_MB:.0f} MB gained at most")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
