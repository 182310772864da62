"""Everything that a worker needs to score images."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from faceaudit.models.bundle import Output
from faceaudit.pipeline.crops import CropSettings
from faceaudit.runtimes import Runtime
from faceaudit.schema import Task


@dataclass(frozen=True)
class Plan:
    """How images become rows."""

    crops: CropSettings
    runtime: Runtime
    outputs: tuple[Output, ...]
    age_bins: tuple[int, ...]
    schema: pa.Schema
    tasks: tuple[Task, ...]
