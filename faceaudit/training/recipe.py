"""Recipes: everything that decides what a training makes, in one TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from faceaudit.errors import InputError, UnknownNameError, UsageError
from faceaudit.models import find_backbone
from faceaudit.models.backbone import IMAGENET_MEAN, IMAGENET_STD
from faceaudit.models.bundle import Align, Output, years_output
from faceaudit.schema import AGE, TASK_OPTIONS, task_of_scheme

RECIPES = Path(__file__).parent / "recipes"
"""The recipes that ship."""


@dataclass(frozen=True)
class TaskRecipe:
    """What one head learns; ``smoothness`` penalises curvature of an age head's logits."""

    scheme: str
    weight: float = 1.0
    label_smoothing: float = 0.0
    smoothness: float = 0.0


@dataclass(frozen=True)
class Stage:
    """Epochs at one input size, in pixels."""

    epochs: int
    size: int


@dataclass(frozen=True)
class Augmentation:
    """How training crops vary; every ``*_share`` is a probability.

    ``near`` and ``loose`` are ranges of the view's width as a multiple of the view the model is
    used with; loose crops stand for images that are crops already, made by other means.
    """

    near: tuple[float, float] = (0.9, 1.15)
    loose: tuple[float, float] = (0.75, 1.4)
    loose_share: float = 0.5
    shift: float = 0.06
    rotation: float = 15.0
    color: float = 0.25
    gray_share: float = 0.05
    blur_share: float = 0.15
    resample_share: float = 0.15
    jpeg_share: float = 0.15
    erase_share: float = 0.2


@dataclass(frozen=True)
class Recipe:
    """One training, from data to bundle."""

    name: str
    licence: str
    training_data: str
    backbone: str
    tasks: Mapping[str, TaskRecipe]
    stages: tuple[Stage, ...]
    weights: str = "imagenet"
    align: Align = "similarity"
    margin: float = -0.05
    offset: float = 0.15
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    batch: int = 64
    learning_rate: float = 1e-3
    trunk_learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup: float = 0.05
    dropout: float = 0.2
    ema: float = 0.998
    validation_share: float = 0.1
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Input size that the bundle is used with, in pixels."""
        return self.stages[-1].size

    @property
    def epochs(self) -> int:
        return sum(stage.epochs for stage in self.stages)

    def outputs(self) -> tuple[Output, ...]:
        """The outputs of the network, in the order of the heads."""
        return tuple(
            years_output()
            if name == AGE
            else Output(
                name, task.scheme, task_of_scheme(name, task.scheme).classes, name, "softmax"
            )
            for name, task in self.tasks.items()
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def find_recipe(name: str) -> Path:
    """The file of a recipe given by path or by the name of one that ships."""
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise InputError(f"recipe {name}: there is no such file")
        return path
    known = sorted(file.stem for file in RECIPES.glob("*.toml"))
    if name not in known:
        raise UnknownNameError("recipe", name, [*known, "FILE.toml"])
    return RECIPES / f"{name}.toml"


def load_recipe(name: str) -> Recipe:
    """A recipe by name or file.

    Raises:
        UsageError: If it is not valid TOML, or a key or value in it cannot be used.
    """
    path = find_recipe(name)
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: is not valid TOML: {error}") from error
    known = {item.name for item in fields(Recipe)}
    for key in facts:
        if key not in known:
            raise UnknownNameError(f"recipe key ({path.name})", key, sorted(known))
    try:
        return _from_facts(facts)
    except (TypeError, ValueError, KeyError) as error:
        raise UsageError(f"{path}: a key is missing or of the wrong type: {error}") from error


def _from_facts(facts: dict[str, Any]) -> Recipe:
    facts["tasks"] = {name: TaskRecipe(**task) for name, task in facts["tasks"].items()}
    facts["stages"] = tuple(Stage(**stage) for stage in facts["stages"])
    augmentation: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in facts.get("augmentation", {}).items()
    }
    facts["augmentation"] = Augmentation(**augmentation)
    for key in ("mean", "std"):
        if key in facts:
            facts[key] = tuple(facts[key])
    recipe = Recipe(**facts)
    find_backbone(recipe.backbone)
    for name, task in recipe.tasks.items():
        if name not in TASK_OPTIONS:
            raise UnknownNameError("task", name, TASK_OPTIONS)
        if name != AGE:
            task_of_scheme(name, task.scheme)
    if recipe.weights not in ("imagenet", "none"):
        raise UnknownNameError("weights", recipe.weights, ("imagenet", "none"))
    if not recipe.stages or not recipe.tasks:
        raise ValueError("at least one stage and one task are needed")
    return recipe
