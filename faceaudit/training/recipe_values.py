"""What the values of a recipe may be, beyond what their types say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from faceaudit.errors import UnknownNameError, UsageError
from faceaudit.models.facts import KEYS
from faceaudit.models.int8 import INT8
from faceaudit.training.recipe import Recipe


@dataclass(frozen=True)
class Interval:
    """Numbers that a key may have: ``low`` to ``high``, without an end that is open."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    """Without ``low`` itself."""
    below: bool = False
    """Without ``high`` itself."""

    def has(self, value: float) -> bool:
        """Whether a number lies in it; only finite ones do."""
        low = self.low < value if self.above else self.low <= value
        high = value < self.high if self.below else value <= self.high
        return math.isfinite(value) and low and high

    def __str__(self) -> str:
        low, high = f"{self.low:g}", f"{self.high:g}"
        if self.low == -math.inf:
            return "a finite number"
        if self.high == math.inf:
            return f"above {low}" if self.above else f"at least {low}"
        if self.above or self.below:
            return f"{'above' if self.above else 'at least'} {low} and " + (
                f"below {high}" if self.below else f"at most {high}"
            )
        return f"from {low} to {high}"


FINITE = Interval()
POSITIVE = Interval(0, above=True)
NOT_NEGATIVE = Interval(0)
COUNT = Interval(1)
SHARE = Interval(0, 1)
SHARE_BELOW_ONE = Interval(0, 1, below=True)

INTERVALS = {
    "margin": Interval(-0.5, above=True),
    "std.*": POSITIVE,
    "batch": COUNT,
    "learning_rate": POSITIVE,
    "trunk_learning_rate": POSITIVE,
    "weight_decay": NOT_NEGATIVE,
    "clip_norm": NOT_NEGATIVE,
    "ema": SHARE,
    "seed": Interval(0, 1e18),
    "stages.*.epochs": NOT_NEGATIVE,
    "stages.*.size": Interval(16),
    "stages.*.rate": POSITIVE,
    "tasks.*.weight": NOT_NEGATIVE,
    "tasks.*.label_smoothing": SHARE_BELOW_ONE,
    "tasks.*.smoothness": NOT_NEGATIVE,
    "tasks.*.scale": POSITIVE,
    "heads.units.*": COUNT,
    "heads.units.*.*": COUNT,
    "heads.dropout": SHARE_BELOW_ONE,
    "schedule.warmup": SHARE,
    "schedule.factor": POSITIVE,
    "schedule.every": COUNT,
    "schedule.after": NOT_NEGATIVE,
    "selection.patience": NOT_NEGATIVE,
    "data.validation_share": Interval(0, 1, above=True, below=True),
    "data.test_share": SHARE_BELOW_ONE,
    "augmentation.near.*": POSITIVE,
    "augmentation.loose.*": POSITIVE,
    "augmentation.loose_share": SHARE,
    "augmentation.shift": NOT_NEGATIVE,
    "augmentation.rotation": NOT_NEGATIVE,
    "augmentation.mirror_share": SHARE,
    "augmentation.color": SHARE,
    "augmentation.gray_share": SHARE,
    "augmentation.blur_share": SHARE,
    "augmentation.resample_share": SHARE,
    "augmentation.jpeg_share": SHARE,
    "augmentation.erase_share": SHARE,
    "augmentation.mixup_share": SHARE,
    "augmentation.cutmix_share": SHARE,
    "distillation.weight": SHARE,
    "distillation.temperature": POSITIVE,
}
"""Key -> its numbers, ``*`` for any task or place of a list; others may be any finite number."""

ASCENDING = ("data.ages", "augmentation.near", "augmentation.loose")
"""Keys of two numbers of which the first is the lower."""
COLORS = ("mean", "std")
"""Keys of one number per color channel."""
TEXTS = ("name", "licence", "training_data")
"""Keys that a bundle cannot do without."""
FREE = ("card", "reference", "tune")
"""Tables whose numbers decide nothing that is learned, or that are checked when they are tried."""
OWN_KEYS = tuple(one.name for one in fields(Recipe))
RECORDED = (
    *KEYS[""], INT8, "parameters", "weights_licence", "teachers", "split", "held_out_doubts",
    "never_seen", "not_calibrated", "seconds_trained", "temperatures_fitted_on", "temperatures",
    "normalization", "recipe", "metrics", "weakest", "confusion",
)  # fmt: skip
"""Facts of a bundle that a training finds by itself, beside those that the recipe's keys name."""


def check_values(recipe: Recipe, where: str) -> None:
    """Check what the types of a recipe's values do not show.

    Args:
        recipe: As built from a file.
        where: The file's name, for messages.

    Raises:
        UsageError: With the key and what would work.
    """
    facts = {key: value for key, value in recipe.to_json().items() if key not in FREE}
    for key, pattern, value in numbers_of(facts):
        allowed = INTERVALS.get(pattern, FINITE)
        if not allowed.has(value):
            raise UsageError(f"{where}: {key} is {value:g}; it must be {allowed}")
    for key in TEXTS:
        if not facts[key].strip():
            raise UsageError(f"{where}: {key} is empty; a bundle needs it")
    for key in COLORS:
        if len(facts[key]) != 3:
            raise UsageError(f"{where}: {key} has {len(facts[key])} values; it must have 3")
    for key in ASCENDING:
        table, name = key.split(".")
        low, high = facts[table][name]
        if low > high:
            raise UsageError(f"{where}: {key} is [{low:g}, {high:g}]; give the lower number first")
    if not any(task.weight for task in recipe.tasks.values()):
        raise UsageError(f"{where}: tasks: the weight of at least one must be above 0")
    _check_stages(recipe, where)
    _check_card(recipe, where)
    losses = [f"{name}_loss" for name in recipe.tasks]
    if recipe.selection.by not in ("", *recipe.tasks, *losses):
        raise UnknownNameError("selection.by", recipe.selection.by, [*recipe.tasks, *losses])


def _check_stages(recipe: Recipe, where: str) -> None:
    """Refuse what would have no effect, and heads that would stay random."""
    if not recipe.epochs and not recipe.starts:
        raise UsageError(
            f"{where}: stages: 0 epochs leave the heads random; give a start, or an epoch"
        )
    for place, stage in enumerate(recipe.stages[1:], start=1):
        if stage.rate != 1 and not stage.restart:
            raise UsageError(
                f"{where}: stages[{place}].rate is {stage.rate:g}, which is the peak of a new "
                "cycle; set restart = true there, or leave rate out"
            )
    both = recipe.augmentation.mixup_share + recipe.augmentation.cutmix_share
    if both > 1:
        raise UsageError(
            f"{where}: augmentation: mixup_share and cutmix_share are {both:g} together, and a "
            "batch is mixed in one way; they must be at most 1 together"
        )


def _check_card(recipe: Recipe, where: str) -> None:
    """Refuse a card that hides what a training records, or that a bundle could not hold."""
    for key in recipe.card:
        if key in OWN_KEYS:
            raise UsageError(f"{where}: card.{key}: is a key of the recipe itself; set it there")
        if key in RECORDED:
            raise UsageError(f"{where}: card.{key}: is recorded by the training; leave it out")
    limits = recipe.card.get("limits", [])
    if not isinstance(limits, list | tuple) or not all(isinstance(one, str) for one in limits):
        raise UsageError(f"{where}: card.limits is {limits!r}; it must be a list of texts")
    facts = recipe.to_json()
    for table in FREE:
        for key, value in _not_in_json(facts[table], table):
            raise UsageError(
                f"{where}: {key} is {value}, which the bundle's JSON cannot hold; give a text"
            )


def _not_in_json(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Each of nested facts that JSON has no word for, and its key."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _not_in_json(inner, _joined(key, name))
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from _not_in_json(inner, f"{key}[{place}]")
    elif not (
        value is None
        or isinstance(value, str | int)
        or (isinstance(value, float) and math.isfinite(value))
    ):
        yield key, value


def numbers_of(value: Any, key: str = "", pattern: str = "") -> Iterator[tuple[str, str, float]]:
    """Every number of nested facts: its key, its key in ``INTERVALS``, and itself."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            general = "*" if pattern in ("tasks", "heads.units") else name
            yield from numbers_of(inner, _joined(key, name), _joined(pattern, general))
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from numbers_of(inner, f"{key}[{place}]", f"{pattern}.*")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield key, pattern, value


def _joined(above: str, name: str) -> str:
    return f"{above}.{name}" if above else name
