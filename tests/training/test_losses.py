from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from faceaudit.training.labels import class_sets
from faceaudit.training.losses import classes_between, roughness, set_loss, value_loss

YEARS = torch.arange(101)


def random_logits(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_sets_of_one_class_train_by_cross_entropy(smoothing: float) -> None:
    logits, labels = random_logits(6, 7), torch.tensor([0, 1, 2, 3, 4, 6])
    found = set_loss(logits, one_hot(labels, 7).bool(), smoothing)
    wanted = cross_entropy(logits, labels, label_smoothing=smoothing)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)


def test_a_coarse_class_trains_the_sum_of_its_fine_ones() -> None:
    logits = random_logits(1, 7)
    sets = torch.from_numpy(class_sets("fairface7"))
    probs = logits.softmax(1)[0]
    asian = sets[7 + 4]  # White, Black, Asian, Indian of fairface4, then Asian of utkface5
    assert asian.tolist() == [False, False, False, True, True, False, False]
    found = set_loss(logits, asian[None])
    assert found.item() == pytest.approx(-(probs[3] + probs[4]).log().item(), rel=1e-6)


def test_every_coarse_scheme_covers_every_class_once() -> None:
    sets = class_sets("fairface7")
    assert sets.shape == (7 + 4 + 5, 7)
    assert (sets[:7].sum(0) == 1).all()
    assert (sets[7:11].sum(0) == 1).all()
    assert (sets[11:].sum(0) == 1).all()


def test_an_exact_age_is_one_year_and_a_group_the_sum_of_its_years() -> None:
    logits = torch.zeros(2, 101)
    allowed = classes_between(torch.tensor([20, 33]), torch.tensor([29, 33]), YEARS)
    assert allowed.sum(1).tolist() == [10, 1]
    wanted = -(torch.tensor([10 / 101, 1 / 101]).log().mean())
    assert set_loss(logits, allowed).item() == pytest.approx(wanted.item(), rel=1e-6)


def test_a_wide_age_group_allows_every_group_of_the_head_that_it_meets() -> None:
    bounds = torch.tensor([0, 15, 26, 41, 61])
    low, high = torch.tensor([20, 30, 70, -1]), torch.tensor([29, 30, 100, -1])
    assert classes_between(low, high, bounds).int().tolist() == [
        [0, 1, 1, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0],
    ]


def test_unknown_labels_teach_nothing() -> None:
    unknown = torch.tensor([-1, -1])
    logits, values = random_logits(2, 7).requires_grad_(), random_logits(2, 1).requires_grad_()
    none = torch.zeros(2, 7, dtype=torch.bool)
    for loss in (set_loss(logits, none, 0.1), value_loss(values, unknown, unknown, 100.0)):
        assert loss.item() == 0
        loss.backward()  # type: ignore[no-untyped-call]


def test_faces_without_a_label_do_not_weigh_in() -> None:
    logits = random_logits(4, 3)
    allowed = one_hot(torch.tensor([0, 0, 2, 0]), 3).bool()
    allowed[[1, 3]] = False
    assert set_loss(logits, allowed).item() == pytest.approx(
        cross_entropy(logits[[0, 2]], torch.tensor([0, 2])).item()
    )


def test_a_regression_is_right_anywhere_within_the_annotated_years() -> None:
    values = torch.tensor([[0.25], [0.20], [0.40]])
    low, high = torch.tensor([20, 30, 30]), torch.tensor([29, 30, 30])
    wanted = (0 + 0.1**2 + 0.1**2) / 3
    assert value_loss(values, low, high, 100.0).item() == pytest.approx(wanted, rel=1e-5)


def test_roughness_penalises_curvature_not_slope() -> None:
    straight = torch.arange(101.0)[None] * 0.1
    assert roughness(straight).item() < 1e-6
    assert roughness(straight + torch.tensor([0.0, 1.0]).repeat(51)[:101]).item() > 1
