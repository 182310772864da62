"""Recipes: everything that decides what a training makes, in one TOML file.

The tables of the file are the dataclasses below, key for key. A file with the key ``base`` holds
only what it does otherwise than the recipe of that name.
"""

from __future__ import annotations

import math
import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from faceaudit.errors import InputError, SchemaError, UnknownNameError, UsageError
from faceaudit.models.backbones import find_backbone
from faceaudit.models.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD
from faceaudit.models.backbones.weights import NO_WEIGHTS, check_weights
from faceaudit.models.facts import VALUE_SCHEME, YEARS_SCHEME, Align, Output, years_output
from faceaudit.schema import AGE, AGE_BINS, TASK_OPTIONS, age_group_task, task_of_scheme

RECIPES = Path(__file__).parent / "recipes"
"""The recipes that ship."""

WHOLE = ("reported", "where", "ranges")
"""Tables that a recipe replaces whole where its base has them."""

Frozen = Literal["none", "trunk", "all_but_last_block"]


@dataclass(frozen=True)
class TaskRecipe:
    """What one head learns.

    ``scheme`` of ``age`` is ``years`` (a distribution over years), ``value`` (a regression), or a
    list of age groups: a name of ``AGE_BINS`` or lower bounds such as ``0,18,40`` (a
    classification). ``weight`` multiplies the task's loss. ``smoothness`` penalises curvature of a
    distribution over years. ``scale`` is the number of years that a regression divides by.
    """

    scheme: str
    weight: float = 1.0
    label_smoothing: float = 0.0
    smoothness: float = 0.0
    scale: float = 100.0


@dataclass(frozen=True)
class Heads:
    """How tasks share: what stands between the pooled features and the outputs.

    ``kind``: ``linear`` (one layer per task), ``dense`` (hidden layers of ``units`` per task),
    ``conv`` (3x3 convolutions of ``units`` channels per task, before pooling), ``ge`` (gender
    embedding), ``gm`` (gender embedding, gated), ``am`` (gender embedding, attended).
    ``dropout`` is the share of the last hidden values dropped in training.
    """

    kind: str = "linear"
    units: tuple[int, ...] = ()
    dropout: float = 0.2


@dataclass(frozen=True)
class Stage:
    """Epochs at one input size, in pixels.

    ``restart`` begins a new cycle: the learning rate warms up again, to ``rate`` times its peak,
    and falls to zero over the stages up to the next restart (Loshchilov and Hutter: SGDR,
    ICLR 2017).
    """

    epochs: int
    size: int
    restart: bool = False
    rate: float = 1.0


@dataclass(frozen=True)
class Schedule:
    """The learning rate over time, as a share of its peak.

    ``kind``: ``cosine`` (to zero over each cycle), ``constant``, ``step`` (times ``factor`` every
    ``every`` epochs), ``exponential`` (constant for ``after`` epochs, then times ``factor`` each
    epoch). ``warmup`` is the share of a cycle that rises linearly from zero.
    """

    kind: Literal["cosine", "constant", "step", "exponential"] = "cosine"
    warmup: float = 0.05
    factor: float = 1.0
    every: int = 1
    after: int = 0


@dataclass(frozen=True)
class Selection:
    """Which weights become the bundle.

    ``keep``: ``last``, or ``best`` by validation. ``by`` is a task whose accuracy (for a
    regression: the negative error) or loss (``gender_loss``) decides; without it the tasks'
    accuracies count with their loss weights. ``patience`` stops a training after so many epochs
    without a better value; 0 never stops.
    """

    keep: Literal["last", "best"] = "last"
    by: str = ""
    patience: int = 0


@dataclass(frozen=True)
class Data:
    """Which prepared crops take part, and the shares that are held out.

    ``ages`` keeps faces whose annotated age lies in these years (both included). ``where`` keeps
    faces with these annotated classes, such as ``{ gender = "Female" }``. Shares are of groups of
    duplicates; ``validation_share`` selects and calibrates, ``test_share`` is only reported on.
    ``near_duplicates`` counts nearly equal pictures as duplicates, not only equal files, and
    ``conflicts`` says what happens to duplicates whose labels disagree: ``drop`` leaves all of them
    out of training.
    """

    ages: tuple[int, int] = (0, 200)
    where: Mapping[str, str] = field(default_factory=dict)
    validation_share: float = 0.1
    test_share: float = 0.0
    near_duplicates: bool = True
    conflicts: Literal["drop", "keep"] = "drop"


@dataclass(frozen=True)
class Augmentation:
    """How training crops vary; every ``*_share`` is a probability.

    ``near`` and ``loose`` are ranges of the view's width as a multiple of the view the model is
    used with; loose crops stand for images that are crops already, made by other means.
    ``mixup_share`` and ``cutmix_share`` are of batches.
    """

    near: tuple[float, float] = (0.9, 1.15)
    loose: tuple[float, float] = (0.75, 1.4)
    loose_share: float = 0.5
    shift: float = 0.06
    rotation: float = 15.0
    mirror_share: float = 0.5
    color: float = 0.25
    gray_share: float = 0.05
    blur_share: float = 0.15
    resample_share: float = 0.15
    jpeg_share: float = 0.15
    erase_share: float = 0.2
    mixup_share: float = 0.0
    cutmix_share: float = 0.0


NO_AUGMENTATION = Augmentation(
    near=(1.0, 1.0),
    loose_share=0.0,
    shift=0.0,
    rotation=0.0,
    mirror_share=0.0,
    color=0.0,
    gray_share=0.0,
    blur_share=0.0,
    resample_share=0.0,
    jpeg_share=0.0,
    erase_share=0.0,
)
"""What ``augmentation = "none"`` stands for."""


@dataclass(frozen=True)
class Distillation:
    """Bundles that a training learns from beside the labels.

    ``teachers`` are names or folders; their logits on the view that the network itself sees are
    averaged. ``weight`` is their share of each task's loss, 0 to 1; the rest is the labels'. Faces
    without a label learn from them too. ``temperature`` softens both sides' probabilities.

    Source:
        Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015; Beyer and others:
        Knowledge distillation: A good teacher is patient and consistent, CVPR 2022.
    """

    teachers: tuple[str, ...] = ()
    weight: float = 0.5
    temperature: float = 1.0


@dataclass(frozen=True)
class Reference:
    """The published row that a recipe repeats: who reported what, and why it may not hold.

    ``reported`` is metric name -> value as printed by the source; ``leak`` says in one sentence
    how its test images could be known to the training (empty where they could not).
    """

    source: str
    row: str
    reported: Mapping[str, float] = field(default_factory=dict)
    leak: str = ""
    differs: str = ""
    """What this recipe does otherwise than the source, and why."""


@dataclass(frozen=True)
class Range:
    """Values of one key to search: ``choices``, or numbers from ``low`` to ``high``.

    ``log`` spreads numbers evenly over their logarithm; ``whole`` takes integers alone.
    """

    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Tune:
    """What ``faceaudit tune`` searches.

    ``ranges`` is dotted key -> range. ``sampler``: ``tpe`` (tree-structured Parzen estimator),
    ``random``, or ``grid`` (every combination of choices). ``share`` of the training crops is used.
    The first ``startup`` trials are random and never given up.
    """

    ranges: Mapping[str, Range]
    trials: int = 20
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    share: float = 1.0
    startup: int = 5


@dataclass(frozen=True)
class Recipe:
    """One training, from data to bundle.

    ``weights``: ``none`` (random), a name of the backbone's weight sources (``imagenet``,
    ``vggface``, ``mobilefacenet``), or a file. ``start``: a bundle, by name or folder, whose trunk
    and heads the training begins with instead (``weights`` then says where those came from).
    ``frozen``: the part of the trunk that is not trained. ``norms = "folded"`` trains a pretrained
    trunk without its batch norms, about twice as fast on a CPU (see ``folding``). ``ema`` averages
    weights over steps (0: not). ``clip_norm`` bounds the gradient's norm (0: not). ``gray`` makes
    images gray inside the network.
    """

    name: str
    licence: str
    training_data: str
    backbone: str
    tasks: Mapping[str, TaskRecipe]
    stages: tuple[Stage, ...]
    heads: Heads = field(default_factory=Heads)
    weights: str = "imagenet"
    start: str = ""
    frozen: Frozen = "none"
    norms: Literal["batch", "folded"] = "batch"
    align: Align = "similarity"
    margin: float = -0.05
    offset: float = 0.15
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    gray: bool = False
    batch: int = 64
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    trunk_learning_rate: float | None = None
    """Of the trunk; without it, ``learning_rate``."""
    weight_decay: float = 0.02
    clip_norm: float = 5.0
    schedule: Schedule = field(default_factory=Schedule)
    selection: Selection = field(default_factory=Selection)
    ema: float = 0.998
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto``: bfloat16 on a GPU that has it, else float32."""
    seed: int = 0
    data: Data = field(default_factory=Data)
    augmentation: Augmentation = field(default_factory=Augmentation)
    distillation: Distillation = field(default_factory=Distillation)
    reference: Reference | None = None
    tune: Tune | None = None
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
        return tuple(_output(name, task) for name, task in self.tasks.items())

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _output(name: str, task: TaskRecipe) -> Output:
    if name != AGE:
        classes = task_of_scheme(name, task.scheme).classes
        return Output(name, task.scheme, classes, name, "softmax")
    if task.scheme == YEARS_SCHEME:
        return years_output()
    if task.scheme == VALUE_SCHEME:
        return Output(AGE, VALUE_SCHEME, (), AGE, "value")
    groups = age_group_task(age_bins(task.scheme))
    return Output(groups.name, groups.scheme, groups.classes, AGE, "softmax")


def age_bins(scheme: str) -> tuple[int, ...]:
    """Lower bounds of the age groups of a scheme: a name of ``AGE_BINS`` or ``0,18,40``."""
    if scheme in AGE_BINS:
        return AGE_BINS[scheme]
    try:
        return tuple(int(bound) for bound in scheme.split(","))
    except ValueError as error:
        known = (YEARS_SCHEME, VALUE_SCHEME, *AGE_BINS, "0,18,40")
        raise UnknownNameError("age scheme", scheme, known) from error


def find_recipe(name: str) -> Path:
    """The file of a recipe given by path or by the name of one that ships."""
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise InputError(f"recipe {name}: there is no such file")
        return path
    known = list_recipes()
    if name not in known:
        raise UnknownNameError("recipe", name, [*known, "FILE.toml"])
    return RECIPES / f"{name}.toml"


def list_recipes() -> list[str]:
    """Names of the recipes that ship; those of a folder read ``folder/name``."""
    files = RECIPES.rglob("*.toml")
    return sorted(file.relative_to(RECIPES).with_suffix("").as_posix() for file in files)


def load_recipe(name: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe by name or file.

    Args:
        name: Of a recipe that ships, or a TOML file.
        changes: Dotted key -> value, put over the file's (``{"heads.units": [64]}``).

    Raises:
        UsageError: If it is not valid TOML, or a key or value in it cannot be used.
    """
    path = find_recipe(name)
    facts = _read(path, ())
    for key, value in (changes or {}).items():
        _put(facts, key.split("."), value)
    return recipe_from_facts(facts, str(path))


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """The facts of a file, laid over those of the recipe that its key ``base`` names."""
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is not valid TOML: {error}") from error
    base = facts.pop("base", None)
    if base is None:
        return facts
    if not isinstance(base, str):
        raise UsageError(f"{path}: base is {base!r}; it must name a recipe or a TOML file")
    beside = path.parent / base
    found = beside if beside.suffix == ".toml" and beside.is_file() else find_recipe(base)
    if found in (path, *above):
        raise UsageError(f"{path}: base: {base} rests on this recipe itself")
    return _laid_over(_read(found, (path, *above)), facts)


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two sets of facts as one: tables are joined key by key, anything else is replaced.

    An empty table takes a table away.
    """
    found = dict(below)
    for key, value in above.items():
        inner = found.get(key)
        tables = isinstance(inner, Mapping) and isinstance(value, Mapping)
        if tables and value and key not in WHOLE:
            found[key] = _laid_over(found[key], value)
        elif value == {}:
            found.pop(key, None)
        else:
            found[key] = value
    return found


def _put(facts: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = facts.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UsageError(f"recipe key {'.'.join(keys)}: {key} is not a table")
        facts = inner
    facts[keys[-1]] = value


def recipe_from_facts(facts: Mapping[str, Any], where: str) -> Recipe:
    """A recipe from parsed TOML or JSON.

    Args:
        facts: Key -> value, as in the file.
        where: The file's name, for messages.

    Raises:
        UsageError: If a key is unknown or missing, or a value cannot be used.
    """
    given = dict(facts)
    if given.get("augmentation") == "none":
        given["augmentation"] = asdict(NO_AUGMENTATION)
    recipe: Recipe = _build(Recipe, given, where, "")
    _check(recipe, where)
    return recipe


def _build(kind: Any, value: Any, where: str, path: str) -> Any:
    """A value of a TOML file as the type that a dataclass declares for it."""
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise UsageError(f"{where}: {path} must be a table")
        hints = get_type_hints(kind)
        known = {item.name: item for item in fields(kind)}
        for key in value:
            if key not in known:
                raise UnknownNameError(
                    f"recipe key ({'.'.join(filter(None, (Path(where).name, path)))})",
                    str(key),
                    sorted(known),
                )
        for name, item in known.items():
            if item.default is MISSING and item.default_factory is MISSING and name not in value:
                raise UsageError(f"{where}: {_dotted(path, name)} is missing")
        return kind(  # type: ignore[operator]
            **{
                key: _build(hints[key], entry, where, _dotted(path, key))
                for key, entry in value.items()
            }
        )
    if origin is Literal:
        if value not in inner:
            raise UnknownNameError(path, str(value), inner)
        return value
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _build(next(part for part in inner if part is not type(None)), value, where, path)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise UsageError(f"{where}: {path} must be a list")
        if inner[-1] is not Ellipsis and len(value) != len(inner):
            raise UsageError(f"{where}: {path} must have {len(inner)} values")
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_build(k, v, where, path) for k, v in zip(kinds, value, strict=True))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise UsageError(f"{where}: {path} must be a table")
        return {key: _build(inner[1], v, where, _dotted(path, key)) for key, v in value.items()}
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind is Any or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
        return value
    raise UsageError(f"{where}: {path} is {value!r}; it must be of type {kind.__name__}")


def _dotted(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _check(recipe: Recipe, where: str) -> None:
    """Names and ranges that types alone do not show.

    Raises:
        UsageError: With the key and what would work.
    """
    check_weights(find_backbone(recipe.backbone), recipe.weights)
    if not recipe.stages or not recipe.tasks:
        raise UsageError(f"{where}: at least one stage and one task are needed")
    for name, task in recipe.tasks.items():
        if name not in TASK_OPTIONS:
            raise UnknownNameError("task", name, TASK_OPTIONS)
        try:
            _output(name, task)
        except SchemaError as error:
            raise UsageError(f"{where}: tasks.{name}.scheme: {error}") from error
    if any(stage.epochs < 1 or stage.size < 16 for stage in recipe.stages):
        raise UsageError(f"{where}: stages: epochs must be at least 1 and size at least 16 pixels")
    for key, value in (
        ("batch", recipe.batch),
        ("learning_rate", recipe.learning_rate),
        ("data.validation_share", recipe.data.validation_share),
    ):
        if value <= 0:
            raise UsageError(f"{where}: {key} is {value:g}; it must be above 0")
    if recipe.norms == "folded" and (recipe.weights == NO_WEIGHTS or recipe.frozen != "none"):
        raise UsageError(
            f"{where}: norms: folded needs pretrained weights and a trunk that is trained whole; "
            "choose batch"
        )
    _check_distillation(recipe, where)
    if recipe.data.validation_share + recipe.data.test_share >= 1:
        raise UsageError(f"{where}: data: the held-out shares must leave something to train on")
    for key in recipe.tune.ranges if recipe.tune else ():
        if key.startswith("data."):
            raise UsageError(f"{where}: tune.ranges.{key}: every trial has the same data")
    if recipe.selection.by.removesuffix("_loss") not in ("", *recipe.tasks):
        raise UnknownNameError("selection.by", recipe.selection.by, recipe.tasks)


def _check_distillation(recipe: Recipe, where: str) -> None:
    settings = recipe.distillation
    if not 0 <= settings.weight <= 1:
        raise UsageError(
            f"{where}: distillation.weight is {settings.weight:g}; it must be from 0 to 1"
        )
    if not 0 < settings.temperature < math.inf:
        raise UsageError(
            f"{where}: distillation.temperature is {settings.temperature:g}; it must be above 0"
        )
    if settings.teachers and AGE in recipe.tasks and recipe.tasks[AGE].scheme == VALUE_SCHEME:
        raise UsageError(
            f"{where}: distillation.teachers: they teach probabilities, and tasks.age.scheme "
            f"{VALUE_SCHEME} has none; choose {YEARS_SCHEME} or age groups"
        )
