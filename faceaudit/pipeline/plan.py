"""Everything that a worker needs to score images, and the plain values that it is opened from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

import faceaudit
from faceaudit.faces import ALIGNMENTS, FACE_POLICIES, open_detector
from faceaudit.models.bundle import Bundle, Output
from faceaudit.models.load import load_model
from faceaudit.pipeline.checks import check_margin, checked, choose_outputs
from faceaudit.pipeline.crops import CropSettings
from faceaudit.pipeline.scores import predicted_tasks
from faceaudit.runtimes import Runtime, open_runtime
from faceaudit.schema import Task


@dataclass(frozen=True)
class Facts:
    """What a plan turned out to be: what a table says of it, and what two workers must share."""

    model: Mapping[str, Any]
    """Of which bytes it is, what it takes, and how its outputs are read (``Bundle.reading``)."""
    detector: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    precision: str
    version: str = faceaudit.__version__

    def difference(self, other: Facts) -> str:
        """What differs, with both values."""
        ours, theirs = flattened(vars(self)), flattened(vars(other))
        return ", ".join(
            f"{name} {ours.get(name)} and {theirs.get(name)}"
            for name in ours | theirs
            if ours.get(name) != theirs.get(name)
        )


@dataclass(frozen=True)
class Plan:
    """How images become rows."""

    bundle: Bundle
    crops: CropSettings
    runtime: Runtime
    outputs: tuple[Output, ...]
    age_bins: tuple[int, ...]
    schema: pa.Schema
    tasks: tuple[Task, ...]

    def facts(self) -> Facts:
        """What it is, as plain values."""
        runtime = self.runtime.facts()
        preprocessing = {
            "faces": self.crops.faces,
            "align": self.crops.align,
            "margin": self.crops.margin,
            "offset": self.crops.offset,
            "size": self.crops.size,
            "max_pixels": self.crops.max_pixels,
            "runtime": runtime,
        }
        detector = {**self.crops.detector.facts(), "enough_side": self.crops.enough_side}
        model = self.bundle.reading(self.outputs)
        return Facts(model, detector, preprocessing, runtime["precision"])


@dataclass(frozen=True)
class Settings:
    """What a plan is opened from: plain values, which travel to other processes and machines."""

    model: str
    tasks: tuple[str, ...]
    age_bins: tuple[int, ...]
    detector: str
    faces: str
    align: str | None
    """None as the model was trained."""
    margin: float | None
    """None as the model was trained."""
    max_pixels: int
    device: str
    precision: str
    runtime: str | None
    schema: pa.Schema
    """Of the table."""

    def open(self, bundle: Bundle | None = None) -> Plan:
        """Open detector and model.

        Args:
            bundle: The model, where it is loaded already.

        Raises:
            FaceauditError: If a name is unknown, or something is missing or damaged.
        """
        bundle = load_model(self.model) if bundle is None else bundle
        outputs = choose_outputs(bundle, self.tasks)
        crops = CropSettings(
            detector=open_detector(self.detector, device=self.device, threads=1),
            faces=checked("choice of faces", self.faces, FACE_POLICIES),
            size=bundle.input.size,
            align=checked("alignment", self.align or bundle.align, ALIGNMENTS),
            margin=bundle.margin if self.margin is None else check_margin(self.margin),
            offset=bundle.offset,
            max_pixels=self.max_pixels,
        )
        runtime = open_runtime(
            bundle,
            outputs=[output.tensor for output in outputs],
            device=self.device,
            precision=self.precision,
            runtime=self.runtime,
        )
        tasks = predicted_tasks(outputs, self.age_bins)
        return Plan(bundle, crops, runtime, outputs, self.age_bins, self.schema, tasks)


def flattened(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by the names that lead to them."""
    found: dict[str, Any] = {}
    for name, value in facts.items():
        nested = isinstance(value, Mapping)
        found |= flattened(value, f"{prefix}{name} ") if nested else {prefix + name: value}
    return found
