"""What the torch runtime does for GPUs, on the CPU: slots, filled batches, memory that runs out."""

from __future__ import annotations

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from faceaudit.errors import UsageError
from faceaudit.models.bundle import Bundle
from faceaudit.runtimes import open_runtime, torch_runtime
from faceaudit.runtimes.torch_runtime import ROWS, Slot, TorchRuntime, devices_of

OUTPUTS = ["gender", "race", "age"]


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (21, 64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_values_do_not_depend_on_the_batch(
    random_bundle: Bundle, crops: NDArray[np.uint8], precision: str
) -> None:
    runtime = TorchRuntime(random_bundle, OUTPUTS, "cpu", precision)
    whole = runtime.infer(crops[:5])
    for size in (1, 3):
        parts = [runtime.infer(crops[start : min(start + size, 5)]) for start in range(0, 5, size)]
        for name, wanted in whole.items():
            assert np.array_equal(np.concatenate([part[name] for part in parts]), wanted)


def test_more_crops_than_a_batch_come_back_in_order(
    random_bundle: Bundle, crops: NDArray[np.uint8]
) -> None:
    assert len(crops) > ROWS["cpu"]
    runtime = TorchRuntime(random_bundle, OUTPUTS, "cpu")
    whole = runtime.infer(crops)
    for row in (0, len(crops) - 1):
        alone = runtime.infer(crops[row : row + 1])
        for name, values in whole.items():
            assert np.array_equal(values[row], alone[name][0])


class Means(nn.Module):
    """The mean of each image; out of memory above a number of them at once, as on a GPU."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.seen: Counter[int] = Counter()

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        self.seen[len(crops)] += 1
        if len(crops) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return (crops.float().mean(dim=(1, 2, 3))[:, None],)


def runtime_of(bundle: Bundle, network: nn.Module, *networks: nn.Module) -> TorchRuntime:
    """A runtime whose slots run these networks."""
    runtime = TorchRuntime(bundle, OUTPUTS, "cpu")
    runtime._outputs = ("gender",)
    runtime._slots.get()
    shape = (ROWS["cpu"], 64, 64, 3)
    for one in (network, *networks):
        runtime._slots.put(Slot(torch.device("cpu"), one, torch.float32, shape))
    return runtime


def test_a_device_out_of_memory_takes_fewer_at_once_with_the_same_results(
    random_bundle: Bundle, crops: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    network = Means(limit=4)
    runtime = runtime_of(random_bundle, network)
    wanted = crops.reshape(len(crops), -1).mean(axis=1, dtype=np.float64)
    with caplog.at_level(logging.WARNING):
        found = runtime.infer(crops)["gender"][:, 0]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert network.seen == {16: 1, 8: 1, 4: 6}
    assert [record.getMessage() for record in caplog.records] == [
        "cpu: out of memory; 8 images at once from now on",
        "cpu: out of memory; 4 images at once from now on",
    ]
    runtime.infer(crops)
    assert network.seen == {16: 1, 8: 1, 4: 12}


def test_no_memory_for_one_image_is_an_error_that_the_engine_knows(
    random_bundle: Bundle, crops: NDArray[np.uint8]
) -> None:
    runtime = runtime_of(random_bundle, Means(limit=0))
    with pytest.raises(MemoryError, match="no memory for one image"):
        runtime.infer(crops[:2])
    assert runtime._slots.qsize() == 1  # the slot is free again


def test_another_error_of_a_network_is_not_hidden(
    random_bundle: Bundle, crops: NDArray[np.uint8]
) -> None:
    class Broken(nn.Module):
        def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        runtime_of(random_bundle, Broken()).infer(crops)


def test_threads_share_several_devices_and_each_gets_its_own_results(
    random_bundle: Bundle, crops: NDArray[np.uint8]
) -> None:
    networks = [Means(limit=99), Means(limit=99)]
    runtime = runtime_of(random_bundle, *networks)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda k: runtime.infer(crops[k : k + 1])["gender"], range(21)))
    wanted = crops.reshape(len(crops), -1).mean(axis=1, dtype=np.float64)
    np.testing.assert_allclose(np.concatenate(found)[:, 0], wanted, rtol=1e-5)
    assert sum(sum(network.seen.values()) for network in networks) == 21
    assert all(network.seen for network in networks)


def test_cuda_is_every_gpu_and_a_number_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices_of("cuda") == [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert devices_of("cuda:1") == [torch.device("cuda", 1)]
    with pytest.raises(UsageError, match="no such GPU; there are cuda:0, cuda:1"):
        devices_of("cuda:2")
    with pytest.raises(UsageError, match="no such GPU"):
        devices_of("cuda:one")


@pytest.mark.parametrize(("flags", "warned"), [("avx2 fma", True), ("avx512_bf16", False)])
def test_a_processor_without_bfloat16_is_told_of(
    random_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    flags: str,
    warned: bool,
) -> None:
    read = Path.read_text

    def fake(path: Path, *args: object, **kwargs: object) -> str:
        if str(path) == "/proc/cpuinfo":
            return f"processor : 0\nflags\t\t: fpu {flags}\n"
        return read(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", fake)
    with caplog.at_level(logging.WARNING):
        TorchRuntime(random_bundle, OUTPUTS, "cpu", "bfloat16")
    assert [r.getMessage() for r in caplog.records if "bfloat16" in r.getMessage()] == (
        [
            "--precision bfloat16: this processor has no instructions for it; it is slower than "
            "float32 here"
        ]
        if warned
        else []
    )


def test_bfloat16_on_a_cpu_runs_in_torch_and_float16_does_not(random_bundle: Bundle) -> None:
    runtime = open_runtime(random_bundle, device="cpu", precision="bfloat16")
    assert isinstance(runtime, torch_runtime.TorchRuntime)
    assert runtime.facts()["precision"] == "bfloat16"
    with pytest.raises(UsageError, match="float16 needs a GPU"):
        open_runtime(random_bundle, device="cpu", precision="float16", runtime="torch")
