"""Two tables opened so that they can be compared, and compared: face by face, or as drift."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Literal

from faceaudit.audit.changes import Changes
from faceaudit.audit.compare import compare_pairs
from faceaudit.audit.drift import compare_drift
from faceaudit.audit.matching import FACES_TELL, Matching, match_rows
from faceaudit.audit.paired_rows import pair_tables
from faceaudit.audit.suppress_changes import suppress_changes
from faceaudit.audit.tally import Tally
from faceaudit.errors import SchemaError, UnknownNameError, UsageError
from faceaudit.reporting.format import number
from faceaudit.reporting.source import Reading, Source, is_tally, read_source
from faceaudit.schema import AGE_GROUP, Task, age_bins_of
from faceaudit.schemes import CUSTOM, coarsening
from faceaudit.tables import PredictionTable, column_names

Wanted = Literal["auto", "paired", "drift"]
MODES: tuple[Wanted, ...] = ("auto", "paired", "drift")
SAME_IMAGES = 0.5
"""Tables that share at least so much of the smaller one are of the same images."""


@dataclass(frozen=True)
class Choices:
    """How a comparison is computed."""

    by: Sequence[str] | None = None
    unit: str | None = None
    min_n: int = 30
    confidence: float = 0.95
    replicates: int = 2000
    seed: int = 0
    suppress_below: int = 0
    mode: Wanted = "auto"


def readings_of(
    paths: tuple[Sequence[Path], Sequence[Path]], reading: Reading
) -> tuple[Reading, Reading]:
    """How each of two tables is read: with those of the named columns that it has.

    Raises:
        SchemaError: If neither has a column that is named.
    """
    tallied = [is_tally(one) for one in paths]
    if not reading.columns or all(tallied):
        return reading, reading
    known = [
        [] if counted else column_names(one[0]) for one, counted in zip(paths, tallied, strict=True)
    ]
    for given in reading.columns.values():
        if given not in {*known[0], *known[1]}:
            has = "; ".join(
                f"{one[0]} has {', '.join(names)}"
                for one, names in zip(paths, known, strict=True)
                if names
            )
            raise SchemaError(f"--columns names {given!r}, which is no column: {has}")
    first, second = (
        replace(
            reading,
            columns={name: given for name, given in reading.columns.items() if given in names},
        )
        for names in known
    )
    return first, second


def in_common_schemes(
    first: Source,
    second: Source,
    paths: tuple[Path, Path],
    readings: tuple[Reading, Reading],
) -> tuple[Source, Source]:
    """Both tables with the same classes of every common task; the finer scheme is coarsened.

    Raises:
        SchemaError: If no printed table joins two schemes.
    """
    wanted = list(readings)
    sources = [first, second]
    theirs = {task.name: task for task in second.table.tasks}
    for task in first.table.tasks:
        other = theirs.get(task.name)
        if other is None or other.classes == task.classes:
            continue
        coarser, side = _coarser(task, other, paths)
        wanted[side] = _with_task(wanted[side], coarser)
    for side in range(2):
        if wanted[side] is readings[side]:
            continue
        if isinstance(sources[side].table, Tally):
            raise SchemaError(
                f"{paths[side]}: a tally keeps its classes, which are not those of "
                f"{paths[1 - side]}; make it again from the table with --map or --age-bins"
            )
        sources[side] = read_source([paths[side]], wanted[side])
    return sources[0], sources[1]


def _coarser(first: Task, second: Task, paths: tuple[Path, Path]) -> tuple[Task, int]:
    """The task that both can be brought to, and which side has to move."""
    for task, other, side in ((first, second, 0), (second, first, 1)):
        if coarsening(task, other) is not None:
            return other, side
    raise SchemaError(
        f"{paths[0]} has {first.name} in {first.scheme} ({', '.join(first.classes)}) and "
        f"{paths[1]} in {second.scheme} ({', '.join(second.classes)}), and no table joins "
        "them; bring both to one scheme with --map or --age-bins"
    )


def _with_task(reading: Reading, task: Task) -> Reading:
    """A reading that brings a task to these classes."""
    if task.scheme == CUSTOM and task.name != AGE_GROUP:
        return replace(reading, classes={**(reading.classes or {}), task.name: task.classes})
    if task.name == AGE_GROUP:
        return replace(reading, age_bins=age_bins_of(task.classes))
    return replace(reading, scheme_map={**(reading.scheme_map or {}), task.name: task.scheme})


def find_changes(first: Source, second: Source, choices: Choices) -> Changes:
    """The comparison of two opened tables, in the mode that fits or is asked for.

    Raises:
        UsageError: If a paired comparison is asked of tallies.
        UnknownNameError: If there is no such mode.
    """
    if choices.mode not in MODES:
        raise UnknownNameError("mode of comparison", choices.mode, MODES)
    mode, reason, matching = _mode(first.table, second.table, choices.mode)
    if mode == "paired":
        assert isinstance(first.table, PredictionTable)
        assert isinstance(second.table, PredictionTable)
        pairs = pair_tables(first.table, second.table, choices.by, unit=choices.unit)
        found = compare_pairs(
            pairs,
            unit=choices.unit,
            min_n=choices.min_n,
            confidence=choices.confidence,
        )
    else:
        found = compare_drift(
            first.table,
            second.table,
            by=choices.by,
            unit=choices.unit,
            min_n=choices.min_n,
            confidence=choices.confidence,
            replicates=choices.replicates,
            seed=choices.seed,
        )
    own = [_own_notes(source) for source in (first, second)]
    of_both = [note for note in found.notes if note not in {*own[0], *own[1]}]
    names = table_names(first, second)
    told = [reason, *_left_out(first, second, names), *_told_of(own, names), *of_both]
    notes = tuple(dict.fromkeys(told))
    options = {**found.options, "mode": choices.mode}
    found = replace(found, matching=matching, notes=notes, options=options)
    return suppress_changes(found, choices.suppress_below)


def _mode(
    first: PredictionTable | Tally, second: PredictionTable | Tally, wanted: Wanted
) -> tuple[Literal["paired", "drift"], str, Matching | None]:
    """The mode, why it was taken, and how far the images are the same."""
    if isinstance(first, Tally) or isinstance(second, Tally):
        if wanted == "paired":
            raise UsageError(
                "--mode paired: a tally holds no image, so faces cannot be matched; give both "
                "tables"
            )
        return "drift", "A tally holds no image: the tables are compared as different images.", None
    if not (first.named and second.named):
        if wanted == "paired":
            raise UsageError(
                "--mode paired: a table has no column image to match rows by; name it with "
                "--columns image=NAME"
            )
        words = "A table names no images: the two are compared as tables of different images."
        return "drift", words, None
    _, matching = match_rows(first, second)
    share = f"{number(matching.shared, 'share')} of the rows of the smaller table are in both"
    if wanted != "auto":
        return wanted, f"The mode was asked for; {share}.", matching
    if matching.shared >= SAME_IMAGES:
        if matching.by_bytes:
            return "paired", f"The tables are of the same images: {share}.", matching
        words = f"Rows are paired by the name of the image alone: {share}."
        return "paired", f"{words} That the images are the same was not checked.", matching
    overlap = " Images in both make the two figures alike, so that the intervals are too wide."
    if matching.shared + matching.unclear >= SAME_IMAGES:
        return (
            "drift",
            "Rows of the same images cannot be paired: "
            f"{number(matching.unclear, 'share')} of those of the smaller table occur more than "
            f"once; {FACES_TELL}. They are compared as rows of different images.{overlap}",
            matching,
        )
    words = f"The tables are of different images: {share}."
    return "drift", words + (overlap if matching.matched else ""), matching


def table_names(first: Source, second: Source) -> tuple[str, str]:
    """File names, as a reader tells the tables apart; with their folders where they are equal."""
    paths = first.facts.path, second.facts.path
    names = PurePath(paths[0]).name, PurePath(paths[1]).name
    return names if names[0] != names[1] else paths


def _own_notes(source: Source) -> tuple[str, ...]:
    """What must be known of one table and of its labels."""
    if isinstance(source.table, PredictionTable):
        return (*source.notes, *source.table.notes)
    return (*source.notes, *(note for table in source.table.tables for note in table.notes))


def _told_of(own: Sequence[Sequence[str]], names: tuple[str, str]) -> Iterator[str]:
    """Notes with the table that each is of."""
    for note in dict.fromkeys([*own[0], *own[1]]):
        of = [name for name, notes in zip(names, own, strict=True) if note in notes]
        yield f"{of[0] if len(of) == 1 else 'Both tables'}: {note}"


def _left_out(first: Source, second: Source, names: tuple[str, str]) -> Iterator[str]:
    """Tasks, and scores of common ones, that only one table has."""
    tasks = [{task.name for task in source.table.tasks} for source in (first, second)]
    scored = [_scored(source.table) & tasks[0] & tasks[1] for source in (first, second)]
    for side, name in enumerate(names):
        if alone := sorted(tasks[side] - tasks[1 - side]):
            yield f"Only {name} predicts {', '.join(alone)}, which is not compared."
        if alone := sorted(scored[side] - scored[1 - side]):
            yield (
                f"Only {name} has scores of {', '.join(alone)}: AUC, losses, calibration and "
                "confidence are not compared."
            )


def _scored(table: PredictionTable | Tally) -> frozenset[str]:
    """Tasks that the table has scores of."""
    return table.scored if isinstance(table, PredictionTable) else frozenset(table.confidence)


def changes_facts(found: Changes) -> Mapping[str, object]:
    """A comparison as plain values, for JSON."""
    return {
        "mode": found.mode,
        "images": {"first": found.images[0], "second": found.images[1]},
        "labeled": dict(found.labelled),
        "matching": None if found.matching is None else vars(found.matching),
        "options": {name: _plain(value) for name, value in sorted(found.options.items())},
        "changes": [
            {
                "task": one.task,
                "metric": one.metric,
                **({} if one.label is None else {"class": one.label}),
                "failures": one.failures,
                "by": list(one.by),
                "subgroup": dict(one.subgroup),
                "n": one.n,
                "first": one.first,
                "second": one.second,
                "difference": one.difference,
                "low": one.low,
                "high": one.high,
                "p_value": one.p_value,
                "p_adjusted": one.p_adjusted,
                "verdict": one.verdict,
                "only_first": one.only_first,
                "only_second": one.only_second,
                "reason": one.reason,
            }
            for one in found.changes
        ],
        "agreement": [
            {
                "task": one.task,
                "subgroup": dict(one.subgroup),
                "n": one.share.n,
                "value": one.share.value,
                "low": one.share.low,
                "high": one.share.high,
                "reason": one.share.reason,
            }
            for one in found.agreement
        ],
        "distances": [
            {**vars(one), "subgroup": dict(one.subgroup), "medians": _plain(one.medians)}
            for one in found.distances
        ],
        "notes": list(found.notes),
    }


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
