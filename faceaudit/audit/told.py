"""The counts of faces and images that an audit tells, by kind and by whom they are of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from faceaudit.audit.age import LEGAL_YEARS
from faceaudit.audit.disclosure import ADULT, IMAGES, STATUS, UNSCORED, Key, key_of
from faceaudit.audit.results import Audit, Estimate, Subgroup
from faceaudit.schema import AGE_GROUP, Task, age_bins_of

EVERYBODY: Key = frozenset()
BASES = ("accuracy", "mae")
"""Metrics that stand on every labeled face of a subgroup."""
OF_ADULTS = {"fpr": "no", "fnr": "yes"}
"""Ends of the names of metrics of minors or of adults alone, and whether they are of adults."""
SEVERAL = "multi_face"


def counts_of(found: Audit) -> dict[str, dict[Key, int]]:
    """Every count that an audit tells, by kind and key."""
    tables: dict[str, dict[Key, int]] = {}

    def tell(kind: str, key: Key | None, n: float | None) -> None:
        if key is not None and n is not None:
            tables.setdefault(kind, {}).setdefault(key, round(n))

    for metric in sorted(found.metrics, key=lambda one: one.metric not in BASES):
        task, label, n = metric.task, metric.label, metric.estimate.n
        subgroup = key_of(metric.subgroup)
        if label is None and metric.metric in BASES:
            tell(f"labeled {task}", subgroup, n)
        elif of_adults(metric.metric):
            tell(f"labeled {task}", base_key(task, metric.metric, metric.subgroup), n)
        elif label is None and n != tables.get(f"labeled {task}", {}).get(subgroup or EVERYBODY):
            tell(f"{metric.metric} {task}", base_key(task, metric.metric, metric.subgroup), n)
        elif metric.metric == "recall":
            tell(f"labeled {task}", annotated_key(metric), n)
        elif metric.metric == "precision":
            tell(f"labeled {task}", predicted_key(metric), n)
        elif metric.metric == "selection_rate":
            tell(f"labeled {task}", predicted_key(metric), part_of(metric.estimate))
    for age in found.conditioned_age:
        if age.age_group is not None and "exact" in age.estimates:
            key = key_of(age.subgroup, **{AGE_GROUP: age.age_group})
            tell(f"labeled {AGE_GROUP}", key, age.estimates["exact"].n)
    for share in found.composition:
        tell(f"predicted {share.task}", key_of(share.subgroup), share.share.n)
        tell(f"predicted {share.task}", predicted_key(share), part_of(share.share))
    for bins in found.calibration:
        if bins.n != tables.get(f"labeled {bins.task}", {}).get(key_of(bins.subgroup) or EVERYBODY):
            key = key_of(bins.subgroup, **{f"({bins.task})": "calibration"})
            tell(f"calibration {bins.task}", key, bins.n)
    _tell_failures(found, tables, tell)
    return with_adults(tables, found.tasks)


def with_adults(
    tables: dict[str, dict[Key, int]], tasks: Iterable[Task]
) -> dict[str, dict[Key, int]]:
    """The counts; those of age groups also as of minors or adults, where no group has both."""
    classes = next((task.classes for task in tasks if task.name == AGE_GROUP), ())
    bins = age_bins_of(classes) or ()
    if LEGAL_YEARS not in bins:
        return tables
    adult = {
        (AGE_GROUP, name): {(ADULT, "yes" if youngest >= LEGAL_YEARS else "no")}
        for name, youngest in zip(classes, bins, strict=True)
    }
    return {
        kind: table
        | {key | adult[part]: n for key, n in table.items() for part in key if part in adult}
        if kind.startswith(f"labeled {AGE_GROUP}")
        else table
        for kind, table in tables.items()
    }


def _tell_failures(
    found: Audit, tables: Mapping[str, Mapping[Key, int]], tell: Callable[..., None]
) -> None:
    """Images by status, and what images and faces tell of each other."""
    labeled = [(name, table) for name, table in tables.items() if name.startswith("labeled ")]
    for one in found.coverage:
        subgroup = key_of(one.subgroup) or EVERYBODY
        tell("images", subgroup | {IMAGES}, one.images)
        for status, n in one.statuses.items():
            tell("images", subgroup | {IMAGES, (STATUS, status)}, n)
        several = one.rates.get(SEVERAL)
        if several is not None:
            tell(SEVERAL, subgroup | {IMAGES, (f"({SEVERAL})", "")}, part_of(several))
        for name, table in labeled:
            if one.images >= table.get(subgroup, one.images + 1):
                tell(
                    f"images without {name}",
                    subgroup | {IMAGES, UNSCORED},
                    one.images - table[subgroup],
                )
    for both in found.with_failures:
        key = key_of(both.subgroup) if both.label is None else annotated_key(both)
        if key is not None:
            tell(f"missed {both.task}", key | {IMAGES, UNSCORED}, both.missed)


def of_adults(metric: str) -> str | None:
    """Of a metric of minors or of adults alone, whether it is of adults: ``yes`` or ``no``."""
    found = re.fullmatch(r"challenge_\d+_(fpr|fnr)", metric)
    return OF_ADULTS[found[1]] if found else None


def base_key(task: str | None, metric: str, subgroup: Subgroup) -> Key | None:
    """The key of the labeled faces that a metric of no class stands on, where not on all."""
    if adults := of_adults(metric):
        return key_of(subgroup, **{ADULT: adults})
    return key_of(subgroup, **{f"({task})": metric})


def annotated_key(value: Any) -> Key | None:
    """The key of the faces that are annotated as the class of a figure."""
    return key_of(value.subgroup, **{value.task: value.label})


def predicted_key(value: Any) -> Key | None:
    """The key of the faces that were predicted as the class of a figure."""
    return key_of(value.subgroup, **{f"{value.task}_pred": value.label})


def part_of(share: Estimate) -> float | None:
    """How many faces or images a share tells of."""
    return None if share.value is None else share.value * share.n


def subgroups_of(found: Audit) -> frozenset[Key]:
    """Keys of the subgroups that figures are of."""
    places = [one.subgroup for one in found.coverage] + [one.subgroup for one in found.metrics]
    places += [one.subgroup for one in found.composition]
    return frozenset(key for place in places if (key := key_of(place)))
