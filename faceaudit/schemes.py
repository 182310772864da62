"""Which classes a task has, and how predicted and annotated schemes are brought together.

Schemes are never pooled silently: every mapping that is used is a ``Coarsening``, whose sentence
the page prints. To add a scheme or a mapping, see ``SCHEMES`` and ``SCHEME_MAPS`` in
``faceaudit.schema``; what only annotations can be brought to stands in ``ANNOTATION_MAPS``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from faceaudit.errors import SchemaError
from faceaudit.schema import (
    AGE_BINS,
    AGE_GROUP,
    ANNOTATION_MAPS,
    SCHEME_MAPS,
    SCHEMES,
    Task,
    age_bins_of,
    age_group_task,
    task_of_scheme,
)

CUSTOM = "custom"
"""Scheme of classes that are no named scheme."""


@dataclass(frozen=True)
class Coarsening:
    """How the classes of one scheme become those of another."""

    source: Task
    target: Task
    classes: Mapping[str, str]
    """Class of the source -> class of the target."""

    @property
    def changes(self) -> bool:
        """Whether any class gets another name, or none."""
        return bool(self.left_out) or any(old != new for old, new in self.classes.items())

    @property
    def left_out(self) -> tuple[str, ...]:
        """Classes of the source that have no counterpart."""
        return tuple(name for name in self.source.classes if name not in self.classes)

    @property
    def sentence(self) -> str:
        """The whole mapping in one line, ``East Asian + Southeast Asian → Asian; ...``."""
        parts = []
        for new in self.target.classes:
            olds = [old for old, target in self.classes.items() if target == new]
            if olds:
                parts.append(f"{' + '.join(olds)} → {new}")
        if self.left_out:
            parts.append(f"left out: {', '.join(self.left_out)}")
        return "; ".join(parts)


@dataclass(frozen=True)
class Agreement:
    """The classes that predictions and annotations are compared in, and how each gets there."""

    task: Task
    predicted: Coarsening
    annotated: Coarsening | None
    """None where annotated values are taken as they are."""


def merge_note(what: str, way: Coarsening) -> str:
    """The sentence that the page prints where classes were merged."""
    task = way.source.name.replace("_", " ").capitalize()
    return (
        f"{task}: {what} were merged from {way.source.scheme} to {way.target.scheme}: "
        f"{way.sentence}."
    )


def named_task(name: str, classes: Sequence[str]) -> Task:
    """The task with these classes; of a named scheme where the classes are the scheme's."""
    if name == AGE_GROUP and (bins := age_bins_of(classes)):
        return age_group_task(bins)
    for scheme, known in SCHEMES.items():
        if set(known) == set(classes):
            return Task(name, scheme, known)
    return Task(name, CUSTOM, tuple(classes))


def schemes_with(name: str, values: Collection[str]) -> list[Task]:
    """Named schemes that have all of these values among their classes, the smallest first."""
    schemes = AGE_BINS if name == AGE_GROUP else SCHEMES
    tasks = [task_of_scheme(name, scheme) for scheme in schemes]
    return sorted(
        (task for task in tasks if set(values) <= set(task.classes)),
        key=lambda task: len(task.classes),
    )


def task_of_values(name: str, predicted: Collection[str], annotated: Collection[str]) -> Task:
    """The task that the values of a table without declared classes belong to.

    A named scheme that holds all values, else one that holds the predicted values, else the sorted
    values themselves.
    """
    values = {*predicted, *annotated}
    found = schemes_with(name, values) or schemes_with(name, predicted)
    if found:
        return found[0]
    return named_task(name, sorted(values, key=_by_lower_bound if name == AGE_GROUP else None))


def _by_lower_bound(group: str) -> tuple[int, str]:
    digits = group.removesuffix("+").split("-")[0].strip()
    return (int(digits) if digits.isdecimal() else 10**6, group)


def coarsening(source: Task, target: Task) -> Coarsening | None:
    """The mapping between two tasks' classes, or None where no such mapping is known."""
    if _same_scheme(source, target) and set(source.classes) <= set(target.classes):
        return Coarsening(source, target, {name: name for name in source.classes})
    if known := SCHEME_MAPS.get((source.scheme, target.scheme)):
        return Coarsening(source, target, known)
    return _merge_of_age_groups(source, target)


def coarsening_of_annotations(source: Task, target: Task) -> Coarsening | None:
    """The same, or one that leaves out classes without a counterpart."""
    found = coarsening(source, target)
    if found is None and (known := ANNOTATION_MAPS.get((source.scheme, target.scheme))):
        return Coarsening(source, target, known)
    return found


def _same_scheme(first: Task, second: Task) -> bool:
    """Whether equal class names mean the same: not where both belong to different named schemes."""
    return first.scheme == second.scheme or CUSTOM in {first.scheme, second.scheme}


def _merge_of_age_groups(source: Task, target: Task) -> Coarsening | None:
    """Age groups merged into wider ones, where every bound of the wider is one of the finer."""
    fine, wide = age_bins_of(source.classes), age_bins_of(target.classes)
    if not fine or not wide or not set(wide) <= set(fine):
        return None
    targets = [target.classes[sum(bound <= low for bound in wide) - 1] for low in fine]
    return Coarsening(source, target, dict(zip(source.classes, targets, strict=True)))


def agree(
    task: Task,
    annotated: Collection[str],
    *,
    declared: Task | None,
    wanted: Task | None,
    where: str,
) -> Agreement:
    """The common classes of predictions and annotations.

    Args:
        task: The predicted task.
        annotated: Annotated values that occur.
        declared: The annotations' scheme, where the table names it.
        wanted: The scheme that the user asked for.
        where: The table's name, for messages.

    Raises:
        SchemaError: If the schemes contradict each other and no single mapping joins them.
    """
    if wanted is not None:
        return _agree_on(wanted, task, annotated, declared, where)
    annotated_classes = declared.classes if declared and annotated else annotated
    contradicts = declared is not None and bool(annotated) and not _same_scheme(declared, task)
    if set(annotated_classes) <= set(task.classes) and not contradicts:
        return _unchanged(task)
    candidates = _annotated_tasks(task.name, annotated, declared)
    ways = [way for target in candidates if (way := coarsening(task, target))]
    if len(ways) == 1:
        return Agreement(ways[0].target, ways[0], None)
    if not candidates and set(annotated) & set(task.classes):
        return _unchanged(task)  # stray values; they are set to null and counted
    raise SchemaError(_contradiction(task, annotated, candidates, where))


def _unchanged(task: Task) -> Agreement:
    return Agreement(task, Coarsening(task, task, {name: name for name in task.classes}), None)


def _agree_on(
    target: Task,
    task: Task,
    annotated: Collection[str],
    declared: Task | None,
    where: str,
) -> Agreement:
    predicted = coarsening(task, target)
    if predicted is None and task.name == AGE_GROUP:
        raise SchemaError(
            f"{where}: the age groups {', '.join(task.classes)} cannot be merged into "
            f"{', '.join(target.classes)}: give --age-bins that are bounds of the predicted "
            "groups, or run `faceaudit predict` with these --age-bins"
        )
    if predicted is None:
        raise SchemaError(
            f"{where}: {task.name} is predicted in {_described(task)}, for which no mapping to "
            f"{_described(target)} is known; known: {_known_targets(task)}"
        )
    if set(annotated) <= set(target.classes):
        return Agreement(target, predicted, None)
    candidates = _annotated_tasks(task.name, annotated, declared)
    for candidate in candidates:
        if way := coarsening_of_annotations(candidate, target):
            return Agreement(target, predicted, way)
    raise SchemaError(_contradiction(target, annotated, candidates, where))


def _annotated_tasks(name: str, annotated: Collection[str], declared: Task | None) -> list[Task]:
    """Tasks that the annotations may belong to."""
    if declared is not None:
        return [declared]
    if found := schemes_with(name, annotated):
        return found
    if name == AGE_GROUP and age_bins_of(groups := sorted(annotated, key=_by_lower_bound)):
        return [named_task(name, groups)]
    return []


def _described(task: Task) -> str:
    classes = ", ".join(task.classes)
    return f"({classes})" if task.scheme == CUSTOM else f"{task.scheme} ({classes})"


def _known_targets(task: Task) -> str:
    targets = [coarse for fine, coarse in SCHEME_MAPS if fine == task.scheme]
    return ", ".join(f"{task.name}={target}" for target in targets) or "none"


def _contradiction(
    task: Task, annotated: Collection[str], candidates: Sequence[Task], where: str
) -> str:
    """One line: which schemes contradict each other, and what would work."""
    shown = " or ".join(map(_described, candidates)) or f"({', '.join(sorted(annotated)[:12])})"
    targets = [
        target
        for target in SCHEMES
        if any(
            coarsening_of_annotations(one, task_of_scheme(task.name, target)) for one in candidates
        )
        and coarsening(task, task_of_scheme(task.name, target))
    ]
    advice = (
        f"coarsen with --map {' or '.join(f'{task.name}={target}' for target in targets)}"
        if targets and task.name != AGE_GROUP
        else "give annotations of the predicted classes, or leave this column out"
    )
    return (
        f"{where}: {task.name} is predicted in {_described(task)} but annotated in {shown}; "
        f"{advice}"
    )
