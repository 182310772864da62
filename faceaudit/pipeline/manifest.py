"""The manifest of a folder of parts: which there are, of which images, and what is going on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceaudit.errors import FaceauditError, InputError
from faceaudit.pipeline.digest import ImageDigest
from faceaudit.schema import MANIFEST_FILE, TableMetadata
from faceaudit.storage import atomic_write, never_lost

ANEW = "--restart makes the table anew, or give another name"


@dataclass(frozen=True)
class Part:
    """A finished file of the table."""

    file: str
    rows: int
    faces: int
    statuses: Mapping[str, int]
    """Images by status."""
    digest: ImageDigest
    written: str | None = None
    """When its rows were made, as ISO 8601 has it; not known of parts of earlier versions."""

    def to_json(self) -> dict[str, Any]:
        """As a mapping of plain values."""
        facts = {"file": self.file, "rows": self.rows, "faces": self.faces}
        statuses = dict(self.statuses)
        return {**facts, "statuses": statuses, **self.digest.to_json(), "written": self.written}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Part:
        """What ``to_json`` gave."""
        digest = ImageDigest.from_json(facts)
        counts = facts["rows"], facts["faces"], facts["statuses"]
        return cls(facts["file"], *counts, digest, facts.get("written"))


@dataclass(frozen=True)
class Manifest:
    """What a folder of parts says of itself."""

    metadata: TableMetadata
    """As every part has it."""
    parts: tuple[Part, ...] = ()
    complete: bool = False
    replaces: bool = False
    """Whether it takes the place of a table that was made otherwise."""
    becomes: ImageDigest | None = None
    """The images of the file that is being made of the parts."""
    notes: tuple[str, ...] = ()
    purging: Mapping[str, Any] | None = None
    """What a purge set out to do, from when it began until it ended."""

    @property
    def images(self) -> int:
        """Images in finished parts."""
        return sum(part.digest.images for part in self.parts)

    def to_json(self) -> str:
        """As JSON text."""
        facts = {
            "metadata": json.loads(self.metadata.to_json()),
            "parts": [part.to_json() for part in self.parts],
            "complete": self.complete,
            "replaces": self.replaces,
            "becomes": None if self.becomes is None else self.becomes.to_json(),
            "notes": list(self.notes),
            "purging": self.purging,
        }
        return json.dumps(facts, indent=1)

    @classmethod
    def from_json(cls, text: bytes, where: str) -> Manifest:
        """Parse a manifest.

        Raises:
            InputError: If it is damaged.
        """
        try:
            facts = json.loads(text)
            return cls(
                metadata=TableMetadata.from_json(json.dumps(facts["metadata"]), where),
                parts=tuple(Part.from_json(part) for part in facts["parts"]),
                complete=facts["complete"],
                replaces=facts["replaces"],
                becomes=ImageDigest.from_json(facts["becomes"]) if facts["becomes"] else None,
                notes=tuple(facts["notes"]),
                purging=facts.get("purging"),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{where}: is damaged ({type(error).__name__}: {error}); {ANEW}"
            ) from error


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder of parts; None where there is none.

    Raises:
        InputError: If it is damaged, or cannot be read.
    """
    path = folder / MANIFEST_FILE
    try:
        return Manifest.from_json(path.read_bytes(), str(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(path, error) from error


def write_manifest(
    folder: Path, manifest: Manifest, still_mine: Callable[[], None] = never_lost
) -> None:
    """Say in a folder of parts which there are, and of which images."""
    still_mine()
    with atomic_write(folder / MANIFEST_FILE) as file:
        file.write(manifest.to_json().encode())


def unreadable(path: Path, error: Exception) -> FaceauditError:
    """What keeps a file of the table from being read."""
    if isinstance(error, FaceauditError):
        return error
    code = error.errno if isinstance(error, OSError) else None
    reason = os.strerror(code) if code else "it is damaged"
    return InputError(f"{path}: cannot be read ({reason}); {ANEW}")
