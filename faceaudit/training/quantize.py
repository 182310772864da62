"""`faceaudit quantize`: a bundle gets an int8 graph, and what it loses is measured and recorded."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from faceaudit.audit.changes import Change
from faceaudit.audit.paired_shares import tango_interval
from faceaudit.errors import UsageError
from faceaudit.labels.tables import recorded_tasks
from faceaudit.models.bundle import FACTS, Bundle, facts_of, hash_of, load_bundle
from faceaudit.models.int8 import INT8, POOLED, int8_graph
from faceaudit.models.quantize import KEPT_FLOAT, quantize_graph
from faceaudit.ordered import available_cores
from faceaudit.reporting.compare import compare
from faceaudit.runtimes import Runtime
from faceaudit.runtimes.onnx_runtime import OnnxRuntime, read_input
from faceaudit.runtimes.preprocess import prepare
from faceaudit.storage import atomic_write, write_text
from faceaudit.training.data import (
    METADATA_FILE,
    CropSet,
    central_view,
    is_held_out,
    read_crop,
    read_folder,
)
from faceaudit.training.validation_page import annotations_of, write_table

CALIBRATION = 256
"""Training crops that the ranges of activations are read from."""
METRICS = ("accuracy", "mae")
CONFIDENCE = 0.95


def quantize(model: str | Path, *, data: Sequence[Path], held_out: Sequence[Path] = ()) -> Bundle:
    """Give a bundle an int8 graph, compared with its float32 one face by face.

    The graph is calibrated on crops that the network was trained on. Accuracies and errors in years
    are compared on crops that it was not: ``predict --precision int8`` is refused unless the
    intervals exclude a loss of half a point (``int8.LIMITS``).

    Args:
        model: The name of a bundle that ships, or a bundle's folder; it is changed.
        data: Folders that ``prepare`` wrote, of images that the bundle was trained on. Of each, the
            share that trainings hold out is compared and the rest serves calibration.
        held_out: Folders that ``prepare`` wrote, none of whose images are in the training.

    Raises:
        InputError: If a folder is not as ``prepare`` writes it for this bundle.
        UsageError: If no folder is given.
        BundleError: If the graph cannot be quantized.
    """
    bundle = load_bundle(str(model))
    if not data:
        raise UsageError("--data: name at least one folder that `faceaudit prepare` wrote")
    training, sets = divided(bundle, data, held_out)
    graph = quantize_graph(bundle.graph, calibration_inputs(bundle, training))
    target = int8_graph(bundle)
    with atomic_write(target) as file:
        file.write(graph.SerializeToString())
    outputs = list(dict.fromkeys(task.tensor for task in bundle.tasks))
    plain, rounded = OnnxRuntime(bundle, outputs), OnnxRuntime(bundle, outputs, int8=target)
    facts = {
        "sha256": hash_of([target]),
        "made_by": f"onnxruntime {onnxruntime.__version__}",
        "calibrated_on": f"{CALIBRATION} training crops",
        "float32_layers": f"the first {KEPT_FLOAT} convolutions and what follows the pooling",
        "confidence": CONFIDENCE,
        "compared": compare_runtimes(bundle, sets, plain, rounded),
    }
    changed = replace(bundle, card={**bundle.card, INT8: facts})
    write_text(facts_path(bundle), json.dumps(facts_of(changed), indent=2) + "\n")
    return changed


def divided(
    bundle: Bundle, data: Sequence[Path], held_out: Sequence[Path]
) -> tuple[list[CropSet], list[tuple[Path, CropSet]]]:
    """Training crops folder by folder, and held-out crops with their folders.

    Raises:
        InputError: If a folder is not as ``prepare`` writes it for this bundle.
    """
    share = held_out_share(bundle)
    training, sets = [], []
    for folder in data:
        crops = read_views(folder, bundle)
        kept = np.asarray([is_held_out(digest, share) for digest in crops.sha256])
        training.append(crops.take(np.flatnonzero(~kept)))
        sets.append((folder, crops.take(np.flatnonzero(kept))))
    return training, [*sets, *((folder, read_views(folder, bundle)) for folder in held_out)]


def facts_path(bundle: Bundle) -> Path:
    """The JSON that holds a bundle's facts."""
    own = bundle.graph.with_suffix(".json")
    return own if own.is_file() else bundle.graph.with_name(FACTS)


def held_out_share(bundle: Bundle) -> float:
    """Share of the images that a bundle's training held out, by the hash of their bytes."""
    recipe = bundle.card.get("recipe", {})
    return float(recipe.get("data", recipe).get("validation_share", 0.1))


def read_views(folder: Path, bundle: Bundle) -> CropSet:
    """The crops of a folder that ``prepare`` wrote; labels are left to ``annotations_of``.

    Raises:
        InputError: If they are not aligned as the bundle needs them.
    """
    table, views = read_folder(Path(folder), bundle)
    return CropSet(
        files=tuple(Path(folder) / name for name in table["file_name"]),
        views=views,
        labels={},
        sha256=tuple(table["sha256"]),
    )


def calibration_inputs(bundle: Bundle, training: Sequence[CropSet]) -> NDArray[Any]:
    """Calibration images as the graph takes them: of every set as many, first by their hash."""
    size, each = bundle.input.size, CALIBRATION // len(training)
    chosen = [
        (crops.files[row], float(crops.views[row]))
        for crops in training
        for row in np.argsort(np.asarray(crops.sha256))[:each]
    ]
    with ThreadPoolExecutor(available_cores()) as pool:
        views = pool.map(lambda one: central_view(read_crop(one[0]), size, one[1]), chosen)
        crops = np.stack(list(views))
    session = onnxruntime.InferenceSession(str(bundle.graph), providers=["CPUExecutionProvider"])
    return prepare(crops, bundle.input, read_input(session, bundle)[1])


def compare_runtimes(
    bundle: Bundle, sets: Sequence[tuple[Path, CropSet]], first: Runtime, second: Runtime
) -> list[dict[str, Any]]:
    """How a bundle in one precision differs from itself in another, set by set and pooled.

    Returns:
        Per task, metric and set: the figure under the name of either precision, ``difference``
        (second minus first) with its interval ``low`` to ``high``, and the ``n`` faces behind it.
    """
    names = tuple(runner.facts()["precision"] for runner in (first, second))
    found: dict[tuple[str, str], list[tuple[str, Change]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        for folder, crops in sets:
            labels = annotations_of(crops, [folder])
            tasks = recorded_tasks([Path(folder) / METADATA_FILE])
            tables = [
                write_table(
                    bundle,
                    crops,
                    labels,
                    Path(name) / f"{side}.parquet",
                    runner,
                    annotated=tasks,
                )
                for side, runner in enumerate((first, second))
            ]
            compared = compare(*tables, by=[], mode="paired", formats=["json"])
            for change in compared.changes.changes:
                if not change.by and change.metric in METRICS and change.failures == "left out":
                    found[change.task, change.metric].append((Path(folder).name, change))
    return [
        _facts(on, change, names)
        for changes in found.values()
        for on, change in [*changes, (POOLED, _pooled(changes))]
    ]


def _facts(on: str, change: Change, names: tuple[str, ...]) -> dict[str, Any]:
    values = (change.first, change.second, change.difference, change.low, change.high)
    rounded = {
        name: None if value is None else round(value, 5)
        for name, value in zip((*names, "difference", "low", "high"), values, strict=True)
    }
    return {"task": change.task, "metric": change.metric, "on": on, "n": change.n, **rounded}


def _pooled(changes: Sequence[tuple[str, Change]]) -> Change:
    """All sets as one: shares by their counts, errors in years by means weighted by faces."""
    every = [change for _, change in changes]
    n = sum(change.n for change in every)
    first, second = (
        sum(change.n * (getattr(change, side) or 0.0) for change in every) / max(1, n)
        for side in ("first", "second")
    )
    low: float | None
    high: float | None
    if all(change.only_first is not None for change in every):
        lost, won = (
            sum(getattr(change, side) for change in every) for side in ("only_first", "only_second")
        )
        low, high = (float(bound) for bound in tango_interval(lost, won, n, CONFIDENCE))
    elif all(change.low is not None and change.high is not None for change in every):
        widths = [change.n * (change.high - change.low) for change in every]  # type: ignore[operator]
        half = float(np.sqrt(np.square(widths).sum())) / 2 / n
        low, high = second - first - half, second - first + half
    else:
        low = high = None
    return replace(
        every[0], n=n, first=first, second=second, difference=second - first, low=low, high=high
    )
