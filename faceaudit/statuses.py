"""What became of an image; a part of ``schema`` that needs no other library."""

from __future__ import annotations

from typing import Literal

Status = Literal["ok", "no_face", "unreadable", "unsupported", "too_large"]
OK: Status = "ok"
NO_FACE: Status = "no_face"
UNREADABLE: Status = "unreadable"
UNSUPPORTED: Status = "unsupported"
TOO_LARGE: Status = "too_large"
STATUSES: dict[Status, str] = {
    OK: "a face was found and scored",
    NO_FACE: "the image was read and no face was found in it",
    UNREADABLE: "the file is damaged, empty or cannot be opened",
    UNSUPPORTED: "the file is not an image of a supported format",
    TOO_LARGE: "the image has more pixels than --max-pixels allows",
}
