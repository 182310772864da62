"""Cases: a rule with its figures, and with limits that hold together over all that it speaks of."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from statistics import NormalDist

import numpy as np

from faceaudit.audit.evidence import Evidence, RuleFigures, find_figures
from faceaudit.audit.extremes import Bounded
from faceaudit.audit.intervals import normal_quantile
from faceaudit.audit.metrics import Values, ratio
from faceaudit.audit.policy import BETWEEN, Exempt, Rule
from faceaudit.audit.results import Exemption, Subgroup
from faceaudit.audit.simultaneous import critical_of_pairs
from faceaudit.audit.tally import Numbers, Tally, cut
from faceaudit.audit.unplaced import MOST, Unplaced, find_unplaced

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
    unseen: frozenset[tuple[str, str]]
    """Features with the declared classes that nobody in the table has."""
    unplaced: tuple[Unplaced, ...]
    """Of each metric, what the rule leaves out because a feature has no value."""

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
        absent = [
            subgroup
            for subgroup in _absent(rule, cells.subgroups, evidence.counted)
            if not any(exempt.covers(subgroup) for exempt in current)
        ]
        figures = (find_figures(rule, metric, evidence, cells, at) for metric in rule.metrics)
        return cls(
            rule,
            error,
            (*(cells.subgroups[index] for index in kept), *absent),
            tuple(one.and_absent(len(absent)) for one in figures),
            exemptions_of(rule, cells.subgroups, day),
            _unseen(evidence.counted) if absent else frozenset(),
            tuple(find_unplaced(rule, metric, evidence) for metric in rule.metrics),
        )

    @cached_property
    def faces(self) -> Values:
        """Faces of every subgroup: the fewest that any metric has."""
        return np.asarray(np.min([one.faces for one in self.figures], axis=0))

    @property
    def unplaced_faces(self) -> int:
        """Faces that the rule leaves out because a feature has no value: the most of any metric."""
        return max(one.faces for one in self.unplaced)

    @cached_property
    def usable(self) -> Numbers:
        """Numbers of the subgroups that are large enough and have a value."""
        defined = np.all([~np.isnan(one.values) for one in self.figures], axis=0)
        return np.flatnonzero(defined & (self.faces >= (self.rule.min_n or 1)))

    @cached_property
    def small(self) -> Numbers:
        """Numbers of the other subgroups: too small, absent, or without a value."""
        return np.setdiff1d(np.arange(len(self.subgroups)), self.usable)

    @property
    def fewest(self) -> int:
        """How many subgroups of one stratum a verdict takes."""
        return 2 if self.rule.measure in BETWEEN else 1

    def enough(self, kept: Numbers) -> bool:
        """Whether there is a verdict on these subgroups alone."""
        return bool(np.bincount(self.strata(kept), minlength=1).max() >= self.fewest)

    @cached_property
    def planned(self) -> Numbers:
        """Numbers of the subgroups whose figures say how many faces are needed.

        They are those that can be judged; where these are too few for a verdict, all that have a
        value with an interval, however few faces it is of.
        """
        if self.enough(self.usable):
            return self.usable
        return np.flatnonzero(np.all([one.plannable for one in self.figures], axis=0))

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

    def lowest_and_highest(self, kept: Numbers) -> tuple[list[Bounded], list[Bounded]] | None:
        """Figures, with the limits that show a pass, at the worst that is left out for each.

        First with every miss among the faces that have no value of a feature, then with every hit:
        a subgroup may have all of them. A mean error or loss is no lower than with all of these
        faces free of error, and no higher than with their errors alone. Of other figures nothing so
        definite is known: they are as they are with up to ``MOST`` such faces, and with more there
        is None.
        """
        found: tuple[list[Bounded], list[Bounded]] = [], []
        for figures, out in zip(self.figures, self.unplaced, strict=True):
            if not out.known and out.faces > MOST * figures.faces[kept].min():
                return None
            for ends, end in zip(found, _lowest_and_highest(figures, out), strict=True):
                ends.append(self._to_pass(end, kept))
        return found

    @property
    def reach_is_known(self) -> bool:
        """Whether it is known how far faces that are left out could move the figures."""
        return all(out.known for out in self.unplaced)

    def _to_pass(self, figures: RuleFigures, kept: Numbers) -> Bounded:
        """Figures with the limits that show a pass."""
        if self.rule.measure not in BETWEEN:
            return figures.bounded(self._confidence(len(kept)), kept)
        return figures.apart(self._quantiles(kept, kept)[1], kept)

    def with_faces(self, kept: Numbers, others: Numbers) -> tuple[list[ByFaces], list[ByFaces]]:
        """The same with so many faces of every subgroup, reaching as far again as ``POWER`` asks.

        Args:
            kept: Subgroups whose figures are taken as they are.
            others: Those that are taken to be like the mean of these, of their stratum if it has
                any.
        """
        like, every = self._like(kept, others), np.arange(len(self.subgroups))
        if self.rule.measure not in BETWEEN:
            each = _with_power(self._confidence(len(every)))
            found = [one.with_faces(each, kept, like) for one in self.figures]
            return found, found
        more = NormalDist().inv_cdf(POWER)
        failing, passing = (
            [one.apart_with_faces(z + more, kept, like) for one in self.figures]
            for z in self._quantiles(every, np.concatenate([kept, others]))
        )
        return failing, passing

    def _like(self, kept: Numbers, others: Numbers) -> list[Numbers]:
        """Of each of the others the places in ``kept`` of its stratum, else all places."""
        strata = self.strata(np.concatenate([kept, others]))
        known, sought = np.split(strata, [len(kept)])
        every = np.arange(len(kept))
        within = {stratum: np.flatnonzero(known == stratum) for stratum in np.unique(sought)}
        return [within[one] if len(within[one]) else every for one in sought]

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


def _lowest_and_highest(figures: RuleFigures, out: Unplaced) -> tuple[RuleFigures, RuleFigures]:
    """The figures of subgroups that had all of the faces left out that lower it, or raise it."""
    if out.hits is not None:
        return figures.with_more(0.0, out.misses), figures.with_more(out.hits, 0.0)
    if out.total is not None:
        faces = figures.faces
        lowest = ratio(figures.values * faces, faces + out.faces)
        highest = figures.values + ratio(out.total, faces)
        return figures.at_values(lowest), figures.at_values(highest)
    return figures, figures


def _absent(rule: Rule, subgroups: Sequence[Subgroup], counted: Tally) -> Iterator[Subgroup]:
    """Subgroups that a rule speaks of and no row of the table is of.

    What is compared must be there in every stratum, so that each combination of ``by`` is asked
    for within each of ``within``.
    """
    present = {tuple(subgroup.values()) for subgroup in subgroups}
    compared = _combinations(counted, (*rule.by, *rule.only), rule.only)
    for one, stratum in product(compared, _combinations(counted, rule.within, {})):
        asked = {**one, **stratum}
        subgroup = {name: asked[name] for name in rule.features}
        if tuple(subgroup.values()) not in present:
            yield subgroup


def _combinations(
    counted: Tally, names: Sequence[str], only: Mapping[str, str]
) -> Iterator[Subgroup]:
    """All classes that features declare, with each combination that occurs of other columns.

    What else a plain column could hold nobody has said, and of several (site and camera) many a
    combination cannot be.
    """
    declared = {one.name: one.order for one in counted.features if one.name in names and one.order}
    plain = [name for name in names if name not in declared]
    every = product(cut(counted, plain).subgroups, product(*declared.values()))
    for values, classes in every:
        found = {**values, **dict(zip(declared, classes, strict=True))}
        if all(found[name] == label for name, label in only.items()):
            yield found


def _unseen(counted: Tally) -> frozenset[tuple[str, str]]:
    return frozenset(
        (feature.name, label)
        for feature, seen in zip(counted.features, zip(*counted.cells, strict=True), strict=True)
        for label in {*feature.order} - {*seen}
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
