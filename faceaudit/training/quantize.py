"""`faceaudit quantize`: a bundle gets an int8 graph, and what it loses is measured and recorded."""

from __future__ import annotations

import logging
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from faceaudit.audit.changes import Change
from faceaudit.audit.paired_shares import tango_interval
from faceaudit.errors import InputError, UsageError
from faceaudit.models.bundle import Bundle, hash_of, load_bundle, write_facts
from faceaudit.models.int8 import INT8, POOLED, int8_graph
from faceaudit.models.quantize import KEPT_FLOAT, quantize_graph
from faceaudit.reporting.compare import compare
from faceaudit.runtimes import Runtime
from faceaudit.runtimes.onnx_runtime import OnnxRuntime, read_input
from faceaudit.runtimes.preprocess import prepare
from faceaudit.storage import atomic_write, exclusive
from faceaudit.training.ancestors import held_out_share
from faceaudit.training.data import (
    DECODING_ERRORS,
    CropSet,
    Pixels,
    central_view,
    is_held_out,
    read_crop,
    read_folder,
)
from faceaudit.training.folders import names_of
from faceaudit.training.validation_page import annotations_of, write_table

log = logging.getLogger(__name__)

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
            share that the training held out, by its card, is compared; the rest serves calibration.
        held_out: Folders that ``prepare`` wrote, none of whose images are in the training.

    Raises:
        InputError: If a folder is not as ``prepare`` writes it for this bundle, or the bundle's
            cannot be written to.
        UsageError: If there is nothing to calibrate or to compare on.
        BundleError: If the graph cannot be quantized.
    """
    if not data:
        raise UsageError("--data: name at least one folder that `faceaudit prepare` wrote")
    with exclusive(load_bundle(model).graph.parent):
        return _quantized(load_bundle(model), data, held_out)


def _quantized(bundle: Bundle, data: Sequence[Path], held_out: Sequence[Path]) -> Bundle:
    """The bundle with its int8 graph; nobody else writes to it meanwhile."""
    training, sets = divided(bundle, data, held_out)
    outputs = list(dict.fromkeys(task.tensor for task in bundle.tasks))
    target = int8_graph(bundle)
    trial = target.with_name(f".{target.name}.trial")
    with atomic_write(trial) as file:
        inputs = calibration_inputs(bundle, training)
        file.write(quantize_graph(bundle.graph, inputs).SerializeToString())
    try:
        plain, rounded = OnnxRuntime(bundle, outputs), OnnxRuntime(bundle, outputs, int8=trial)
        facts = {
            "sha256": hash_of([trial]),
            "made_by": f"onnxruntime {onnxruntime.__version__}",
            "calibrated_on": f"{len(inputs)} training crops",
            "float32_layers": f"the first {KEPT_FLOAT} convolutions and what sees pooled maps only",
            "confidence": CONFIDENCE,
            "compared": compare_runtimes(bundle, sets, plain, rounded),
        }
        if not facts["compared"]:
            folders = ", ".join(str(folder) for folder, _ in sets)
            raise UsageError(f"{folders}: no held-out crop is annotated with a task of the bundle")
        # Killed before its facts are written, the bundle has none of a graph, never wrong ones.
        card = {name: one for name, one in bundle.card.items() if name != INT8}
        write_facts(replace(bundle, card=card))
        trial.replace(target)
    finally:
        trial.unlink(missing_ok=True)
    changed = replace(bundle, card={**bundle.card, INT8: facts})
    write_facts(changed)
    return changed


def divided(
    bundle: Bundle, data: Sequence[Path], held_out: Sequence[Path]
) -> tuple[list[CropSet], list[tuple[Path, CropSet]]]:
    """Training crops folder by folder, and held-out crops with their folders; each face once.

    Images of ``data`` that the bundle's card does not say were held out count as trained on, and
    are left out of ``held_out`` too.

    Raises:
        InputError: If a folder is not as ``prepare`` writes it for this bundle.
        UsageError: If there are no crops for one of the two.
    """
    share = held_out_share(bundle)
    training, kept = [], []
    trained: set[str] = set()
    for folder in data:
        crops = read_views(folder, bundle)
        held = np.asarray([share is not None and is_held_out(one, share) for one in crops.sha256])
        training.append(crops.take(np.flatnonzero(~held)))
        kept.append((folder, crops.take(np.flatnonzero(held))))
        trained.update(training[-1].sha256)
    seen: set[tuple[str, str]] = set()
    sets = []
    for folder, crops in [*kept, *((folder, read_views(folder, bundle)) for folder in held_out)]:
        fresh = crops.take(np.flatnonzero(_are_new(crops, trained, seen)))
        if len(fresh) < len(crops):
            count = f"{len(crops) - len(fresh):,} of {len(crops):,}"
            log.info("%s: %s held-out crops were seen before, and are left out", folder, count)
        if len(fresh):
            sets.append((folder, fresh))
    named = ", ".join(map(str, data))
    if not any(len(crops) for crops in training):
        raise UsageError(f"--data: {named}: has no crops that {bundle.name} was trained on")
    if not sets:
        known = "its card does not say what it held out" if share is None else "too few images"
        raise UsageError(
            f"--data: {named}: no crop is known to be held out by {bundle.name} ({known}); name "
            "folders of other images with --held-out"
        )
    return training, sets


def _are_new(crops: CropSet, trained: set[str], seen: set[tuple[str, str]]) -> NDArray[np.bool_]:
    """Whether each crop's image was not trained on and its face is met for the first time, (N,)."""
    new = []
    for digest, file in zip(crops.sha256, crops.files, strict=True):
        face = (digest, file.stem.rpartition("_")[2])  # number of the image, number of the face
        new.append(digest not in trained and face not in seen)
        seen.add(face)
    return np.asarray(new, bool)


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
    """Calibration images as the graph takes them: of every set as many, first by their hash.

    Raises:
        InputError: If no crop can be read.
    """
    size, each = bundle.input.size, -(-CALIBRATION // len(training))

    def view(crops: CropSet, row: int) -> Pixels | None:
        try:
            return central_view(read_crop(crops.files[row]), size, float(crops.views[row]))
        except DECODING_ERRORS:
            return None

    found = []
    for crops in training:
        seen = (view(crops, row) for row in np.argsort(np.asarray(crops.sha256)))
        found += list(islice((one for one in seen if one is not None), each))
    if not found:
        raise InputError(f"{training[0].files[0].parent}: no crop there can be read")
    if len(found) < CALIBRATION:
        log.warning("only %d training crops to calibrate on, not %d", len(found), CALIBRATION)
    views = np.stack(found[:CALIBRATION])
    session = onnxruntime.InferenceSession(str(bundle.graph), providers=["CPUExecutionProvider"])
    return prepare(views, bundle.input, read_input(session, bundle)[1])


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
    titles = names_of([Path(folder) for folder, _ in sets])
    with tempfile.TemporaryDirectory() as name:
        for (folder, crops), title in zip(sets, titles, strict=True):
            labels, tasks = annotations_of(bundle, crops, [Path(folder)])
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
                    found[change.task, change.metric].append((title, change))
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
