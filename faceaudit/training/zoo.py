"""`faceaudit zoo`: bundles, recipes and architectures, what they cost and how well they do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from faceaudit.models.backbones import BACKBONES, find_backbone
from faceaudit.models.bundle import load_bundle, shipped
from faceaudit.models.card import accuracy_of
from faceaudit.models.heads import GENDER, GENDER_EMBEDDING, MultiTaskNetwork, freeze
from faceaudit.runtimes.torch_runtime import load_network
from faceaudit.training.recipe import Frozen, Recipe
from faceaudit.training.recipe_files import list_recipes, load_recipe

MEASURED = Path(__file__).with_name("measured.json")
"""Recipe -> the figures of trainings of it that ``python -m scripts.zoo`` found in docs/results."""
USUAL_SIZE = 112
"""Input of an architecture that takes any, in pixels."""
BATCH, SECONDS = 16, 1.0
"""Images at a time, and how long each network is timed at least."""

_SpeedOf = Callable[[Hashable, Callable[[], nn.Module], int], float | None]
"""From a network's key, what makes the network, and its input's size to images/s."""


@dataclass(frozen=True)
class Entry:
    """One row of the zoo; what is not known is None.

    ``gflops`` counts a multiplication and an addition as two, for one image. ``separate_...`` is
    what one network per task would cost in the place of a shared one.
    """

    kind: Literal["bundle", "recipe", "architecture"]
    name: str
    backbone: str
    tasks: tuple[str, ...]
    heads: str
    input: int
    parameters: int
    trainable: int
    gflops: float
    separate_parameters: int | None = None
    separate_gflops: float | None = None
    licence: str = ""
    training_data: str = ""
    weights: tuple[str, ...] = ()
    held_out: Mapping[str, str] = field(default_factory=dict)
    weight_sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of an architecture, by name: what weights were trained on, and their terms."""
    paper: str = ""
    """Of an architecture: where it was published."""
    images_per_second: float | None = None
    separate_images_per_second: float | None = None

    @property
    def saved(self) -> float | None:
        """Share of the cost of one network per task that sharing saves."""
        return None if self.separate_gflops is None else 1 - self.gflops / self.separate_gflops

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "saved": self.saved}


def zoo(*, speed: bool = False) -> list[Entry]:
    """Every bundle that ships, every recipe and every architecture.

    Args:
        speed: Also time each network on this machine's CPU, with torch; takes a minute or two.
    """
    speed_of = _stopwatch() if speed else _untimed
    return [*_bundles(speed_of), *_recipes(speed_of), *_architectures(speed_of)]


def _bundles(speed_of: _SpeedOf) -> Iterator[Entry]:
    def load(name: str) -> nn.Module:
        return load_network(load_bundle(name)).network

    for name in shipped():
        bundle = load_bundle(name)
        network = load_network(bundle).network
        size = bundle.input.size
        yield Entry(
            "bundle",
            name,
            bundle.card["backbone"],
            network.outputs,
            network.kind,
            size,
            _parameters(network),
            _parameters(network),
            _gflops(network.to("meta"), (3, size, size)),
            licence=bundle.licence,
            training_data=bundle.training_data,
            held_out=accuracy_of(bundle.card),
            images_per_second=speed_of(bundle.sha256, partial(load, name), size),
        )


def _recipes(speed_of: _SpeedOf) -> Iterator[Entry]:
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    for name in list_recipes():
        recipe = load_recipe(name)
        design = _design(recipe)
        cost = _cost(design)
        apart = design.alone() if len(design.outputs) > 1 else []
        costs = [_cost(one) for one in apart]
        yield Entry(
            "recipe",
            name,
            recipe.backbone,
            tuple(name for name, *_ in design.outputs),
            recipe.heads.kind,
            recipe.size,
            cost.parameters,
            cost.parameters if recipe.frozen == "none" else _trainable(design, recipe.frozen),
            cost.gflops,
            sum(cost.parameters for cost in costs) or None,
            sum(cost.gflops for cost in costs) or None,
            recipe.licence,
            recipe.training_data,
            (recipe.weights,),
            accuracy_of({"metrics": measured.get(name)}),
            images_per_second=speed_of(design, design.network, recipe.size),
            separate_images_per_second=_one_after_another(
                [speed_of(one, one.network, recipe.size) for one in apart]
            ),
        )


def _architectures(speed_of: _SpeedOf) -> Iterator[Entry]:
    for name in BACKBONES:
        yield architecture(name, speed_of)


def architecture(name: str, speed_of: _SpeedOf | None = None) -> Entry:
    """What a backbone costs alone, and what weights it may begin with.

    Raises:
        UnknownNameError: If there is none of this name.
    """
    backbone = find_backbone(name)
    size = backbone.size or USUAL_SIZE
    cost, _ = _trunk(name, size)
    return Entry(
        "architecture",
        name,
        name,
        (),
        "",
        size,
        cost.parameters,
        cost.parameters,
        cost.gflops,
        weights=tuple(backbone.sources),
        weight_sources={
            weights: {
                "training_data": source.training_data,
                "licence": source.licence,
                "research_only": source.research_only,
            }
            for weights, source in backbone.sources.items()
        },
        paper=backbone.paper,
        images_per_second=speed_of(name, partial(_on_meta, backbone.build), size)
        if speed_of
        else None,
    )


# --- cost -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Design:
    """What a recipe's cost depends on."""

    backbone: str
    outputs: tuple[tuple[str, int, tuple[int, ...]], ...]
    """Names, numbers of values, and widths of hidden layers."""
    heads: str
    size: int
    mirrored: bool = False

    def network(self) -> MultiTaskNetwork:
        """A network without values: only its shapes are needed."""
        return self.behind(_on_meta(find_backbone(self.backbone).build))

    def behind(self, trunk: nn.Module) -> MultiTaskNetwork:
        """The heads behind a trunk, without values."""
        features = find_backbone(self.backbone).features
        outputs = {name: size for name, size, _ in self.outputs}
        widths = {name: own for name, _, own in self.outputs}
        units = widths[GENDER] if self.heads in GENDER_EMBEDDING else widths
        with torch.device("meta"):
            return MultiTaskNetwork(
                trunk, features, outputs, kind=self.heads, units=units, mirrored=self.mirrored
            )

    def alone(self) -> list[_Design]:
        """A network for each output, with the same layers behind the trunk."""
        heads = "dense" if self.heads in GENDER_EMBEDDING else self.heads
        return [replace(self, outputs=(output,), heads=heads) for output in self.outputs]


@dataclass(frozen=True)
class _Cost:
    parameters: int
    gflops: float


def _design(recipe: Recipe) -> _Design:
    units = recipe.heads.units
    outputs = tuple(
        (one.output, one.size, units[one.output] if isinstance(units, Mapping) else units)
        for one in recipe.outputs()
    )
    return _Design(recipe.backbone, outputs, recipe.heads.kind, recipe.size, recipe.mirrored)


@cache
def _cost(design: _Design) -> _Cost:
    trunk, maps = _trunk(design.backbone, design.size)
    heads = design.behind(nn.Identity())
    seen = 2 if design.mirrored else 1
    return _Cost(trunk.parameters + _parameters(heads), seen * trunk.gflops + _gflops(heads, maps))


@cache
def _trunk(backbone: str, size: int) -> tuple[_Cost, torch.Size]:
    """The cost of a trunk, which many designs share, and the shape of its maps."""
    trunk = _on_meta(find_backbone(backbone).build)
    with torch.inference_mode():
        maps = trunk.eval()(torch.zeros(1, 3, size, size, device="meta")).shape[1:]
    return _Cost(_parameters(trunk), _gflops(trunk, (3, size, size))), maps


def _trainable(design: _Design, frozen: Frozen) -> int:
    network = design.network()
    freeze(network, find_backbone(design.backbone), frozen)
    return sum(part.numel() for part in network.parameters() if part.requires_grad)


def _on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build()


def _parameters(network: nn.Module) -> int:
    return sum(part.numel() for part in network.parameters())


def _gflops(network: nn.Module, shape: Sequence[int]) -> float:
    """Billions of multiplications and additions for one image, or its maps, of this shape."""
    network.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *shape, device="meta"))
    return float(counter.get_total_flops()) / 1e9


# --- speed ------------------------------------------------------------------------------------


def _untimed(key: Hashable, make: Callable[[], nn.Module], size: int) -> float | None:
    return None


def _stopwatch() -> _SpeedOf:
    """Images per second; a network that several rows have, by its key, is timed once."""
    known: dict[Hashable, float] = {}

    def speed_of(key: Hashable, make: Callable[[], nn.Module], size: int) -> float | None:
        if key not in known:
            known[key] = _speed(make(), size)
        return known[key]

    return speed_of


def _one_after_another(speeds: Sequence[float | None]) -> float | None:
    """Images per second of networks that all have to see an image; None where one is not known."""
    if not speeds or None in speeds:
        return None
    return 1 / sum(1 / speed for speed in speeds if speed is not None)


def _speed(network: nn.Module, size: int) -> float:
    """Images per second of a network on the CPU, in batches of ``BATCH``."""
    network = with_values(network).eval().to(memory_format=torch.channels_last)
    images = torch.rand(BATCH, 3, size, size).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        network(images)
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < SECONDS:
            network(images)
            count += BATCH
    return count / (time.perf_counter() - begun)


def with_values(network: nn.Module) -> nn.Module:
    """A network on the CPU whose values keep activations at a usual size.

    Where they came near zero, arithmetic with denormal numbers would slow it down.
    """
    network = network.to_empty(device="cpu")
    for part in [*network.parameters(), *network.buffers()]:
        if part.ndim > 1:
            nn.init.kaiming_normal_(part, nonlinearity="relu")
        else:
            nn.init.zeros_(part)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    return network


COLUMNS = (
    "name", "trunk", "weights", "tasks", "heads", "input", "parameters", "trainable", "GFLOPs",
    "saved", "images/s",
)  # fmt: skip
TEXTS = 5
"""The first columns, which stand at their left."""
TITLES = {
    "bundle": "Bundles that ship",
    "recipe": "Recipes",
    "architecture": "Architectures (the trunk alone)",
}


def zoo_text(entries: Sequence[Entry]) -> str:
    """The zoo as aligned text by kind, with licenses, training data and what was measured."""
    parts = []
    for kind, title in TITLES.items():
        chosen = [entry for entry in entries if entry.kind == kind]
        rows = [COLUMNS, *map(_cells, chosen)]
        used = [k for k in range(len(COLUMNS)) if any(row[k] for row in rows[1:])]
        widths = {k: max(len(row[k]) for row in rows) for k in used}
        lines = [
            "  ".join(
                row[k].ljust(widths[k]) if k < TEXTS else row[k].rjust(widths[k]) for k in used
            ).rstrip()
            for row in rows
        ]
        for entry in chosen if kind == "bundle" else ():
            lines += ["", f"{entry.name}: {entry.licence}", f"  made from {entry.training_data}"]
            lines += [f"  {task}: {figure}" for task, figure in entry.held_out.items()]
        for entry in chosen if kind == "recipe" else ():
            lines += ["", f"{entry.name}, held out:"] if entry.held_out else []
            lines += [f"  {task}: {figure}" for task, figure in entry.held_out.items()]
        for terms in dict.fromkeys(_terms(entry) for entry in chosen if kind == "recipe"):
            names = ", ".join(entry.name for entry in chosen if _terms(entry) == terms)
            lines += ["", f"{names}: {terms[0]}", f"  made from {terms[1]}"]
        sources = {source: one for e in chosen for source, one in _sources(e).items()}
        lines += ["", *(f"{source}: {one}" for source, one in sources.items())] if sources else []
        parts.append("\n".join([title, "", *lines]))
    notes = (
        "GFLOPs: per image, a multiplication and an addition are two. saved: against one network "
        "per task. Intervals are of 95 %, for the chance of images."
    )
    return "\n\n".join([*parts, notes])


def _terms(entry: Entry) -> tuple[str, str]:
    return entry.licence, entry.training_data


def _sources(entry: Entry) -> dict[str, str]:
    """An architecture's weights by what they are, and their license."""
    known = entry.weight_sources.items()
    return {f"{name} ({one['training_data']})": one["licence"] for name, one in known}


def _cells(entry: Entry) -> tuple[str, ...]:
    return (
        entry.name,
        "" if entry.backbone == entry.name else entry.backbone,
        ", ".join(entry.weights),
        ", ".join(entry.tasks),
        entry.heads,
        str(entry.input),
        millions(entry.parameters),
        millions(entry.trainable),
        f"{entry.gflops:.3g}",
        "" if entry.saved is None else f"{entry.saved:.0%}",
        "" if entry.images_per_second is None else f"{entry.images_per_second:,.0f}",
    )


def architecture_text(entry: Entry) -> str:
    """An architecture's cost and weights, in words."""
    weights = [
        f"- weights {name}: {one['training_data']}; license {one['licence']}"
        for name, one in entry.weight_sources.items()
    ]
    facts = (
        f"- {millions(entry.parameters)} parameters, {entry.gflops:.3g} GFLOPs per image of "
        f"{entry.input} x {entry.input} pixels, heads not counted"
    )
    paper = [f"- published in {entry.paper}"] if entry.paper else []
    return "\n".join([f"# {entry.name}", "", *paper, facts, *weights])


def millions(count: int) -> str:
    """A number of parameters, such as ``3.51 M``."""
    return f"{count / 1e6:.2f} M"
