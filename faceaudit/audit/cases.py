"""Cases: a rule with its figures, and with limits that hold together over all that it speaks of."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from faceaudit.audit.evidence import Evidence, RuleFigures, find_figures
from faceaudit.audit.extremes import Bounded
from faceaudit.audit.intervals import normal_quantile
from faceaudit.audit.metrics import Values
from faceaudit.audit.policy import BETWEEN, Exempt, Rule
from faceaudit.audit.results import Exemption, Subgroup
from faceaudit.audit.simultaneous import critical_of_pairs
from faceaudit.audit.tally import Numbers, cut

POWER = 0.8
"""Chance with which ``n_needed`` faces decide a rule if the figures seen are the true ones."""
MOST_CONFIDENT = 1 - 1e-15
"""Beyond this a confidence is 1 to the computer."""
ByFaces = Callable[[int], Bounded]
"""From a number of faces to figures with limits."""


@dataclass(frozen=True)
class Case:
    """A rule with its figures."""

    rule: Rule
    error: float
    """What may go wrong in this rule."""
    subgroups: tuple[Subgroup, ...]
    figures: tuple[RuleFigures, ...]
    exemptions: tuple[Exemption, ...]
    absent: tuple[Subgroup, ...] = ()
    """Classes of the schemes that no subgroup has."""

    @classmethod
    def of(cls, rule: Rule, error: float, evidence: Evidence) -> Case:
        cells = cut(evidence.counted, rule.features)
        day = evidence.day
        current = [exempt for exempt in rule.exceptions if exempt.holds(day)]
        asked = [
            index
            for index, subgroup in enumerate(cells.subgroups)
            if all(subgroup[name] == label for name, label in rule.only.items())
        ]
        kept = [
            index
            for index in asked
            if not any(exempt.covers(cells.subgroups[index]) for exempt in current)
        ]
        at = np.array(kept, np.int64)
        return cls(
            rule,
            error,
            tuple(cells.subgroups[index] for index in kept),
            tuple(find_figures(rule, metric, evidence, cells, at) for metric in rule.metrics),
            exemptions_of(rule, cells.subgroups, day),
            _absent(rule, [cells.subgroups[index] for index in asked], current, evidence),
        )

    @property
    def faces(self) -> Values:
        """Faces of every subgroup: the fewest that any metric has."""
        return np.asarray(np.min([one.faces for one in self.figures], axis=0))

    @property
    def usable(self) -> Numbers:
        """Numbers of the subgroups that are large enough and have a value."""
        defined = np.all([~np.isnan(one.values) for one in self.figures], axis=0)
        return np.flatnonzero(defined & (self.faces >= (self.rule.min_n or 1)))

    @property
    def small(self) -> Numbers:
        """Numbers of the other subgroups."""
        return np.setdiff1d(np.arange(len(self.subgroups)), self.usable)

    @property
    def not_judged(self) -> tuple[Subgroup, ...]:
        """Subgroups that are too small, or absent."""
        return (*(self.subgroups[index] for index in self.small), *self.absent)

    def _held(self, index: int) -> tuple[str | None, ...]:
        """The values of a subgroup's control features."""
        return tuple(self.subgroups[index].get(name) for name in self.rule.within)

    def strata(self, kept: Numbers) -> Numbers:
        """A number for each value of the control features, per subgroup."""
        keys = [self._held(index) for index in kept]
        place = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        return np.array([place[key] for key in keys], np.int64)

    def bounded(self, kept: Numbers) -> tuple[list[Bounded], list[Bounded]]:
        """Figures with the limits that show a failure, and with those that show a pass."""
        if self.rule.measure not in BETWEEN:
            each = self._confidence(len(kept))
            found = [one.bounded(each, kept) for one in self.figures]
            return found, found
        failing, passing = (
            [one.apart(z, kept) for one in self.figures] for z in self._quantiles(kept, kept)
        )
        return failing, passing

    def with_faces(self, kept: Numbers, others: Numbers) -> tuple[list[ByFaces], list[ByFaces]]:
        """The same with so many faces of every subgroup, reaching as far again as ``POWER`` asks.

        Args:
            kept: Subgroups whose figures are taken as they are.
            others: Those that are too small for that, or absent.
        """
        if self.rule.measure not in BETWEEN:
            each = _with_power(self._confidence(len(self.usable) + len(others)))
            found = [one.with_faces(each, kept, len(others)) for one in self.figures]
            return found, found
        at = np.concatenate([kept, others])
        more = NormalDist().inv_cdf(POWER)
        failing, passing = (
            [one.apart_with_faces(z + more, kept, len(others)) for one in self.figures]
            for z in self._quantiles(np.concatenate([self.usable, others]), at)
        )
        return failing, passing

    def _confidence(self, size: int) -> float:
        """Of each interval of a rule on as many subgroups."""
        return min(1 - self.error / max(size * len(self.figures), 1), MOST_CONFIDENT)

    def _quantiles(self, every: Numbers, at: Numbers) -> tuple[Values, Values]:
        """Quantiles that limits of differences are taken at, to show a failure and a pass.

        All differences within each value of the control features are a family.

        Args:
            every: The subgroups that are compared.
            at: Those of them that the quantiles are for.
        """
        sizes = Counter(self._held(index) for index in every)
        families = sum(size > 1 for size in sizes.values()) * len(self.figures)
        error = self.error / max(families, 1)
        critical = {
            held: critical_of_pairs(max(size, 2), 1 - error) for held, size in sizes.items()
        }
        failing = np.array([critical[self._held(index)] for index in at])
        if self.rule.measure == "equivalent":
            # All pairs must pass, so that none needs a share (intersection-union test).
            return failing, np.full_like(failing, NormalDist().inv_cdf(1 - self.error))
        return failing, failing


def _absent(
    rule: Rule, subgroups: Sequence[Subgroup], current: Sequence[Exempt], evidence: Evidence
) -> tuple[Subgroup, ...]:
    """Classes that a feature's scheme has and no subgroup, unless they are excepted."""
    excepted = [dict(exempt.subgroup) for exempt in current]
    return tuple(
        {feature.name: label}
        for feature in evidence.counted.features
        if feature.name in rule.by
        for label in feature.order
        if label not in {subgroup[feature.name] for subgroup in subgroups}
        and {feature.name: label} not in excepted
    )


def _with_power(confidence: float) -> float:
    normal = NormalDist()
    raised = 2 * normal.cdf(normal_quantile(confidence) + normal.inv_cdf(POWER)) - 1
    return min(raised, MOST_CONFIDENT)


def exemptions_of(rule: Rule, subgroups: Sequence[Subgroup], day: dt.date) -> tuple[Exemption, ...]:
    """The exceptions of a rule, whether they hold on a day, and how many subgroups they cover."""

    def told(exempt: Exempt) -> Exemption:
        return Exemption(
            exempt.subgroup,
            exempt.approved_by,
            exempt.reason,
            exempt.expires,
            exempt.holds(day),
            sum(exempt.covers(subgroup) for subgroup in subgroups),
        )

    return tuple(map(told, rule.exceptions))
