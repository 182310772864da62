"""What an object store tells of a file that is another when its bytes are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "LastModified", "mtime", "updated")
"""Names of it; the first that is told counts."""


def version_of(facts: Mapping[str, Any]) -> str:
    """Size of a file and what changes with its bytes, from what a store tells of it."""
    told = next((facts[name] for name in _VERSIONS if facts.get(name)), "")
    return f"{facts.get('size')} {told}".strip()
