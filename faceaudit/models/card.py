"""A bundle's model card as text: what it is, what it was made from, how well it does, and for whom.

The fields follow Mitchell and others: Model cards for model reporting, FAT* 2019.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
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


def accuracy_of(card: Mapping[str, Any]) -> dict[str, str]:
    """Task -> its held-out accuracy (of ages the mean absolute error), with its interval."""
    return {task: _figure(facts) for task, facts in _metrics(card).items()}


# Facts of others may have keys of these names and anything under them: what has not the form that
# `faceaudit train` gives it is left out.


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _tables(value: object, keys: Collection[str]) -> list[Mapping[str, Any]]:
    """Those of some tables that have all the keys."""
    some = [_table(one) for one in (value if isinstance(value, list) else [value])]
    return [one for one in some if set(keys) <= one.keys()]


def _metrics(card: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    found = _table(card.get("metrics"))
    return {task: facts for task, facts in found.items() if _is_figure(facts)}


def _is_figure(facts: object) -> bool:
    known = _table(facts)
    value = known.get("mae", known.get("accuracy"))
    return isinstance(value, int | float) and isinstance(known.get("n"), int) and "on" in known


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
    if metrics := accuracy_of(card):
        yield from ("", "## Held-out figures", "")
        for task, figure in metrics.items():
            yield f"- {task.replace('_', ' ')}: {figure}"
        figures = _metrics(card).values()
        if any("validation" in str(facts["on"]) for facts in figures):
            yield f"- {CHOSEN}"
        if any("calibration_error" in facts for facts in figures):
            yield f"- {CALIBRATION}"
        if fitted := card.get("temperatures_fitted_on"):
            yield f"- Temperatures of the scores were fitted on {fitted}."
        yield from (f"- {sentence}" for sentence in _texts(card.get("held_out_doubts")))
    for title, key in (("Where it is weakest", "weakest"), ("Limits", "limits")):
        if sentences := _texts(card.get(key)):
            yield from ("", f"## {title}", "")
            yield from (f"- {sentence}" for sentence in sentences)
            if key == "weakest":
                yield f"- {PICKED}"


def _origin(card: Mapping[str, Any]) -> str:
    """Weights and their license, and the bundle that training went on from."""
    licence = card.get("weights_licence")
    weights = f"{card.get('weights', '')}{f' (license: {licence})' if licence else ''}"
    starts = _tables(card.get("start"), {"bundle", "sha256"})
    goes_on = [f"the bundle {one['bundle']} (SHA-256 {one['sha256']})" for one in starts]
    return "; ".join(one for one in (weights, *goes_on) if one)


def _teachers(card: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{one['bundle']} (license: {one['licence']}; SHA-256 {one['sha256']})"
        for one in _tables(card.get("teachers"), {"bundle", "licence", "sha256"})
    )


def _network(card: Mapping[str, Any]) -> str:
    parts = [str(card["backbone"])] if "backbone" in card else []
    if isinstance(card.get("parameters"), int):
        parts.append(f"{card['parameters']:,} parameters")
    if _table(card.get("recipe")).get("mirrored"):
        parts.append("the mean over a face and its mirror image")
    return ", ".join(parts)


def _split(card: Mapping[str, Any]) -> str:
    split = _table(card.get("split"))
    number = {key: value for key, value in split.items() if isinstance(value, int) and value}
    counts = [
        f"{number[part]:,} {part}" for part in ("training", "validation", "test") if part in number
    ]
    told = ", ".join(counts)
    lost = [f"{number[key]:,} {why}" for key, why in LEFT_OUT.items() if key in number]
    if counts and "crops" in number:
        told += f" of {number['crops']:,} crops"
    if counts and lost:
        told += f"; left out: {', '.join(lost)}"
    rule = split.get("rule")
    return told + (f" ({rule})" if counts and rule else "")


def _int8(card: Mapping[str, Any]) -> str:
    """Which parts of an int8 graph are in float32, and what it was calibrated on."""
    facts = _table(card.get("int8"))
    if not {"calibrated_on", "float32_layers"} <= facts.keys():
        return ""
    return f"calibrated on {facts['calibrated_on']}; in float32: {facts['float32_layers']}"


def _figure(facts: Mapping[str, Any]) -> str:
    name = "mae" if "mae" in facts else "accuracy"
    unit = " years" if name == "mae" else ""
    low, high, error = (facts.get(key) for key in ("low", "high", "calibration_error"))
    known = isinstance(low, int | float) and isinstance(high, int | float)
    interval = f" ({low:.3f} to {high:.3f})" if known else ""
    calibration = f", calibration error {error:.3f}" if isinstance(error, int | float) else ""
    own_sets = _table(facts.get("sets")).items()
    sets = "".join(f"; {title}: {_figure(own)}" for title, own in own_sets if _is_figure(own))
    value = f"{name} {facts[name]:.3f}{unit}{interval}{calibration}"
    without = " or ".join(f"{name} ({n:,})" for name, n in _table(facts.get("left_out")).items())
    others = f", without those annotated {without}" if without else ""
    scheme = f" as {facts['scheme']}" if "scheme" in facts else ""
    return f"{value}, on {facts['n']:,} {facts['on']}{scheme}{others}{sets}"
