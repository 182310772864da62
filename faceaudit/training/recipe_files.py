"""Recipes as TOML files: found by name, laid over their base, built and checked.

A file with the key ``base`` holds only what it does otherwise than the recipe of that name.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from faceaudit.errors import InputError, SchemaError, UnknownNameError, UsageError, check_names
from faceaudit.models.backbones import find_backbone
from faceaudit.models.backbones.backbone import check_size
from faceaudit.models.backbones.weights import NO_WEIGHTS, check_weights, file_of, source_of
from faceaudit.models.facts import VALUE_SCHEME, YEARS_SCHEME
from faceaudit.schema import AGE, TASK_OPTIONS
from faceaudit.training.recipe import (
    NO_AUGMENTATION,
    YEARS_SMOOTHNESS,
    Range,
    Recipe,
    Tune,
    output_of,
)
from faceaudit.training.recipe_values import check_values
from faceaudit.typed import as_type

RECIPES = Path(__file__).parent / "recipes"
"""The recipes that ship."""

WHOLE = ("reported", "where", "ranges")
"""Tables that a recipe replaces whole where its base has them."""

SAME_DATA = ("data", "align", "margin", "offset")
"""Keys that a search cannot range over, as crops are read and split once; a table is all of it."""
OF_THE_LOSS = ("label_smoothing", "smoothness", "scale")
"""Keys of a task that its loss, as a value to compare, depends on."""


def find_recipe(name: str) -> Path:
    """The file of a recipe given by path or by the name of one that ships."""
    path = Path(name)
    if path.suffix.lower() == ".toml":
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
    own = beside.suffix.lower() == ".toml" and beside.is_file()
    with _naming(f"{path}: base"):
        found = beside if own else find_recipe(base)
    rests = (path.resolve(), *above)
    if found.resolve() in rests:
        raise UsageError(f"{path}: base: {base} rests on this recipe itself")
    return _laid_over(_read(found, rests), facts)


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """Say which file and key has a name that is not known, or says what cannot be."""
    try:
        yield
    except (UsageError, InputError, SchemaError) as error:
        raise UsageError(f"{key}: {error}") from error


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


def recipe_text(recipe: Recipe) -> str:
    """A recipe as a TOML file of every key, which rests on no other."""
    import tomli_w

    return tomli_w.dumps(_without_none(recipe.to_json()))


def _without_none(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts without keys that have no value, for which TOML has no word."""
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in facts.items()
        if value is not None
    }


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
    tasks = given.get("tasks")
    if isinstance(tasks, Mapping) and isinstance(age := tasks.get(AGE), Mapping):
        own = {"smoothness": YEARS_SMOOTHNESS} if age.get("scheme") == YEARS_SCHEME else {}
        given["tasks"] = {**tasks, AGE: {**own, **age}}
    recipe: Recipe = as_type(Recipe, given, where, "", "recipe key")
    _check(recipe, where)
    return recipe


def _check(recipe: Recipe, where: str) -> None:
    """Names and ranges that types alone do not show.

    Raises:
        UsageError: With the key and what would work.
    """
    with _naming(f"{where}: backbone"):
        backbone = find_backbone(recipe.backbone)
    with _naming(f"{where}: weights of {recipe.backbone}"):
        check_weights(backbone, recipe.weights)
    if recipe.frozen == "all_but_last_block" and not backbone.last_block:
        raise UsageError(
            f"{where}: frozen: the last block of {recipe.backbone} is not known here; choose trunk "
            "or none"
        )
    if not recipe.stages or not recipe.tasks:
        raise UsageError(f"{where}: at least one stage and one task are needed")
    for name, task in recipe.tasks.items():
        with _naming(f"{where}: tasks"):
            check_names("task", [name], TASK_OPTIONS)
        with _naming(f"{where}: tasks.{name}.scheme"):
            output_of(name, task)
    check_values(recipe, where)
    _check_heads(recipe, where)
    random = recipe.weights == NO_WEIGHTS and not recipe.starts
    if recipe.frozen != "none" and random:
        raise UsageError(
            f"{where}: frozen: {recipe.frozen} of random weights would stay random; give weights "
            'or a start, or frozen = "none"'
        )
    if recipe.norms == "folded" and (random or recipe.frozen != "none"):
        raise UsageError(
            f"{where}: norms: folded needs pretrained weights and a trunk that is trained whole; "
            "choose batch"
        )
    _check_distillation(recipe, where)
    if recipe.data.validation_share + recipe.data.test_share >= 1:
        raise UsageError(f"{where}: data: the held-out shares must leave something to train on")
    if recipe.tune is not None:
        _check_tune(recipe, recipe.tune, where)


def _check_heads(recipe: Recipe, where: str) -> None:
    from faceaudit.models.heads import GENDER, GENDER_EMBEDDING, HEADS

    heads = recipe.heads
    own = heads.units if isinstance(heads.units, Mapping) else None
    with _naming(f"{where}: heads.kind"):
        check_names("kind of heads", [heads.kind], HEADS)
    if heads.kind == "linear" and heads.units:
        raise UsageError(
            f"{where}: heads.units is {own or list(heads.units)}, and kind linear has no hidden "
            'layers; choose kind = "dense", or units = []'
        )
    if heads.kind in GENDER_EMBEDDING and (
        own is not None or GENDER not in recipe.tasks or len(heads.units) != 1
    ):
        raise UsageError(
            f"{where}: heads.kind {heads.kind}: a gender embedding needs the task gender and one "
            "entry in heads.units"
        )
    if own is not None and set(own) != set(recipe.tasks):
        raise UsageError(
            f"{where}: heads.units names {', '.join(own) or 'no task'}; a table must name all "
            f"tasks and no other: {', '.join(recipe.tasks)}"
        )


def check_files(recipe: Recipe) -> None:
    """Check that what a recipe learns from beside the crops is there, and fits it.

    Raises:
        BundleError: If the file of weights, the start or a teacher is missing or damaged.
        UsageError: If the start has another network, or a teacher other tasks or crops.
    """
    from faceaudit.training.distillation import load_teacher
    from faceaudit.training.state import begun_network

    backbone = find_backbone(recipe.backbone)
    source = source_of(backbone, recipe.weights)
    if source is not None and not recipe.starts:
        file_of(backbone, recipe.weights, source)
    if recipe.starts:
        begun_network(recipe)
    for name in recipe.distillation.teachers:
        load_teacher(name, recipe)


def check_sizes(recipe: Recipe) -> None:
    """Raise a ``UsageError`` where the backbone takes no images of a stage's size."""
    backbone = find_backbone(recipe.backbone)
    for size in sorted({stage.size for stage in recipe.stages}):
        check_size(backbone, size)


def _check_distillation(recipe: Recipe, where: str) -> None:
    taught = recipe.tasks if recipe.distillation.teachers else {}
    if AGE in taught and taught[AGE].scheme == VALUE_SCHEME:
        raise UsageError(
            f"{where}: distillation.teachers: they teach probabilities, and tasks.age.scheme "
            f"{VALUE_SCHEME} has none; choose {YEARS_SCHEME} or age groups"
        )


def _check_tune(recipe: Recipe, tune: Tune, where: str) -> None:
    if tune.trials is not None and tune.trials < 1:
        raise UsageError(f"{where}: tune.trials is {tune.trials}; it must be at least 1")
    if not recipe.epochs:
        raise UsageError(f"{where}: tune: nothing is learned in 0 epochs; stages needs one")
    if tune.startup < 0:
        raise UsageError(f"{where}: tune.startup is {tune.startup}; it must be at least 0")
    if not 0 < tune.share <= 1:
        raise UsageError(f"{where}: tune.share is {tune.share:g}; it must be above 0, at most 1")
    if not tune.ranges:
        raise UsageError(f"{where}: tune.ranges is empty; name at least one key to search")
    for key, given in tune.ranges.items():
        if wrong := _not_searched(recipe, key) or _wrong_range(given, tune.sampler):
            raise UsageError(f"{where}: tune.ranges.{key}: {wrong}")


def _not_searched(recipe: Recipe, key: str) -> str:
    """Why a key cannot be searched; empty where it can."""
    first, *rest = key.split(".")
    if first in SAME_DATA:
        return "every trial has the same data"
    if first in ("name", "selection", "tune"):
        return "every trial is judged in the same way"
    if first == "tasks" and (len(rest) < 2 or rest[-1] == "scheme"):
        return "values of other tasks or schemes cannot be compared"
    if first == "tasks" and recipe.selection.by == f"{rest[0]}_loss" and rest[-1] in OF_THE_LOSS:
        return f"values of selection.by {recipe.selection.by} could not be compared"
    return ""


def _wrong_range(given: Range, sampler: str) -> str:
    """What is wrong with a range; empty where nothing is."""
    low, high = given.low, given.high
    if given.choices:
        alone = low is None and high is None and not given.log and not given.whole
        return "" if alone else "choices stand alone, without low, high, log and whole"
    if sampler == "grid":
        return "a grid needs choices"
    if low is None or high is None or not -math.inf < low < high < math.inf:
        return "give choices, or low and high with low below high"
    if given.log and low <= 0:
        return f"low is {low:g}; with log it must be above 0"
    if given.whole and not (low.is_integer() and high.is_integer()):
        return f"low and high are {low:g} and {high:g}; with whole they must be integers"
    return ""
