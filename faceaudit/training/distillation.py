"""Teachers: bundles whose outputs a training learns from beside the labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from faceaudit.errors import UsageError
from faceaudit.models.bundle import Bundle, load_bundle
from faceaudit.models.facts import Output
from faceaudit.models.int8 import INT8, check_int8
from faceaudit.runtimes import Runtime, open_runtime
from faceaudit.runtimes.outputs import columns_of
from faceaudit.training.recipe import Recipe

CROP_FACTS = ("align", "margin", "offset")


@dataclass(frozen=True)
class Teacher:
    """A bundle that is ready to run, and where its outputs are."""

    bundle: Bundle
    runtime: Runtime
    outputs: tuple[tuple[str, Output], ...]
    """Name of the recipe's output, and the teacher's output of the same meaning."""

    def logits(self, crops: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Logits (N, K) by name of the recipe's output, of RGB crops (N, S, S, 3) of any size."""
        raw = self.runtime.infer(resized(crops, self.bundle.input.size))
        return {name: columns_of(raw, output, len(crops)) for name, output in self.outputs}


@dataclass(frozen=True)
class Teachers:
    """The bundles that a recipe learns from; none where it names none."""

    members: tuple[Teacher, ...] = ()
    mirrored: bool = False
    """Whether each says the mean of what it says of the crops and of their mirrors."""

    @property
    def sha256(self) -> list[str]:
        """The hashes of the bundles, in the recipe's order."""
        return [teacher.bundle.sha256 for teacher in self.members]

    def logits(self, crops: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Mean of the teachers' logits by name of the output, (N, K) float32; empty without any.

        May be called from several threads at once. Costs one forward pass per teacher, or two
        where they look at mirrors.

        Args:
            crops: RGB pixels (N, S, S, 3), as the network that learns sees them.
        """
        if not self.members or not len(crops):
            return {}
        views = [crops, np.ascontiguousarray(crops[:, :, ::-1])] if self.mirrored else [crops]
        found = [teacher.logits(view) for teacher in self.members for view in views]
        return {name: np.mean([one[name] for one in found], axis=0) for name in found[0]}


NO_TEACHERS = Teachers()


def open_teachers(recipe: Recipe, device: str, rows: int | None = None) -> Teachers:
    """The teachers of a recipe, ready to run.

    Args:
        recipe: Whose ``distillation.teachers`` they are.
        device: ``cpu`` (one thread for each call), ``cuda:N`` or ``mps``.
        rows: Images of one batch, which torch then takes at once, neither more nor less.

    Raises:
        BundleError: If a bundle is missing or damaged.
        UsageError: If one has other tasks, or crops cut otherwise, than the recipe, or cannot run
            in the precision.
    """
    settings = recipe.distillation
    members = tuple(_open(name, recipe, device, rows) for name in settings.teachers)
    return Teachers(members, settings.mirrored)


def load_teacher(name: str, recipe: Recipe) -> Bundle:
    """A bundle that a recipe learns from.

    Raises:
        BundleError: If it is missing or damaged, or has no int8 graph where the recipe asks for it.
        UsageError: If it has other tasks, or crops cut otherwise, than the recipe.
    """
    bundle = load_bundle(name)
    if differences := list(_differences(bundle, recipe)):
        raise UsageError(
            f"recipe {recipe.name}: distillation.teachers: {name}: {'; '.join(differences)}"
        )
    if recipe.distillation.precision == INT8:
        check_int8(bundle)
    return bundle


def _open(name: str, recipe: Recipe, device: str, rows: int | None) -> Teacher:
    bundle = load_teacher(name, recipe)
    given = {output.name: output for output in bundle.tasks}
    outputs = tuple((one.output, given[one.name]) for one in recipe.outputs())
    tensors = [output.tensor for _, output in outputs]
    precision = recipe.distillation.precision
    runtime = open_runtime(bundle, outputs=tensors, device=device, precision=precision, rows=rows)
    return Teacher(bundle, runtime, outputs)


def _differences(bundle: Bundle, recipe: Recipe) -> Iterator[str]:
    """What keeps a bundle from teaching a recipe, in words."""
    for fact in CROP_FACTS:
        own, wanted = getattr(bundle, fact), getattr(recipe, fact)
        counts = fact != "offset" or recipe.align == "similarity"  # boxes are not moved
        if own != wanted and counts:
            yield f"its {fact} is {own}, the recipe's {wanted}"
    yield from differing_outputs(bundle, recipe)


def differing_outputs(bundle: Bundle, recipe: Recipe) -> Iterator[str]:
    """What outputs of a recipe a bundle has not, in words."""
    given = {output.name: output for output in bundle.tasks}
    for output in recipe.outputs():
        found = given.get(output.name)
        if found is None:
            yield f"it has no task {output.name}, only {', '.join(given)}"
        elif found.scheme != output.scheme:
            yield f"its {output.name} has scheme {found.scheme}, the recipe's {output.scheme}"
        elif found.classes != output.classes:
            yield f"its classes of {output.name} are others, or in another order"
        elif found.activation != output.activation:
            yield f"its {output.name} has activation {found.activation}, not {output.activation}"


def resized(crops: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Square crops (N, S, S, 3) at another size, (N, size, size, 3)."""
    if crops.shape[1] == size:
        return crops
    how = cv2.INTER_AREA if size < crops.shape[1] else cv2.INTER_LINEAR
    found = [cv2.resize(crop, (size, size), interpolation=how) for crop in crops]
    return np.asarray(found, np.uint8)
