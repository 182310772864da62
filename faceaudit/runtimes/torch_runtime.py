"""torch on cuda, mps or a CPU: a bundle's network built anew and filled, or one that was made."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from faceaudit.errors import BundleError, UsageError
from faceaudit.memory import keep_freed_memory
from faceaudit.models import find_backbone
from faceaudit.models.bundle import Bundle
from faceaudit.models.factory import Prepared
from faceaudit.models.heads import Deployed, MultiTaskNetwork

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchRuntime:
    """A bundle's network on one device.

    One batch is on the device at a time; while it runs, other threads prepare the next ones.
    """

    name = "torch"

    def __init__(
        self, bundle: Bundle, outputs: Sequence[str], device: str, precision: str = "auto"
    ) -> None:
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise UsageError(f"--device {device}: torch finds no CUDA GPU; use --device cpu")
        if device == "mps" and not torch.backends.mps.is_available():
            raise UsageError("--device mps: torch finds no Apple GPU; use --device cpu")
        if not bundle.for_torch:
            raise BundleError(
                f"{bundle.graph}: names no backbone, so torch cannot build it; use --device cpu"
            )
        if precision == "auto":
            precision = "float16" if device.startswith("cuda") else "float32"
        keep_freed_memory()
        self.precision = precision
        self._device = torch.device(device)
        if bundle.network is not None:
            # As it was made: a view of its features may fail on channels that come last.
            self._outputs = tuple(outputs)
            self._network: nn.Module = Prepared(bundle, outputs).eval().to(self._device)
        else:
            deployed = load_network(bundle)
            deployed.network.keep(outputs)
            self._outputs = deployed.network.outputs
            self._network = deployed.to(self._device).to(memory_format=torch.channels_last)
        self._lock = threading.Lock()

    def facts(self) -> dict[str, Any]:
        return {
            "runtime": self.name,
            "version": torch.__version__,
            "device": self._device.type,
            "precision": self.precision,
        }

    def infer(self, crops: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        batch = torch.from_numpy(crops)
        cuda = self._device.type == "cuda"
        if cuda:
            batch = batch.pin_memory()
        with (
            self._lock,
            torch.inference_mode(),
            torch.autocast(
                self._device.type, DTYPES[self.precision], enabled=self.precision != "float32"
            ),
        ):
            values = self._network(batch.to(self._device, non_blocking=cuda))
            return {
                name: value.float().cpu().numpy()
                for name, value in zip(self._outputs, values, strict=True)
            }


def load_network(bundle: Bundle) -> Deployed:
    """A bundle's network in evaluation mode, on the CPU.

    Raises:
        BundleError: If the weights do not fit the backbone and heads that the bundle names.
    """
    backbone = find_backbone(bundle.card["backbone"])
    outputs = {task.output: max(1, len(task.classes)) for task in bundle.tasks}
    recipe = bundle.card.get("recipe", {})
    heads = recipe.get("heads", {"kind": "linear", "units": ()})
    network = MultiTaskNetwork(
        backbone.build(), backbone.features, outputs, kind=heads["kind"], units=heads["units"]
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
