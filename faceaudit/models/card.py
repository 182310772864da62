"""A bundle's model card as text: what it is, what it was made from, how well it does, and for whom.

The fields follow Mitchell and others: Model cards for model reporting, FAT* 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from faceaudit.models.bundle import Bundle


def card_text(bundle: Bundle) -> str:
    """The card, in Markdown."""
    return "\n".join(_lines(bundle)) + "\n"


def accuracy_of(bundle: Bundle) -> dict[str, str]:
    """Task -> its held-out accuracy (of ages the mean absolute error), with its interval."""
    found = bundle.card.get("metrics", {})
    return {task: _figure(facts) for task, facts in found.items()}


def _lines(bundle: Bundle) -> Iterator[str]:
    card = bundle.card
    yield f"# {bundle.name}"
    yield ""
    if card.get("research_only"):
        yield "**Research only:** its license allows no other use."
        yield ""
    if intended := card.get("intended_use"):
        yield f"{intended}"
        yield ""
    for title, value in (
        ("License", bundle.licence),
        ("Training data", bundle.training_data),
        ("Started from", card.get("weights")),
        ("Learned from bundles", _teachers(card)),
        ("Network", _network(card)),
        ("Input", f"{bundle.input.size} x {bundle.input.size} pixels, {bundle.input.color}"),
        ("Tasks", ", ".join(f"{task.name} ({task.scheme})" for task in bundle.tasks)),
        ("Split", _split(card)),
        ("SHA-256", bundle.sha256),
    ):
        if value:
            yield f"- {title}: {value}"
    if metrics := accuracy_of(bundle):
        yield from ("", "## Held-out figures", "")
        for task, figure in metrics.items():
            yield f"- {task.replace('_', ' ')}: {figure}"
        yield from (f"- {sentence}" for sentence in card.get("held_out_doubts", []))
    for title, key in (("Where it is weakest", "weakest"), ("Limits", "limits")):
        if sentences := card.get(key):
            yield from ("", f"## {title}", "")
            yield from (f"- {sentence}" for sentence in sentences)


def _teachers(card: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{one['bundle']} (license: {one['licence']}; SHA-256 {one['sha256']})"
        for one in card.get("teachers", [])
    )


def _network(card: Mapping[str, Any]) -> str:
    parts = [str(card["backbone"])] if "backbone" in card else []
    if "parameters" in card:
        parts.append(f"{card['parameters']:,} parameters")
    return ", ".join(parts)


def _split(card: Mapping[str, Any]) -> str:
    split = card.get("split", {})
    counts = [
        f"{split[part]:,} {part}" for part in ("training", "validation", "test") if split.get(part)
    ]
    return ", ".join(counts)


def _figure(facts: Mapping[str, Any]) -> str:
    name = "mae" if "mae" in facts else "accuracy"
    unit = " years" if name == "mae" else ""
    interval = f" ({facts['low']:.3f} to {facts['high']:.3f})" if "low" in facts else ""
    calibration = (
        f", calibration error {facts['calibration_error']:.3f}"
        if "calibration_error" in facts
        else ""
    )
    sets = "".join(f"; {title}: {_figure(own)}" for title, own in facts.get("sets", {}).items())
    value = f"{name} {facts[name]:.3f}{unit}{interval}{calibration}"
    without = " or ".join(f"{name} ({n:,})" for name, n in facts.get("left_out", {}).items())
    others = f", without those annotated {without}" if without else ""
    return f"{value}, on {facts['n']:,} {facts['on']}{others}{sets}"
