from __future__ import annotations

import pytest
import torch

from faceaudit.training.losses import class_loss, years_loss


def test_an_exact_age_is_an_interval_of_one_year() -> None:
    logits = torch.randn(5, 101, generator=torch.Generator().manual_seed(0))
    years = torch.tensor([0, 20, 50, 99, 100])
    wanted = torch.nn.functional.cross_entropy(logits, years)
    assert years_loss(logits, years, years).item() == pytest.approx(wanted.item(), rel=1e-6)


def test_a_group_trains_the_sum_of_its_years() -> None:
    logits = torch.zeros(1, 101)
    loss = years_loss(logits, torch.tensor([20]), torch.tensor([29]))
    assert loss.item() == pytest.approx(-torch.log(torch.tensor(10 / 101)).item(), rel=1e-6)


def test_unknown_labels_teach_nothing() -> None:
    unknown = torch.tensor([-1, -1])
    for loss in (
        class_loss(torch.randn(2, 7, requires_grad=True), unknown),
        years_loss(torch.randn(2, 101, requires_grad=True), unknown, unknown, smoothness=1.0),
    ):
        assert loss.item() == 0
        loss.backward()  # type: ignore[no-untyped-call]


def test_faces_without_a_label_do_not_weigh_in() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    some = class_loss(logits, torch.tensor([0, -1, 2, -1]))
    known = class_loss(logits[[0, 2]], torch.tensor([0, 2]))
    assert some.item() == pytest.approx(known.item())


def test_smoothness_penalises_curvature_not_slope() -> None:
    age = torch.tensor([50])
    straight = torch.arange(101.0)[None] * 0.1
    rough = straight + torch.tensor([0.0, 1.0]).repeat(51)[:101]
    for logits, costs in ((straight, False), (rough, True)):
        extra = years_loss(logits, age, age, 1.0) - years_loss(logits, age, age)
        assert (extra.item() > 1e-3) == costs
