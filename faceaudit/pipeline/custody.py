"""The chain of custody: what a table says of itself, and whether it is what a run would write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa

import faceaudit
from faceaudit.errors import UsageError
from faceaudit.images.refs import ImageRef
from faceaudit.labels import Labels
from faceaudit.models.bundle import Bundle, Output
from faceaudit.pipeline.crops import CropSettings
from faceaudit.pipeline.scores import predicted_tasks
from faceaudit.pipeline.table import read_metadata
from faceaudit.runtimes import Runtime
from faceaudit.schema import TableMetadata


def describe(
    bundle: Bundle,
    runner: Runtime,
    settings: CropSettings,
    labels: Labels | None,
    outputs: Sequence[Output],
    age_bins: tuple[int, ...],
    refs: Sequence[ImageRef],
    extra: pl.DataFrame,
    limit: int | None,
) -> TableMetadata:
    """What the table says of itself: the chain of custody."""
    facts = runner.facts()
    return TableMetadata(
        tasks=predicted_tasks(outputs, age_bins),
        model={
            "name": bundle.name,
            "sha256": bundle.sha256,
            "licence": bundle.licence,
            "training_data": bundle.training_data,
            "card": dict(bundle.card),
        },
        detector=settings.detector.facts(),
        preprocessing={
            "faces": settings.faces,
            "align": settings.align,
            "margin": settings.margin,
            "offset": settings.offset,
            "size": settings.size,
            "max_pixels": settings.max_pixels,
            "runtime": facts,
        },
        precision=facts["precision"],
        labels={}
        if labels is None
        else {
            "format": labels.format,
            "source": Path(labels.source).name,
            "provenance": labels.provenance,
            "tasks": [vars(task) for task in labels.tasks],
            "notes": list(labels.notes()),
        },
        version=faceaudit.__version__,
        options={
            "age_bins": list(age_bins),
            "images": len(refs),
            "limit": limit,
            "inputs": fingerprint(refs),
            "labels": hashlib.sha256(extra.rechunk().write_ipc(None).getvalue()).hexdigest(),
        },
    )


def fingerprint(refs: Sequence[ImageRef]) -> str:
    """Hash of the names and stamps of images: whether they are the same as last time."""
    digest = hashlib.sha256()
    for ref in refs:
        digest.update(f"{ref.name}\0{ref.stamp()}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def is_complete(out: Path, metadata: TableMetadata) -> bool:
    """Whether a table is what this run would write.

    Raises:
        UsageError: If it was made with other inputs, options or another model.
    """
    try:
        found = read_metadata(out)
    except (pa.ArrowInvalid, OSError):
        found = None
    if found is None:
        raise UsageError(f"{out}: exists and is not a faceaudit table; --restart replaces it")
    old, new = json.loads(found.to_json()), json.loads(metadata.to_json())
    differing = [name for name in new if old[name] != new[name] and name != "options"]
    made = old["options"]
    differing += [name for name, given in new["options"].items() if made.get(name) != given]
    if not differing:
        return True
    raise UsageError(
        f"{out}: exists and was made with another {' and '.join(differing)}; "
        "--restart replaces it, or give another name"
    )
