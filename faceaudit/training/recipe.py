"""Recipes: everything that decides what a training makes.

The tables of a recipe's file (``recipe_files``) are the dataclasses below, key for key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Literal

from faceaudit.errors import SchemaError, UnknownNameError
from faceaudit.models.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD
from faceaudit.models.facts import VALUE_SCHEME, YEARS_SCHEME, Align, Output, years_output
from faceaudit.schema import (
    AGE,
    AGE_BINS,
    MAX_AGE,
    SCHEMES_OF,
    age_group_task,
    task_of_scheme,
)

Frozen = Literal["none", "trunk", "all_but_last_block"]
YEARS_SMOOTHNESS = 0.02
"""Of a distribution over years: labels that are groups do not say which of their years it is."""


@dataclass(frozen=True)
class TaskRecipe:
    """What one head learns.

    ``scheme`` of ``age`` is ``years`` (a distribution over years), ``value`` (a regression), or a
    list of age groups: a name of ``AGE_BINS`` or lower bounds such as ``0,18,40`` (a
    classification). ``weight`` multiplies the task's loss. ``smoothness`` penalizes curvature of a
    distribution over years; a file that leaves it out has ``YEARS_SMOOTHNESS`` where the scheme is
    ``years``. ``scale`` is the number of years that a regression divides by.
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
    ``units`` are the widths of every task's hidden layers, or a table of each task's.
    ``dropout`` is the share dropped in training: of pooled features (``linear``), else of the last
    hidden values, but for the gender head of a gender embedding, which has none.
    """

    kind: str = "linear"
    units: tuple[int, ...] | Mapping[str, tuple[int, ...]] = ()
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
    out of training (held-out parts keep them). ``split`` is the ``splits.parquet`` of a training on
    the same crops: its parts are taken as they are, so that models are compared that learned from
    the same images, whatever their tasks; ``where`` and ``ages`` then choose among them.
    """

    ages: tuple[int, int] = (0, 200)
    where: Mapping[str, str] = field(default_factory=dict)
    validation_share: float = 0.1
    test_share: float = 0.0
    near_duplicates: bool = True
    conflicts: Literal["drop", "keep"] = "drop"
    split: str = ""


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
    ``mirrored``: teachers see each view and its mirror, and their mean teaches; they are right more
    often so, at twice their cost. ``precision`` is that of teachers, as in ``open_runtime``.

    Source:
        Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015; Beyer and others:
        Knowledge distillation: A good teacher is patient and consistent, CVPR 2022.
    """

    teachers: tuple[str, ...] = ()
    weight: float = 0.5
    temperature: float = 1.0
    mirrored: bool = False
    precision: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto"


@dataclass(frozen=True)
class Reference:
    """The published row that a recipe repeats: who reported what, and why it may not hold.

    ``reported`` is metric name -> value as printed by the source; ``leak`` says in one sentence
    how its test images could be known to the training (empty where they could not). ``prepare`` is
    the command that makes the crops which the recipe reads. ``weakness`` says in which class the
    source's own figures are worst.
    """

    source: str
    row: str
    reported: Mapping[str, float] = field(default_factory=dict)
    leak: str = ""
    differs: str = ""
    """What this recipe does otherwise than the source, and why."""
    prepare: str = ""
    weakness: str = ""


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
    ``random``, or ``grid`` (every combination of choices). ``trials``: settings to try; without it
    20, or all of a grid. ``share`` of the training crops is used.
    The first ``startup`` trials are random and never given up.
    """

    ranges: Mapping[str, Range]
    trials: int | None = None
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    share: float = 1.0
    startup: int = 5


@dataclass(frozen=True)
class Recipe:
    """One training, from data to bundle.

    ``weights``: ``none`` (random), a name of the backbone's weight sources (``imagenet``,
    ``vggface``, ``mobilefacenet``), or a file. ``start``: a bundle, by name or folder, whose trunk
    and heads the training begins with instead (``weights`` then says where those came from); of
    several backbones side by side, a bundle of each, and the network begins as the mean of them.
    ``frozen``: the part of the trunk that is not trained. ``norms = "folded"`` trains a pretrained
    trunk without its batch norms, which is faster on a CPU (see ``folding``). ``ema`` averages
    weights over steps (0: not). ``weight_decay`` spares norms and biases. ``clip_norm`` bounds the
    gradient's norm (0: not). ``gray`` makes images gray inside the network. ``mirrored``: outputs
    in use, and in validation, are the mean over a crop and its mirror image, at twice the cost.
    """

    name: str
    licence: str
    training_data: str
    backbone: str
    tasks: Mapping[str, TaskRecipe]
    stages: tuple[Stage, ...]
    heads: Heads = field(default_factory=Heads)
    research_only: bool | None = None
    """Whether the data allow research only. Weights, start and teachers for research only make the
    bundle so in any case, and a file of weights whose terms are not known does unless this is
    false."""
    weights: str = "imagenet"
    start: str | tuple[str, ...] = ""
    frozen: Frozen = "none"
    norms: Literal["batch", "folded"] = "batch"
    align: Align = "similarity"
    margin: float = -0.05
    offset: float = 0.15
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    gray: bool = False
    mirrored: bool = False
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
    def starts(self) -> tuple[str, ...]:
        """The bundles that the training begins with; empty where it begins with weights."""
        if isinstance(self.start, str):
            return (self.start,) if self.start else ()
        return self.start

    @property
    def size(self) -> int:
        """Input size that the bundle is used with, in pixels."""
        return self.stages[-1].size

    @property
    def epochs(self) -> int:
        return sum(stage.epochs for stage in self.stages)

    def outputs(self) -> tuple[Output, ...]:
        """The outputs of the network, in the order of the heads."""
        return tuple(output_of(name, task) for name, task in self.tasks.items())

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def output_of(name: str, task: TaskRecipe) -> Output:
    """The network's output that a task is learned by.

    Raises:
        SchemaError: If the age groups are none.
        UnknownNameError: If the task has no such scheme.
    """
    if name != AGE:
        if task.scheme not in SCHEMES_OF[name]:
            raise UnknownNameError(f"scheme of {name}", task.scheme, SCHEMES_OF[name])
        classes = task_of_scheme(name, task.scheme).classes
        return Output(name, task.scheme, classes, name, "softmax")
    if task.scheme == YEARS_SCHEME:
        return years_output()
    if task.scheme == VALUE_SCHEME:
        return Output(AGE, VALUE_SCHEME, (), AGE, "value")
    groups = age_group_task(age_bins(task.scheme))
    return Output(groups.name, groups.scheme, groups.classes, AGE, "softmax")


def age_bins(scheme: str) -> tuple[int, ...]:
    """Lower bounds of the age groups of a scheme: a name of ``AGE_BINS`` or ``0,18,40``.

    Raises:
        UnknownNameError: If it is neither.
        SchemaError: If they are not two or more bounds that ascend from 0 to ``MAX_AGE`` at most.
    """
    if scheme in AGE_BINS:
        return AGE_BINS[scheme]
    try:
        bins = tuple(int(bound) for bound in scheme.split(","))
    except ValueError as error:
        known = (YEARS_SCHEME, VALUE_SCHEME, *AGE_BINS, "0,18,40")
        raise UnknownNameError("age scheme", scheme, known) from error
    if (
        len(bins) < 2
        or bins[0] != 0
        or any(low >= high for low, high in pairwise((*bins, MAX_AGE + 1)))
    ):
        raise SchemaError(
            f"{scheme}: give two or more ascending lower bounds from 0 to at most {MAX_AGE}, "
            "such as 0,18,40"
        )
    return bins
