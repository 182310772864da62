"""Evidence: what a policy's rules are held against, and the figures of one rule.

Names in a rule that the table does not have are errors; labels that it does not have are no
evidence, which is told and never a pass.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.clusters import degrees_of
from faceaudit.audit.comparisons import figures_of
from faceaudit.audit.coverage import estimate_counts
from faceaudit.audit.estimates import Options
from faceaudit.audit.extremes import Bounded
from faceaudit.audit.failures import count_failures_as_errors
from faceaudit.audit.intervals import normal_quantile, share_interval, sure_bounds
from faceaudit.audit.measure import measure
from faceaudit.audit.metrics import Metric, Values, ratio
from faceaudit.audit.policy import Policy, Rule
from faceaudit.audit.rates import images_by_outcome
from faceaudit.audit.results import Estimate
from faceaudit.audit.scores import EXACT_ROWS, ScoreRows, read_scores
from faceaudit.audit.simultaneous import Figures
from faceaudit.audit.subgroups import Feature, chosen_features, find_features
from faceaudit.audit.tally import Cut, Numbers, Tally
from faceaudit.errors import UnknownNameError, UsageError
from faceaudit.schema import AGE, Task
from faceaudit.tables import PredictionTable

ABSENT = "none in the table"
"""Why a subgroup has no figure that no row of the table is of."""


@dataclass(frozen=True)
class Evidence:
    """What rules are held against."""

    counted: Tally
    options: Options
    day: dt.date
    """On which exceptions are current."""
    rows: Mapping[str, ScoreRows] = field(default_factory=dict)
    """Task -> scores row by row, where the table fits."""
    unlabelled: frozenset[str] = frozenset()
    """Features that a rule names and that nobody annotated."""


def policy_features(
    source: PredictionTable | Tally, policy: Policy
) -> tuple[tuple[Feature, ...], frozenset[str]]:
    """The features that the rules cut by, and those of them that nobody annotated.

    Raises:
        UnknownNameError: If a rule names a column that there is not.
        SchemaError: If a column has too many values for subgroups.
    """
    missing = frozenset(name for name in policy.features if _is_unlabelled(source, name))
    try:
        return _find(source, [name for name in policy.features if name not in missing]), missing
    except UnknownNameError:
        for rule in policy.rules:
            try:
                _find(source, [name for name in rule.features if name not in missing])
            except UnknownNameError as error:
                raise UsageError(f"{rule.where}: {error}") from error
        raise


def scores_for(
    table: PredictionTable, features: Sequence[Feature], policy: Policy
) -> Mapping[str, ScoreRows]:
    """Scores row by row of the tasks whose rules need them, where the table fits."""
    if table.rows > EXACT_ROWS:
        return {}
    wanted = {rule.task for rule in policy.rules if rule.metrics[0].needs == "scores"}
    usable = wanted & table.scored & table.annotated
    tasks = [task for task in table.tasks if task.name in usable]
    return read_scores(table, features, tasks) if tasks else {}


def _find(source: PredictionTable | Tally, names: Sequence[str]) -> tuple[Feature, ...]:
    if isinstance(source, Tally):
        return chosen_features(source.features, names)
    return find_features(source, names)


def _is_unlabelled(source: PredictionTable | Tally, name: str) -> bool:
    """Whether a feature is a task that is predicted, and that no face is annotated for."""
    task = name.removesuffix("_true")
    if task not in {one.name for one in source.tasks}:
        return False
    if isinstance(source, Tally):
        known = {feature.name for feature in source.features}
        return name not in known and not _labelled(source, task)
    return task not in source.annotated and task not in source.features


def _labelled(counted: Tally, task: str | None) -> bool:
    if task == AGE:
        return counted.errors.any()
    return task in counted.confusion and counted.confusion[str(task)].any()


def check_names(rule: Rule, evidence: Evidence) -> None:
    """Whether the task, the class and the values that a rule names exist.

    Raises:
        UsageError: If one does not.
    """
    counted = evidence.counted
    tasks = {task.name: task for task in counted.tasks}
    if rule.task is not None and rule.task != AGE:
        if rule.task not in tasks:
            raise UnknownNameError(f"task of the table ({rule.where})", rule.task, tasks)
        task = tasks[rule.task]
        if rule.label is not None and rule.label not in task.classes:
            raise UnknownNameError(f"class of {rule.task} ({rule.where})", rule.label, task.classes)
        if rule.metrics[0].needs == "groups" and not task.ordinal:
            raise UsageError(f"{rule.where}: {rule.name} is of age groups, not of {rule.task!r}")
    for feature in (one for one in counted.features if one.name in rule.features):
        stem = feature.column.removesuffix("_true")
        own = feature.column.endswith("_true") and stem == rule.task
        if own and not all(metric.within_own_class for metric in rule.metrics):
            raise UsageError(
                f"{rule.where}: {rule.name} of {rule.task} has no meaning by {feature.name}: among "
                "faces of one annotated class only accuracy and recall do"
            )
    predicted = [
        one.name for one in counted.features if one.predicted and one.name in rule.features
    ]
    if predicted and (rule.failures == "errors" or rule.metrics[0].needs == "images"):
        raise UsageError(
            f"{rule.where}: failures have no {predicted[0]}; form subgroups by annotations"
        )
    _check_values(counted, rule.only, rule.where)
    declared = {feature.name for feature in counted.features if feature.order}
    for exempt in rule.exceptions:
        # A site may leave the table before its exception expires; that it covers none is told.
        named = {name: label for name, label in exempt.subgroup.items() if name in declared}
        _check_values(counted, named, f"{rule.where}, exception")


def _check_values(counted: Tally, subgroup: Mapping[str, str], where: str) -> None:
    for index, feature in enumerate(counted.features):
        if feature.name in subgroup:
            seen = (str(cell[index]) for cell in counted.cells if cell[index] is not None)
            known = list(dict.fromkeys([*feature.order, *seen]))
            if subgroup[feature.name] not in known:
                kind = f"class of {feature.name} ({where})"
                raise UnknownNameError(kind, subgroup[feature.name], known)


def missing_evidence(rule: Rule, evidence: Evidence) -> str | None:
    """Why there is nothing to judge by, None where there is."""
    bare = [name for name in rule.features if name in evidence.unlabelled]
    if bare:
        return f"no face has an annotated {bare[0].removesuffix('_true').replace('_', ' ')}"
    metric, counted = rule.metrics[0], evidence.counted
    if metric.needs in {"images", "predicted"}:
        return None
    if not _labelled(counted, rule.task):
        return f"no face has both an annotated and a predicted {str(rule.task).replace('_', ' ')}"
    if rule.failures == "errors" and rule.task not in counted.missed:
        return "the tally does not hold the annotated faces that failed"
    if metric.needs in {"scores", "losses", "calibration"} and rule.task not in counted.scores:
        return f"the table has no scores of {rule.task}"
    return None


@dataclass(frozen=True)
class RuleFigures:
    """One metric in the subgroups of a rule, at whatever confidence is asked for."""

    metric: Metric
    values: Values
    faces: Values
    reasons: tuple[str | None, ...]
    measured: Callable[[float], tuple[Values, Values]]
    """Confidence to low and high; NaN where there is none."""
    is_share: bool
    """Whether the interval follows from value and faces alone, as that of a share does."""
    figures: Figures
    """What the limits of differences follow from, as in the section Differences."""

    def and_absent(self, absent: int) -> RuleFigures:
        """These, and after them subgroups that have no face and so no figure."""
        return replace(
            self,
            values=np.concatenate([self.values, np.full(absent, np.nan)]),
            faces=np.concatenate([self.faces, np.zeros(absent)]),
            reasons=(*self.reasons, *[ABSENT] * absent),
        )

    def with_more(self, hits: float, misses: float) -> RuleFigures:
        """A share in every subgroup with so many hits and misses more."""
        faces = self.faces + hits + misses
        values = ratio(self.values * self.faces + hits, faces)
        own = slice(len(self.figures.values))  # there are no figures of absent subgroups
        told = self.figures.told * ratio(faces[own], self.faces[own])
        figures = replace(self.figures, values=values[own], told=told)

        def measured(confidence: float) -> tuple[Values, Values]:
            z = np.full(len(figures.values), normal_quantile(confidence))
            below, above = figures.sides(np.arange(len(z)), z)
            return figures.values - below, figures.values + above

        return replace(self, values=values, faces=faces, measured=measured, figures=figures)

    def at_values(self, values: Values) -> RuleFigures:
        """The same figures at other values, with intervals as far to either side."""
        step = values - self.values
        own = slice(len(self.figures.values))  # there are no figures of absent subgroups
        figures = replace(self.figures, values=values[own])

        def measured(confidence: float) -> tuple[Values, Values]:
            low, high = self.measured(confidence)
            return low + step, high + step

        return replace(self, values=values, measured=measured, figures=figures)

    @property
    def plannable(self) -> NDArray[np.bool_]:
        """Whether there is a value with an interval, (G,)."""
        found = ~np.isnan(self.values)
        found[: len(self.figures.values)] &= ~np.isnan(self.figures.below)
        return found

    def apart(self, z: Values, kept: Numbers) -> Bounded:
        """Values of some subgroups with the limits that their differences are made of.

        Args:
            z: Standard normal quantile of each.
            kept: The subgroups.
        """
        return self._limited(self.figures.at(kept), z)

    def apart_with_faces(
        self, z: Values, kept: Numbers, like: Sequence[Numbers]
    ) -> Callable[[int], Bounded]:
        """The same if every subgroup had so many faces at least; see ``with_faces``."""
        faces = self.faces[kept]
        of_one_face = self.figures.at(kept).with_faces(1 / faces).with_means(like)
        seen = np.concatenate([faces, np.zeros(len(like))])
        return lambda n: self._limited(of_one_face.with_faces(np.maximum(seen, n)), z)

    def _limited(self, figures: Figures, z: Values) -> Bounded:
        below, above = figures.sides(np.arange(len(figures.values)), z)
        low, high = figures.values - below, figures.values + above
        return Bounded(figures.values, *_without_nan(low, high, self.metric))

    def bounded(self, confidence: float, kept: Numbers) -> Bounded:
        """Values of some subgroups with their intervals."""
        values, faces = self.values[kept], self.faces[kept]
        if self.is_share:
            return Bounded(values, *_of_shares(values, faces, confidence))
        low, high = self.measured(confidence)
        return Bounded(values, *_without_nan(low[kept], high[kept], self.metric))

    def with_faces(
        self, confidence: float, kept: Numbers, like: Sequence[Numbers]
    ) -> Callable[[int], Bounded]:
        """The intervals if every subgroup had so many faces at least, as a function of the number.

        Args:
            confidence: Of each interval.
            kept: Subgroups whose figures are taken as they are.
            like: Of every other subgroup, which of these it is taken to be the mean of.
        """

        def more(parts: Values) -> Values:
            return np.concatenate([parts, [parts[at].mean() for at in like]])

        values = self.values[kept]
        every = more(values)
        faces = np.concatenate([self.faces[kept], np.zeros(len(like))])
        if self.is_share:
            return lambda n: Bounded(every, *_of_shares(every, np.maximum(faces, n), confidence))
        found = self.bounded(confidence, kept)
        roots = np.sqrt(self.faces[kept])
        spreads = [(values - found.low) * roots, (found.high - values) * roots]
        below, above = map(more, spreads)

        def bounded(n: int) -> Bounded:
            by = np.sqrt(np.maximum(faces, n))
            return Bounded(every, every - below / by, every + above / by)

        return bounded


def _of_shares(values: Values, faces: Values, confidence: float) -> tuple[Values, Values]:
    usual = share_interval(values, faces, confidence)
    return sure_bounds(usual, values, faces, confidence)


def _without_nan(low: Values, high: Values, metric: Metric) -> tuple[Values, Values]:
    """Bounds, the widest possible where there are none."""
    least, most = metric.limits
    return np.where(np.isnan(low), least, low), np.where(np.isnan(high), most, high)


def find_figures(
    rule: Rule, metric: Metric, evidence: Evidence, cells: Cut, kept: Numbers
) -> RuleFigures:
    """One metric of a rule in some of the subgroups of its cut.

    Args:
        rule: The rule.
        metric: One of its metrics.
        evidence: What it is held against.
        cells: The cut by all features of the rule.
        kept: Numbers of the subgroups that count.
    """
    counted, options = evidence.counted, evidence.options

    def estimates(confidence: float) -> list[Estimate]:
        asked = replace(options, confidence=confidence, sure=True)
        found = estimates_of(rule, metric, evidence, cells, asked)
        return [found[index] for index in kept]

    def measured(confidence: float) -> tuple[Values, Values]:
        found = estimates(confidence)
        return _numbers(found, "low"), _numbers(found, "high")

    every = estimates_of(rule, metric, evidence, cells, options)
    usual = [every[index] for index in kept]
    degrees = degrees_of(counted, cells)
    return RuleFigures(
        metric,
        _numbers(usual, "value"),
        np.array([one.n for one in usual], np.float64),
        tuple(one.reason for one in usual),
        measured,
        is_share=metric.interval == "share" and counted.unit is None,
        figures=figures_of(metric, usual, [degrees[index] for index in kept], options.confidence),
    )


def _numbers(estimates: Sequence[Estimate], name: str) -> Values:
    """One field of estimates, NaN for None."""
    return np.array([getattr(one, name) for one in estimates], dtype=np.float64)


def estimates_of(
    rule: Rule, metric: Metric, evidence: Evidence, cells: Cut, options: Options
) -> list[Estimate]:
    """One metric of a rule in every subgroup of a cut."""
    counted = evidence.counted
    if metric.needs == "images":
        outcomes = partial(images_by_outcome, statuses=counted.statuses)
        return estimate_counts(metric, counted, cells, [counted.images], options, outcomes)
    if metric.needs == "predicted":
        task = _task(counted, rule)
        found = estimate_counts(metric, counted, cells, [counted.predicted[task.name]], options)
        return found[task.classes.index(str(rule.label)) :: len(task.classes)]
    if rule.failures == "errors":
        return _with_failures(rule, counted, cells, options)
    measured = measure(counted, cells, evidence.rows, options, [metric], rule.task)
    return [one.estimate for one in measured.values if one.label == rule.label]


def _with_failures(rule: Rule, counted: Tally, cells: Cut, options: Options) -> list[Estimate]:
    """The metric in every subgroup of the cut, failures counted as errors."""
    found = {
        frozenset(one.subgroup.items()): one.with_failures
        for one in count_failures_as_errors(counted, [cells.by] if cells.by else [], options)
        if (one.task, one.metric, one.label) == (rule.task, rule.name, rule.label)
    }
    nobody = Estimate(None, None, None, 0, "no face is annotated")
    return [found.get(frozenset(subgroup.items()), nobody) for subgroup in cells.subgroups]


def _task(counted: Tally, rule: Rule) -> Task:
    return next(task for task in counted.tasks if task.name == rule.task)
