"""Corrected shares hold the truth as often as they say, where what they assume holds."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.composition import KINDS, SUBGROUPS, WORLDS, run, run_subgroup

SETS = 60
FAIR = [world for world in WORLDS if world.blur == 1 and world.told]
BLURRED = [world for world in WORLDS if world.blur < 1]


def lowest(sets: int, classes: int) -> float:
    """Three standard errors below 91 %, for the classes of which errors go together in pairs."""
    return float(0.91 - 3 * np.sqrt(0.91 * 0.09 / (sets * max(classes / 2, 1))))


@pytest.mark.slow
def test_corrected_intervals_hold_under_label_shift_and_raw_ones_do_not() -> None:
    averages = {name: [] for name in KINDS}
    for world in FAIR:
        line = run(world, SETS)
        for name in KINDS:
            averages[name].append(line.kinds[name].by_class.mean())
        for name in KINDS[1:]:
            held = line.kinds[name].by_class.mean()
            assert held >= lowest(SETS, len(world.shares)), (world.name, name, held)
        assert line.cautions <= 0.12, world.name
    for name in KINDS[1:]:
        assert 0.93 <= np.mean(averages[name]) <= 0.985, name
    assert np.mean(averages["predicted"]) < 0.6


@pytest.mark.slow
def test_the_caution_appears_where_label_shift_fails_and_a_sample_holds() -> None:
    for world in BLURRED:
        line = run(world, SETS // 2)
        assert line.cautions >= 0.9, world.name
        assert line.kinds["corrected"].by_class.mean() < 0.85
        assert line.kinds["own sample"].by_class.mean() >= lowest(SETS // 2, len(world.shares))


@pytest.mark.slow
def test_shares_of_subgroups_hold_by_other_faces_and_by_a_sample() -> None:
    for share in SUBGROUPS:
        kinds = run_subgroup(share, SETS)
        for name in ("corrected", "own sample"):
            assert kinds[name].by_class.mean() >= lowest(SETS, 5), (share, name)


@pytest.mark.slow
def test_images_of_persons_that_are_not_told_make_intervals_too_short() -> None:
    untold = [run(world, SETS) for world in WORLDS if not world.told]
    assert np.mean([line.kinds["corrected"].by_class.mean() for line in untold]) < 0.9
