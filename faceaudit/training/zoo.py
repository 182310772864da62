"""`faceaudit zoo`: bundles, recipes and architectures, what they cost and how well they do."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from faceaudit.models.backbones import BACKBONES, find_backbone
from faceaudit.models.bundle import BUNDLES, GRAPH, load_bundle
from faceaudit.models.card import accuracy_of
from faceaudit.models.heads import GENDER_EMBEDDING, MultiTaskNetwork, freeze
from faceaudit.runtimes.torch_runtime import load_network
from faceaudit.training.recipe import Heads, Recipe, list_recipes, load_recipe

USUAL_SIZE = 112
"""Input of an architecture that takes any, in pixels."""
BATCH, SECONDS = 16, 1.0
"""Images at a time, and how long each network is timed at least."""


@dataclass(frozen=True)
class Entry:
    """One row of the zoo; what is not known is None.

    ``gflops`` counts a multiplication and an addition as two, for one image. ``separate_gflops`` is
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
    images_per_second: float | None = None

    @property
    def saved(self) -> float | None:
        """Share of the cost of one network per task that sharing saves."""
        return None if self.separate_gflops is None else 1 - self.gflops / self.separate_gflops

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "saved": self.saved}


def zoo(*, speed: bool = False) -> list[Entry]:
    """Every bundle that ships, every recipe and every architecture.

    Args:
        speed: Also time each network on this machine's CPU, with torch; takes about a second each.
    """
    return [*_bundles(speed), *_recipes(speed), *_architectures(speed)]


def _bundles(speed: bool) -> Iterator[Entry]:
    for name in sorted(folder.parent.name for folder in BUNDLES.glob(f"*/{GRAPH}")):
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
            _gflops(network.to("meta"), size),
            licence=bundle.licence,
            training_data=bundle.training_data,
            held_out=accuracy_of(bundle),
            images_per_second=_speed(load_network(bundle).network, size) if speed else None,
        )


def _recipes(speed: bool) -> Iterator[Entry]:
    for name in list_recipes():
        recipe = load_recipe(name)
        outputs = _outputs(recipe)
        network = _built(recipe.backbone, outputs, recipe.heads)
        freeze(network, find_backbone(recipe.backbone), recipe.frozen)
        cost = _Cost(_parameters(network), _gflops(network, recipe.size))
        apart = [_cost_alone(recipe.backbone, one, recipe.heads, recipe.size) for one in outputs]
        several = len(apart) > 1
        yield Entry(
            "recipe",
            name,
            recipe.backbone,
            tuple(name for name, _ in outputs),
            recipe.heads.kind,
            recipe.size,
            cost.parameters,
            sum(part.numel() for part in network.parameters() if part.requires_grad),
            cost.gflops,
            sum(one.parameters for one in apart) if several else None,
            sum(one.gflops for one in apart) if several else None,
            recipe.licence,
            recipe.training_data,
            (recipe.weights,),
            images_per_second=_speed(network, recipe.size) if speed else None,
        )


def _architectures(speed: bool) -> Iterator[Entry]:
    for name, backbone in BACKBONES.items():
        with torch.device("meta"):
            trunk = backbone.build()
        size = backbone.size or USUAL_SIZE
        yield Entry(
            "architecture",
            name,
            name,
            (),
            "",
            size,
            _parameters(trunk),
            _parameters(trunk),
            _gflops(trunk, size),
            weights=tuple(backbone.sources),
            images_per_second=_speed(trunk, size) if speed else None,
        )


@dataclass(frozen=True)
class _Cost:
    parameters: int
    gflops: float


def _outputs(recipe: Recipe) -> tuple[tuple[str, int], ...]:
    return tuple((task.output, max(1, len(task.classes))) for task in recipe.outputs())


def _built(backbone: str, outputs: Sequence[tuple[str, int]], heads: Heads) -> MultiTaskNetwork:
    """A network without values: only its shapes are needed."""
    known = find_backbone(backbone)
    with torch.device("meta"):
        return MultiTaskNetwork(
            known.build(), known.features, dict(outputs), heads.dropout, heads.kind, heads.units
        )


@cache
def _cost_alone(backbone: str, output: tuple[str, int], heads: Heads, size: int) -> _Cost:
    """Cost of a network for one task, with the same layers behind the trunk."""
    kind = "dense" if heads.kind in GENDER_EMBEDDING else heads.kind
    network = _built(backbone, [output], replace(heads, kind=kind))
    return _Cost(_parameters(network), _gflops(network, size))


def _parameters(network: nn.Module) -> int:
    return sum(part.numel() for part in network.parameters())


def _gflops(network: nn.Module, size: int) -> float:
    """Billions of multiplications and additions for one image."""
    network.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, size, size, device="meta"))
    return float(counter.get_total_flops()) / 1e9


def _speed(network: nn.Module, size: int) -> float:
    """Images per second of a network on the CPU, in batches of ``BATCH``."""
    if next(network.parameters()).is_meta:
        network = network.to_empty(device="cpu")
        for part in network.parameters():
            nn.init.constant_(part, 0.01)  # values without denormals, which would slow it down
    network = network.eval().to(memory_format=torch.channels_last)
    images = torch.zeros(BATCH, 3, size, size).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        network(images)
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < SECONDS:
            network(images)
            count += BATCH
    return count / (time.perf_counter() - begun)


COLUMNS = (
    "name", "tasks", "heads", "input", "parameters", "trainable", "GFLOPs", "saved", "images/s",
)  # fmt: skip
TITLES = {
    "bundle": "Bundles that ship",
    "recipe": "Recipes",
    "architecture": "Architectures (the trunk alone)",
}


def zoo_text(entries: Sequence[Entry]) -> str:
    """The zoo as aligned text, by kind; of bundles also their license, data and figures."""
    parts = []
    for kind, title in TITLES.items():
        chosen = [entry for entry in entries if entry.kind == kind]
        rows = [COLUMNS, *map(_cells, chosen)]
        used = [k for k in range(len(COLUMNS)) if any(row[k] for row in rows[1:])]
        widths = {k: max(len(row[k]) for row in rows) for k in used}
        lines = [
            "  ".join(
                row[k].ljust(widths[k]) if k < 3 else row[k].rjust(widths[k]) for k in used
            ).rstrip()
            for row in rows
        ]
        for entry in chosen if kind == "bundle" else ():
            lines += ["", f"{entry.name}: {entry.licence}", f"  made from {entry.training_data}"]
            lines += [f"  {task}: {figure}" for task, figure in entry.held_out.items()]
        parts.append("\n".join([title, "", *lines]))
    notes = (
        "GFLOPs: per image, a multiplication and an addition are two. saved: against one network "
        "per task."
    )
    return "\n\n".join([*parts, notes])


def _cells(entry: Entry) -> tuple[str, ...]:
    return (
        entry.name,
        ", ".join(entry.tasks),
        entry.heads,
        str(entry.input),
        _millions(entry.parameters),
        _millions(entry.trainable),
        f"{entry.gflops:.2f}",
        "" if entry.saved is None else f"{entry.saved:.0%}",
        "" if entry.images_per_second is None else f"{entry.images_per_second:,.0f}",
    )


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"
