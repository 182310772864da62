"""Facts: what a sidecar, a bundle's JSON or a factory says of a model, checked key by key.

Every mistake is one line: the key, what was given, and what would work.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from faceaudit.schema import (
    AGE,
    AGE_BINS,
    AGE_GROUP,
    GENDER,
    RACE,
    SCHEMES,
    YEARS,
    Task,
    task_of_scheme,
)
from faceaudit.schemes import CUSTOM, named_task

Layout = Literal["NCHW", "NHWC"]
Color = Literal["RGB", "BGR", "gray"]
Align = Literal["similarity", "none"]
Activation = Literal["softmax", "sigmoid", "none", "years", "value"]

ACTIVATIONS: dict[Activation, str] = {
    "softmax": "logits, one per class (log probabilities too)",
    "sigmoid": "one logit, of the second of two classes",
    "none": "probabilities already: one per class or year, or only that of the second of two",
    "years": "logits over years, of task age",
    "value": "one number, an age in years, of task age",
}
OF_CLASSES: tuple[Activation, ...] = ("softmax", "sigmoid", "none")
OF_AGE: tuple[Activation, ...] = ("years", "none", "value")
YEARS_SCHEME, VALUE_SCHEME = "years", "value"
"""Age as a distribution over years, and as one number (a regression)."""

TASK_NAMES = (GENDER, RACE, AGE, AGE_GROUP)
"""What a model may predict; ``age`` in years and ``age_group`` in groups of its own."""

KEYS: dict[str, dict[str, bool]] = {
    "": {
        "name": True, "licence": True, "training_data": True, "input": True, "crop": True,
        "tasks": True, "sha256": True,
    },
    "input": {
        "size": True, "layout": False, "color": False, "mean": False, "std": False, "range": False,
    },
    "crop": {"align": True, "margin": True, "offset": False},
    "tasks": {
        "name": True, "scheme": False, "classes": False, "output": True, "activation": True,
        "scale": False, "shift": False,
    },
}  # fmt: skip
"""Object of the facts -> its keys -> whether each must be given. Further keys of the whole are the
model card; of the others they are mistakes."""

LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue in gray (ITU-R BT.601), as Pillow and OpenCV have it."""
SIZES = (8, 4096)
"""Pixels that a crop can have on a side."""
ABBREVIATED = re.compile(r"(\d+)-(\d+)")
OUTPUT = re.compile(r"(?P<tensor>.+?)(?:\[(?P<first>\d+)(?::(?P<end>\d+))?\])?")


@dataclass(frozen=True)
class Input:
    """What the network takes: square crops of ``size`` pixels, in three channels or in gray.

    Pixels are brought to ``range`` (its upper end, 1 or 255) and then ``(pixel - mean) / std`` per
    channel; a graph whose input is uint8 gets them as they are.
    """

    size: int
    layout: Layout = "NCHW"
    color: Color = "RGB"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    range: float = 1.0

    @property
    def channels(self) -> int:
        """Channels of the crops."""
        return 1 if self.color == "gray" else 3


@dataclass(frozen=True)
class Output:
    """What one output of the network means: its task, classes in output order, and activation.

    ``output`` names a tensor, or some of its columns: ``logits``, ``logits[0:7]``, ``logits[7]``.
    ``activation`` is a key of ``ACTIVATIONS``. An age given as a number is ``scale`` times the
    output plus ``shift``.
    """

    name: str
    scheme: str
    classes: tuple[str, ...]
    output: str
    activation: Activation
    scale: float = 1.0
    shift: float = 0.0

    @property
    def is_age(self) -> bool:
        """Whether it is an age in years, by a distribution or as a number."""
        return self.name == AGE

    @property
    def task(self) -> Task:
        return Task(self.name, self.scheme, self.classes)

    @property
    def tensor(self) -> str:
        """The name of the network's output, without the columns."""
        return str(self._parts["tensor"])

    @property
    def columns(self) -> slice:
        """The columns of that output, once it is (N, K)."""
        first, end = self._parts["first"], self._parts["end"]
        if first is None:
            return slice(None)
        return slice(int(first), int(first) + 1 if end is None else int(end))

    @property
    def size(self) -> int:
        """Values that a head gives: one per class, or the number."""
        return max(1, len(self.classes))

    @property
    def widths(self) -> tuple[int, ...]:
        """How many columns there may be."""
        if self.activation in ("sigmoid", "value"):
            return (1,)
        one_of_two = self.activation == "none" and len(self.classes) == 2 and not self.is_age
        return (len(self.classes), 1) if one_of_two else (len(self.classes),)

    @property
    def _parts(self) -> Mapping[str, Any]:
        found = OUTPUT.fullmatch(self.output)
        return found.groupdict() if found else {"tensor": self.output, "first": None, "end": None}


def years_output(output: str = AGE) -> Output:
    """The output that is a distribution over years."""
    return Output(AGE, YEARS_SCHEME, tuple(map(str, YEARS)), output, "years")


def read_input(given: Any) -> Input:
    """The input's facts; raises ValueError, saying which is wrong."""
    facts = check_keys(given, "input")
    color = choice("input.color", facts.get("color", "RGB"), ("RGB", "BGR", "gray"))
    channels = Input(0, color=color).channels
    per_channel: dict[str, tuple[float, ...]] = {}
    for key, default in (("mean", 0.0), ("std", 1.0)):
        values = facts.get(key, [default] * channels)
        if not is_list(values) or len(values) != channels or not all(map(is_number, values)):
            count = "one number in a list" if channels == 1 else "three numbers, one per channel"
            raise wrong(f"input.{key}", values, count)
        per_channel[key] = tuple(float(value) for value in values)
    if 0.0 in per_channel["std"]:
        raise wrong("input.std", facts["std"], "numbers other than 0")
    size = facts["size"]
    if isinstance(size, bool) or not isinstance(size, int) or not SIZES[0] <= size <= SIZES[1]:
        raise wrong("input.size", size, f"a number of pixels from {SIZES[0]} to {SIZES[1]}")
    return Input(
        size=size,
        layout=choice("input.layout", facts.get("layout", "NCHW"), ("NCHW", "NHWC")),
        color=color,
        range=number("input.range", facts.get("range", 1.0), above=0.0),
        **per_channel,
    )


def read_crop(given: Any) -> tuple[Align, float, float]:
    """How crops are cut: alignment, margin and offset; raises ValueError where one is wrong."""
    facts = check_keys(given, "crop")
    return (
        choice("crop.align", facts["align"], ("similarity", "none")),
        number("crop.margin", facts["margin"], above=-0.5),
        number("crop.offset", facts.get("offset", 0.0)),
    )


def read_outputs(given: Any) -> tuple[Output, ...]:
    """What the outputs mean; raises ValueError, saying which key of which task is wrong."""
    if not is_list(given) or not given:
        raise wrong("tasks", given, "a list of objects, one per task")
    found = tuple(_read_output(facts, f"tasks[{place}]") for place, facts in enumerate(given))
    names = [output.name for output in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"tasks: {name!r} stands there twice; one output per task")
    if {AGE, AGE_GROUP} <= set(names):
        raise ValueError(
            f"tasks: {AGE!r} and {AGE_GROUP!r} are both given, but age groups follow from years; "
            "leave one out"
        )
    return found


def _read_output(given: Any, where: str) -> Output:
    facts = check_keys(given, "tasks", where)
    name = choice(f"{where}.name", facts["name"], TASK_NAMES)
    allowed = OF_AGE if name == AGE else OF_CLASSES
    activation = choice(f"{where}.activation", facts["activation"], allowed, f" for task {name}")
    for key in ("scale", "shift"):
        if key in facts and activation != "value":
            raise ValueError(f"{where}.{key}: is for activation 'value' only; leave it out")
    scheme, classes = _read_classes(facts, name, activation, where)
    output = facts["output"]
    if not isinstance(output, str) or not output:
        raise wrong(f"{where}.output", output, "the name of an output, such as 'logits[0:7]'")
    found = Output(
        name, scheme, classes, output, activation,
        scale=number(f"{where}.scale", facts.get("scale", 1.0)),
        shift=number(f"{where}.shift", facts.get("shift", 0.0)),
    )  # fmt: skip
    if activation == "sigmoid" and len(classes) != 2:
        raise wrong(f"{where}.classes", list(classes), "two of them, as the activation is sigmoid")
    columns = found.columns
    if columns.stop is not None and columns.stop - columns.start not in found.widths:
        raise ValueError(
            f"{where}.output: {output!r} are {max(0, columns.stop - columns.start)} columns; "
            f"{expected(found)}"
        )
    return found


def _read_classes(
    facts: Mapping[str, Any], name: str, activation: str, where: str
) -> tuple[str, tuple[str, ...]]:
    """The scheme and the classes of a task."""
    key = f"{where}.classes"
    classes, scheme = facts.get("classes"), facts.get("scheme")
    if name == AGE:
        known = [YEARS_SCHEME, VALUE_SCHEME]
    else:
        known = [*(AGE_BINS if name == AGE_GROUP else SCHEMES), CUSTOM]
    if scheme is not None:
        choice(f"{where}.scheme", scheme, known)
    if activation == "value":
        if classes:
            raise wrong(key, classes, "none, as an age in years has no classes")
        return VALUE_SCHEME, ()
    if name == AGE:
        return YEARS_SCHEME, _read_years(classes, key)
    if classes is None:
        if scheme in (None, CUSTOM):
            raise ValueError(f"{key}: is missing; give the classes in the order of the output")
        return scheme, task_of_scheme(name, scheme).classes
    names = is_list(classes) and all(isinstance(one, str) and one for one in classes)
    if not names or len(classes) < 2 or len(set(classes)) < len(classes):
        raise wrong(key, classes, "a list of at least two different names")
    found = tuple(classes)
    if scheme is None:
        return named_task(name, found).scheme, found
    if scheme != CUSTOM and set(found) != set(task_of_scheme(name, scheme).classes):
        wanted = ", ".join(task_of_scheme(name, scheme).classes)
        raise wrong(key, classes, f"those of {scheme} in any order ({wanted}), or scheme 'custom'")
    return scheme, found


def _read_years(classes: Any, key: str) -> tuple[str, ...]:
    """Years that ascend: a list of them, or the first and the last such as ``0-80``."""
    if isinstance(classes, str) and (ends := ABBREVIATED.fullmatch(classes)):
        classes = list(range(int(ends[1]), int(ends[2]) + 1))
    try:
        years = [int(str(one)) for one in classes] if is_list(classes) else []
    except ValueError:
        years = []
    if len(years) < 2 or years != sorted(set(years)) or years[0] < 0 or years[-1] > 150:
        raise wrong(key, classes, 'years that ascend, such as "0-100", in the order of the output')
    return tuple(map(str, years))


def expected(output: Output) -> str:
    """How many columns an output must have and why, in words."""
    widths = " or ".join(map(str, sorted(output.widths)))
    of = f" of {len(output.classes)} classes" if output.classes else ""
    return f"task {output.name} with activation {output.activation}{of} takes {widths}"


# --- one key ----------------------------------------------------------------------------------


def check_keys(given: Any, what: str, where: str = "") -> Mapping[str, Any]:
    """An object whose keys are those of ``KEYS[what]``; ``where`` is what messages call it."""
    where = where or what
    if not isinstance(given, Mapping):
        raise wrong(where or "the facts", given, f"an object with the keys {', '.join(KEYS[what])}")
    prefix = f"{where}." if where else ""
    for key, needed in KEYS[what].items():
        if needed and key not in given:
            close = get_close_matches(key, [str(one) for one in given if one not in KEYS[what]], 1)
            hint = f" (there is {close[0]!r})" if close else ""
            raise ValueError(f"{prefix}{key}: is missing{hint}")
    for key in given:
        if where and key not in KEYS[what]:
            raise ValueError(f"{prefix}{key}: is no fact; choose from: {', '.join(KEYS[what])}")
    return given


def wrong(key: str, given: Any, wanted: str) -> ValueError:
    """An error of one line on a fact that is not what it should be."""
    shown = repr(given)
    return ValueError(
        f"{key}: is {shown if len(shown) <= 80 else shown[:77] + '...'}; give {wanted}"
    )


def choice(key: str, given: Any, known: Collection[Any], context: str = "") -> Any:
    """A value that is one of those known."""
    if not isinstance(given, str) or given not in known:
        raise wrong(key, given, f"one of{context}: {', '.join(known)}")
    return given


def number(key: str, given: Any, above: float | None = None) -> float:
    """A finite number, above a bound where there is one."""
    if not is_number(given) or (above is not None and given <= above):
        raise wrong(key, given, "a number" if above is None else f"a number above {above:g}")
    return float(given)


def is_number(given: Any) -> bool:
    """Whether it is a finite number; JSON's true is none."""
    return not isinstance(given, bool) and isinstance(given, int | float) and math.isfinite(given)


def is_list(given: Any) -> bool:
    """Whether it is a list or a tuple."""
    return isinstance(given, Sequence) and not isinstance(given, str | bytes)
