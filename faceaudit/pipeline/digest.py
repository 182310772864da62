"""What identifies images that were scored: their names, files and labels, as sums of hashes.

Sums do not depend on order and add over parts of a table, so a table of a million images says in
32 bytes which files it was made of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

BYTES = 16
PACKED = 2 * BYTES
MODULUS = 1 << (8 * BYTES)


def hash_of(*values: object) -> int:
    """A 128-bit hash of values as text."""
    text = "\0".join(map(str, values)).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=BYTES).digest(), "little")


@dataclass(frozen=True)
class ImageDigest:
    """One image, or the sum of several."""

    images: int = 0
    inputs: int = 0
    """Sum of hashes of name, size and time of each file, modulo 2**128."""
    labels: int = 0
    """Sum of hashes of name, labels and carried values of each image, modulo 2**128."""

    def __add__(self, other: ImageDigest) -> ImageDigest:
        return ImageDigest(
            self.images + other.images,
            (self.inputs + other.inputs) % MODULUS,
            (self.labels + other.labels) % MODULUS,
        )

    def to_json(self) -> dict[str, Any]:
        """As a mapping of plain values."""
        return {
            "images": self.images,
            "inputs": f"{self.inputs:032x}",
            "labels": f"{self.labels:032x}",
        }

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> ImageDigest:
        """What ``to_json`` gave."""
        return cls(int(facts["images"]), int(facts["inputs"], 16), int(facts["labels"], 16))


def digest_of(name: str, stamp: str, values: Iterable[object]) -> ImageDigest:
    """The digest of one image.

    Args:
        name: As in the table.
        stamp: What tells whether the file is the same, such as size and time.
        values: Its labels and carried columns.
    """
    return ImageDigest(1, hash_of(name, stamp), hash_of(name, *values))


def total(digests: Iterable[ImageDigest]) -> ImageDigest:
    """The sum of digests."""
    return sum(digests, ImageDigest())


def pack(digests: Sequence[ImageDigest]) -> bytes:
    """Digests of single images as bytes, ``PACKED`` each."""
    return b"".join(
        value.to_bytes(BYTES, "little") for one in digests for value in (one.inputs, one.labels)
    )


def unpack(data: bytes) -> list[ImageDigest]:
    """What ``pack`` was given."""
    values = [
        int.from_bytes(data[start : start + BYTES], "little")
        for start in range(0, len(data), BYTES)
    ]
    return [ImageDigest(1, *pair) for pair in zip(values[::2], values[1::2], strict=True)]
