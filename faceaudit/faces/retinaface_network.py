"""RetinaFace on a quarter-width MobileNetV1, for inference: batch norms are folded into biases.

The network serves one purpose, to write the ONNX file that the detector runs; see
``scripts/convert_retinaface.py``. It is the only module of this package that needs torch.

Source:
    Deng, Guo, Ververas, Kotsia, Zafeiriou: RetinaFace: Single-Shot Multi-Level Face Localisation in
    the Wild, CVPR 2020. Context modules: Najibi et al.: SSH, ICCV 2017.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceaudit.faces.anchors import ANCHORS_PER_CELL, MEAN_RGB, STRIDES

WIDTH = 64
"""Channels of every pyramid level."""
SLOPE = 0.1
"""Slope of the leaky ReLU for negative inputs."""

# (output channels, stride of the depthwise convolution) of every separable block
TRUNK = (
    ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1)),  # ends at stride 8
    ((128, 2), (128, 1), (128, 1), (128, 1), (128, 1), (128, 1)),  # ends at stride 16
    ((256, 2), (256, 1)),  # ends at stride 32
)


def convolution(
    channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A convolution that keeps the size (at stride 1) and carries a folded batch norm."""
    return nn.Conv2d(
        channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, groups=groups
    )


def activated(
    channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution followed by the leaky ReLU of this network."""
    layer = convolution(channels_in, channels_out, kernel, stride=stride, groups=groups)
    return nn.Sequential(layer, nn.LeakyReLU(SLOPE))


class Trunk(nn.Module):
    """MobileNetV1 at a quarter of its width: features at strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = activated(3, 8, 3, stride=2)
        channels, stages = 8, []
        for blocks in TRUNK:
            layers: list[nn.Module] = []
            for channels_out, stride in blocks:
                layers.append(activated(channels, channels, 3, stride=stride, groups=channels))
                layers.append(activated(channels, channels_out, 1))
                channels = channels_out
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        features, levels = self.stem(images), []
        for stage in self.stages:
            features = stage(features)
            levels.append(features)
        return levels


class Pyramid(nn.Module):
    """Feature pyramid: every level also sees what the coarser levels saw."""

    def __init__(self) -> None:
        super().__init__()
        channels = [stage[-1][0] for stage in TRUNK]
        self.lateral = nn.ModuleList(activated(count, WIDTH, 1) for count in channels)
        self.merge_middle = activated(WIDTH, WIDTH, 3)
        self.merge_fine = activated(WIDTH, WIDTH, 3)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        fine, middle, coarse = (
            lateral(level) for lateral, level in zip(self.lateral, levels, strict=True)
        )
        middle = self.merge_middle(middle + resized_like(coarse, middle))
        fine = self.merge_fine(fine + resized_like(middle, fine))
        return [fine, middle, coarse]


def resized_like(features: Tensor, reference: Tensor) -> Tensor:
    """Features enlarged to the height and width of a finer level."""
    return functional.interpolate(features, size=reference.shape[-2:], mode="nearest")


class Context(nn.Module):
    """SSH context module: receptive fields of 3, 5 and 7 cells side by side."""

    def __init__(self) -> None:
        super().__init__()
        quarter = WIDTH // 4
        self.three = convolution(WIDTH, WIDTH // 2, 3)
        self.shared = activated(WIDTH, quarter, 3)
        self.five = convolution(quarter, quarter, 3)
        self.deeper = activated(quarter, quarter, 3)
        self.seven = convolution(quarter, quarter, 3)

    def forward(self, features: Tensor) -> Tensor:
        shared = self.shared(features)
        views = [self.three(features), self.five(shared), self.seven(self.deeper(shared))]
        return functional.relu(torch.cat(views, dim=1))


class Heads(nn.Module):
    """One kind of output for the anchors of all levels: 1x1 convolutions, then one list."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.values = values
        self.levels = nn.ModuleList(
            convolution(WIDTH, ANCHORS_PER_CELL * values, 1) for _ in STRIDES
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        outputs = [
            head(level).permute(0, 2, 3, 1).reshape(level.shape[0], -1, self.values)
            for head, level in zip(self.levels, features, strict=True)
        ]
        return torch.cat(outputs, dim=1)  # (N, A, values)


class RetinaFace(nn.Module):
    """From upright RGB pixels to a score, a box and five landmarks for every anchor.

    The order of the modules is the order of the convolutions in published weights.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.pyramid = Pyramid()
        self.context = nn.ModuleList(Context() for _ in STRIDES)
        self.score_heads = Heads(2)
        self.box_heads = Heads(4)
        self.landmark_heads = Heads(10)
        mean = torch.tensor(MEAN_RGB, dtype=torch.float32).reshape(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores in [0, 1] (N, A), box deltas (N, A, 4) and landmark deltas (N, A, 10).

        Args:
            images: RGB, uint8, (N, H, W, 3); H and W are multiples of 32.
        """
        pixels = images.permute(0, 3, 1, 2).to(torch.float32) - self.mean
        levels = self.pyramid(self.trunk(pixels.flip(1)))  # the weights expect BGR
        features = [context(level) for context, level in zip(self.context, levels, strict=True)]
        scores = torch.softmax(self.score_heads(features), dim=2)[:, :, 1]
        return scores, self.box_heads(features), self.landmark_heads(features)
