"""The test that a set has given shares, where other labeled faces tell what is predicted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2, chisquare

from benchmarks.composition import TARGETS, rejected
from faceaudit.audit.corrected import CountedShares
from faceaudit.audit.face_sets import FaceSet
from faceaudit.audit.moves import Moves
from faceaudit.audit.tally import BLOCKS
from faceaudit.audit.target_shares import restricted_rates, score_test

SHARES = np.array([0.6, 0.3, 0.1])
COUNTS = np.array([560.0, 330.0, 110.0])


def independent(size: int) -> tuple[Moves, Moves]:
    """Sources of which nothing raises the spread."""
    nothing = Moves(np.zeros((1, size)), np.ones(1))
    return nothing, nothing


def test_where_nothing_is_confused_it_is_pearsons() -> None:
    joint = 1e9 * np.eye(3)
    found = score_test(COUNTS / 1000, 1000, joint, SHARES, independent(3))
    expected = chisquare(COUNTS, 1000 * SHARES)
    assert found.statistic == pytest.approx(expected.statistic, rel=1e-4)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-4)


def test_of_two_classes_it_is_the_distance_in_its_own_standard_errors() -> None:
    joint = np.array([[90.0, 10.0], [20.0, 80.0]])
    shares, seen, faces = np.array([0.7, 0.3]), np.array([0.75, 0.25]), 500
    found = score_test(seen, faces, joint, shares, independent(2))
    one, other = restricted_rates(joint, faces * seen, shares)[:, 0]
    mixed = 0.7 * one + 0.3 * other
    variance = (
        mixed * (1 - mixed) / faces
        + (0.7**2 * one * (1 - one) + 0.3**2 * other * (1 - other)) / 100
    )
    statistic = (0.75 - 0.7 * 0.9 - 0.3 * 0.2) ** 2 / variance
    assert found.statistic == pytest.approx(statistic)
    assert found.p_value == pytest.approx(chi2.sf(statistic, 1))


def test_rates_lie_between_what_labels_say_and_what_the_set_needs() -> None:
    joint = np.array([[98.0, 2.0], [10.0, 90.0]])
    shares = np.array([0.9, 0.1])
    counts = np.array([8000.0, 2000.0])  # 10.8 % would be predicted the second class by the labels
    found = restricted_rates(joint, counts, shares)
    assert found.sum(axis=1) == pytest.approx(1)
    assert 0.02 < found[0, 1] < 0.2
    assert shares @ found == pytest.approx([0.8, 0.2], abs=0.01)
    fits = restricted_rates(joint, 10_000 * shares @ (joint / 100), shares)
    assert fits == pytest.approx(joint / 100, abs=1e-4)


def test_a_mistake_that_labels_happen_to_lack_is_not_impossible() -> None:
    shares, seen = np.array([0.99, 0.01]), np.array([0.9703, 0.0297])
    joint = np.array([[30.0, 0.0], [0.0, 30.0]])
    rates = restricted_rates(joint, 20_000 * seen, shares)
    assert shares @ rates == pytest.approx(seen, abs=1e-4)  # 2 % of the first class are mistaken
    assert rates[0, 1] == pytest.approx(0.02, abs=1e-3)
    found = score_test(seen, 20_000, joint, shares, independent(2))
    assert found.p_value > 0.3


def test_units_make_a_distance_less_sure() -> None:
    joint = np.array([[90.0, 10.0], [20.0, 80.0]])
    shares, seen = np.array([0.7, 0.3]), np.array([0.75, 0.25])
    alone = score_test(seen, 500, joint, shares, independent(2))
    units = np.tile([[0.01, -0.01], [-0.01, 0.01]], (50, 1))
    raised = Moves(np.zeros((1, 2)), np.ones(1), units)
    found = score_test(seen, 500, joint, shares, (raised, independent(2)[1]))
    assert found.statistic < 0.5 * alone.statistic
    assert found.p_value > alone.p_value


@pytest.mark.parametrize("sizes", [[20] * 5, [300, *[20] * 19]], ids=["equal", "one large"])
def test_few_units_seldom_reject_true_shares(sizes: list[int]) -> None:
    """Taken as chi-square, 5 units rejected true shares in 12 of 100 sets."""
    generator, alarms = np.random.default_rng(3), 0
    for _ in range(200):
        counts = np.zeros((BLOCKS, 2, 1))
        for unit, size in enumerate(sizes):
            counts[unit, :, 0] = generator.multinomial(size, generator.dirichlet([1.4, 0.6]))
        p_value = CountedShares(FaceSet(counts)).fit(np.array([0.7, 0.3])).p_value
        assert p_value is not None
        alarms += p_value < 0.05
    assert alarms <= 20


@pytest.mark.parametrize("world", TARGETS[:2], ids=lambda world: world.name)
def test_true_targets_are_seldom_rejected_though_few_labels_tell_of_them(world) -> None:
    """Wald's test rejected 20 to 30 of 100: what labels happen to lack looked impossible."""
    assert rejected(world, 60)["corrected"] < 0.17
