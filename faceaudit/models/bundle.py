"""Bundles: a model with everything needed to run it and to answer for it.

A bundle is a folder of three files: ``bundle.json`` (the facts below and the model card),
``model.onnx`` (the graph) and ``weights.safetensors`` (its weights, which the graph refers to).
An ``.onnx`` file with a sidecar ``<name>.json`` of the same facts is a bundle too, and so are a
network and its facts that a function of the user returns (``load_model``). Nothing is ever
unpickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faceaudit.errors import BundleError, UnknownNameError
from faceaudit.models.facts import (
    KEYS,
    Align,
    Input,
    Output,
    check_keys,
    read_crop,
    read_input,
    read_outputs,
    wrong,
    years_output,
)
from faceaudit.storage import without_secrets, write_text

__all__ = ["Bundle", "Input", "Output", "load_bundle", "years_output"]

log = logging.getLogger(__name__)

BUNDLES = Path(__file__).parent / "bundles"
"""The bundles that ship, one folder each."""
DEFAULT_BUNDLE = "fairface"

FACTS, GRAPH, WEIGHTS = "bundle.json", "model.onnx", "weights.safetensors"


@dataclass(frozen=True)
class Bundle:
    """A model's facts and files."""

    name: str
    graph: Path
    """Its ``.onnx`` file; of a network that a factory made, ``package.module:factory``."""
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
    network: Any = field(default=None, repr=False)
    """The ``torch.nn.Module`` that a factory made; None for a bundle of files."""

    @property
    def weights(self) -> Path:
        return self.graph.with_name(WEIGHTS)

    @property
    def for_torch(self) -> bool:
        """Whether torch can run it: it names a backbone and has its weights, or is a network."""
        named = "backbone" in self.card and self.graph.name == GRAPH and self.weights.is_file()
        return self.network is not None or named

    @property
    def notice(self) -> str | None:
        """What is said whenever the bundle is used; None for nothing."""
        given = self.card.get("notice")
        return given or (self.licence if self.card.get("research_only") else None)

    def reading(self, outputs: Sequence[Output]) -> dict[str, Any]:
        """What changes its answers and is not in its files' bytes, as plain values.

        Args:
            outputs: Those that are read.

        Returns:
            ``sha256``, what the network takes (``input``), and by task how an output is read
            (``outputs``): its columns, activation, scale and shift, and of an age its years.
        """
        read = {output.name: _facts_of_output(output) for output in outputs}
        for output in outputs:
            facts = read[output.name]
            for key in ("name", "scheme"):
                del facts[key]
            classes = facts.pop("classes")
            if output.is_age and classes:
                facts["years"] = _abbreviated(classes)
        return {"sha256": self.sha256, "input": dict(vars(self.input)), "outputs": read}


def hash_of(paths: Sequence[Path]) -> str:
    """Hexadecimal SHA-256 of the bytes of files, one after another."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def shipped() -> list[str]:
    """The names of the bundles that ship."""
    return sorted(folder.parent.name for folder in BUNDLES.glob(f"*/{GRAPH}"))


def find_bundle(name: str | Path) -> Path:
    """The graph file of a bundle given by name, by folder or by ``.onnx`` file.

    A text that is the name of a bundle that ships means that one, whatever the current folder
    holds; ``./NAME`` and a ``Path`` mean a folder.

    Raises:
        BundleError: If the path has no graph.
        UnknownNameError: If it is neither a path nor the name of a bundle that ships.
    """
    path = Path(name)
    if isinstance(name, str) and name in shipped():
        if (path / GRAPH).is_file():
            log.warning("model %s: the one that ships; ./%s is the one in this folder", name, name)
        return BUNDLES / name / GRAPH
    given = without_secrets(str(name))
    if path.suffix.lower() == ".onnx":
        if not path.is_file():
            raise BundleError(f"model {given}: there is no such file")
        return path
    if path.is_dir():
        if not (path / GRAPH).is_file():
            raise BundleError(f"model {given}: the folder has no {GRAPH}, so it is no bundle")
        return path / GRAPH
    raise UnknownNameError("model", given, [*shipped(), "FOLDER", "FILE.onnx", "MODULE:FACTORY"])


def facts_path(graph: Path) -> Path:
    """The JSON that holds the facts of a bundle with this graph."""
    own = graph.with_suffix(".json")
    return graph.with_name(FACTS) if graph.name == GRAPH and not own.is_file() else own


def write_facts(bundle: Bundle) -> None:
    """Write a bundle's facts beside its graph.

    Raises:
        TemporaryError: If the disk is full.
    """
    write_text(facts_path(bundle.graph), json.dumps(facts_of(bundle), indent=2) + "\n")


def load_bundle(name: str | Path = DEFAULT_BUNDLE) -> Bundle:
    """A bundle's facts, with its hash checked against its files.

    Args:
        name: The name of a bundle that ships, a bundle's folder, or an ``.onnx`` file.

    Raises:
        BundleError: If a file is missing or damaged, or a fact is missing or impossible.
    """
    graph = find_bundle(name)
    path = facts_path(graph)
    try:
        facts = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise BundleError(f"{graph}: its facts are missing; expected {path}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: is not JSON ({error})") from error
    weights = [graph.with_name(WEIGHTS)] if path.name == FACTS else []
    found = hash_of([graph, *(path for path in weights if path.is_file())])
    try:
        bundle = bundle_from_facts(facts, graph)
    except ValueError as error:
        missing = str(error).startswith("sha256")
        this = f"; that of {graph.name} is {found}" if missing else ""
        raise BundleError(f"{path}: {error}{this}") from error
    if found != bundle.sha256:
        raise BundleError(
            f"{graph}: its sha256 is {found[:12]}..., {path.name} says "
            f"{bundle.sha256[:12]}...; the files are damaged or do not belong together"
        )
    return bundle


def bundle_from_facts(facts: Any, graph: Path, network: Any = None) -> Bundle:
    """A bundle from its parsed facts; raises ValueError, saying which is missing or wrong."""
    facts = check_keys(facts, "")
    for key in ("name", "licence", "training_data", "sha256"):
        if not isinstance(facts[key], str) or not facts[key]:
            raise wrong(key, facts[key], "a text")
    align, margin, offset = read_crop(facts["crop"])
    return Bundle(
        name=facts["name"],
        graph=graph,
        licence=facts["licence"],
        training_data=facts["training_data"],
        input=read_input(facts["input"]),
        align=align,
        margin=margin,
        offset=offset,
        tasks=read_outputs(facts["tasks"]),
        sha256=facts["sha256"],
        card={key: value for key, value in facts.items() if key not in KEYS[""]},
        network=network,
    )


def facts_of(bundle: Bundle) -> dict[str, Any]:
    """A bundle's facts as the JSON that ``bundle_from_facts`` reads."""
    facts = {
        "name": bundle.name,
        "licence": bundle.licence,
        "training_data": bundle.training_data,
        "input": vars(bundle.input),
        "crop": {"align": bundle.align, "margin": bundle.margin, "offset": bundle.offset},
        "tasks": [_facts_of_output(task) for task in bundle.tasks],
        "sha256": bundle.sha256,
    }
    return {**facts, **bundle.card, **facts}  # a card replaces none of them


def _abbreviated(years: Sequence[str]) -> str:
    """Years that ascend, such as ``0-80``; all of them where some between are missing."""
    first, last = int(years[0]), int(years[-1])
    return f"{first}-{last}" if last - first == len(years) - 1 else ", ".join(years)


def _facts_of_output(output: Output) -> dict[str, Any]:
    unused = {"scale": 1.0, "shift": 0.0}
    return {key: value for key, value in vars(output).items() if unused.get(key) != value}
