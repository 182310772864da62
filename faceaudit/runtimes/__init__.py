"""Runtimes: a batch of uint8 crops to the outputs of a bundle.

To add one: a file with a class that has ``name``, ``facts`` and ``infer``, and an entry in
``RUNTIMES``.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from faceaudit.errors import MissingExtraError, UnknownNameError, UsageError
from faceaudit.models.bundle import Bundle
from faceaudit.models.int8 import INT8, check_int8
from faceaudit.runtimes.outputs import try_out


class Runtime(Protocol):
    """Something that runs a bundle; ``infer`` may be called from several threads at once."""

    name: str

    def facts(self) -> dict[str, Any]:
        """Name, version, device and precision, for the table's metadata."""
        ...

    def infer(self, crops: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Raw outputs by name, (N, ...) each, of RGB crops (N, S, S, 3)."""
        ...


def _onnxruntime(
    bundle: Bundle,
    outputs: Sequence[str],
    device: str,
    precision: str,
    threads: int,
    rows: int | None = None,
) -> Runtime:
    from faceaudit.runtimes.onnx_runtime import OnnxRuntime

    return OnnxRuntime(bundle, outputs, threads, check_int8(bundle) if precision == INT8 else None)


def _torch(
    bundle: Bundle,
    outputs: Sequence[str],
    device: str,
    precision: str,
    threads: int,
    rows: int | None = None,
) -> Runtime:
    if find_spec("torch") is None:
        raise MissingExtraError(
            f"--precision {precision}" if device == "cpu" else f"--device {device}", "torch"
        )
    from faceaudit.runtimes.torch_runtime import TorchRuntime

    return TorchRuntime(bundle, outputs, device, precision, rows)


RUNTIMES: dict[str, Callable[..., Runtime]] = {
    "onnxruntime": _onnxruntime,
    "torch": _torch,
}

PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8")
PRECISIONS_OF = {
    "onnxruntime": ("auto", "float32", "int8"),
    "torch": ("auto", "float32", "bfloat16", "float16"),
}
"""What a runtime computes in; one that is not here decides for itself."""
DEVICES = ("auto", "cpu", "cuda", "cuda:N", "mps")


def choose_device(device: str) -> str:
    """``auto`` to the device that will be used; anything else is checked and returned.

    torch is imported only where the machine shows signs of a GPU: it takes seconds.
    """
    if device == "cpu" or device == "mps" or device.split(":")[0] == "cuda":
        return device
    if device != "auto":
        raise UnknownNameError("device", device, DEVICES)
    signs = Path("/proc/driver/nvidia/version").exists() or platform.system() == "Darwin"
    if not signs or find_spec("torch") is None:
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def open_runtime(
    bundle: Bundle,
    *,
    outputs: Sequence[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int = 1,
    runtime: str | None = None,
    rows: int | None = None,
) -> Runtime:
    """A bundle ready to run.

    Args:
        bundle: What to run.
        outputs: Names of the outputs wanted; by default all. The others are not computed.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto`` is float32 on a CPU and float16 on a GPU. A CPU also has ``bfloat16``,
            by torch, and ``int8`` where the bundle has a graph for it that was shown to lose less
            than ``int8.LIMITS``; a GPU has ``bfloat16`` and ``float32``.
        threads: Threads of one ``infer`` call on a CPU.
        runtime: A name in ``RUNTIMES``; by default ONNX Runtime on a CPU and torch elsewhere, for
            bfloat16 and for what a factory made.
        rows: Images that torch takes at once, to which fewer are filled up; by default as many as
            suit ``predict``. Others decide for themselves.

    Raises:
        BundleError: If the network fails, or its outputs are not what its facts say.
        UsageError: If the device or precision cannot be had.
        MissingExtraError: If torch is needed and not installed.
    """
    if device == "auto" and not bundle.for_torch:
        device = "cpu"
    device = choose_device(device)
    on_cpu = device == "cpu" and bundle.network is None
    if precision not in PRECISIONS:
        raise UnknownNameError("precision", precision, PRECISIONS)
    runtime = runtime or ("onnxruntime" if on_cpu and precision != "bfloat16" else "torch")
    if runtime not in RUNTIMES:
        raise UnknownNameError("runtime", runtime, RUNTIMES)
    if bundle.network is not None and runtime != "torch":
        raise UsageError(f"{bundle.graph}: runs in torch; export it to run it in {runtime}")
    if precision == "float16" and device == "cpu":
        raise UsageError("--precision float16 needs a GPU (--device cuda); a CPU has bfloat16")
    possible = PRECISIONS_OF.get(runtime, PRECISIONS)
    if precision not in possible:
        raise UsageError(
            f"--precision {precision} is not to be had in {runtime}; "
            f"choose one of: {', '.join(possible)}"
        )
    wanted = [task.tensor for task in bundle.tasks] if outputs is None else outputs
    wanted = list(dict.fromkeys(wanted))
    own = {} if rows is None else {"rows": rows}
    opened = RUNTIMES[runtime](bundle, wanted, device, precision, threads, **own)
    return try_out(bundle, opened, wanted)
