"""What a network returned, held against what its facts say of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from faceaudit.errors import BundleError, FaceauditError
from faceaudit.models.bundle import Bundle, Output
from faceaudit.models.facts import expected

if TYPE_CHECKING:
    from faceaudit.runtimes import Runtime

TOLERANCE = 0.02
"""How far probabilities may sum from 1: networks in int8 and float16 round."""
TRIED = 2
"""Crops that a network is tried on: two, so that images cannot be mixed up unnoticed."""


def columns_of(
    raw: Mapping[str, NDArray[np.float32]], output: Output, rows: int
) -> NDArray[np.float32]:
    """The columns that one task is read from, (N, K).

    Args:
        raw: The runtime's outputs by name, (N, ...) each.
        output: What the output means.
        rows: How many images were given.

    Raises:
        BundleError: If the output does not have as many rows and columns as it should.
    """
    values = raw[output.tensor]
    shape = "x".join(map(str, values.shape)) or "a single number"
    if values.ndim == 0 or values.shape[0] != rows:
        raise BundleError(f"output {output.tensor!r} is {shape} for {rows} images; one row each")
    flat = values.reshape(rows, -1)
    stop = output.columns.stop
    if stop is not None and stop > flat.shape[1]:
        raise BundleError(
            f"output {output.output!r}: {output.tensor!r} is {shape}, too few columns"
        )
    found = flat[:, output.columns]
    if found.shape[1] not in output.widths:
        raise BundleError(f"output {output.output!r} is {shape}; {expected(output)}")
    return found


def try_out(bundle: Bundle, runner: Runtime, outputs: Collection[str]) -> Runtime:
    """The same runtime, once the network has been run and its outputs fit the facts.

    Args:
        bundle: What runs.
        runner: A runtime of it.
        outputs: Names of the outputs wanted.

    Raises:
        BundleError: If it fails, or returns what the facts do not say.
    """
    size = bundle.input.size
    crops = np.random.default_rng(0).integers(0, 256, (TRIED, size, size, 3), dtype=np.uint8)
    try:
        raw = runner.infer(crops)
    except FaceauditError:
        raise
    except Exception as error:  # of the user's network or of the runtime: there is no common base
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BundleError(
            f"{bundle.graph}: fails on {TRIED} images of {size}x{size} pixels ({reason})"
        ) from error
    for output in bundle.tasks:
        if output.tensor in outputs:
            try:
                _check(columns_of(raw, output, TRIED), output)
            except BundleError as error:
                raise BundleError(f"{bundle.graph}: {error}") from error
    return runner


def _check(values: NDArray[Any], output: Output) -> None:
    if not np.isfinite(values).all():
        raise BundleError(f"output {output.output!r} is not finite on random pixels; see its input")
    if output.activation != "none":
        return
    sums = values.astype(np.float64).sum(axis=1)
    whole = values.shape[1] == 1 or bool((np.abs(sums - 1) <= TOLERANCE).all())
    if values.min() < -TOLERANCE or values.max() > 1 + TOLERANCE or not whole:
        wanted = "years" if output.is_age else "softmax or sigmoid"
        shown = ", ".join(f"{value:.3g}" for value in values[0, :4])
        raise BundleError(
            f"output {output.output!r} are no probabilities (of one image {shown}"
            f"{', ...' * (values.shape[1] > 4)}), but activation 'none' means so; use {wanted}"
        )
