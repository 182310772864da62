"""Which gap between subgroups leads the page, and who is shown to differ from whom.

The subgroup with the worst figure and the one with the best are the ends of a ranking, where few
faces put a subgroup by chance. Which differences are shown, the comparison of the subgroups says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from faceaudit.audit.results import (
    Audit,
    Comparison,
    Disparity,
    MetricValue,
    PairwiseDifference,
)
from faceaudit.reporting import format as text
from faceaudit.reporting.glossary import MetricFacts, metric_facts
from faceaudit.reporting.subject import min_n


@dataclass(frozen=True)
class Gap:
    """The ends of one ranking, and the differences that chance does not explain."""

    disparity: Disparity
    facts: MetricFacts
    values: tuple[MetricValue, ...]
    """The metric in every ranked subgroup."""
    comparison: Comparison | None = None

    @property
    def ends_shown(self) -> bool:
        """Whether the worst and the best subgroup are shown to differ."""
        return self.disparity.shown and self.disparity.worst is not None

    @property
    def worst_alone(self) -> bool:
        """Whether the worst subgroup is shown to differ from every other ranked one."""
        if not self.ends_shown or self.disparity.n_ranked == 2:
            return self.ends_shown
        pairs = self.comparison.pairs if self.comparison else ()
        own = [one for one in pairs if self.disparity.worst in (one.first, one.second)]
        return len(own) == self.disparity.n_ranked - 1 and all(one.shown for one in own)

    @property
    def pair(self) -> PairwiseDifference | None:
        """The pair farthest apart of those shown to differ, the worse subgroup first."""
        shown = self.comparison.shown if self.comparison else ()
        return self._worse_first(shown[0]) if shown else None

    @property
    def against_rest(self) -> PairwiseDifference | None:
        """The subgroup shown to be farthest on the bad side of all others; if none is, of any."""
        rests = self.comparison.versus_rest if self.comparison else ()
        shown = [one for one in rests if one.shown]
        worse = [one for one in shown if self._is_worse(one)]
        return max(worse or shown, key=lambda one: abs(one.difference), default=None)

    @property
    def told_apart(self) -> bool:
        """Whether any difference is shown."""
        return bool(self.ends_shown or self.pair or self.against_rest)

    @property
    def alike(self) -> bool:
        """Whether a reader sees one figure in all ranked subgroups, and no difference is shown."""
        apart, unit = self.disparity.difference, self.facts.unit
        return text.prints_as_zero(apart, unit) and not self.told_apart

    def _worse_first(self, one: PairwiseDifference) -> PairwiseDifference:
        if self._is_worse(one) or one.second is None:
            return one
        return replace(
            one,
            first=one.second,
            second=one.first,
            difference=-one.difference,
            low=-one.high,
            high=-one.low,
        )

    def _is_worse(self, one: PairwiseDifference) -> bool:
        return (one.difference > 0) == (self.facts.better == "lower")


def leading_gap(audit: Audit, task: str, metric: str) -> Gap | None:
    """The gap of the finest grouping in which anybody is told apart; if none is, of the finest.

    Thousands of small subgroups may hide a gap that shows between the few of a coarser cut. None
    where no grouping has two subgroups with enough faces.
    """
    found = [_gap(audit, one) for one in ranked_disparities(audit, task, metric)]
    apart = [one for one in found if one.told_apart]
    return max(apart or found, key=lambda one: len(one.disparity.by), default=None)


def finest_gap(audit: Audit, task: str, metric: str) -> Gap | None:
    """The gap over the most features that ranks subgroups, if there is one."""
    found = ranked_disparities(audit, task, metric)
    finest = max(found, key=lambda one: len(one.by), default=None)
    return None if finest is None else _gap(audit, finest)


def ranked_disparities(audit: Audit, task: str, metric: str) -> list[Disparity]:
    """The disparities of a figure that rank subgroups, within no value of a control feature."""
    found = [d for d in audit.disparities if (d.task, d.metric, d.label) == (task, metric, None)]
    return [d for d in found if not d.within and (d.worst is not None or d.all_equal)]


def _gap(audit: Audit, disparity: Disparity) -> Gap:
    place = (disparity.task, disparity.metric, disparity.label)
    compared = (
        one
        for one in audit.comparisons
        if (one.task, one.metric, one.label) == place and one.by == disparity.by and not one.within
    )
    values = tuple(
        one
        for one in audit.metrics
        if (one.task, one.metric, one.label) == place
        and set(one.subgroup) == set(disparity.by)
        and one.estimate.n >= min_n(audit)
    )
    return Gap(disparity, metric_facts(disparity.metric), values, next(compared, None))
