"""Where the segments of a JPEG file begin.

Source:
    ITU-T T.81, annex B: markers, and segments with a length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9

MAX_SEGMENTS = 10_000
"""Further ones are not looked for: a file of 20 MB may hold five million empty ones. Of the full
size, 64 KB, these are 600 MB of metadata."""

_MARKER = re.compile(rb"\xff[^\x00\xff]")
"""What a segment begins with; bytes that are in its way are skipped as readers do."""


def segments_of_jpeg(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker of every segment and where its length stands; the pixels or the end are the last."""
    position = len(b"\xff\xd8")
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, position)
        if found is None:
            return
        marker, start = found[0][-1], found.end()
        yield marker, start
        if marker in (START_OF_SCAN, END_OF_IMAGE):
            return
        position = start + int.from_bytes(data[start : start + 2])
