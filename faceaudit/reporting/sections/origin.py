"""Where the table, its labels and its predictions come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from faceaudit.reporting.format import class_name
from faceaudit.reporting.glossary import task_title
from faceaudit.reporting.subject import Provenance, Subject

UNKNOWN = "not stated by the table"
PLAIN_NAMES = {
    "sha256": "SHA-256",
    "licence": "License",
    "license": "License",
    "training_data": "Training data",
    "min_n": "Smallest ranked subgroup (faces)",
    "by": "Subgroups by",
}
MODEL_FIRST = ("name", "licence", "training_data", "sha256")
CARD_FIRST = ("intended_use", "limits", "weakest", "backbone", "parameters")
"""Of a model's card; the rest, such as its recipe, is folded."""


@dataclass(frozen=True)
class Fact:
    """One stated fact."""

    name: str
    value: str


@dataclass(frozen=True)
class FactList:
    """Facts under one heading."""

    title: str
    facts: tuple[Fact, ...]
    folded: bool = False


@dataclass(frozen=True)
class Scheme:
    """The classes of one task."""

    task: str
    scheme: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Origin:
    """Values of the section."""

    lists: tuple[FactList, ...]
    schemes: tuple[Scheme, ...]
    notes: tuple[str, ...]
    has_metadata: bool


def gather(subject: Subject) -> Origin:
    """Provenance of an audit."""
    audit, provenance = subject.audit, subject.provenance
    lists = [
        FactList("Table", _table(provenance)),
        FactList("Labels", _labels(provenance)),
        *_model(provenance),
        FactList("Options of this report", _flat(audit.options)),
    ]
    return Origin(
        tuple(found for found in lists if found.facts),
        tuple(
            Scheme(task_title(t.name), t.scheme, tuple(class_name(c) for c in t.classes))
            for t in audit.tasks
        ),
        audit.notes,
        provenance.metadata is not None,
    )


def _table(provenance: Provenance) -> tuple[Fact, ...]:
    facts = [
        Fact("File", provenance.path),
        Fact("SHA-256", provenance.sha256),
        Fact("Rows", f"{provenance.rows:,}"),
    ]
    if provenance.metadata:
        version = provenance.metadata.version or UNKNOWN
        facts += [
            Fact("Written by faceaudit", version),
            Fact("Schema version", str(provenance.metadata.schema_version)),
        ]
    return tuple(facts)


def _labels(provenance: Provenance) -> tuple[Fact, ...]:
    if provenance.labels_provenance is None:
        return (Fact("Labels", "none"),)
    stated = provenance.metadata.labels if provenance.metadata else {}
    # The labels that the table brought say where they are from; joined ones have no such facts.
    own = stated if stated.get("format") == provenance.labels_format else {}
    facts = {name: own[name] for name in ("source", "notes") if name in own}
    return (
        Fact("Format", provenance.labels_format or "columns of the table"),
        Fact("Provenance", provenance.labels_provenance),
        *_flat(facts),
    )


def _model(provenance: Provenance) -> list[FactList]:
    metadata = provenance.metadata
    if metadata is None:
        return []
    card = dict(metadata.model.get("card") or {})
    first = {name: metadata.model[name] for name in MODEL_FIRST if name in metadata.model}
    first |= {name: card.pop(name) for name in CARD_FIRST if name in card}
    others = {k: v for k, v in metadata.model.items() if k not in first and k != "card"}
    return [
        FactList("Model", _flat({**first, **others})),
        FactList("Face detector", _flat(metadata.detector)),
        FactList("Preprocessing", _flat(metadata.preprocessing)),
        FactList("Prediction", _flat({"precision": metadata.precision or UNKNOWN})),
        FactList("Options of the prediction", _flat(metadata.options)),
        FactList("The rest of the model's card", _flat(card), folded=True),
    ]


def _flat(facts: Mapping[str, Any], prefix: str = "") -> tuple[Fact, ...]:
    """Nested facts as one list; the names of the levels are joined."""
    found: list[Fact] = []
    for name, value in facts.items():
        title = f"{prefix} {_plain(name).lower()}" if prefix else _plain(name)
        if isinstance(value, Mapping):
            found += _flat(value, title)
        elif value not in (None, "", [], ()):
            found.append(Fact(title, _text(value)))
    return tuple(found)


def _plain(name: str) -> str:
    return PLAIN_NAMES.get(name, name.replace("_", " ").capitalize())


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{_plain(name).lower()} {_text(v)}" for name, v in value.items())
    if isinstance(value, list | tuple):
        texts = [_text(v) for v in value]
        if any(isinstance(v, Mapping) for v in value):
            return "; ".join(texts)
        return (" " if all(text.endswith(".") for text in texts) else ", ").join(texts)
    return str(value)
