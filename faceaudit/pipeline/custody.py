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
from faceaudit.pipeline.checks import task_option
from faceaudit.pipeline.digest import ImageDigest
from faceaudit.pipeline.plan import Facts, flattened
from faceaudit.pipeline.scores import predicted_tasks
from faceaudit.schema import TableMetadata

OPTIONS = {
    "detector name": "--detector",
    "preprocessing faces": "--faces",
    "preprocessing align": "--align",
    "preprocessing margin": "--margin",
    "preprocessing max_pixels": "--max-pixels",
    "preprocessing runtime runtime": "--runtime",
    "preprocessing runtime device": "--device",
    "labels format": "--labels",
    "labels provenance": "--provenance",
    "tasks": "--tasks",
    "age_bins": "--age-bins",
    "precision": "--precision",
}
"""Facts that an option decides; others are named as they stand in the metadata."""
LEADING = ("model name", "model sha256", "detector name", "labels format")
NOT_ALWAYS_STATED = ("input", "outputs")
"""Facts of the model that tables of earlier versions lack."""
LONGEST = 40
"""Characters of a value that are shown."""
MOST = 4
"""Differences that are named."""


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
            **facts.model,
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
    """What was chosen otherwise for one table than for another: each by name, with both values.

    What a model takes and how its outputs are read is compared where both tables say it; earlier
    ones do not.
    """
    first, second = _choices(old), _choices(new)
    for name in NOT_ALWAYS_STATED:
        shared = first["model"].get(name, {}).keys() & second["model"].get(name, {}).keys()
        for choices in (first, second):
            stated = choices["model"].pop(name, {})
            choices["model"][name] = {key: stated[key] for key in stated if key in shared}
    ours, theirs = flattened(first), flattened(second)
    differing = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
    for leading in LEADING:
        if leading in differing:  # all else that is said of it follows from that
            of = leading.split()[0]
            differing = [one for one in differing if one == leading or not one.startswith(f"{of} ")]
    return [_difference(name, ours.get(name), theirs.get(name)) for name in differing]


def _choices(metadata: TableMetadata) -> dict[str, Any]:
    """What was chosen for a table, in the order in which differences are named."""
    facts = json.loads(metadata.to_json())
    facts["labels"].pop("notes", None)
    facts["preprocessing"].get("runtime", {}).pop("precision", None)  # it stands by itself
    tasks = facts.pop("tasks")
    chosen = {name: facts.pop(name) for name in ("model", "detector", "preprocessing", "labels")}
    return {
        **chosen,
        "tasks": list(dict.fromkeys(task_option(task["name"]) for task in tasks)),
        "classes": {task["name"]: task["classes"] for task in tasks},
        "scheme": {task["name"]: task["scheme"] for task in tasks},
        "age_bins": facts.pop("options").get("age_bins"),
        **facts,
    }


def _difference(name: str, old: Any, new: Any) -> str:
    """One difference in words."""
    name = OPTIONS.get(name, name)
    before, now = _text(old), _text(new)
    return f"another {name}" if before == now else f"{name} {before} (now {now})"


def _text(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    if value is None:
        text = "none"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def check_same(
    out: Path, old: TableMetadata, new: TableMetadata, columns: pa.Schema, wanted: pa.Schema
) -> None:
    """Check that a table was made as this run would make it.

    Raises:
        UsageError: If it was made with other options, another model or other columns.
    """
    differing = differences(old, new) or _of_columns(columns, wanted)
    if differing:
        more = f" and {len(differing) - MOST} more" if len(differing) > MOST else ""
        raise UsageError(
            f"{out}: exists and was made with {', '.join(differing[:MOST])}{more}; "
            "--restart replaces it, or give another name"
        )


def _of_columns(columns: pa.Schema, wanted: pa.Schema) -> list[str]:
    """How columns differ from those wanted."""
    named = set(columns.names) ^ set(wanted.names)
    if named:
        return [f"other columns ({', '.join(sorted(named))})"]
    if columns.equals(wanted, check_metadata=False):
        return []
    typed = [
        f"column {name} {columns.field(name).type} (now {wanted.field(name).type})"
        for name in columns.names
        if columns.field(name).type != wanted.field(name).type
    ]
    return typed or ["another order of columns"]
