"""What was deleted of a table for good: the record that ``faceaudit purge`` keeps beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORD = "purges.jsonl"


def beside(table: Path, name: str) -> Path:
    """A file that belongs to a table: in its folder, or beside its file.

    Example:
        >>> beside(Path("nights"), RECORD), beside(Path("faces.parquet"), RECORD)
        (PosixPath('nights/_purges.jsonl'), PosixPath('faces.purges.jsonl'))
    """
    is_file = table.suffix.lower() == ".parquet"
    return table.with_name(f"{table.stem}.{name}") if is_file else table / f"_{name}"


def purge_notes(table: Path) -> tuple[str, ...]:
    """A sentence where images of a table were purged; a record that cannot be read says nothing."""
    try:
        lines = beside(table, RECORD).read_text("utf-8").splitlines()
        purges = [json.loads(line) for line in lines if line.strip()]
        images = sum(int(purge["images"]) for purge in purges)
        return (_sentence(images, purges),) if images else ()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()


def _sentence(images: int, purges: list[dict[str, Any]]) -> str:
    """How many images went and when; not why, as a reason may name a person."""
    were = "1 image was" if images == 1 else f"{images:,} images were"
    day = str(purges[-1]["when"])[:10]
    last = f"on {day}" if len(purges) == 1 else f"in {len(purges)} purges, the last on {day}"
    return f"{were} purged from this table ({last}); its rows are what was left."
