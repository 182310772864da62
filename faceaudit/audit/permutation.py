"""A permutation test of any gap at all, drawn from counts: who belongs to which subgroup, anew.

Within every annotated class the faces are dealt to the subgroups by chance, as many to each as it
has. A subgroup with harder faces (more children, more women) keeps as many of them, so that neither
sizes nor the mix of annotated classes make a difference by themselves. What a draw costs depends on
the number of subgroups and classes, not on that of faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.estimates import Options
from faceaudit.audit.intervals import Values, generator_for
from faceaudit.audit.metrics import Metric, ratio
from faceaudit.audit.results import AnyGapTest
from faceaudit.audit.tally import ERROR_LIMIT, Cut, Numbers, Tally
from faceaudit.schema import AGE

Counts = NDArray[np.int64]
MOST_DEALT = 40
"""With more subgroups nothing is dealt: the simulated test takes over."""
MOST_FACES = 10**8
MOST_NUMBERS = 2**25
"""Numbers that all draws of one task may hold."""
FEWEST_DRAWS = 500
YEAR_BINS = 32
"""Errors in years are dealt in about as many bins."""
MOST_TIMES = 2.0
"""At most so many times longer is a standard error at the mean of all faces."""
METHOD = (
    "permutation within {strata}, {draws:,} draws: the furthest of all differences beyond what the "
    "mix of {strata} explains, in standard errors"
)


@dataclass
class Permutations:
    """Permutation tests over the subgroups of one grouping; every task is dealt once.

    Nothing is dealt with units, whose faces belong together; of scores, whose classes are counted
    apart; where a task's own annotated classes form the subgroups; and with many subgroups.
    """

    counted: Tally
    cells: Cut
    options: Options
    _dealt: dict[str, Any] = field(default_factory=dict)

    def test(
        self, metric: Metric, task: str, label: str | None, ranked: Sequence[int]
    ) -> AnyGapTest | None:
        """Whether the ranked subgroups differ in a metric at all; None where nothing can be dealt.

        Args:
            metric: The metric.
            task: A task, or ``age`` for years.
            label: The class, of a per-class metric.
            ranked: Numbers of the subgroups to compare.
        """
        in_years = metric.needs == "years"
        if metric.needs not in {"classes", "groups", "years"} or not self._can_deal(task):
            return None
        if task not in self._dealt:
            self._dealt[task] = self._deal(task)
        dealt = self._dealt[task]
        if dealt is None:
            return None
        method = METHOD.format(
            strata="annotated age groups" if in_years else "annotated classes",
            draws=len(dealt[0] if in_years else dealt) - 1,
        )
        at = list(ranked)
        if in_years:
            found = of_years(metric, *dealt)
            return found and furthest_test(found[0][:, at], method, found[1][:, at])
        values = np.asarray(metric.function(dealt))
        if label is not None:
            values = values[..., self._classes(task).index(label)]
        return furthest_test(values[:, at], method)

    def _can_deal(self, task: str) -> bool:
        own = {feature.column for feature in self.counted.features if feature.name in self.cells.by}
        return (
            self.counted.unit is None
            and f"{task}_true" not in own
            and 2 <= len(self.cells.subgroups) <= MOST_DEALT
        )

    def _classes(self, task: str) -> tuple[str, ...]:
        return next(one.classes for one in self.counted.tasks if one.name == task)

    def _deal(self, task: str) -> Any:
        if task == AGE:
            return self._deal_years()
        return self._draws(task, self.cells.of(self.counted.confusion[task]))

    def _deal_years(self) -> tuple[Values, Values] | None:
        """Draws of errors in few bins, (R + 1, S, G, bins), and what each bin stands for."""
        errors = self.cells.of(self.counted.errors)
        place = bins_of(errors.sum(axis=(0, 1)))
        drawn = self._draws(AGE, joined(errors, place))
        if drawn is None:
            return None
        return drawn.sum(axis=2), means_of_bins(errors.sum(axis=(0, 1)), place)

    def _draws(self, task: str, counts: Numbers) -> Values | None:
        """The counts themselves, and as they might have been dealt, (R + 1, S, C, J)."""
        counts = np.asarray(counts, np.int64)
        draws = min(self.options.replicates, MOST_NUMBERS // max(counts.size, 1))
        if draws < FEWEST_DRAWS or counts.sum() > MOST_FACES:
            return None
        name = "|".join(self.cells.by)
        generator = generator_for(self.options.seed, f"{task} dealt by {name}", {})
        return np.concatenate([counts[None], deal(counts, draws, generator)])


def deal(counts: Counts, draws: int, generator: np.random.Generator) -> Counts:
    """Outcomes dealt anew to the subgroups within every class, (draws, S, C, J).

    Every draw has the given numbers of faces by subgroup and class, and by class and outcome.

    Args:
        counts: Faces by subgroup, annotated class and outcome, (S, C, J).
        draws: How many.
        generator: Random numbers.

    Source:
        Patefield: An efficient method of generating random R x C tables with given row and column
        totals, Applied Statistics 30, 1981; here cell by cell from hypergeometric distributions.
    """
    faces = counts.sum(axis=-1)  # (S, C)
    left = np.broadcast_to(counts.sum(axis=0), (draws, *counts.shape[1:])).copy()  # (draws, C, J)
    found = np.empty((draws, *counts.shape), np.int64)
    for subgroup in range(len(counts) - 1):
        wanted = np.broadcast_to(faces[subgroup], left.shape[:2]).copy()  # (draws, C)
        others = left.sum(axis=-1)
        for outcome in range(counts.shape[-1] - 1):
            others = others - left[..., outcome]
            taken = generator.hypergeometric(left[..., outcome], others, wanted)
            found[:, subgroup, :, outcome] = taken
            wanted = wanted - taken
        found[:, subgroup, :, -1] = wanted
        left -= found[:, subgroup]
    found[:, -1] = left
    return found


def furthest_test(values: Values, method: str, errors: Values | None = None) -> AnyGapTest:
    """How often chance makes the furthest difference as far as in the first row of the values.

    Each difference is taken from its mean over all rows and by its standard error, so that every
    row is treated alike and the test is exact where the faces of a class are exchangeable. With
    ``errors`` it also holds where subgroups have equal means and other spreads.

    Args:
        values: A figure by draw and subgroup, the observed first, (R + 1, S); NaN where undefined.
        method: What was done, in words.
        errors: Standard error of each in its row; None takes the spread of each difference over all
            rows.

    Source:
        Westfall, Young: Resampling-based multiple testing, 1993 (max of standardized differences);
        Janssen: Studentized permutation tests for non-i.i.d. hypotheses and the generalized
        Behrens-Fisher problem, Statistics and Probability Letters 36, 1997; Phipson, Smyth:
        Permutation p-values should never be zero, Statistical Applications in Genetics and
        Molecular Biology 9, 2010.
    """
    furthest = np.zeros(len(values))
    for first in range(values.shape[1] - 1):
        apart = values[:, first, None] - values[:, first + 1 :]
        known = ~np.isnan(apart)
        count = np.maximum(known.sum(axis=0), 1)
        beyond = np.where(known, apart, 0)
        beyond = np.where(known, beyond - beyond.sum(axis=0) / count, 0)
        if errors is None:
            spread = np.sqrt(np.square(beyond).sum(axis=0) / count)
        else:
            spread = np.hypot(errors[:, first, None], errors[:, first + 1 :])
        distances = np.abs(beyond) / np.where(spread > 1e-12, spread, np.inf)
        furthest = np.maximum(furthest, distances.max(axis=1))
    # Rounding must not tell equal tables apart.
    beaten = int((furthest[1:] >= furthest[0] - 1e-9).sum())
    return AnyGapTest(float(furthest[0]), (beaten + 1) / len(values), method)


def bins_of(errors: Counts) -> NDArray[np.int64]:
    """The bin of few of every bin of signed error, (ERROR_BINS,).

    Errors of a bin count alike, so that bins must be narrow where errors are long, too: in equally
    full ones, subgroups of equal means and other spreads would seem to have other means.

    Source:
        Panter, Dite: Quantization distortion in pulse-count modulation with nonuniform spacing of
        levels, Proceedings of the IRE 39, 1951 (bins as dense as cube roots of frequencies lose
        least).
    """
    roots = np.cbrt(errors)
    share = (roots.cumsum() - roots / 2) / max(roots.sum(), 1)
    place = np.minimum((share * YEAR_BINS).astype(np.int64), YEAR_BINS - 1)
    # Signs are kept apart, and within five years from beyond.
    distance = np.arange(len(errors)) - ERROR_LIMIT
    kind = np.digitize(distance, [-5, 0, 1, 6])
    _, numbers = np.unique(np.stack([kind, place]), axis=1, return_inverse=True)
    return np.asarray(numbers, np.int64).ravel()


def joined(errors: Numbers, place: NDArray[np.int64]) -> Counts:
    """Errors in few bins, (..., bins), from (..., ERROR_BINS)."""
    member = np.eye(int(place.max()) + 1, dtype=np.int64)[place]
    return np.asarray(np.asarray(errors, np.int64) @ member)


def means_of_bins(errors: Counts, place: NDArray[np.int64]) -> Values:
    """Mean of what ``YEAR_FIGURES`` average, and of its square, in every joined bin, (4, 2, bins).

    Args:
        errors: Faces by signed error, (ERROR_BINS,).
        place: The joined bin of each.
    """
    distance = np.arange(len(errors)) - ERROR_LIMIT
    middle = distance - np.sign(distance) / 2
    kinds = np.stack([middle, np.abs(middle), middle**2, np.abs(distance) <= 5])
    faces = np.bincount(place, errors)
    weights = np.where(faces[place] > 0, errors, 1)
    whole = np.bincount(place, weights)
    return np.stack(
        [[np.bincount(place, kind**power * weights) / whole for power in (1, 2)] for kind in kinds]
    )


YEAR_FIGURES = ("mean_signed_error", "mae", "rmse", "cs_at_5")
"""The figures that joined bins hold, in the order of ``means_of_bins``."""


def of_years(metric: Metric, dealt: Counts, means: Values) -> tuple[Values, Values] | None:
    """A figure of every draw and subgroup, and its standard error; None where no bins hold it.

    Where values cannot be negative, a subgroup that happens to lack large ones has both too low a
    mean and too small a spread, and seems sure of it. Its standard error is therefore taken at the
    mean of all faces, to which it is brought in proportion: exact for values of gamma
    distributions, and consistent for any, as the means come to agree.

    Args:
        metric: The metric.
        dealt: Faces by joined bin, (..., S, bins).
        means: Of the bins, as ``means_of_bins`` gives them.

    Source:
        McCullagh, Nelder: Generalized linear models, 1989, chapter 8 (constant coefficient of
        variation), as in a score test.
    """
    if metric.name not in YEAR_FIGURES:
        return None
    faces = dealt.sum(axis=-1)
    n = np.where(faces > 0, faces, np.nan)
    kind = means[YEAR_FIGURES.index(metric.name)]
    found, squares = (np.asarray(dealt @ one / n) for one in kind)
    faces_of_all = faces.sum(axis=-1, keepdims=True)
    # Half a face that differs by as much as faces do, so that none seen is not none possible.
    usual = (dealt @ kind[1]).sum(axis=-1, keepdims=True) / faces_of_all
    errors = np.sqrt((np.maximum(squares - found**2, 0) + usual / (2 * n)) / n)
    if metric.interval in {"positive", "root"}:
        common = (dealt @ kind[0]).sum(axis=-1, keepdims=True) / faces_of_all
        # A subgroup without errors would otherwise be taken to know nothing.
        errors = errors * np.fmin(ratio(common, found), MOST_TIMES)
    if metric.name == "rmse":
        root = np.sqrt(found)
        return root, errors / (2 * np.maximum(root, 1e-9))
    return found, errors
