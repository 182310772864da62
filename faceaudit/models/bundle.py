"""Bundles: a model with everything needed to run it and to answer for it.

A bundle is a folder of three files: ``bundle.json`` (the facts below and the model card),
``model.onnx`` (the graph) and ``weights.safetensors`` (its weights, which the graph refers to).
An ``.onnx`` file with a sidecar ``<name>.json`` of the same facts is a bundle too.
Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from faceaudit.errors import BundleError, UnknownNameError
from faceaudit.schema import AGE, YEARS, Task

BUNDLES = Path(__file__).parent / "bundles"
"""The bundles that ship, one folder each."""
DEFAULT_BUNDLE = "fairface"

FACTS, GRAPH, WEIGHTS = "bundle.json", "model.onnx", "weights.safetensors"

Align = Literal["similarity", "none"]


@dataclass(frozen=True)
class Input:
    """What the graph takes: square crops of ``size`` pixels.

    A graph whose input is uint8 normalizes by itself; for a float input pixels are brought to
    ``range`` (its upper end, 1 or 255) and then ``(pixel - mean) / std`` per channel.
    """

    size: int
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    color: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    range: float = 1.0


@dataclass(frozen=True)
class Output:
    """One output of the graph: which task, classes in output order, and how logits become probs.

    ``activation`` is ``softmax``, ``sigmoid`` (one value, the probability of the second class),
    ``none`` (already probabilities), ``years`` (logits over the years 0, 1, ...) or ``value`` (one
    number, an age in years).
    """

    name: str
    scheme: str
    classes: tuple[str, ...]
    output: str
    activation: Literal["softmax", "sigmoid", "none", "years", "value"]

    @property
    def is_age(self) -> bool:
        """Whether it is an age in years, by a distribution or as a number."""
        return self.activation in ("years", "value")

    @property
    def task(self) -> Task:
        return Task(self.name, self.scheme, self.classes)


@dataclass(frozen=True)
class Bundle:
    """A model's facts and files."""

    name: str
    graph: Path
    licence: str
    training_data: str
    input: Input
    align: Align
    margin: float
    offset: float
    tasks: tuple[Output, ...]
    sha256: str
    card: Mapping[str, Any] = field(default_factory=dict)
    """Further facts of the model card: backbone, split, metrics, intended use, limits."""

    @property
    def weights(self) -> Path:
        return self.graph.with_name(WEIGHTS)

    @property
    def notice(self) -> str | None:
        """What is said whenever the bundle is used; None for nothing."""
        given = self.card.get("notice")
        return given or (self.licence if self.card.get("research_only") else None)


def hash_of(paths: Sequence[Path]) -> str:
    """Hexadecimal SHA-256 of the bytes of files, one after another."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def find_bundle(name: str) -> Path:
    """The graph file of a bundle given by name, by folder or by ``.onnx`` file.

    Raises:
        BundleError: If the path has no graph.
        UnknownNameError: If it is neither a path nor the name of a bundle that ships.
    """
    path = Path(name)
    if path.suffix == ".onnx":
        if not path.is_file():
            raise BundleError(f"--model {name}: there is no such file")
        return path
    if path.is_dir():
        if not (path / GRAPH).is_file():
            raise BundleError(f"--model {name}: the folder has no {GRAPH}, so it is no bundle")
        return path / GRAPH
    known = sorted(folder.parent.name for folder in BUNDLES.glob(f"*/{GRAPH}"))
    if name not in known:
        raise UnknownNameError("model", name, [*known, "FOLDER", "FILE.onnx"])
    return BUNDLES / name / GRAPH


def load_bundle(name: str = DEFAULT_BUNDLE) -> Bundle:
    """A bundle's facts, with its hash checked against its files.

    Args:
        name: The name of a bundle that ships, a bundle's folder, or an ``.onnx`` file.

    Raises:
        BundleError: If a file is missing or damaged, or a fact is missing or impossible.
    """
    graph = find_bundle(name)
    facts_path = graph.with_name(FACTS) if graph.name == GRAPH else graph.with_suffix(".json")
    try:
        facts = json.loads(facts_path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(f"{graph}: its facts are missing; expected {facts_path}") from error
    except ValueError as error:
        raise BundleError(f"{facts_path}: is not JSON ({error})") from error
    try:
        bundle = bundle_from_facts(facts, graph)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{facts_path}: a fact is missing or of the wrong type: {error}"
        ) from error
    found = hash_of([graph, *([bundle.weights] if bundle.weights.is_file() else [])])
    if found != bundle.sha256:
        raise BundleError(
            f"{graph}: its sha256 is {found[:12]}..., {facts_path.name} says "
            f"{bundle.sha256[:12]}...; the files are damaged or do not belong together"
        )
    return bundle


def bundle_from_facts(facts: Mapping[str, Any], graph: Path) -> Bundle:
    """A bundle from its parsed JSON; raises KeyError, TypeError or ValueError where one is off."""
    known = {"name", "licence", "training_data", "input", "crop", "tasks", "sha256"}
    shape = dict(facts["input"])
    for key in ("mean", "std"):
        if key in shape:
            shape[key] = tuple(float(value) for value in shape[key])
    tasks = tuple(
        Output(
            name=task["name"],
            scheme=task["scheme"],
            classes=tuple(task["classes"]),
            output=task["output"],
            activation=task["activation"],
        )
        for task in facts["tasks"]
    )
    for task in tasks:
        if task.activation not in ("softmax", "sigmoid", "none", "years", "value"):
            raise ValueError(f"activation {task.activation!r} of task {task.name}")
        if task.activation in ("years", "value") and task.name != AGE:
            raise ValueError(
                f"activation {task.activation!r} of task {task.name}; only age has years"
            )
    return Bundle(
        name=facts["name"],
        graph=graph,
        licence=facts["licence"],
        training_data=facts["training_data"],
        input=Input(**shape),
        align=facts["crop"]["align"],
        margin=float(facts["crop"]["margin"]),
        offset=float(facts["crop"].get("offset", 0.0)),
        tasks=tasks,
        sha256=facts["sha256"],
        card={key: value for key, value in facts.items() if key not in known},
    )


def facts_of(bundle: Bundle) -> dict[str, Any]:
    """A bundle's facts as the JSON that ``bundle_from_facts`` reads."""
    return {
        "name": bundle.name,
        "licence": bundle.licence,
        "training_data": bundle.training_data,
        "input": vars(bundle.input),
        "crop": {"align": bundle.align, "margin": bundle.margin, "offset": bundle.offset},
        "tasks": [vars(task) for task in bundle.tasks],
        "sha256": bundle.sha256,
        **bundle.card,
    }


def years_output(output: str = AGE) -> Output:
    """The output that is a distribution over years."""
    return Output(AGE, "years", tuple(str(year) for year in YEARS), output, "years")
