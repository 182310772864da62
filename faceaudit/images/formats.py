"""Image formats: how a file is recognized, and which reader opens it.

To add a format that Pillow reads, add a line to ``FORMATS``. Only these are opened: Pillow itself
would also try formats that start other programs.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ImageFile import ImageFile

from faceaudit.images.orientation import (
    UPRIGHT,
    Entry,
    byte_order,
    directory,
    orientation_of_exif,
    orientation_of_jpeg,
)


@dataclass(frozen=True)
class ImageFormat:
    """A file format: its name, its first bytes, and its reader."""

    name: str
    signature: re.Pattern[bytes]
    open: Callable[[io.BytesIO], ImageFile]
    prepare: Callable[[bytes], bytes] = bytes
    """Takes out what the reader would warn about; the pixels stay the same."""
    orientation: Callable[[bytes], int] | None = None
    """From the file; None where the reader finds the EXIF block."""
    size: Callable[[bytes], tuple[int, int] | None] | None = None
    """Width and height, where the reader would reserve memory before it tells them."""
    check: Callable[[bytes, ImageFile], None] | None = None
    """Raises OSError where the file ends before the pixels, and the reader does not say so."""


def find_format(data: bytes) -> ImageFormat | None:
    """The format of a file by its first bytes, whatever its name says; None if unknown."""
    return next((known for known in FORMATS if known.signature.match(data)), None)


def describe(data: bytes) -> str:
    """What a file of no known format seems to be, for a message."""
    for name, signature in LOOKALIKES.items():
        if signature.match(data):
            return name
    text = data[:512]
    printable = sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in text)
    return "text" if text and printable == len(text) else "data of an unknown kind"


def orientation_of(found: ImageFormat, data: bytes, image: ImageFile) -> int:
    """The orientation of an opened image, 1 to 8."""
    if found.orientation is not None:
        return found.orientation(data)
    exif = image.info.get("exif")
    return orientation_of_exif(exif) if isinstance(exif, bytes) else UPRIGHT


def _without_exif(data: bytes) -> bytes:
    """A JPEG whose EXIF block the reader does not recognize."""
    return data.replace(b"Exif\x00\x00", b"none\x00\x00")


_PNG_PIXEL_CHUNKS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of every chunk of a PNG, as far as chunks are whole."""
    start = 8
    while start + 12 <= len(data):
        (size,) = struct.unpack_from(">L", data, start)
        end = start + 12 + size
        if end > len(data):
            return
        yield data[start + 4 : start + 8], start, end
        start = end


def _pixel_chunks_only(data: bytes) -> bytes:
    """A PNG without metadata, which may be a bomb, and without its animation."""
    parts, kept = [], 0
    for name, start, end in _png_chunks(data):
        if name not in _PNG_PIXEL_CHUNKS:
            parts.append(data[kept:start])
            kept = end
    return b"".join((*parts, data[kept:])) if parts else data


def _orientation_of_png(data: bytes) -> int:
    """The orientation that a PNG's EXIF chunk names, wherever it stands."""
    for name, start, end in _png_chunks(data):
        if name == b"eXIf":
            return orientation_of_exif(data[start + 8 : end - 4])
    return UPRIGHT


_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By color type; PNG specification, 11.2.2."""
_INFLATED_AT_ONCE = 1 << 20


def _check_rows_of_png(data: bytes, image: ImageFile) -> None:
    """Refuse a loaded PNG whose compressed data end properly, but before its last row.

    Raises:
        OSError: If they do; an interlaced one, whose rows come in no order, passes.
    """
    last_row = image.crop((0, image.height - 1, *image.size))
    if image.info.get("interlace") or any(last_row.tobytes()):  # rows that are missing stay 0
        return
    chunks = [(name, data[start + 8 : end - 4]) for name, start, end in _png_chunks(data)]
    width, height, depth, color = struct.unpack_from(">LLBB", dict(chunks)[b"IHDR"])
    row_bytes = 1 + -(-width * depth * _PNG_CHANNELS[color] // 8)  # the filter's and the pixels'
    packed = b"".join(body for name, body in chunks if name == b"IDAT")
    if not _inflates_to(packed, height * row_bytes):
        raise OSError("its rows end early")


def _inflates_to(packed: bytes, size: int) -> bool:
    """Whether compressed data hold at least so many bytes; hardly more are inflated."""
    inflater = zlib.decompressobj()
    while size > 0 and packed:
        size -= len(inflater.decompress(packed, _INFLATED_AT_ONCE))
        packed = inflater.unconsumed_tail
    return size <= 0 or size <= len(inflater.flush())


_TIFF_PIXEL_TAGS = frozenset(
    {
        *(254, 256, 257, 258, 259, 262, 266),  # page, size, bits, compression, color, bit order
        *(273, 277, 278, 279, 284),  # strips, samples, planes
        *(292, 293, 317, 320),  # fax options, predictor, palette
        *(322, 323, 324, 325),  # tiles
        *(332, 338, 339),  # inks, extra samples, sample format
        *(347, 529, 530, 531, 532),  # JPEG tables, YCbCr
    }
)
_TIFF_TYPE_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)
_TIFF_SINGLE = frozenset((256, 257, 259, 262, 266, 277, 278, 284, 317, 322, 323))


def _pixel_tags_only(data: bytes) -> bytes:
    """A TIFF whose first directory holds only the entries that describe pixels.

    The others get a type that no reader knows, and so are passed over: metadata may be damaged.

    Raises:
        OSError: If an entry that describes pixels is damaged.
    """
    clean = bytearray(data)
    order = byte_order(data)
    found = directory(data)
    if found is None or found.end + found.pointer > len(data):
        raise OSError("the directory of the file is missing or cut off")
    for entry in found.entries:
        if entry.tag not in _TIFF_PIXEL_TAGS:
            clean[entry.start + 2 : entry.start + 4] = b"\x00\x00"
        elif not _is_whole(data, order, entry) or (entry.tag in _TIFF_SINGLE and entry.count != 1):
            raise OSError(f"entry {entry.tag} of the directory is damaged")
    # No later pages: the first counts.
    clean[found.end : found.end + found.pointer] = bytes(found.pointer)
    return bytes(clean)


def _is_whole(data: bytes, order: str, entry: Entry) -> bool:
    """Whether the values of a directory entry lie within the file."""
    each = _TIFF_TYPE_BYTES[entry.type] if entry.type < len(_TIFF_TYPE_BYTES) else 0
    if entry.count * each <= len(entry.field):
        return True
    (position,) = struct.unpack(order + ("L" if len(entry.field) == 4 else "Q"), entry.field)
    return bool(position + entry.count * each <= len(data))


_AVIF_EXIF = re.compile(rb"(infe.{8}(?:..)?)Exif", re.DOTALL)


def _without_exif_item(data: bytes) -> bytes:
    """An AVIF without metadata; which way up it is stands in its own properties."""
    return _AVIF_EXIF.sub(rb"\1none", data)


def _open_heic(file: io.BytesIO) -> ImageFile:
    from pi_heif import HeifImageFile

    image: ImageFile = HeifImageFile(file)
    return image


def _turned_by_reader(data: bytes) -> int:
    return UPRIGHT


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that the header of a WebP file names.

    Source:
        WebP Container Specification; RFC 6386, 9.1 (lossy); WebP Lossless Bitstream, 3 (header).
    """
    kind, head = data[12:16], data[20:30]
    if len(head) < 10:
        return None
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", head, 6)
    return width & 0x3FFF, height & 0x3FFF


def _orientation_of_webp(data: bytes) -> int:
    """The orientation that a WebP's EXIF chunk names, wherever it stands."""
    start = 12
    while start + 8 <= len(data):
        name, size = struct.unpack_from("<4sL", data, start)
        if name == b"EXIF":
            return orientation_of_exif(data[start + 8 : start + 8 + size])
        start += 8 + size + size % 2  # chunks begin at even places
    return UPRIGHT


FORMATS: tuple[ImageFormat, ...] = (
    ImageFormat(
        "JPEG",
        re.compile(rb"\xff\xd8\xff"),
        JpegImagePlugin.JpegImageFile,
        _without_exif,
        orientation_of_jpeg,
    ),
    ImageFormat(
        "PNG",
        re.compile(rb"\x89PNG\r\n\x1a\n"),
        PngImagePlugin.PngImageFile,
        _pixel_chunks_only,
        _orientation_of_png,
        check=_check_rows_of_png,
    ),
    ImageFormat(
        "WebP",
        re.compile(rb"RIFF....WEBP", re.DOTALL),
        WebPImagePlugin.WebPImageFile,
        orientation=_orientation_of_webp,
        size=_webp_size,
    ),
    ImageFormat("GIF", re.compile(rb"GIF8[79]a"), GifImagePlugin.GifImageFile),
    ImageFormat(
        "TIFF",
        re.compile(rb"II[\x2a\x2b]\x00|MM\x00[\x2a\x2b]"),
        TiffImagePlugin.TiffImageFile,
        _pixel_tags_only,
        orientation_of_exif,
    ),
    ImageFormat("BMP", re.compile(rb"BM"), BmpImagePlugin.BmpImageFile),
    ImageFormat("PNM", re.compile(rb"P[1-6]\s"), PpmImagePlugin.PpmImageFile),
    ImageFormat(
        "AVIF",
        # By its own brand, or that of images in general and its own among the compatible ones.
        re.compile(rb"....ftyp(?:avi[fs]|m[is]f1....(?:[ -~]{4})*?avi[fs])", re.DOTALL),
        AvifImagePlugin.AvifImageFile,
        _without_exif_item,
    ),
    ImageFormat(
        "JPEG 2000",
        re.compile(rb"\xff\x4f\xff\x51|\x00\x00\x00\x0cjP  \r\n\x87\n"),
        Jpeg2KImagePlugin.Jpeg2KImageFile,
    ),
)

HEIC = ImageFormat(
    "HEIC",
    re.compile(rb"....ftyp(?:hei|hev|mif1|msf1)", re.DOTALL),
    _open_heic,
    orientation=_turned_by_reader,
)
if find_spec("pi_heif"):  # the extra `heif`
    FORMATS += (HEIC,)

LOOKALIKES: dict[str, re.Pattern[bytes]] = {
    "a web page": re.compile(rb"\s*(?:<!doctype html|<html|<head)", re.IGNORECASE),
    "an SVG drawing or XML": re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|svg)", re.IGNORECASE),
    "a HEIC image (pip install 'faceaudit[heif]' reads it)": HEIC.signature,
    "a JPEG XL image (convert it to JPEG)": re.compile(rb"\xff\x0a|\x00\x00\x00\x0cJXL \r\n\x87\n"),
    "a film": re.compile(rb"....ftyp|\x1a\x45\xdf\xa3|RIFF....AVI ", re.DOTALL),
    "a PDF document": re.compile(rb"%PDF-"),
    "PostScript": re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"),
    "a Photoshop document": re.compile(rb"8BPS"),
    "an archive": re.compile(rb"PK\x03\x04|\x1f\x8b|Rar!|7z\xbc\xaf|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd"),
    "a Parquet file": re.compile(rb"PAR1"),
    "a Git LFS pointer (fetch the files with `git lfs pull`)": re.compile(
        rb"version https://git-lfs"
    ),
}
"""Files that are often found under an image's name, and how they begin."""
