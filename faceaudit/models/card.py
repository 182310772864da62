"""A bundle's model card as text: what it is, what it was made from, how well it does, and for whom.

The fields follow Mitchell and others: Model cards for model reporting, FAT* 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from faceaudit.models.bundle import Bundle

CALIBRATION = (
    "Calibration errors are root mean squares over 15 bins of confidence, less what chance adds, "
    "and 0 where that leaves nothing (Kumar and others, NeurIPS 2019): 0.000 is not told apart "
    "from none."
)
CHOSEN = (
    "Validation crops are not trained on, but a recipe or an epoch may have been chosen by them: "
    "expect a little less on others."
)
PICKED = (
    "Each interval is of one group by itself; that it was picked as the lowest of several is not "
    "allowed for."
)
LEFT_OUT = {
    "left_out_for_conflicting_labels": "for conflicting labels",
    "left_out_as_learned_before": "as an ancestor may have learned them",
    "left_out_as_unreadable": "as unreadable",
}
"""Counts of a split -> why so many crops are in none of its parts."""


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
        ("Started from", _origin(card)),
        ("Learned from bundles", _teachers(card)),
        ("Network", _network(card)),
        ("Input", f"{bundle.input.size} x {bundle.input.size} pixels, {bundle.input.color}"),
        ("Tasks", ", ".join(f"{task.name} ({task.scheme})" for task in bundle.tasks)),
        ("Split", _split(card)),
        ("Int8", _int8(card)),
        ("SHA-256", bundle.sha256),
    ):
        if value:
            yield f"- {title}: {value}"
    if metrics := accuracy_of(bundle):
        yield from ("", "## Held-out figures", "")
        for task, figure in metrics.items():
            yield f"- {task.replace('_', ' ')}: {figure}"
        if any("validation" in str(facts.get("on")) for facts in card["metrics"].values()):
            yield f"- {CHOSEN}"
        if any("calibration_error" in facts for facts in card["metrics"].values()):
            yield f"- {CALIBRATION}"
        if fitted := card.get("temperatures_fitted_on"):
            yield f"- Temperatures of the scores were fitted on {fitted}."
        yield from (f"- {sentence}" for sentence in card.get("held_out_doubts", []))
    for title, key in (("Where it is weakest", "weakest"), ("Limits", "limits")):
        if sentences := card.get(key):
            yield from ("", f"## {title}", "")
            yield from (f"- {sentence}" for sentence in sentences)
            if key == "weakest":
                yield f"- {PICKED}"


def _origin(card: Mapping[str, Any]) -> str:
    """Weights and their license, and the bundle that training went on from."""
    licence = card.get("weights_licence")
    weights = f"{card.get('weights', '')}{f' (license: {licence})' if licence else ''}"
    start = card.get("start") or []
    starts = [start] if isinstance(start, Mapping) else start
    goes_on = [f"the bundle {one['bundle']} (SHA-256 {one['sha256']})" for one in starts]
    return "; ".join(one for one in (weights, *goes_on) if one)


def _teachers(card: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{one['bundle']} (license: {one['licence']}; SHA-256 {one['sha256']})"
        for one in card.get("teachers", [])
    )


def _network(card: Mapping[str, Any]) -> str:
    parts = [str(card["backbone"])] if "backbone" in card else []
    if "parameters" in card:
        parts.append(f"{card['parameters']:,} parameters")
    if card.get("recipe", {}).get("mirrored"):
        parts.append("the mean over a face and its mirror image")
    return ", ".join(parts)


def _split(card: Mapping[str, Any]) -> str:
    split = card.get("split", {})
    counts = [
        f"{split[part]:,} {part}" for part in ("training", "validation", "test") if split.get(part)
    ]
    told = ", ".join(counts)
    lost = [f"{split[key]:,} {why}" for key, why in LEFT_OUT.items() if split.get(key)]
    if counts and "crops" in split:
        told += f" of {split['crops']:,} crops"
    if counts and lost:
        told += f"; left out: {', '.join(lost)}"
    rule = split.get("rule")
    return told + (f" ({rule})" if counts and rule else "")


def _int8(card: Mapping[str, Any]) -> str:
    """Which parts of an int8 graph are in float32, and what it was calibrated on."""
    facts = card.get("int8")
    if not facts:
        return ""
    return f"calibrated on {facts['calibrated_on']}; in float32: {facts['float32_layers']}"


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
    scheme = f" as {facts['scheme']}" if "scheme" in facts else ""
    return f"{value}, on {facts['n']:,} {facts['on']}{scheme}{others}{sets}"
