"""Small cells left out for privacy: of an audit and of a tally.

A cell is a set of faces or images that is told by what they share: a subgroup, an age group or a
class within it, a status, a place of a confusion matrix. This is about people who could be
recognized in a small cell, and has nothing to do with evidence (``min_n``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.results import (
    Audit,
    Comparison,
    Composition,
    ConditionedAge,
    Confusion,
    Coverage,
    Decomposition,
    Estimate,
    LeakEffect,
    Reliability,
    ReliabilityBin,
    RocCurve,
    Subgroup,
    Verdict,
    WithFailures,
)
from faceaudit.audit.tally import CellCounts, Codes, Tally
from faceaudit.audit.tally.cells import merged
from faceaudit.audit.tally.tally import Cell, sorted_cells
from faceaudit.errors import UsageError
from faceaudit.schema import AGE_GROUP, OK

Key = frozenset[tuple[str, str]]
BASES = ("accuracy", "mae")
"""Metrics that stand on every labeled face of a subgroup."""
EXPLAINED = {
    "pass": "the whole interval keeps the limit",
    "fail": "the whole interval breaks the limit",
    "insufficient": "the interval reaches across the limit, or some subgroups are too small; "
    "which, is not shown (--suppress-below)",
}
"""Why a verdict is what it is, by its outcome."""
_DROPPED = object()


def check_suppression(below: int) -> None:
    """Refuse a bound that cannot work.

    Raises:
        UsageError: If it is negative.
    """
    if below < 0:
        raise UsageError(f"--suppress-below {below}: give 0 (nothing is suppressed) or more")


def suppress(found: Audit, below: int) -> Audit:
    """The audit without its cells of fewer than ``below`` faces or images.

    Where a cell alone of its line would follow from a total, the next smallest of the line is left
    out as well. Overall figures stay.

    Raises:
        UsageError: If ``below`` is negative.

    Source:
        Hundepool et al.: Statistical disclosure control, Wiley 2012, chapter 4 (minimum frequency
        rule and secondary suppression).
    """
    check_suppression(below)
    options = {**found.options, "suppress_below": below}
    if not below:
        return replace(found, options=options)
    hidden = hidden_cells(_sizes(found), below)
    cleaned = _Cleaner(below, hidden).cleaned(found)
    if not isinstance(cleaned, Audit):
        raise TypeError("an audit as a whole is never left out")
    return replace(cleaned, options=options, notes=(*cleaned.notes, _note(hidden, below)))


def suppress_verdicts(verdicts: Sequence[Verdict], below: int) -> tuple[Verdict, ...]:
    """Verdicts without what they tell of subgroups of fewer than ``below`` faces or images.

    Raises:
        UsageError: If ``below`` is negative.
    """
    check_suppression(below)
    cleaner = _Cleaner(below, frozenset())
    return tuple(cleaner.verdict(one) for one in verdicts) if below else tuple(verdicts)


def _note(hidden: Iterable[Key], below: int) -> str:
    cells = list(hidden)
    ages = sum(any(name == AGE_GROUP for name, _ in cell) for cell in cells)
    return (
        f"Cells of fewer than {below} faces or images are not shown: {len(cells) - ages} "
        f"subgroups, {ages} combinations of a subgroup and an age group, and counts and figures "
        "within other subgroups. Where one alone would follow from a total, the next smallest is "
        "left out as well. Differences between numbers that are shown can still reveal small ones."
    )


def _sizes(found: Audit) -> dict[Key, int]:
    """The fewest faces or images that any figure of a whole subgroup or age group stands on."""
    sizes: dict[Key, int] = {}

    def seen(cell: Subgroup, n: int) -> None:
        key = frozenset(cell.items())
        if key and n:
            sizes[key] = min(n, sizes.get(key, n))

    for coverage in found.coverage:
        seen(coverage.subgroup, coverage.images)
    for metric in found.metrics:
        if metric.metric in BASES and metric.label is None:
            seen(metric.subgroup, metric.estimate.n)
    for age in found.conditioned_age:
        if age.age_group is not None and "exact" in age.estimates:
            seen({**age.subgroup, AGE_GROUP: age.age_group}, age.estimates["exact"].n)
    return sizes


def hidden_cells(sizes: Mapping[Key, int], below: int) -> frozenset[Key]:
    """Cells that are not shown: those that are too small, and those that would give them away.

    Args:
        sizes: Faces or images of each cell, which is a set of features with their values. Cells of
            the same features make a table, and those that differ in one feature only a line of it.
        below: Smaller cells are not shown.
    """
    hidden = {cell for cell, n in sizes.items() if 0 < n < below}
    lines: dict[tuple[str, Key], list[Key]] = {}
    for cell in sizes:
        for name, value in cell:
            lines.setdefault((name, cell - {(name, value)}), []).append(cell)
    tables = {frozenset(name for name, _ in cell) for cell in sizes}
    # A line tells nothing away where the total over it is not shown: where no such table exists.
    told = [
        line
        for (name, rest), line in lines.items()
        if not rest or frozenset(key for key, _ in rest) in tables
    ]
    changed = True
    while changed:
        changed = False
        for line in told:
            others = [cell for cell in line if cell not in hidden]
            if len(line) - len(others) == 1 and others:
                hidden.add(min(others, key=lambda cell: (sizes[cell], sorted(cell))))
                changed = True
    return frozenset(hidden)


class _Cleaner:
    """Leaves hidden cells out of facts, and blanks figures and counts that are too small."""

    def __init__(self, below: int, hidden: frozenset[Key]) -> None:
        self.below = below
        self.hidden = hidden
        self.reason = f"not shown: fewer than {below} faces or images (--suppress-below)"

    def cleaned(self, value: Any) -> Any:
        """The value, or ``_DROPPED``."""
        if isinstance(value, Estimate):
            return self.blank(value) if self.few(value.n) else value
        if is_dataclass(value) and not isinstance(value, type):
            return self.fact(value)
        if isinstance(value, tuple):
            kept = (self.cleaned(one) for one in value if not self.is_hidden(one))
            return tuple(one for one in kept if one is not _DROPPED)
        if isinstance(value, Mapping):
            return {name: self.cleaned(one) for name, one in value.items()}
        return value

    def fact(self, value: Any) -> Any:
        """A fact without what is too small in it, ``_DROPPED`` if it is about a hidden cell."""
        if isinstance(value, Verdict):
            return self.verdict(value)
        parts = {one.name: getattr(value, one.name) for one in fields(value) if one.init}
        if any(self.is_hidden(part) for part in parts.values()) or self.is_hidden_age(value):
            return _DROPPED
        if isinstance(value, RocCurve) and self.few(value.auc.n):
            return _DROPPED
        if isinstance(value, Decomposition):
            parts["contributions"] = self.contributions(value)
        if isinstance(value, Comparison):
            parts |= self.differences(value)
        cleaned = replace(value, **{name: self.cleaned(part) for name, part in parts.items()})
        if isinstance(cleaned, Coverage):
            return self.coverage(cleaned)
        if isinstance(cleaned, Confusion):
            return replace(cleaned, hidden=_hidden_places(cleaned.counts, self.below))
        if isinstance(cleaned, Composition):
            return self.composition(cleaned)
        if isinstance(value, Reliability):
            return self.reliability(value)
        if isinstance(cleaned, LeakEffect) and self.few(value.leaked.n):
            return replace(cleaned, every=self.blank(value.every))  # less the rest, it would tell
        if isinstance(cleaned, WithFailures) and self.few(value.missed):
            blank = self.blank(value.difference)
            return replace(cleaned, missed=None, with_failures=blank, difference=blank)
        return cleaned

    def reliability(self, value: Reliability) -> Reliability:
        """Bins without small ones; where one alone would follow, without the next smallest."""
        if self.few(value.n):
            return replace(value, n=None, bins=(), reason=self.reason)
        counts = np.array([place.right.n for place in value.bins], np.int64)
        hidden = _hidden_in_row(counts, (counts > 0) & (counts < self.below))
        return replace(
            value,
            bins=tuple(
                self.blank_bin(place) if kept_back else place
                for place, kept_back in zip(value.bins, hidden.tolist(), strict=True)
            ),
        )

    def blank_bin(self, place: ReliabilityBin) -> ReliabilityBin:
        return replace(place, confidence=None, right=self.blank(place.right))

    def composition(self, value: Composition) -> Composition:
        """Shares that are of too few faces, and what would tell them, left blank."""

        def few(one: Estimate | None) -> bool:
            return one is not None and self.few(round((one.value or 0.0) * one.n))

        if not (few(value.share) or few(value.corrected)):
            return value
        reference = value.reference
        if reference is not None:
            reference = replace(reference, difference=self.blank(reference.difference))
        return replace(
            value,
            share=self.blank(value.share) if few(value.share) else value.share,
            corrected=value.corrected and self.blank(value.corrected),
            em=value.em and self.blank(value.em),
            reference=reference,
        )

    def verdict(self, value: Verdict) -> Verdict:
        """The same outcome, without naming what it rests on where that may be too small."""
        if not (value.subgroups or value.small):
            return value
        told = replace(value, explanation=EXPLAINED[value.outcome], small=())
        if not self.few(value.n) and not any(map(self.is_hidden, value.subgroups)):
            return told
        return replace(
            told,
            explanation=self.reason,
            value=None,
            low=None,
            high=None,
            n=None,
            n_needed=None,
            subgroups=(),
        )

    def few(self, n: int | None) -> bool:
        return n is not None and 0 < n < self.below

    def blank(self, estimate: Estimate) -> Estimate:
        return Estimate(None, None, None, 0, self.reason, suppressed=True)

    def is_hidden(self, value: Any) -> bool:
        """Whether a value is a subgroup that is not shown."""
        if not isinstance(value, Mapping) or not value:
            return False
        items = value.items()
        return all(isinstance(one, str) for _, one in items) and frozenset(items) in self.hidden

    def is_hidden_age(self, value: Any) -> bool:
        if not isinstance(value, ConditionedAge) or value.age_group is None:
            return False
        return self.is_hidden({**value.subgroup, AGE_GROUP: value.age_group})

    def differences(self, value: Comparison) -> dict[str, Any]:
        """Subgroups that are shown, and differences between them."""
        hidden = [
            one.subgroup
            for one in value.subgroups
            if self.few(one.n) or self.is_hidden({**value.within, **one.subgroup})
        ]
        return {
            "subgroups": tuple(one for one in value.subgroups if one.subgroup not in hidden),
            **{
                name: tuple(
                    one
                    for one in differences
                    if one.first not in hidden and one.second not in hidden
                )
                for name, differences in (
                    ("pairs", value.pairs),
                    ("versus_rest", value.versus_rest),
                )
            },
        }

    def contributions(self, value: Decomposition) -> tuple[Any, ...]:
        """What comes from cells that are shown."""
        sides = [value.first, value.second or {}]
        return tuple(
            one
            for one in value.contributions
            if not any(self.is_hidden({**side, value.within: one.value}) for side in sides)
        )

    def coverage(self, value: Coverage) -> Coverage:
        """Counts by status without small ones; rates without those that would tell them."""
        counts = {status: n for status, n in value.statuses.items() if n}
        small = {status for status, n in counts.items() if self.few(n)}
        others = [status for status in counts if status not in small]
        if len(small) == 1 and others:
            small.add(min(others, key=lambda status: counts[status] or 0))
        if not small:
            return value
        failed = value.images - (value.statuses.get(OK) or 0)
        hides_failures = self.few(failed) or OK in small
        rates = {
            name: self.blank(rate) if name not in counts or name in small else rate
            for name, rate in value.rates.items()
        }
        return replace(
            value,
            statuses={name: None if name in small else n for name, n in value.statuses.items()},
            failure_rate=self.blank(value.failure_rate) if hides_failures else value.failure_rate,
            rates=rates,
        )


def _hidden_places(counts: NDArray[np.int64], below: int) -> NDArray[np.bool_]:
    """Places of a confusion matrix that are not shown, and the next smallest of their row."""
    small = (counts > 0) & (counts < below)
    return np.stack([_hidden_in_row(*row) for row in zip(counts, small, strict=True)])


def _hidden_in_row(counts: NDArray[np.int64], small: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Small places of a row whose total is known; with one alone, also the next smallest."""
    hidden = small.copy()
    others = np.flatnonzero((counts > 0) & ~hidden)
    if hidden.sum() == 1 and len(others):
        hidden[others[np.argmin(counts[others])]] = True
    return hidden


# --- tallies ----------------------------------------------------------------------------------


def merge_small_cells(counted: Tally, below: int) -> Tally:
    """The tally with cells of fewer than ``below`` images put together.

    The last feature of a small cell becomes unknown, then the one before it, until the cells that
    are alike by then hold enough images. If those of which nothing is known are still too few, the
    next smallest cell joins them. Counts within a cell (a class, a score) can be smaller.

    Raises:
        UsageError: If ``below`` is negative.
    """
    check_suppression(below)
    if not below:
        return counted
    images = counted.images.sums(np.arange(len(counted.cells)), len(counted.cells)).sum(axis=-1)
    names = list(counted.cells)
    for place in reversed(range(len(counted.features))):
        sizes = _added_up(names, images)
        names = [
            (*cell[:place], None, *cell[place + 1 :]) if 0 < sizes[cell] < below else cell
            for cell in names
        ]
    unknown: Cell = (None,) * len(counted.features)
    sizes = _added_up(names, images)
    while 0 < sizes.get(unknown, 0) < below and len(sizes) > 1:
        smallest = min((cell for cell in sizes if cell != unknown), key=lambda one: sizes[one])
        names = [unknown if cell == smallest else cell for cell in names]
        sizes = _added_up(names, images)
    return _merged(counted, names)


def _added_up(names: Sequence[Cell], images: NDArray[np.int64]) -> dict[Cell, int]:
    sizes: dict[Cell, int] = {}
    for cell, n in zip(names, images.tolist(), strict=True):
        sizes[cell] = sizes.get(cell, 0) + n
    return sizes


def _merged(counted: Tally, names: Sequence[Cell]) -> Tally:
    cells = sorted_cells(set(names), counted.features)
    place = {cell: index for index, cell in enumerate(cells)}
    at = np.array([place[cell] for cell in names], np.int64)
    numbers = {
        kind: {name: _moved(one, at, len(cells)) for name, one in found.items()}
        for kind, found in counted.numbers.items()
    }
    return replace(counted, cells=cells, numbers=numbers)


def _moved(counts: CellCounts, at: Codes, cells: int) -> CellCounts:
    moved = counts.spread(at, cells)
    codes, values = merged([moved.codes], [moved.values])
    return CellCounts(codes, values, moved.shape)
