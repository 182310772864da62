from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

from faceaudit.errors import UsageError
from faceaudit.models.backbones import find_backbone
from faceaudit.training.folding import Folded, fold_norms, unfold_norms
from faceaudit.training.recipe_files import load_recipe
from faceaudit.training.state import new_state

SMALL = 64
WITH_NORMS = ["mobilenet_v2", "efficientnet_lite0", "mobilefacenet", "resnet34"]


def trunk_with_statistics(name: str) -> nn.Module:
    """A trunk whose norms are not those of a new one."""
    torch.manual_seed(0)
    trunk = find_backbone(name).build()
    for part in trunk.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.2)
    return trunk.eval()


@pytest.mark.parametrize("name", WITH_NORMS)
def test_folding_and_unfolding_leave_the_feature_maps_as_they_are(name: str) -> None:
    trunk = trunk_with_statistics(name)
    size = max(SMALL, find_backbone(name).size if name == "mobilefacenet" else SMALL)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        before = trunk(images)
        names = list(trunk.state_dict())
        count = fold_norms(trunk, size)
        assert count == sum(isinstance(part, Folded) for part in trunk.modules()) > 10
        assert not any(isinstance(part, nn.BatchNorm2d) for part in trunk.modules())
        torch.testing.assert_close(trunk(images), before, rtol=1e-3, atol=1e-4)
        copied = deepcopy(trunk)
        unfold_norms(copied)
        assert list(copied.state_dict()) == names
        torch.testing.assert_close(copied.eval()(images), before, rtol=1e-3, atol=1e-4)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in trunk.modules())


def test_a_folded_trunk_goes_on_learning() -> None:
    trunk = trunk_with_statistics("mobilenet_v2")
    fold_norms(trunk, SMALL)
    trunk.train()
    trunk(torch.randn(2, 3, SMALL, SMALL)).square().mean().backward()
    assert all(part.grad is not None for part in trunk.parameters())


def test_a_trunk_whose_norms_read_something_else_is_refused() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            self.norm.running_mean.fill_(1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            maps = self.conv(images)
            return self.norm(maps) + maps

    with pytest.raises(UsageError, match="cannot be folded"):
        fold_norms(Shared(), 8)


def test_folded_norms_need_pretrained_weights() -> None:
    with pytest.raises(UsageError, match="needs pretrained weights"):
        load_recipe("fairface", {"norms": "folded", "weights": "none"})


def test_a_training_can_start_from_a_bundle() -> None:
    plain = load_recipe("fairface", {"start": "fairface"})
    folded = load_recipe("fairface", {"start": "fairface", "norms": "folded"})
    images = torch.randn(1, 3, SMALL, SMALL)
    with torch.no_grad():
        one, other = (new_state(recipe).network.eval()(images) for recipe in (plain, folded))
    torch.testing.assert_close(one["age"], other["age"], rtol=1e-3, atol=1e-3)
    assert one["gender"].abs().max() > 0.01


def test_a_bundle_with_other_outputs_is_refused_as_a_start(tmp_path: Path) -> None:
    recipe = load_recipe("fairface", {"start": "fairface", "tasks.race.scheme": "utkface5"})
    with pytest.raises(UsageError, match="its race has scheme fairface7, the recipe's utkface5"):
        new_state(recipe)
