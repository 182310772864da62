"""Norms folded into their convolutions while a pretrained trunk is fine-tuned.

Batch norms take about half the time of a training step on a CPU. A pretrained trunk can do without:
its statistics stay as they are and become part of the convolutions' weights and biases, which go on
learning. Before a bundle is written the norms are put back, so that it has the usual layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from faceaudit.errors import UsageError

TOLERANCE = 1e-3
"""Largest relative difference of the feature maps before and after."""


class Folded(nn.Module):
    """Stands where a norm was that its convolution has absorbed; keeps the norm's activation."""

    def __init__(self, norm: nn.BatchNorm2d, conv: nn.Conv2d) -> None:
        super().__init__()
        # timm's BatchNormAct2d applies these behind the norm.
        self.after = nn.Sequential(
            *(getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name))
        )
        # In a tuple, so that neither is a part of this module.
        self.kept = (norm, conv, conv.bias is not None)

    def forward(self, maps: Tensor) -> Tensor:
        found: Tensor = self.after(maps)
        return found


def fold_norms(trunk: nn.Module, size: int) -> int:
    """Fold every batch norm that follows a convolution into it; returns how many.

    Args:
        trunk: Changed in place; its feature maps stay the same.
        size: Of an input that it accepts, in pixels.

    Raises:
        UsageError: If the trunk is wired so that its feature maps would change.
    """
    example = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)) - 0.5
    was_training = trunk.training
    trunk.eval()
    with torch.no_grad():
        before = trunk(example)
        pairs = _pairs(trunk, example)
        for name, norm, conv in pairs:
            folded = Folded(norm, conv)
            mean, variance = _statistics(norm)
            scale = norm.weight / torch.sqrt(variance + norm.eps)
            shift = norm.bias - mean * scale
            bias = shift if conv.bias is None else shift + conv.bias * scale
            conv.weight.mul_(scale[:, None, None, None])
            conv.bias = nn.Parameter(bias.clone())
            trunk.set_submodule(name, folded)
        difference = (trunk(example) - before).abs().max() / before.abs().max().clamp(min=1e-6)
    trunk.train(was_training)
    if not difference <= TOLERANCE:
        raise UsageError('norms: those of this backbone cannot be folded; set norms = "batch"')
    return len(pairs)


def unfold_norms(trunk: nn.Module) -> None:
    """Put folded norms back, as norms that only add the bias; feature maps stay the same."""
    folded = [(name, part) for name, part in trunk.named_modules() if isinstance(part, Folded)]
    with torch.no_grad():
        for name, part in folded:
            norm, conv, had_bias = part.kept
            mean, variance = _statistics(norm)
            mean.fill_(0)
            variance.fill_(1 - norm.eps)
            norm.weight.fill_(1)
            if conv.bias is not None:
                norm.bias.copy_(conv.bias)
                conv.bias = nn.Parameter(torch.zeros_like(conv.bias)) if had_bias else None
            trunk.set_submodule(name, norm)


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Running mean and variance of a norm."""
    if norm.running_mean is None or norm.running_var is None:
        raise UsageError('norms: those of this backbone keep no statistics; set norms = "batch"')
    return norm.running_mean, norm.running_var


def _pairs(trunk: nn.Module, example: Tensor) -> list[tuple[str, nn.BatchNorm2d, nn.Conv2d]]:
    """Name and module of every norm, with the convolution whose output alone it reads."""
    outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # the tensors live on, so ids stay theirs
    found: list[tuple[str, nn.BatchNorm2d, nn.Conv2d]] = []
    hooks = []
    for name, part in trunk.named_modules():
        if isinstance(part, nn.Conv2d):

            def note(conv: nn.Module, _: object, output: Tensor) -> None:
                if isinstance(conv, nn.Conv2d):
                    outputs[id(output)] = (conv, output)

            hooks.append(part.register_forward_hook(note))
        elif isinstance(part, nn.BatchNorm2d):

            def match(norm: nn.Module, given: tuple[Tensor, ...], name: str = name) -> None:
                source = outputs.get(id(given[0]))
                if source is not None and isinstance(norm, nn.BatchNorm2d):
                    found.append((name, norm, source[0]))

            hooks.append(part.register_forward_pre_hook(match))
    try:
        trunk(example)
    finally:
        for hook in hooks:
            hook.remove()
    return found
