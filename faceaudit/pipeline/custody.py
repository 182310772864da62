"""The chain of custody: what a table says of itself, and whether it is what a run would write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

import faceaudit
from faceaudit.errors import UsageError
from faceaudit.labels import Labels
from faceaudit.models.bundle import Bundle, Output
from faceaudit.pipeline.digest import ImageDigest
from faceaudit.pipeline.plan import Facts
from faceaudit.pipeline.scores import predicted_tasks
from faceaudit.schema import TableMetadata


def describe(
    bundle: Bundle,
    facts: Facts,
    labels: Labels | None,
    outputs: Sequence[Output],
    age_bins: tuple[int, ...],
) -> TableMetadata:
    """What the table says of itself whatever its images: the chain of custody."""
    return TableMetadata(
        tasks=predicted_tasks(outputs, age_bins),
        model={
            "name": bundle.name,
            "sha256": bundle.sha256,
            "licence": bundle.licence,
            "training_data": bundle.training_data,
            "card": dict(bundle.card),
        },
        detector=facts.detector,
        preprocessing=facts.preprocessing,
        precision=facts.precision,
        labels={} if labels is None else labels.facts(),
        version=faceaudit.__version__,
        options={"age_bins": list(age_bins)},
    )


def with_images(
    metadata: TableMetadata, digest: ImageDigest, notes: Sequence[str]
) -> TableMetadata:
    """The metadata of a table of these images."""
    labels = {**metadata.labels, "notes": list(notes)} if metadata.labels else {}
    return replace(metadata, labels=labels, options={**metadata.options, **digest.to_json()})


def digest_in(metadata: TableMetadata) -> ImageDigest:
    """The images that a table says it was made of."""
    return ImageDigest.from_json(dict(metadata.options))


def differences(old: TableMetadata, new: TableMetadata) -> list[str]:
    """What was chosen otherwise for one table than for another, by name."""
    first, second = _choices(old), _choices(new)
    return [name for name in second if first.get(name) != second[name]]


def _choices(metadata: TableMetadata) -> dict[str, Any]:
    facts = json.loads(metadata.to_json())
    options = facts.pop("options")
    facts["labels"].pop("notes", None)
    return {**facts, "age_bins": options.get("age_bins")}


def check_same(
    out: Path, old: TableMetadata, new: TableMetadata, columns: pa.Schema, wanted: pa.Schema
) -> None:
    """Check that a table was made as this run would make it.

    Raises:
        UsageError: If it was made with other options, another model or other columns.
    """
    differing = differences(old, new)
    if not differing and not columns.equals(wanted, check_metadata=False):
        named = set(columns.names) ^ set(wanted.names)
        differing = [f"columns ({', '.join(sorted(named))})" if named else "types of columns"]
    if differing:
        raise UsageError(
            f"{out}: exists and was made with another {' and '.join(differing)}; "
            "--restart replaces it, or give another name"
        )
