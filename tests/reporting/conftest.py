"""A synthetic audit with realistic figures: small subgroups, undefined figures, missing faces."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest

from faceaudit.audit.changes import Change, Changes, Distance
from faceaudit.audit.comparisons import Measurements, compare_values
from faceaudit.audit.estimates import Options
from faceaudit.audit.measure import EVERY_METRIC
from faceaudit.audit.reliability import EDGES, find_reliability
from faceaudit.audit.results import (
    Audit,
    Composition,
    ConditionedAge,
    Confusion,
    Contribution,
    Coverage,
    Decomposition,
    Disparity,
    Estimate,
    Exemption,
    LeakEffect,
    LeaksLeftOut,
    MetricValue,
    PolicyFacts,
    RocCurve,
    Standardised,
    Verdict,
    Verification,
    WithFailures,
)
from faceaudit.reporting.subject import Baseline, Provenance, Subject
from faceaudit.schema import SCHEMES, TableMetadata, age_group_task, task_of_scheme

GENDER = task_of_scheme("gender", "gender2")
RACE = task_of_scheme("race", "fairface7")
AGES = age_group_task((0, 3, 10, 20, 30, 40, 50, 60, 70))
TASKS = (GENDER, RACE, AGES)
BY = (("gender",), ("race",), ("gender", "race"))
MIN_N = 30
BASE = {"gender": 0.93, "race": 0.70, "age_group": 0.58}


def make_subgroups():
    races = SCHEMES["fairface7"]
    cells = [{"gender": g, "race": r} for g in GENDER.classes for r in races]
    singles = [{"gender": g} for g in GENDER.classes] + [{"race": r} for r in races]
    return [{}, *singles, *cells]


def faces_of(subgroup):
    share = {"White": 0.3, "Black": 0.17, "Middle Eastern": 0.05}.get(subgroup.get("race"), 0.12)
    n = 2372 * (share if "race" in subgroup else 1) * (0.49 if "gender" in subgroup else 1)
    return 21 if subgroup == {"gender": "Female", "race": "Middle Eastern"} else int(n)


def bounded(value, spread, n, *, low=0.0, high=1.0, reason=None):
    if reason:
        return Estimate(None, None, None, n, reason)
    half = 1.96 * spread / np.sqrt(max(n, 1))
    return Estimate(value, max(low, value - half), min(high, value + half), n)


class Sampler:
    """Draws the parts of an audit; every draw comes from one seed."""

    def __init__(self, seed=7):
        self.random = np.random.default_rng(seed)

    def share(self, center, n):
        value = float(np.clip(center + self.random.normal(0, 0.03), 0.02, 0.99))
        return bounded(value, np.sqrt(value * (1 - value)), n)

    def years(self, center, n, low=0.0):
        value = float(center + self.random.normal(0, 0.5))
        return bounded(value, 6.0, n, low=low, high=60.0)

    def metrics(self):
        found = []
        for subgroup in make_subgroups():
            n, small = faces_of(subgroup), faces_of(subgroup) < MIN_N
            harder = 0.07 if subgroup.get("race") == "Black" else 0.0
            for task in TASKS:
                base = BASE[task.name] - harder
                for metric in ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc"):
                    found.append(
                        MetricValue(task.name, metric, subgroup, self.share(base, n), None, small)
                    )
                found += self.class_metrics(task, subgroup, n, small)
            for metric in ("one_off", "step_mae", "mean_signed_step"):
                found.append(MetricValue("age_group", metric, subgroup, self.share(0.6, n)))
            for metric, center in (("mae", 6 + 9 * harder), ("rmse", 8.4), ("cs_at_5", 0.55)):
                draw = self.share if metric == "cs_at_5" else self.years
                found.append(MetricValue("age", metric, subgroup, draw(center, n), None, small))
            signed = self.years(-0.8, n, low=-60.0)
            found.append(MetricValue("age", "mean_signed_error", subgroup, signed, None, small))
        return tuple(found)

    def class_metrics(self, task, subgroup, n, small):
        for label in task.classes:
            one_class = subgroup.get(task.name) is not None
            reason = f"every face here is annotated as one {task.name} class" * one_class
            for metric in ("f1", "recall", "precision", "auc", "selection_rate"):
                drawn = self.share(BASE[task.name], n // len(task.classes))
                undefined = replace(drawn, value=None, low=None, high=None, reason=reason)
                hidden = one_class and metric == "auc"
                estimate = undefined if hidden else drawn
                yield MetricValue(task.name, metric, subgroup, estimate, label, small)

    def disparities(self, metrics):
        for task, metric in [(t.name, "accuracy") for t in TASKS] + [("age", "mae")]:
            for by in BY:
                values = {
                    tuple(m.subgroup.items()): m.estimate.value
                    for m in metrics
                    if (m.task, m.metric) == (task, metric) and set(m.subgroup) == set(by)
                    if not m.small
                }
                low, high = min(values, key=values.get), max(values, key=values.get)
                worst, best = (high, low) if metric == "mae" else (low, high)
                gap = values[high] - values[low]
                yield Disparity(
                    task,
                    metric,
                    by,
                    dict(worst),
                    dict(best),
                    gap,
                    values[low] / values[high],
                    gap - 0.05,
                    gap + 0.05,
                    len(values),
                )

    def conditioned(self):
        for subgroup in make_subgroups():
            for position, group in enumerate((*AGES.classes, None, None)):
                n = faces_of(subgroup) // (1 if group is None else 9)
                estimates = {
                    "exact": self.share(0.58, n),
                    "one_off": self.share(0.92, n),
                    "step_mae": self.share(0.3 + 0.06 * position, n),
                    "mean_signed_step": bounded(0.3 - 0.1 * position, 0.6, n, low=-9.0, high=9.0),
                    "mae": self.years(4 + 0.6 * position, n),
                    "mean_signed_error": self.years(2 - 0.7 * position, n, low=-60.0),
                }
                if n < 3:
                    reason = "no face of this age group"
                    estimates = {m: Estimate(None, None, None, n, reason) for m in estimates}
                yield ConditionedAge(subgroup, group, estimates, position == 10, n < MIN_N)

    def confusions(self):
        for subgroup in make_subgroups():
            for task in TASKS:
                size = len(task.classes)
                wrong = (1 - BASE[task.name]) / (size - 1)
                rates = np.full((size, size), wrong)
                np.fill_diagonal(rates, BASE[task.name])
                per_class = np.full(size, faces_of(subgroup) // size)
                if task.name in subgroup:
                    per_class = faces_of(subgroup) * (np.array(task.classes) == subgroup[task.name])
                counts = np.array(
                    [
                        self.random.multinomial(n, row / row.sum())
                        for n, row in zip(per_class, rates, strict=True)
                    ]
                )
                yield Confusion(task, subgroup, counts)

    def curves(self):
        rate = np.linspace(0, 1, 200)
        for subgroup in make_subgroups():
            for task in TASKS:
                for label in task.classes:
                    if task.name in subgroup or len(subgroup) > 1:
                        continue
                    power = float(self.random.uniform(0.05, 0.25))
                    auc = self.share(1 / (1 + power), faces_of(subgroup))
                    yield RocCurve(task.name, label, subgroup, rate, rate**power, auc)

    def reliability(self):
        middle = (np.array(EDGES[:-1]) + np.array(EDGES[1:])) / 2
        for subgroup in make_subgroups():
            for task in TASKS:
                n = self.random.multinomial(faces_of(subgroup), middle / middle.sum())
                right = self.random.binomial(n, middle)
                counts = np.stack([n, n * middle, right], axis=-1)[None]
                own = task.name in subgroup
                yield from find_reliability(
                    task.name, [subgroup], counts, Options(MIN_N), own_class=own
                )

    def coverage(self):
        for subgroup in make_subgroups():
            images = faces_of(subgroup) + 6
            statuses = {"ok": images - 6, "no_face": 5, "unreadable": 1}
            failed = bounded(6 / images, np.sqrt(6 / images), images)
            several = bounded(None, 0, images - 6, reason="one face per image is kept")
            rates = {"no_face": failed, "decoding": failed, "detection": failed}
            yield Coverage(subgroup, images, statuses, failed, {**rates, "multi_face": several})

    def with_failures(self):
        for subgroup in make_subgroups():
            n = faces_of(subgroup)
            for task, metric in (("gender", "accuracy"), ("race", "accuracy"), ("age", "cs_at_5")):
                scored, every, lost = (self.share(center, n) for center in (0.8, 0.78, 0.02))
                small = n < MIN_N
                yield WithFailures(task, metric, subgroup, scored, every, lost, 5, None, small)

    def within_sites(self):
        for subgroup in make_subgroups():
            for site in ("north", "south"):
                found = self.share(0.8, faces_of(subgroup) // 2)
                where = {"site": site, **subgroup}
                yield MetricValue("gender", "accuracy", where, found, None, found.n < MIN_N)

    def standardised(self):
        for subgroup in make_subgroups()[1:]:
            found = self.share(0.8, faces_of(subgroup))
            yield Standardised("gender", "accuracy", "site", subgroup, found)

    def decompositions(self):
        for subgroup in make_subgroups()[1:]:
            n = faces_of(subgroup)
            gap, mix, rate = (bounded(v, 0.5, n, low=-1.0) for v in (0.2, 0.15, 0.05))
            share = Estimate(0.75, None, None, n, "no interval of a share")
            ages = (Contribution("20-29", rate), Contribution("70+", rate))
            by = tuple(subgroup)
            for within, task in (("age_group", "age_group"), ("site", "gender")):
                figure = (task, "accuracy", within, by, subgroup, None)
                yield Decomposition(*figure, gap, mix, rate, share, ages)

    def composition(self):
        for subgroup in make_subgroups():
            for task in TASKS:
                for label in task.classes:
                    share = self.share(1 / len(task.classes), faces_of(subgroup))
                    yield Composition(task.name, label, subgroup, share)


def make_verdicts():
    passed = Verdict(
        rule="failure_rate: overall, at most 0.05",
        task=None,
        metric="failure_rate",
        label=None,
        by=(),
        within=(),
        only={},
        measure="overall",
        at_least=None,
        at_most=0.05,
        owner="review board",
        reason="a missing face is an error that no other rule sees",
        confidence=0.95,
        min_n=MIN_N,
        outcome="pass",
        value=0.01,
        low=0.005,
        high=0.02,
        n=2410,
        n_needed=None,
        subgroups=({},),
        explanation="the whole interval keeps the limit",
    )
    worst = replace(
        passed,
        rule="gender accuracy: worst by race, at least 0.9",
        task="gender",
        metric="accuracy",
        by=("race",),
        measure="worst",
        at_least=0.9,
        at_most=None,
        outcome="fail",
        value=0.81,
        low=0.75,
        high=0.86,
        n=403,
        subgroups=({"race": "Black"},),
        explanation="the whole interval breaks the limit; shown by Black",
        exemptions=(
            Exemption(
                {"race": "Indian"}, "review board", "few faces", dt.date(2020, 1, 1), False, 1
            ),
        ),
    )
    undecided = replace(
        worst,
        rule="gender accuracy: difference by race, at most 0.1",
        measure="difference",
        at_least=None,
        at_most=0.1,
        outcome="insufficient",
        n_needed=900,
        subgroups=({"race": "White"}, {"race": "Black"}),
        small=({"race": "Middle Eastern"},),
        explanation="the interval reaches across the limit, farthest for White and Black",
    )
    return passed, worst, undecided


def comparisons(metrics):
    named = {metric.name: metric for metric in EVERY_METRIC}
    everybody = {(m.task, m.metric): m for m in metrics if not m.subgroup and not m.label}
    for (task, metric), overall in everybody.items():
        for by in BY:
            values = [
                m
                for m in metrics
                if (m.task, m.metric, m.label) == (task, metric, None)
                and set(m.subgroup) == set(by)
            ]
            degrees = [np.inf] * len(values)
            own = Measurements(values, degrees)
            rest = Measurements([overall] * len(values), degrees)
            yield compare_values(named[metric], own, rest, by, Options(MIN_N))


def make_audit():
    sampler = Sampler()
    metrics = sampler.metrics()
    return Audit(
        tasks=TASKS,
        by=BY,
        rows=2410,
        images=2410,
        labelled={"gender": 2372, "race": 2372, "age_group": 2372, "age": 2372},
        coverage=tuple(sampler.coverage()),
        metrics=(*metrics, *sampler.within_sites()),
        disparities=tuple(sampler.disparities(metrics)),
        conditioned_age=tuple(sampler.conditioned()),
        confusions=tuple(sampler.confusions()),
        roc_curves=tuple(sampler.curves()),
        calibration=tuple(sampler.reliability()),
        composition=tuple(sampler.composition()),
        notes=("race: the scheme fairface7 was audited as it is; nothing was mapped",),
        options={"min_n": MIN_N, "confidence": 0.95, "replicates": 2000, "seed": 0},
        verification=Verification(
            2372, 214, 3.3e-16, "macro_auc, Female", "scikit-learn 1.7.2, fairlearn 0.12.0", 12, 31
        ),
        policy=PolicyFacts("policy.toml", "ef" * 32, dt.date(2026, 11, 25)),
        verdicts=make_verdicts(),
        leaks=make_leaks(),
        with_failures=tuple(sampler.with_failures()),
        within="site",
        standardised=tuple(sampler.standardised()),
        decompositions=tuple(sampler.decompositions()),
        comparisons=tuple(comparisons(metrics)),
    )


def make_provenance():
    metadata = TableMetadata(
        tasks=TASKS,
        model={
            "name": "demo-lite0",
            "sha256": "ab" * 32,
            "licence": "Apache-2.0",
            "training_data": "FairFace train (CC BY 4.0)",
        },
        detector={"name": "retinaface", "threshold": 0.8},
        preprocessing={"align": "similarity", "margin": 0.1, "size": 112},
        precision="float32",
        labels={"format": "fairface", "provenance": "annotated"},
        version="0.1.0",
        options={"faces": "largest"},
    )
    return Provenance("predictions.parquet", "cd" * 32, 2410, metadata, "fairface", "annotated")


def brief(audit):
    """The audit of gender alone, cut by gender alone."""

    def kept(found):
        return tuple(f for f in found if set(f.subgroup) <= {"gender"})

    def of_gender(found):
        return tuple(f for f in found if f.task == "gender")

    return replace(
        audit,
        tasks=(GENDER,),
        by=(("gender",),),
        labelled={"gender": 2372},
        coverage=kept(audit.coverage),
        metrics=kept(of_gender(audit.metrics)),
        disparities=tuple(d for d in of_gender(audit.disparities) if d.by == ("gender",)),
        conditioned_age=kept(audit.conditioned_age),
        confusions=kept(c for c in audit.confusions if c.task == GENDER),
        roc_curves=kept(of_gender(audit.roc_curves)),
        calibration=kept(of_gender(audit.calibration)),
        composition=kept(of_gender(audit.composition)),
        with_failures=kept(of_gender(audit.with_failures)),
        within=None,
        standardised=(),
        decompositions=(),
        comparisons=tuple(c for c in of_gender(audit.comparisons) if c.by == ("gender",)),
    )


def without_labels(audit):
    everybody = [c for c in audit.coverage if not c.subgroup]
    shares = [c for c in audit.composition if not c.subgroup]
    return replace(
        audit,
        by=(),
        labelled={task.name: 0 for task in audit.tasks},
        metrics=(),
        disparities=(),
        comparisons=(),
        conditioned_age=(),
        confusions=(),
        roc_curves=(),
        calibration=(),
        coverage=tuple(everybody),
        composition=tuple(shares),
        verification=None,
        policy=None,
        verdicts=(),
        leaks=None,
        notes=(),
        with_failures=(),
        within=None,
        standardised=(),
        decompositions=(),
    )


def make_leaks():
    every, rest = Estimate(0.93, 0.92, 0.94, 2372), Estimate(0.92, 0.91, 0.93, 2172)
    known = LeakEffect(
        "gender",
        "accuracy",
        every,
        Estimate(0.99, 0.96, 1.0, 200),
        rest,
        Estimate(0.01, 0.004, 0.015, 200),
    )
    none = Estimate(None, None, None, 0, "no leaked face has a label")
    unknown = LeakEffect("age", "mae", Estimate(5.1, 4.9, 5.3, 900), none, none, none)
    return LeaksLeftOut("leaks.parquet", "e" * 64, "sha256", 210, 205, 2582, 205, (known, unknown))


def make_change(task, metric, subgroup, difference, verdict, label=None):
    by, half = tuple(subgroup), 0.01 if verdict in {"improved", "regressed"} else 0.09
    first, p_value = 0.9, 0.001 if half == 0.01 else 0.4
    second = first + difference
    bounds = difference - half, difference + half
    n = 21 if verdict == "few faces" else 800
    adjusted = None if verdict == "few faces" else p_value
    return Change(
        task,
        metric,
        by,
        subgroup,
        n,
        first,
        second,
        difference,
        *bounds,
        p_value,
        adjusted,
        verdict,
        label,
    )


def make_changes():
    """A drift: figures of every kind of verdict, an undefined one, distances."""
    changes = [
        make_change("gender", "accuracy", {}, 0.002, "no difference shown"),
        make_change("gender", "accuracy", {"race": "Black"}, -0.04, "regressed"),
        make_change("gender", "accuracy", {"race": "White"}, 0.03, "improved"),
        make_change("gender", "accuracy", {"race": "Indian"}, 0.1, "few faces"),
        make_change("gender", "predicted_share", {}, 0.02, "changed", "Female"),
        make_change("", "failure_rate", {}, 0.01, "no difference shown"),
    ]
    undefined = replace(
        changes[2], metric="macro_f1", first=None, second=None, difference=None, reason="no faces"
    )
    distance = Distance(
        *("predicted", "gender", {}, 800, 700, 0.05, 0.01, 0.09, 0.02, None, None, 0.01, 0.02),
        shifted=True,
    )
    ordered = replace(
        distance, what="confidence", ks=0.08, medians=(0.9, 0.8), subgroup={"race": "Black"}
    )
    return Changes(
        mode="drift",
        tasks=(GENDER,),
        by=(("race",),),
        images=(800, 700),
        labelled={"gender": 700},
        changes=(*changes, undefined),
        distances=(distance, ordered),
        notes=("The tables are of different images.",),
        options={"min_n": MIN_N, "confidence": 0.95},
    )


@pytest.fixture(scope="session")
def sample_subject():
    baseline = Baseline(make_changes(), "last-month.parquet")
    return Subject(make_audit(), make_provenance(), "Audit of demo-lite0", baseline)


@pytest.fixture(scope="session")
def brief_subject(sample_subject):
    return replace(sample_subject, audit=brief(sample_subject.audit))


@pytest.fixture(scope="session")
def unlabelled_subject(sample_subject):
    provenance = replace(sample_subject.provenance, labels_format=None, labels_provenance=None)
    return Subject(without_labels(sample_subject.audit), provenance, "Composition of a data set")
