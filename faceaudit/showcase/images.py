"""A small folder of images for the demo: one photograph in many states, and files that are none.

The photograph is Grace Hopper's from matplotlib's sample data (an official portrait by the United
States Navy, in the public domain). No photograph ships with faceaudit.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from faceaudit.storage import make_folder

ORIENTATION = 0x0112  # EXIF tag
ROTATED_LEFT = 6  # to be shown turned by 90 degrees clockwise


def photograph() -> Image.Image:
    """Grace Hopper, RGB."""
    from matplotlib import cbook

    with Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        return image.convert("RGB")


def _plain(image: Image.Image, path: Path) -> None:
    image.save(path, quality=92)


def _dark(image: Image.Image, path: Path) -> None:
    ImageEnhance.Brightness(image).enhance(0.25).save(path, quality=92)


def _blurred(image: Image.Image, path: Path) -> None:
    image.filter(ImageFilter.GaussianBlur(6)).save(path, quality=92)


def _occluded(image: Image.Image, path: Path) -> None:
    covered = image.copy()
    width, height = image.size
    ImageDraw.Draw(covered).rectangle((0, 0, width, height * 0.55), fill=(40, 40, 40))
    covered.save(path, quality=92)


def _turned(image: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = ROTATED_LEFT
    image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=92)


def _gray(image: Image.Image, path: Path) -> None:
    image.convert("L").save(path)


def _cmyk(image: Image.Image, path: Path) -> None:
    image.convert("CMYK").save(path, quality=92)


def _sixteen_bit(image: Image.Image, path: Path) -> None:
    wide = np.asarray(image.convert("L"), np.uint16) * 257
    Image.fromarray(wide).save(path)


def _no_face(image: Image.Image, path: Path) -> None:
    ramp = np.linspace(0, 255, 256, dtype=np.uint8)
    Image.fromarray(np.stack([np.tile(ramp, (256, 1))] * 3, axis=2)).save(path)


def _cut_short(image: Image.Image, path: Path) -> None:
    _plain(image, path)
    path.write_bytes(path.read_bytes()[:9000])


def _empty(image: Image.Image, path: Path) -> None:
    path.write_bytes(b"")


def _text(image: Image.Image, path: Path) -> None:
    path.write_text("This is not an image.\n", encoding="utf-8")


SPECIMENS: dict[str, Callable[[Image.Image, Path], None]] = {
    "hopper.jpg": _plain,
    "hopper dark.jpg": _dark,
    "hopper blurred.jpg": _blurred,
    "hopper, eyes covered.jpg": _occluded,
    "hopper turned (EXIF).jpg": _turned,
    "hopper gray.png": _gray,
    "hopper CMYK.jpg": _cmyk,
    "hopper 16 bit.png": _sixteen_bit,
    "ünïcode 'name'.jpg": _plain,
    "no face.png": _no_face,
    "cut short.jpg": _cut_short,
    "empty.jpg": _empty,
    "a text file.jpg": _text,
}
"""File name -> how it is made from the photograph."""


def write_specimens(folder: Path) -> None:
    """Write the images into a folder, which is created where it does not exist."""
    make_folder(folder)
    image = photograph()
    for name, write in SPECIMENS.items():
        write(image, folder / name)
