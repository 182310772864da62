"""The int8 graph of a bundle: where it is, what is known of it, and whether it may be used.

``faceaudit quantize`` makes the graph, compares it with the float32 one on held-out faces and
records both in the bundle's facts under ``int8``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from faceaudit.errors import BundleError, UsageError
from faceaudit.models.bundle import Bundle, hash_of
from faceaudit.schema import AGE, AGE_GROUP

INT8 = "int8"
SUFFIX = ".int8.onnx"
LIMITS = {"accuracy": 0.005, "mae": 0.1}
"""Metric -> the loss (of accuracies a share, of ages in years) that the interval must exclude."""
POOLED = "all held-out faces"
"""What a comparison is on that counts all sets together."""


def int8_graph(bundle: Bundle) -> Path:
    """Where the int8 graph of a bundle is, or would be."""
    return bundle.graph.with_suffix(SUFFIX)


def shortfalls(bundle: Bundle, compared: Sequence[Mapping[str, Any]]) -> list[str]:
    """Figures whose interval leaves a loss of ``LIMITS`` possible, and tasks without any figure.

    All sets pooled count.

    Args:
        bundle: Whose tasks are to be compared.
        compared: As ``quantize`` records it.
    """
    known = {AGE if one["task"] == AGE_GROUP else one["task"] for one in compared}
    tasks = {AGE if task.name == AGE_GROUP else task.name for task in bundle.tasks}
    found = [f"{task}, which no held-out crop is annotated with" for task in sorted(tasks - known)]
    for one in compared:
        years = one["metric"] == "mae"
        bound = one["high" if years else "low"]
        if one["on"] == POOLED and (
            bound is None or (bound if years else -bound) >= LIMITS[one["metric"]]
        ):
            found.append(f"{one['task'].replace('_', ' ')} {one['metric']}")
    return found


def comparison_lines(compared: Sequence[Mapping[str, Any]]) -> list[str]:
    """A recorded comparison as aligned text, a line per figure and set."""
    keys = list(compared[0])
    first, second = (key for key in keys if key.startswith(("float", "bfloat", "int")))
    rows = [("task", "metric", "on", "faces", first, second, f"{second} minus {first}")]
    for one in compared:
        values = [one[key] for key in (first, second, "difference", "low", "high")]
        plain, other, *change = ("?" if value is None else f"{value:.4f}" for value in values)
        interval = f"{change[0]} ({change[1]} to {change[2]})"
        faces = f"{one['n']:,}"
        rows.append((one["task"], one["metric"], one["on"], faces, plain, other, interval))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def check_int8(bundle: Bundle) -> Path:
    """The int8 graph of a bundle, if it may be used in the place of the float32 one.

    Raises:
        UsageError: If there is none, or it was not shown to lose less than ``LIMITS``.
        BundleError: If it is damaged.
    """
    graph, facts = int8_graph(bundle), bundle.card.get(INT8)
    advice = "use --precision float32, or make it with `faceaudit quantize`"
    if facts is None or not graph.is_file():
        raise UsageError(f"--precision int8: {bundle.name} has no int8 graph; {advice}")
    if hash_of([graph]) != facts["sha256"]:
        raise BundleError(f"{graph}: is not the file that the bundle's facts name; it is damaged")
    compared = facts.get("compared", ())
    short = shortfalls(bundle, compared) if compared else ["it was never compared"]
    if short:
        raise UsageError(
            f"--precision int8: {bundle.name} was not shown to lose less than half a point "
            f"({', '.join(short)}); use --precision float32"
        )
    return graph
