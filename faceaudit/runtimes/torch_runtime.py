"""torch on cuda, mps or a CPU: a bundle's network built anew and filled, or one that was made."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from faceaudit.errors import BundleError, UsageError
from faceaudit.memory import keep_freed_memory
from faceaudit.models.backbones import find_backbone
from faceaudit.models.bundle import Bundle
from faceaudit.models.factory import Prepared
from faceaudit.models.heads import Deployed, MultiTaskNetwork
from faceaudit.runtimes.processor import BFLOAT16, has_instructions

log = logging.getLogger(__name__)

MEMORY_SIGNS = ("out of memory", "allocate memory", "alloc_cpu", "bad_alloc")
"""What torch says by a general type of error when the memory of a CPU is full."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ROWS = {"cuda": 128, "mps": 64, "cpu": 16}
"""Images that a network takes at once, by kind of device. Fewer are filled up to it: libraries
choose other algorithms for other sizes, and a row's values are not to depend on its neighbors."""
SLOTS = 2
"""Batches under way per GPU: one is copied while the other is computed."""


class TorchRuntime:
    """A bundle's network on one device, or on each of several GPUs.

    ``infer`` may be called by several threads at once. Each takes whichever slot is free, so that
    GPUs share the work as fast as they are, and waits for its own results: their order is that of
    the calls.
    """

    name = "torch"

    def __init__(
        self,
        bundle: Bundle,
        outputs: Sequence[str],
        device: str,
        precision: str = "auto",
        rows: int | None = None,
    ) -> None:
        devices = devices_of(device)
        if not bundle.for_torch:
            raise BundleError(
                f"{bundle.graph}: names no backbone, so torch cannot build it; use --device cpu"
            )
        kind = devices[0].type
        if precision == "auto":
            precision = "float16" if kind == "cuda" else "float32"
        if kind == "cpu" and precision == "bfloat16" and not has_instructions(BFLOAT16):
            log.warning(
                "--precision bfloat16: this processor has no instructions for it; it is slower "
                "than float32 here"
            )
        keep_freed_memory()
        self.precision = precision
        self._kind = kind
        self._rows = rows or ROWS[kind]
        self._slots: SimpleQueue[Slot] = SimpleQueue()
        lanes = [_network(bundle, outputs, one) for one in devices]
        self._outputs = lanes[0][1]
        size = bundle.input.size
        for _ in range(SLOTS if kind == "cuda" else 1):
            for one, (network, _) in zip(devices, lanes, strict=True):
                self._slots.put(Slot(one, network, DTYPES[precision], (self._rows, size, size, 3)))

    def facts(self) -> dict[str, Any]:
        return {
            "runtime": self.name,
            "version": torch.__version__,
            "device": self._kind,
            "precision": self.precision,
        }

    def infer(self, crops: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Raw outputs by name, (N, ...) each, of RGB crops (N, S, S, 3).

        Raises:
            MemoryError: If the device's memory does not suffice for one image.
        """
        slot = self._slots.get()
        try:
            parts = []
            start = 0
            while start < len(crops):
                rows = self._rows
                try:
                    parts.append(slot.run(crops[start : start + rows], rows))
                except RuntimeError as error:
                    self._use_fewer(error, rows)
                    continue
                start += rows
        finally:
            self._slots.put(slot)
        values = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return dict(zip(self._outputs, values, strict=True))

    def _use_fewer(self, error: RuntimeError, rows: int) -> None:
        """Take half as many images at once from now on, where the device ran out of memory."""
        if not is_out_of_memory(error):
            raise error
        if self._kind == "cuda":
            torch.cuda.empty_cache()
        if rows == 1:
            raise MemoryError(f"{self._kind}: no memory for one image") from error
        if self._rows == rows:
            self._rows = rows // 2
            log.warning("%s: out of memory; %d images at once from now on", self._kind, self._rows)


class Slot:
    """Room for one batch on its way to a device, through the network and back.

    On a GPU the batch lies in pinned memory, which is allocated once, and goes through a stream of
    its own: while one slot computes, another copies.

    Args:
        device: Where the network is.
        network: From uint8 crops to a tuple of outputs.
        dtype: What it computes in.
        shape: Of the largest batch, (N, S, S, 3).
    """

    def __init__(
        self, device: torch.device, network: nn.Module, dtype: torch.dtype, shape: tuple[int, ...]
    ) -> None:
        cuda = device.type == "cuda"
        self._device, self._network, self._dtype = device, network, dtype
        self._stream = torch.cuda.Stream(device) if cuda else None  # type: ignore[no-untyped-call]
        self._staged = torch.zeros(shape, dtype=torch.uint8, pin_memory=cuda)
        if cuda:
            torch.cuda.synchronize(device)  # the weights went there through another stream

    def run(self, crops: NDArray[np.uint8], rows: int) -> list[NDArray[np.float32]]:
        """Outputs of up to ``rows`` crops, a row each; the batch is filled up to ``rows``."""
        count = len(crops)
        staged = self._staged[:rows]
        staged.numpy()[:count] = crops
        with self._queue(), torch.inference_mode(), self._precision():
            values = self._network(staged.to(self._device, non_blocking=True))
            found = [_to_host(value.float()) for value in values]
        if self._stream is not None:
            self._stream.synchronize()
        return [_first_rows(value.numpy(), count, rows) for value in found]

    @contextmanager
    def _queue(self) -> Iterator[None]:
        """Everything within goes through this slot's stream, in order."""
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            yield

    def _precision(self) -> torch.autocast:
        low = self._dtype != torch.float32
        return torch.autocast(self._device.type, self._dtype if low else None, enabled=low)


def _first_rows(value: NDArray[np.float32], count: int, rows: int) -> NDArray[np.float32]:
    """A copy of the rows of the first images, of an output of so many."""
    if value.ndim == 0 or len(value) != rows:
        shape = "x".join(map(str, value.shape)) or "a single number"
        raise BundleError(f"an output is {shape} for {rows} images; one row each")
    return value[:count].copy()


def _to_host(value: Tensor) -> Tensor:
    """A copy in memory that the processor reads, ready when the stream is."""
    if value.device.type != "cuda":
        return value.cpu()
    host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
    return host.copy_(value, non_blocking=True)


def devices_of(device: str) -> list[torch.device]:
    """The devices of ``cpu``, ``mps``, ``cuda`` (all GPUs that are visible) or ``cuda:N``.

    Raises:
        UsageError: If there is no such device.
    """
    if device == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: torch finds no Apple GPU; use --device cpu")
    if not device.startswith("cuda"):
        return [torch.device(device)]
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise UsageError(f"--device {device}: torch finds no CUDA GPU; use --device cpu")
    if device == "cuda":
        return [torch.device("cuda", number) for number in range(count)]
    number = device.removeprefix("cuda:")
    if not (number.isdecimal() and int(number) < count):
        known = ", ".join(f"cuda:{one}" for one in range(count))
        raise UsageError(f"--device {device}: there is no such GPU; there are {known}")
    return [torch.device("cuda", int(number))]


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error tells of a memory that was full, a device's or the machine's."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    said = isinstance(error, RuntimeError) and any(sign in str(error) for sign in MEMORY_SIGNS)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or said


def _network(
    bundle: Bundle, outputs: Sequence[str], device: torch.device
) -> tuple[nn.Module, tuple[str, ...]]:
    """A bundle's network on a device, and the names of its outputs in order."""
    if bundle.network is not None:
        # As it was made: a view of its features may fail on channels that come last.
        made = Prepared(bundle, outputs).eval()
        return (deepcopy(made) if device.index else made).to(device), tuple(outputs)
    deployed = load_network(bundle)
    deployed.network.keep(outputs)
    network = deployed.to(device).to(memory_format=torch.channels_last)
    return network, deployed.network.outputs


def load_network(bundle: Bundle) -> Deployed:
    """A bundle's network in evaluation mode, on the CPU.

    Raises:
        BundleError: If the weights do not fit the backbone and heads that the bundle names.
    """
    backbone = find_backbone(bundle.card["backbone"])
    outputs = {one.output: one.size for one in bundle.tasks}
    recipe = bundle.card.get("recipe", {})
    heads = recipe.get("heads", {"kind": "linear", "units": ()})
    network = MultiTaskNetwork(
        backbone.build(),
        backbone.features,
        outputs,
        kind=heads["kind"],
        units=heads["units"],
        mirrored=bool(recipe.get("mirrored")),
    )
    scales = {
        task.output: recipe["tasks"][task.name]["scale"]
        for task in bundle.tasks
        if task.activation == "value"
    }
    gray = bool(recipe.get("gray"))
    deployed = Deployed(network, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), gray, scales)
    missing, unexpected = deployed.load_state_dict(load_file(bundle.weights), strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise BundleError(
            f"{bundle.weights}: does not fit {backbone.name} "
            f"({len(missing)} tensors missing, {len(unexpected)} unexpected)"
        )
    return deployed.eval()
