"""Several processes that train one network together, as ``torchrun`` starts them.

Each takes an equal share of every batch; gradients are averaged over all of them, so every process
holds the same weights. Losses are divided by the known labels of all processes, whoever holds them.
On GPUs, batch norms that are trained take their statistics from the whole batch. On CPUs, for which
torch has no such norms, each process normalizes by its own share, and keeps the statistics of the
leading one; with ``norms = "folded"`` there are none. The first process leads: it alone validates,
writes and speaks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from faceaudit.errors import UsageError

ENVIRONMENT = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
"""What ``torchrun`` tells each process."""

LONGEST_WAIT = timedelta(hours=6)
"""For the leading process: it hashes all crops before the first step, and audits after the last."""


@dataclass(frozen=True)
class Group:
    """The processes of a training, as one of them sees them: its rank, and the world size."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process validates and writes."""
        return self.rank == 0

    def check(self, batch: int) -> None:
        """Refuse a batch that cannot be shared evenly.

        Raises:
            UsageError: If the number of processes does not divide it.
        """
        if batch % self.size:
            raise UsageError(
                f"a batch of {batch} crops cannot be shared evenly by {self.size} processes; "
                f"--set batch={-(-batch // self.size) * self.size} works"
            )

    def whole(self, crops: int) -> int:
        """How many of an epoch's crops can be shared evenly: all but a few of the last."""
        return crops // self.size * self.size

    def share(self, order: Sequence[int], batch: int) -> list[int]:
        """This process's crops of an epoch: an equal share of every batch.

        Args:
            order: Positions of the epoch's crops, as many as ``whole`` says.
            batch: Crops of one batch, over all processes.
        """
        starts = range(0, len(order), batch)
        return [
            position
            for start in starts
            for position in order[start : start + batch][self.rank :: self.size]
        ]

    def joined(self, network: nn.Module, device: torch.device, whole: bool = True) -> nn.Module:
        """The network to run forward, whose gradients are averaged over the group (DDP).

        On a GPU its norms are changed in place to those of the whole batch. Where it is not used
        ``whole``, as some trunks of timm, the parameters without a gradient are looked for.
        """
        if self.size == 1:
            return network
        if device.type == "cuda":
            join_norms(network)
        places = [device.index] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(
            network, device_ids=places, find_unused_parameters=not whole
        )

    def means(self, values: Mapping[str, float]) -> dict[str, float]:
        """Numbers averaged over the processes; each gives the same names in the same order."""
        if self.size == 1:
            return dict(values)
        place = "cuda" if dist.get_backend() == "nccl" else "cpu"
        sums = torch.tensor(list(values.values()), dtype=torch.float64, device=place)
        dist.all_reduce(sums)
        return dict(zip(values, (sums / self.size).tolist(), strict=True))

    def broadcast(self, tell: Callable[[], Any]) -> Any:
        """What the leading process finds, in every process; the others wait for it."""
        if self.size == 1:
            return tell()
        found = [tell() if self.leads else None]
        dist.broadcast_object_list(found)
        return found[0]

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.size > 1:
            dist.barrier()


def join_norms(network: nn.Module) -> None:
    """Let batch norms that are trained take their statistics from the batch of all processes.

    Args:
        network: Changed in place; parameters, statistics and their names stay. Modules that it
            names as ``frozen`` are left as they are.
    """
    # Not torch's own, which loses the activation that timm's norms hold.
    from timm.layers.norm_act import convert_sync_batchnorm

    frozen = set(getattr(network, "frozen", ()))
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module not in frozen:
            joined = convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
            network.set_submodule(name, joined)


ALONE = Group()
"""One process that trains by itself."""


@contextmanager
def open_group(device: str) -> Iterator[tuple[Group, str]]:
    """The group that ``torchrun`` started, and this process's device; alone without it.

    Args:
        device: ``cpu``, or ``cuda`` where each process takes the GPU of its local number.

    Raises:
        UsageError: If a machine has fewer GPUs than processes.
    """
    facts = [int(os.environ[name]) for name in ENVIRONMENT if name in os.environ]
    if len(facts) < len(ENVIRONMENT) or facts[2] == 1 or dist.is_initialized():
        yield ALONE, device
        return
    rank, local, size = facts
    if device.startswith("cuda"):
        if local >= torch.cuda.device_count():
            raise UsageError(
                f"torchrun started process {local + 1} on a machine with "
                f"{torch.cuda.device_count()} GPUs; give --nproc-per-node that number"
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=LONGEST_WAIT)
    try:
        yield Group(rank, size), device
    finally:
        dist.destroy_process_group()
