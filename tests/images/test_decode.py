"""Decoding: every format and depth, orientation, limits, damage."""

from __future__ import annotations

import io
import os
import struct
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.fuzz import png_chunk
from faceaudit.images.decode import MAX_PIXELS, Decoded, decode, decode_gray

DATA = Path(os.environ.get("FACEAUDIT_DATA", "~/faceaudit-data")).expanduser()


def picture(width: int = 48, height: int = 40) -> Image.Image:
    """A smooth picture whose corners differ, so that a turn shows."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], axis=2).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a description that does not fit the entry itself"
    return exif.tobytes()


def pixels_of(result: Decoded) -> NDArray[np.int64]:
    assert result.status == "ok", result.error
    assert result.image is not None
    assert result.error is None
    assert result.image.dtype == np.uint8
    assert result.image.flags.c_contiguous
    assert result.image.shape == (result.height, result.width, 3)
    return result.image.astype(np.int64)


def distance(result: Decoded, expected: NDArray[Any]) -> float:
    pixels = pixels_of(result)
    assert pixels.shape == expected.shape
    return float(np.abs(pixels - expected.astype(np.int64)).mean())


LOSSLESS: dict[str, tuple[str, dict[str, Any]]] = {
    "png": ("PNG", {}),
    "webp": ("WEBP", {"lossless": True}),
    "tiff": ("TIFF", {}),
    "tiff-lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff-big": ("TIFF", {"big_tiff": True}),
    "bmp": ("BMP", {}),
    "ppm": ("PPM", {}),
    "jpeg2000": ("JPEG2000", {"irreversible": False}),
}
LOSSY: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("JPEG", {"quality": 95}),
    "jpeg-444": ("JPEG", {"quality": 95, "subsampling": 0}),
    "jpeg-progressive": ("JPEG", {"quality": 95, "progressive": True}),
    "jpeg-rgb": ("JPEG", {"quality": 95, "keep_rgb": True}),
    "webp-lossy": ("WEBP", {"quality": 95}),
    "avif": ("AVIF", {"quality": 95}),
    "tiff-jpeg": ("TIFF", {"compression": "jpeg", "quality": 95}),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_give_the_very_pixels(name: str) -> None:
    kind, options = LOSSLESS[name]
    result = decode(encoded(picture(), kind, **options))
    assert distance(result, np.asarray(picture())) == 0


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_formats_give_nearly_the_pixels(name: str) -> None:
    kind, options = LOSSY[name]
    result = decode(encoded(picture(), kind, **options))
    assert distance(result, np.asarray(picture())) < 3


def test_fast_reader_agrees_with_pillow() -> None:
    data = encoded(picture(), "JPEG", quality=80)
    with Image.open(io.BytesIO(data)) as image:
        assert distance(decode(data), np.asarray(image)) < 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation_is_applied_once(kind: str, orientation: int) -> None:
    upright = picture()
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    data = encoded(stored, kind, exif=exif_of(orientation))
    assert distance(decode(data), np.asarray(upright)) < 6


@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_in_either_byte_order(order: str) -> None:
    mark = b"II\x2a\x00" if order == "<" else b"MM\x00\x2a"
    body = struct.pack(order + "LHHHLHHL", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    data = encoded(picture(), "JPEG", exif=b"Exif\x00\x00" + mark + body)
    assert (decode(data).width, decode(data).height) == (40, 48)


@pytest.mark.parametrize("missing", [4, 1])
def test_orientation_counts_without_the_place_of_a_next_directory(missing: int) -> None:
    body = struct.pack("<LHHHLHHL", 8, 1, 0x0112, 3, 1, 6, 0, 0)[:-missing]
    data = encoded(picture(), "JPEG", exif=b"Exif\x00\x00II\x2a\x00" + body)
    assert (decode(data).width, decode(data).height) == (40, 48)
    cut = decode(b"II\x2a\x00" + body)
    assert "directory of the file is missing or cut off" in (cut.error or "")


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_impossible_orientation_is_ignored(value: int) -> None:
    body = struct.pack("<LHHHLHHL", 8, 1, 0x0112, 3, 1, value, 0, 0)
    data = encoded(picture(), "JPEG", exif=b"Exif\x00\x00II\x2a\x00" + body)
    assert (decode(data).width, decode(data).height) == (48, 40)


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


@pytest.mark.parametrize(
    "before",
    [
        segment(0xE2, b"ICC_PROFILE\0\1\2" + bytes(65_000)) * 2,
        segment(0xED, b"Photoshop 3.0\0" + b"\xff\xda" * 32_000),
        segment(0xFE, b"written by Exif\0\0"),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0Exif\0\0"),
        b"\xff" * 70_000,
    ],
    ids=["a color profile", "Photoshop's", "a comment on EXIF", "XMP", "fill bytes"],
)
def test_orientation_counts_behind_other_segments(before: bytes) -> None:
    data = encoded(picture(), "JPEG", exif=exif_of(6))
    result = decode(data[:2] + before + data[2:])
    assert (result.width, result.height) == (40, 48)
    assert np.array_equal(pixels_of(result), pixels_of(decode(data)))


def test_orientation_of_a_thumbnail_or_behind_the_pixels_does_not_count() -> None:
    inner = encoded(picture(), "JPEG", exif=exif_of(6))
    data = encoded(picture(), "JPEG")
    for other in (data[:2] + segment(0xE4, inner) + data[2:], data + inner):
        assert (decode(other).width, decode(other).height) == (48, 40)


def blots(width: int, height: int) -> Image.Image:
    """A picture that a shift by a few pixels changes everywhere."""
    small = np.random.default_rng(0).integers(0, 256, (height // 20, width // 20, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(803, 642), (801, 640), (804, 642)])
def test_a_turned_photograph_is_not_shifted_by_decoding_it_smaller(
    size: tuple[int, int], orientation: int
) -> None:
    data = encoded(blots(*size), "JPEG", quality=95, exif=exif_of(orientation))
    full, small = decode(data), decode(data, enough_side=100)
    assert full.image is not None
    assert small.image is not None
    times = small.reduction
    height, width = full.image.shape[0] // times, full.image.shape[1] // times
    whole = full.image[: height * times, : width * times]
    means = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
    assert np.abs(means.astype(int) - small.image[:height, :width]).mean() < 2


@pytest.mark.parametrize(
    ("size", "orientation", "reduction"),
    [((4000, 3000), 6, 8), ((4001, 3000), 1, 8), ((4004, 3000), 6, 4), ((4001, 3000), 3, 1)],
)
def test_turned_photographs_are_decoded_as_small_as_their_sides_can_be_divided(
    size: tuple[int, int], orientation: int, reduction: int
) -> None:
    data = encoded(Image.new("RGB", size), "JPEG", exif=exif_of(orientation))
    assert decode(data, enough_side=500).reduction == reduction


def test_cut_off_exif_is_ignored() -> None:
    data = encoded(picture(), "JPEG", exif=exif_of(6)[:20])
    assert (decode(data).width, decode(data).height) == (48, 40)


# --- colors and depths ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP"])
def test_gray_images_have_three_equal_channels(kind: str) -> None:
    gray = picture().convert("L")
    result = decode(encoded(gray, kind))
    pixels = pixels_of(result)
    assert (pixels == pixels[:, :, :1]).all()
    assert distance(result, np.asarray(gray.convert("RGB"))) < 2


def test_bilevel_image() -> None:
    result = decode(encoded(picture().convert("1"), "PNG"))
    assert set(np.unique(pixels_of(result))) == {0, 255}


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_keeps_its_colors(kind: str) -> None:
    red = Image.new("RGB", (16, 16), (200, 30, 40)).convert("CMYK")
    result = decode(encoded(red, kind))
    assert distance(result, np.asarray(red.convert("RGB"))) < 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_gray_is_scaled_and_not_clipped(kind: str) -> None:
    ramp = np.linspace(0, 65535, 256 * 4).astype(np.uint16).reshape(4, 256)
    result = decode(encoded(Image.fromarray(ramp), kind))
    assert distance(result, np.repeat(np.rint(ramp / 257)[:, :, None], 3, axis=2)) == 0


def test_16_bit_color_png_is_scaled() -> None:
    deep = np.linspace(0, 65535, 64 * 3).astype(">u2").reshape(1, 64, 3)
    chunks = [(b"IHDR", struct.pack(">LLBBBBB", 64, 1, 16, 2, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(b"\x00" + deep.tobytes())), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body))
        for name, body in chunks
    )
    assert distance(decode(data), deep.astype(np.int64) / 257) <= 1


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_float_image(top: float) -> None:
    values = np.linspace(0, top, 100, dtype=np.float32).reshape(10, 10)
    result = decode(encoded(Image.fromarray(values), "TIFF"))
    expected = np.rint(values * (255 / top))
    assert distance(result, np.repeat(expected[:, :, None], 3, axis=2)) == 0


def test_float_image_of_any_range_is_stretched_and_survives_nan() -> None:
    values = np.array([[-5000.0, np.nan, 1e6]], dtype=np.float32)
    pixels = pixels_of(decode(encoded(Image.fromarray(values), "TIFF")))
    assert pixels[0, 0, 0] == 0
    assert pixels[0, 2, 0] == 255


def test_integer_image_of_any_range_is_stretched() -> None:
    values = np.array([[-(2**31), 0, 2**31 - 1]], dtype=np.int32)
    pixels = pixels_of(decode(encoded(Image.fromarray(values), "TIFF")))
    assert pixels[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("mode", "clear", "solid"),
    [("RGBA", (255, 0, 0, 0), (10, 20, 30, 255)), ("LA", (0, 0), (20, 255))],
)
def test_transparent_pixels_lie_on_white(mode: str, clear: Any, solid: Any) -> None:
    image = Image.new(mode, (2, 1), clear)
    image.putpixel((1, 0), solid)
    pixels = pixels_of(decode(encoded(image, "PNG")))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[0, 1, 0] == solid[0]


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_transparent_palette_entry_lies_on_white(kind: str) -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putpixel((1, 0), 1)
    pixels = pixels_of(decode(encoded(image, kind, transparency=0)))
    assert pixels[0].tolist() == [[255, 255, 255], [0, 0, 200]]


def test_palette_with_alpha_per_entry() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putpixel((1, 0), 1)
    pixels = pixels_of(decode(encoded(image, "PNG", transparency=b"\x00\xff")))
    assert pixels[0].tolist() == [[255, 255, 255], [0, 0, 200]]


def test_transparent_color_of_an_rgb_png() -> None:
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    pixels = pixels_of(decode(encoded(image, "PNG", transparency=(1, 2, 3))))
    assert pixels[0].tolist() == [[255, 255, 255], [9, 9, 9]]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame_of_an_animation_counts(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert distance(decode(data), np.asarray(frames[0])) == 0


def test_png_with_a_damaged_announcement_of_an_animation() -> None:
    data = encoded(picture(), "PNG")
    chunk = b"acTL" + bytes(8)
    announcement = struct.pack(">L", 8) + chunk + struct.pack(">L", zlib.crc32(chunk))
    assert distance(decode(data[:33] + announcement * 2 + data[33:]), np.asarray(picture())) == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
def test_one_pixel(kind: str) -> None:
    result = decode(encoded(Image.new("RGB", (1, 1), "white"), kind))
    assert pixels_of(result).min() > 250


def test_lab_is_unsupported() -> None:
    result = decode(encoded(Image.new("LAB", (4, 4)), "TIFF"))
    assert (result.status, result.image) == ("unsupported", None)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_16_bit_tiff_whose_zero_is_white(compression: str) -> None:
    ramp = np.linspace(0, 65535, 256 * 4).astype(np.uint16).reshape(4, 256)
    data = encoded(Image.fromarray(ramp), "TIFF", compression=compression)
    entry = struct.pack("<HHLH", 262, 3, 1, 1)
    assert entry in data
    turned = decode(data.replace(entry, struct.pack("<HHLH", 262, 3, 1, 0)))
    assert np.array_equal(pixels_of(turned), 255 - pixels_of(decode(data)))


@pytest.mark.parametrize("kind", ["three floats", "64 bits"])
def test_tiff_with_pixels_of_another_kind_is_unsupported(kind: str) -> None:
    values = np.zeros((4, 4, 3), np.float32) if kind == "three floats" else np.zeros((4, 4))
    result = decode(cv2.imencode(".tiff", values)[1].tobytes())
    assert (result.status, result.image) == ("unsupported", None)
    assert "of this kind or depth" in (result.error or "")


@pytest.mark.parametrize("brand", [b"mif1", b"msf1"])
def test_an_avif_may_have_its_brand_among_the_compatible_ones(brand: bytes) -> None:
    data = encoded(picture(), "AVIF", quality=95)
    assert data[8:24] == b"avif\0\0\0\0avifmif1"
    for brands in (b"\0\0\0\0avifmif1", b"\0\0\0\0miafavif"):
        assert distance(decode(data[:8] + brand + brands + data[24:]), np.asarray(picture())) < 3


# --- limits and damage ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF"])
def test_too_large_is_told_from_the_header(kind: str) -> None:
    data = encoded(picture(50, 20), kind)
    result = decode(data, max_pixels=999)
    assert (result.status, result.image, result.width, result.height) == ("too_large", None, 50, 20)
    assert "999" in (result.error or "")
    assert decode(data, max_pixels=1000).status == "ok"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_size_of_a_too_large_image_is_that_of_the_upright_one(kind: str) -> None:
    result = decode(encoded(picture(50, 20), kind, exif=exif_of(6)), max_pixels=10)
    assert (result.width, result.height) == (20, 50)


def test_a_tiff_may_have_as_many_pixels_as_are_allowed() -> None:
    data = encoded(Image.new("1", (9_500, 9_500)), "TIFF", compression="group4")
    assert decode(data, max_pixels=90_000_000).status == "too_large"
    result = decode(data, max_pixels=90_250_000)  # more than Pillow's reader takes by itself
    assert (result.status, result.width, result.height) == ("ok", 9_500, 9_500)


def png_bomb(side: int) -> bytes:
    """A PNG that claims to be huge."""
    header = b"IHDR" + struct.pack(">LLBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = b"IDAT" + zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">L", len(body) - 4) + body + struct.pack(">L", zlib.crc32(body))
        for body in (header, rows)
    )


@pytest.mark.parametrize("side", [10_001, 15_000, 60_000])
def test_decompression_bombs_are_never_decoded(side: int) -> None:
    start = time.perf_counter()
    result = decode(png_bomb(side))
    assert (result.status, result.width, result.height) == ("too_large", side, side)
    assert time.perf_counter() - start < 0.5
    assert side * side > MAX_PIXELS


def test_webp_bomb_is_told_by_its_header() -> None:
    data = bytearray(encoded(picture(), "WEBP", lossless=True))
    data[21:25] = struct.pack("<L", 16382 | 16382 << 14)
    result = decode(bytes(data))
    assert (result.status, result.width, result.height) == ("too_large", 16383, 16383)


def test_bomb_between_the_limits_of_pillow_gives_no_warning() -> None:
    assert decode(png_bomb(9_900)).status == "unreadable"  # 98 megapixels, and cut off


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95])
def test_a_file_that_is_cut_off_is_unreadable_and_never_half_gray(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    result = decode(data[: int(len(data) * share)])
    assert (result.status, result.image) == ("unreadable", None)
    assert result.error


def test_jpeg_whose_data_ends_early_is_unreadable() -> None:
    data = encoded(picture(), "JPEG")
    assert decode(data[: len(data) // 2] + b"\xff\xd9").status == "unreadable"


def test_jpeg_with_padding_is_read() -> None:
    data = encoded(picture(), "JPEG", quality=95)
    paddings = (b"\x00" * 9, b"\xff" * 9, b"\xff\x00" * 9, b"\x00" * 900 + b"\xff" * 9)
    for padded in (data + bytes(50), *(data[:-2] + padding + data[-2:] for padding in paddings)):
        assert distance(decode(padded), np.asarray(picture())) < 3
        assert decode_gray(padded, 9).status == "ok"


def test_jpeg_with_data_left_over_is_unreadable() -> None:
    data = encoded(picture(), "JPEG", quality=95)
    damaged = data[:-2] + bytes(range(1, 60)) + data[-2:]
    for file in (damaged, damaged[:-2] + b"\xff" * 99 + data[-2:], damaged + bytes(99) + data[-2:]):
        assert "extraneous bytes" in (decode(file).error or "")
        assert decode_gray(file, 9).status == "unreadable"


def test_only_the_end_of_the_pixels_counts_for_padding() -> None:
    data = encoded(picture(), "JPEG", quality=95)
    padded, damaged = (data[:-2] + more + data[-2:] for more in (bytes(9), b"\x11" * 30))
    thumbnail = segment(0xE4, damaged)
    assert decode(padded[:2] + thumbnail + padded[2:] + damaged).status == "ok"
    assert decode(damaged[:2] + segment(0xE4, padded) + damaged[2:] + padded).status == "unreadable"


@pytest.mark.parametrize("read", [decode, partial(decode_gray, side=9)])
def test_a_want_of_memory_is_no_damage(
    read: Callable[[bytes], Decoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simplejpeg.decode_jpeg", Mock(side_effect=MemoryError))
    with pytest.raises(MemoryError):
        read(encoded(picture(), "JPEG"))


def png_of_rows(rows: int, depth: int = 8, color: int = 0) -> bytes:
    """A PNG of 13 x 11 black pixels that has so many rows, and ends properly."""
    row = bytes(1 + -(-13 * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color] // 8))
    header = png_chunk(b"IHDR", struct.pack(">LLBBBBB", 13, 11, depth, color, 0, 0, 0))
    palette = png_chunk(b"PLTE", bytes(3)) if color == 3 else b""
    pixels = png_chunk(b"IDAT", zlib.compress(row * rows))
    return b"\x89PNG\r\n\x1a\n" + header + palette + pixels + png_chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("depth", "color"), [(1, 0), (8, 0), (16, 0), (8, 2), (16, 2), (2, 3), (8, 3), (8, 4), (16, 6)]
)
def test_png_whose_rows_end_early_is_unreadable(depth: int, color: int) -> None:
    for rows in (0, 5, 10):
        assert decode(png_of_rows(rows, depth, color)).status == "unreadable"
    assert "rows end early" in (decode(png_of_rows(5, depth, color)).error or "")
    for rows in (11, 20):
        assert decode(png_of_rows(rows, depth, color)).status == "ok"


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (b"", "unreadable", "empty"),
        (b"\xff\xd8\xff", "unreadable", "JPEG"),
        (b"<!DOCTYPE html><html>", "unsupported", "web page"),
        (b"name,age\nx,1\n", "unsupported", "text"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported", "SVG"),
        (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00", "unsupported", "film"),
        (b"%PDF-1.4", "unsupported", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported", "PostScript"),
        (b"PK\x03\x04", "unsupported", "archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "unsupported", "LFS"),
        (bytes(100), "unsupported", "unknown"),
    ],
)
def test_files_that_are_no_images(data: bytes, status: str, words: str) -> None:
    result = decode(data)
    assert (result.status, result.image, result.width) == (status, None, None)
    assert words in (result.error or "")


def samples() -> dict[str, bytes]:
    exif = exif_of(6)
    pages = [picture().rotate(90)]
    return {
        "jpeg": encoded(picture(), "JPEG", exif=exif),
        "jpeg-progressive": encoded(picture(), "JPEG", progressive=True),
        "jpeg-cmyk": encoded(picture().convert("CMYK"), "JPEG"),
        "png": encoded(picture(), "PNG", exif=exif),
        "png-palette": encoded(picture().convert("P"), "PNG", transparency=0),
        "png-animated": encoded(picture(), "PNG", save_all=True, append_images=pages),
        "webp": encoded(picture(), "WEBP", exif=exif),
        "webp-animated": encoded(picture(), "WEBP", save_all=True, append_images=pages),
        "gif": encoded(picture(), "GIF", save_all=True, append_images=pages, disposal=2),
        "tiff": encoded(picture(), "TIFF", exif=exif),
        "tiff-float": encoded(picture().convert("F"), "TIFF"),
        "bmp": encoded(picture().convert("P"), "BMP"),
        "ppm": encoded(picture(), "PPM"),
        "avif": encoded(picture(), "AVIF", exif=exif),
        "jpeg2000": encoded(picture(), "JPEG2000"),
    }


def test_threads_decode_alike() -> None:
    files = [*samples().values()] * 6
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(decode, files))
    for data, result in zip(files, together, strict=True):
        np.testing.assert_array_equal(result.image, decode(data).image)


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no data set at {DATA}; set FACEAUDIT_DATA")
@pytest.mark.parametrize(
    ("folder", "number"), [("utkface/val", None), ("utkface/train", 300), ("fairface/train", 300)]
)
def test_data_sets_decode(folder: str, number: int | None) -> None:
    files = sorted((DATA / folder).iterdir())[:number]
    assert files
    assert {decode(file.read_bytes()).status for file in files} == {"ok"}


def test_gray_is_reduced_where_the_format_allows_it(specimens: Path) -> None:
    data = (specimens / "hopper.jpg").read_bytes()
    whole, gray = decode(data), decode_gray(data, 96)
    assert whole.image is not None
    assert gray.image is not None
    assert (gray.width, gray.height) == (whole.width, whole.height)
    assert 96 <= min(gray.image.shape) < min(whole.image.shape[:2])
    full = cv2.cvtColor(whole.image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(full, gray.image.shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - gray.image).mean() < 3


def test_gray_of_every_file_is_what_its_colors_give(specimens: Path) -> None:
    for path in sorted(specimens.rglob("*")):
        if path.is_file():
            whole, gray = decode(path.read_bytes()), decode_gray(path.read_bytes(), 10_000)
            assert (gray.status, gray.error) == (whole.status, whole.error), path
            assert (gray.width, gray.height) == (whole.width, whole.height), path
            if whole.image is not None and gray.image is not None:
                full = cv2.cvtColor(whole.image, cv2.COLOR_RGB2GRAY)
                assert gray.image.shape == full.shape
                assert np.abs(full.astype(int) - gray.image).mean() < 2, path
