"""The audit: one table of predictions to everything that was found in it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from faceaudit.audit.age import age_metric
from faceaudit.audit.cases import MOST_CONFIDENT
from faceaudit.audit.clusters import blocks_used, few_units
from faceaudit.audit.comparisons import Place, by_place, compare_grouping, cut_within
from faceaudit.audit.conditioned import condition_age, condition_within
from faceaudit.audit.coverage import find_composition, find_coverage
from faceaudit.audit.crowded import without_thin
from faceaudit.audit.disparity import find_disparity, without_order
from faceaudit.audit.estimates import Options
from faceaudit.audit.evidence import Evidence, policy_features, scores_for
from faceaudit.audit.failures import count_failures_as_errors
from faceaudit.audit.fairness import named_disparities, over_geometric_mean
from faceaudit.audit.measure import EVERY_METRIC, Measured, measure
from faceaudit.audit.policy import Policy
from faceaudit.audit.results import (
    Audit,
    Comparison,
    Confusion,
    Disparity,
    MetricValue,
    PolicyFacts,
    Subgroup,
    Verdict,
)
from faceaudit.audit.scores import EXACT_ROWS, ScoreRows, read_scores
from faceaudit.audit.subgroups import Feature, chosen_features, find_features, find_groupings
from faceaudit.audit.tally import Tally, cut, tally
from faceaudit.audit.verdict import judge
from faceaudit.audit.verify import VERIFY_ROWS, VERIFY_SUBGROUPS, verify_audit
from faceaudit.errors import UsageError
from faceaudit.schema import AGE
from faceaudit.tables import PredictionTable

Verify = Literal["auto", "always", "never"]
MOST_REPLICATES = 100_000
"""More change no digit that is shown, and need more memory than most machines have."""
MOST_DEALT_WITHIN = 20
"""With more values of a control feature tests within each are studentized, not permutations."""


def audit(
    table: PredictionTable | Tally,
    *,
    by: Sequence[str] | None = None,
    within: str | None = None,
    unit: str | None = None,
    min_n: int = 30,
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
    verify: Verify = "auto",
    also: Sequence[str] = (),
    policy: Policy | None = None,
    day: dt.date | None = None,
) -> Audit:
    """Everything that is found in a table of predictions.

    Args:
        table: The table, as ``tables.read_table`` opens it, or its tally.
        by: Sensitive features; None takes every annotated one of gender and race, and of a tally
            all that it has. Each is cut alone, and all of them together.
        within: A control feature: everything is also found within each of its values, and figures
            are compared at the same mix of them.
        unit: A column whose values (a person, a prompt) name rows that are not independent.
        min_n: Subgroups with fewer faces are shown and marked, and not ranked.
        confidence: Of all intervals.
        replicates: Draws of permutation tests; intervals need none. With fewer than 500 (see
            ``permutation.FEWEST_DRAWS``) no test is a permutation.
        seed: Of the draws.
        verify: Whether to recompute the figures with scikit-learn and fairlearn; ``auto`` does up
            to ``VERIFY_ROWS`` rows, of everybody and of ``VERIFY_SUBGROUPS`` subgroups. A tally
            has no rows to recompute from.
        also: Further metrics by name, such as ``cs_at_3`` or ``challenge_30_fpr``.
        policy: Rules to hold against the table; None holds none.
        day: On which exceptions of the policy are current; None is today.

    Raises:
        UsageError: If an option cannot work, or a rule names what there is not.
        SchemaError: If the table cannot be cut as asked.
    """
    _check_options(min_n, confidence, replicates, seed)
    options = Options(min_n, confidence, replicates, seed, tuple(map(age_metric, also)))
    if isinstance(table, Tally):
        _check_tally(table, unit, verify)
        features = chosen_features(table.features, by)
        control = chosen_features(table.features, [within]) if within else ()
        found = without_thin(
            _audited(table, _apart(features, control, by), control, {}, options, verify), min_n
        )
        return found if policy is None else _with_verdicts(found, table, policy, options, day)
    control = find_features(table, [within]) if within else ()
    features = _apart(find_features(table, by), control, by)
    cut_by = (*features, *control)
    ruled = () if policy is None else policy_features(table, policy)[0]
    every = tuple(dict.fromkeys([*cut_by, *ruled]))
    counted = tally(table, every, unit=unit)
    rows = _score_rows(table, every)
    found = without_thin(_audited(counted, features, control, rows, options, verify), options.min_n)
    if policy is not None:
        found = _with_verdicts(found, counted, policy, options, day, rows)
    if verify == "always" or (verify == "auto" and table.rows <= VERIFY_ROWS):
        most = VERIFY_SUBGROUPS if verify == "auto" else None
        return replace(found, verification=verify_audit(table, cut_by, found, most))
    return found


def find_verdicts(
    table: PredictionTable | Tally,
    policy: Policy,
    *,
    unit: str | None = None,
    min_n: int = 30,
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
    day: dt.date | None = None,
) -> tuple[tuple[Verdict, ...], tuple[str, ...]]:
    """The verdict on every rule of a policy, and notes, without the rest of an audit.

    Args:
        table: The table, as ``tables.read_table`` opens it, or its tally.
        policy: The rules.
        unit: A column whose values (a person, a prompt) name rows that are not independent.
        min_n: Fewest faces of a subgroup that is judged, where a rule does not say it.
        confidence: With which all verdicts hold together, where a rule does not say it.
        replicates: As ``audit`` takes it; no verdict rests on draws.
        seed: Of the draws.
        day: On which exceptions are current; None is today.

    Raises:
        UsageError: If an option cannot work, or a rule names what there is not.
        SchemaError: If the table cannot be cut as a rule asks.
    """
    _check_options(min_n, confidence, replicates, seed)
    options = Options(min_n, confidence, replicates, seed)
    features, bare = policy_features(table, policy)
    rows: Mapping[str, ScoreRows] = {}
    if isinstance(table, Tally):
        _check_tally(table, unit, "auto")
        counted = table
    else:
        counted = tally(table, features, unit=unit)
        rows = scores_for(table, features, policy)
    verdicts = judge(policy, Evidence(counted, options, day or dt.date.today(), rows, bare))
    notes = [note for table in counted.tables for note in table.notes]
    return verdicts, tuple(dict.fromkeys([*notes, *_notes(counted, features, {})]))


def _with_verdicts(
    found: Audit,
    counted: Tally,
    policy: Policy,
    options: Options,
    day: dt.date | None,
    rows: Mapping[str, ScoreRows] | None = None,
) -> Audit:
    features, bare = policy_features(counted, policy)
    day = day or dt.date.today()
    notes = [*found.notes, *_notes(counted, features, {})]
    return replace(
        found,
        policy=PolicyFacts(policy.name, policy.sha256, day),
        verdicts=judge(policy, Evidence(counted, options, day, rows or {}, bare)),
        notes=tuple(dict.fromkeys(notes)),
    )


def _apart(
    features: Sequence[Feature], control: Sequence[Feature], by: Sequence[str] | None
) -> tuple[Feature, ...]:
    """Sensitive features without the control feature.

    Raises:
        UsageError: If a feature was named as both.
    """
    columns = {feature.column for feature in control}
    both = [feature.name for feature in features if feature.column in columns]
    if both and by is not None:
        raise UsageError(
            f"--within {both[0]}: also in --by; a feature is either compared across or held fixed"
        )
    return tuple(feature for feature in features if feature.column not in columns)


def _audited(
    counted: Tally,
    features: Sequence[Feature],
    control: Sequence[Feature],
    rows: Mapping[str, ScoreRows],
    options: Options,
    verify: Verify,
) -> Audit:
    """Everything but the verification, from a tally and the scores of a table that fits."""
    groupings = find_groupings(features)
    measured = Measured()
    disparities: list[Disparity] = []
    comparisons: list[Comparison] = []
    for grouping in [(), *groupings]:
        cells = cut(counted, grouping)
        found = measure(counted, cells, rows, options)
        measured.extend(found)
        if grouping:
            compared = compare_grouping(counted, cells, found.values, rows, options)
            disparities += _disparities(grouping, found.values, compared, options)
            comparisons += compared.values()
    within = control[0].name if control else None
    inside = [(within, *grouping) for grouping in [(), *groupings]] if within else []
    for grouping in inside:
        found = measure(counted, cut(counted, grouping), rows, options)
        measured.extend(replace(found, curves=[]))
        gaps, inner = _compared_within(counted, grouping, found.values, rows, options)
        disparities += gaps
        comparisons += inner
    conditions = [condition_age(counted, groupings, options)]
    if within:
        conditions.append(condition_within(counted, groupings, within, options))
    table_notes = [note for table in counted.tables for note in table.notes]
    return Audit(
        tasks=counted.tasks,
        by=groupings,
        rows=counted.rows,
        images=int(cut(counted, ()).one(counted.images, 0).sum()),
        labelled=_labelled(counted),
        coverage=tuple(find_coverage(counted, [*groupings, *inside], options.confidence)),
        metrics=tuple(measured.values),
        disparities=tuple(disparities),
        comparisons=tuple(comparisons),
        conditioned_age=conditions[0].ages,
        confusions=tuple(_confusions(counted, groupings)),
        roc_curves=tuple(measured.curves),
        calibration=tuple(measured.reliability),
        composition=tuple(find_composition(counted, groupings, options.confidence)),
        notes=tuple(
            dict.fromkeys(
                [
                    *table_notes,
                    *_notes(counted, (*features, *control), measured.bounds),
                    *(note for one in conditions for note in one.notes),
                ]
            )
        ),
        with_failures=tuple(count_failures_as_errors(counted, [*groupings, *inside], options)),
        within=within,
        standardised=tuple(one for found in conditions for one in found.standardised),
        decompositions=tuple(one for found in conditions for one in found.decompositions),
        options={
            "by": [feature.name for feature in features],
            "within": within,
            "unit": counted.unit,
            "min_n": options.min_n,
            "confidence": options.confidence,
            "replicates": options.replicates,
            "seed": options.seed,
            "verify": verify,
        },
    )


def check_confidence(confidence: float) -> None:
    """Raise a UsageError where a confidence is no share, or too near 1 to have a quantile."""
    if not 0 < confidence <= MOST_CONFIDENT:
        raise UsageError(f"--confidence {confidence}: give a share between 0 and 1, such as 0.95")


def check_min_n(min_n: int) -> None:
    """Raise a UsageError where a smallest number of faces is no whole number of at least 1."""
    if min_n < 1 or min_n != int(min_n):
        raise UsageError(f"--min-n {min_n}: give a whole number of at least 1; 30 is the default")


def _check_options(min_n: int, confidence: float, replicates: int, seed: int) -> None:
    check_confidence(confidence)
    if not 100 <= replicates <= MOST_REPLICATES:
        raise UsageError(
            f"--replicates {replicates}: give at least 100 and at most {MOST_REPLICATES}; "
            "2000 is the default"
        )
    check_min_n(min_n)
    if seed < 0:
        raise UsageError(f"--seed {seed}: give 0 or more; 0 is the default")


def _check_tally(counted: Tally, unit: str | None, verify: Verify) -> None:
    if verify == "always":
        raise UsageError("--verify always: a tally holds no rows to recompute; give the table")
    if unit is not None and unit != counted.unit:
        has = f"was made with --unit {counted.unit}" if counted.unit else "was made without --unit"
        raise UsageError(f"--unit {unit}: the tally {has}; make it again from the table")


def _score_rows(table: PredictionTable, features: Sequence[Feature]) -> Mapping[str, ScoreRows]:
    """Scores row by row, of a table that fits; empty for a larger one."""
    if table.rows > EXACT_ROWS:
        return {}
    tasks = [task for task in table.tasks if task.name in table.scored & table.annotated]
    return read_scores(table, features, tasks)


def _labelled(counted: Tally) -> dict[str, int]:
    everybody = cut(counted, ())
    faces = {
        task.name: int(everybody.one(counted.confusion[task.name], 0).sum())
        if task.name in counted.confusion
        else 0
        for task in counted.tasks
    }
    years = int(everybody.one(counted.errors, 0).sum())
    return {**faces, AGE: years} if years else faces


def _confusions(counted: Tally, groupings: Sequence[tuple[str, ...]]) -> Iterator[Confusion]:
    tasks = [task for task in counted.tasks if task.name in counted.confusion]
    for by in [(), *groupings]:
        cells = cut(counted, by)
        for task in tasks:
            every = cells.of(counted.confusion[task.name])
            for subgroup, counts in zip(cells.subgroups, every, strict=True):
                yield Confusion(task, subgroup, counts)


def _disparities(
    by: tuple[str, ...],
    values: Sequence[MetricValue],
    compared: Mapping[Place, Comparison],
    options: Options,
) -> list[Disparity]:
    """One disparity per task, metric and class of a grouping, and the named ones."""
    metrics = {metric.name: metric for metric in (*EVERY_METRIC, *options.also)}
    plain = [
        replace(
            find_disparity(metrics[place[1]], by, found, compared[place], min_n=options.min_n),
            over_geometric_mean=over_geometric_mean(metrics[place[1]], found, options.min_n),
        )
        for place, found in by_place(values).items()
    ]
    named = named_disparities(plain, compared)
    return [without_order(one) for one in (*plain, *named)]


def _compared_within(
    counted: Tally,
    grouping: tuple[str, ...],
    values: Sequence[MetricValue],
    rows: Mapping[str, ScoreRows],
    options: Options,
) -> tuple[list[Disparity], list[Comparison]]:
    """Disparities and comparisons at each value of the control feature, which comes first.

    With more than ``MOST_DEALT_WITHIN`` values no test is a permutation.
    """
    within, *by = grouping
    apart: dict[str, list[MetricValue]] = {}
    for value in values if by else []:
        subgroup = {name: value.subgroup[name] for name in by}
        apart.setdefault(value.subgroup[within], []).append(replace(value, subgroup=subgroup))
    disparities: list[Disparity] = []
    comparisons: list[Comparison] = []
    if len(apart) > MOST_DEALT_WITHIN:
        options = replace(options, replicates=0)
    for held, found in apart.items():
        fixed = {within: held}
        cells = cut_within(counted, by, fixed)
        compared = compare_grouping(counted, cells, found, rows, options, fixed)
        comparisons += compared.values()
        disparities += [
            replace(one, within=fixed) for one in _disparities(tuple(by), found, compared, options)
        ]
    return disparities, comparisons


def _notes(
    counted: Tally, features: Sequence[Feature], bounds: Mapping[str, float]
) -> Iterator[str]:
    """Warnings that belong to how the table was cut and counted."""
    for feature in features:
        if feature.predicted:
            yield (
                f"Subgroups by {feature.name} are formed by predictions, not annotations: the "
                "model's errors decide who is counted where, and can create or hide differences."
            )
    if counted.unit is not None:
        yield from _notes_of_units(counted, features)
    if bounds:
        worst = " and ".join(
            f"no {name} by more than {bound:.2g}" for name, bound in bounds.items()
        )
        yield (
            f"AUC, average precision and ROC curves of tables with more than {EXACT_ROWS:,} rows, "
            "and of tallies, come from histograms of the scores, in which faces of one bin count "
            f"as tied. Of the classes with enough faces to be ranked this changes {worst}."
        )


def _notes_of_units(counted: Tally, features: Sequence[Feature]) -> Iterator[str]:
    yield (
        f"Faces of one {counted.unit} are not taken as independent: intervals rest on how the "
        f"figures vary when blocks of {counted.unit} are left out."
    )
    used: list[tuple[Subgroup, float]] = []
    for by in [(), *find_groupings(features)]:
        cells = cut(counted, by)
        used += zip(cells.subgroups, blocks_used(counted, cells), strict=True)
    yield from few_units(str(counted.unit), used)
