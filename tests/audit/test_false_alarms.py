"""Equal subgroups are seldom called different, whatever the metric; simulated on the audit's code.

A share of false alarms must not be above 6 % by more than the simulation's own noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest

from benchmarks.equal_subgroups import Errors, Faces
from benchmarks.false_alarms import (
    COMPARED,
    OTHER_SPREADS,
    SAME,
    SETTINGS,
    SIMULATED,
    SPREAD,
    Row,
    Setting,
    all_permuted,
    all_permuted_years,
    clustered_alarms,
    confusions,
    dealt_alarms,
    face_alarms,
    figures_of,
    many_alarms,
    pair_alarms,
    permuted_years,
    share_alarms,
    step_alarms,
    year_alarms,
)
from faceaudit.audit.permutation import (
    bins_of,
    deal,
    furthest_test,
    joined,
    means_of_bins,
    of_years,
)
from faceaudit.audit.tally import ERROR_BINS, ERROR_LIMIT

BAR = 0.06


def most(simulations: int) -> float:
    """The highest share that a true one of 6 % comes out at, but for one in a thousand times."""
    return BAR + 3.09 * math.sqrt(BAR * (1 - BAR) / simulations)


def above(rows: Iterable[Row], simulations: int) -> list[Row]:
    """Rows of what is compared whose share of false alarms is above the bar."""
    kept = (row for row in rows if row.metric in COMPARED or row.metric not in SIMULATED)
    return [row for row in kept if max(row.pairs, row.rests or 0) > most(simulations)]


def test_every_metric_of_which_differences_are_claimed_is_simulated() -> None:
    generator = np.random.default_rng(1)
    rows = [*face_alarms(generator, Setting((40, 50, 60), 0.8, 5), 4)]
    rows += year_alarms(generator, Setting((40, 50, 60)), 4)
    ages = {name for name, metric in COMPARED.items() if metric.needs == "ages"}
    assert {row.metric for row in rows} == set(SIMULATED) - ages - set(SAME)
    # Those of age checks are shares.
    assert {COMPARED[name].interval for name in ages} == {"share"}


def test_equal_shares_are_seldom_called_different() -> None:
    generator = np.random.default_rng(5)
    faces = np.array([30, 100, 300, 1000, 3000])
    right = generator.binomial(faces, 0.9, (2000, 5))
    own = confusions(right, faces)
    assert pair_alarms(figures_of(COMPARED["accuracy"], own), 5).mean() <= most(2000)
    tables = own.reshape(-1, 5, 2, 2)[:300]
    assert dealt_alarms(generator, [COMPARED["accuracy"]], tables).mean() <= most(300)


def test_skewed_errors_of_thirty_faces_beside_thousands_raise_few() -> None:
    generator = np.random.default_rng(8)
    for sizes in ((30, 3000), (3000, 30, 30, 30, 30)):
        rows = list(year_alarms(generator, Setting(sizes), 1000))
        assert not above([row for row in rows if row.metric == "mae"], 1000)


def test_age_groups_whose_errors_lean_to_one_side_are_seldom_called_different() -> None:
    rows = list(step_alarms(np.random.default_rng(11), 1000))
    assert len({row.setting for row in rows}) == len(rows) > 80
    assert not above(rows, 1000)


def test_sixty_equal_subgroups_are_seldom_told_from_the_mean_of_the_others() -> None:
    assert not above(many_alarms(np.random.default_rng(10), 100), 100)


@pytest.mark.parametrize("sizes", [(30, 3000), (3000, 30), (3000, 3000)], ids=str)
@pytest.mark.parametrize("title", OTHER_SPREADS)
def test_equal_means_with_other_spreads_are_no_gap(title: str, sizes: tuple[int, int]) -> None:
    usual = Errors.gamma()
    other = OTHER_SPREADS[title].with_mean(usual.mean)
    assert other.mean == pytest.approx(usual.mean)
    assert not above(permuted_years(np.random.default_rng(9), sizes, (other, usual), 300), 300)


def test_a_subgroup_without_errors_in_years_stands_out() -> None:
    counts = np.zeros((2, ERROR_BINS), np.int64)
    counts[0, ERROR_LIMIT] = 40
    counts[1, ERROR_LIMIT - 20 : ERROR_LIMIT + 20] = 10
    place = bins_of(counts.sum(axis=0))
    dealt = joined(counts, place)[:, None]
    dealt = np.concatenate([dealt[None], deal(dealt, 199, np.random.default_rng(3))])[:, :, 0]
    told = of_years(COMPARED["mae"], dealt, means_of_bins(counts.sum(axis=0), place))
    assert told is not None
    assert furthest_test(told[0], "", told[1]).p_value <= 0.01


def test_gaps_are_shown_with_a_thousand_faces() -> None:
    generator = np.random.default_rng(6)
    right = generator.binomial(1000, [0.8, 0.9, 0.9], (200, 3))
    found = figures_of(COMPARED["accuracy"], confusions(right, np.full(3, 1000)))
    assert pair_alarms(found, 3).mean() > 0.99


def test_mixes_of_classes_make_precision_differ_and_the_permutation_test_is_not_misled() -> None:
    generator, pool = np.random.default_rng(7), Faces.of(2, 0.8)
    setting = Setting((600, 600, 600), mixed=True)
    drawn = pool.draw(generator, 200, np.array(setting.sizes), setting.mixes)
    counts = pool.counts("classes", drawn.reshape(-1, drawn.shape[-1]))
    metrics = [COMPARED["macro_precision"], COMPARED["macro_f1"]]
    assert pair_alarms(figures_of(metrics[0], counts), 3).mean() > 0.5
    dealt = dealt_alarms(generator, metrics, counts.reshape(-1, 3, 2, 2))
    assert (dealt.mean(axis=1) <= most(200)).all()


def test_units_taken_as_independent_raise_many_and_as_units_few() -> None:
    rows = list(clustered_alarms(np.random.default_rng(7), 100))
    kept = [row for row in rows if row.metric.endswith("--unit")]
    plain = [row.pairs for row in rows if row.metric.endswith("independent")]
    assert not above(kept, 100)
    assert np.mean(plain) > 0.15


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_no_metric_cries_wolf(setting: Setting) -> None:
    generator = np.random.default_rng(11)
    rows = list(face_alarms(generator, setting, 2000))
    assert not above(rows, 2000)


@pytest.mark.slow
def test_no_figure_of_years_and_no_share_cries_wolf() -> None:
    generator = np.random.default_rng(12)
    rows = list(share_alarms(generator, 5000))
    for sizes in ((30, 3000), (3000, 30, 30, 30, 30), SPREAD, (30, 30, 300, 3000), (100,) * 9):
        rows += year_alarms(generator, Setting(sizes), 5000)
    assert not above(rows, 5000)


@pytest.mark.slow
def test_neither_the_permutation_test_nor_units_nor_many_subgroups_cry_wolf() -> None:
    generator = np.random.default_rng(13)
    rows = [*all_permuted(generator, 1000), *all_permuted_years(generator, 1000)]
    rows += many_alarms(generator, 1000)
    rows += [r for r in clustered_alarms(generator, 1000) if r.metric.endswith("--unit")]
    assert not above(rows, 1000)
