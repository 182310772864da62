"""Small cells left out of an audit, for privacy.

A cell is a set of faces or images that is told by what they share: a subgroup, an age group or a
class within it, a status, a place of a confusion matrix. This is about people who could be
recognized in a small cell, and has nothing to do with evidence (``min_n``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from faceaudit.audit.disclosure import IMAGES, Key, hidden_keys, key_of
from faceaudit.audit.hidden_places import (
    HiddenBins,
    HiddenPlaces,
    hidden_bins,
    hidden_places,
    names_of,
)
from faceaudit.audit.results import (
    Audit,
    Comparison,
    Composition,
    ConditionedAge,
    Confusion,
    Coverage,
    Decomposition,
    Disparity,
    Estimate,
    FitTest,
    LeakEffect,
    MetricValue,
    Reliability,
    RocCurve,
    Subgroup,
    SubgroupFigure,
    Verdict,
    WithFailures,
)
from faceaudit.audit.told import (
    EVERYBODY,
    SEVERAL,
    annotated_key,
    base_key,
    counts_of,
    part_of,
    predicted_key,
    subgroups_of,
)
from faceaudit.errors import UsageError
from faceaudit.schema import AGE_GROUP, OK

OF_FAILURES = ("failure_rate", "decoding", "detection")
"""Metrics that tell how many images have a status."""
REASON = "not shown: fewer than {} faces or images, or it would tell so few (--suppress-below)"
BEYOND_SUMS = (
    "What would give a cell away by adding and subtracting what this report shows is left out as "
    "well. Other reports of the same faces, by other features or before and after a change, can "
    "still reveal it together with this one, and a share tells how many of its faces it is of."
)
EXPLAINED = {
    "pass": "the whole interval keeps the limit",
    "fail": "the whole interval breaks the limit",
    "insufficient": "the interval reaches across the limit, some subgroups are too small, or faces "
    "without a value of a feature could change it; which, is not shown (--suppress-below)",
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


def suppress(
    found: Audit,
    below: int,
    hidden: frozenset[Key] | None = None,
    ruled: Audit | None = None,
) -> Audit:
    """The audit without its cells of fewer than ``below`` faces or images.

    What would give a cell away by sums is left out as well (see ``disclosure.hidden_keys``, whose
    keys may be given). Figures of everybody stay, but for those of a class. ``ruled`` holds what
    the rules of its policy stand on (``ruled.audit_of_rules``).

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
    if hidden is None:
        tables = [*counts_of(found).values(), *counts_of_rules(ruled).values()]
        hidden = hidden_keys(tables, below, subgroups_of(found))
    cleaned = _Cleaner(below, hidden).audit(found)
    left_out = len(subgroups_of(found) - subgroups_of(cleaned))
    note = (
        f"Cells of fewer than {below} faces or images are not shown: {left_out} subgroups, and "
        f"counts and figures within other subgroups. {BEYOND_SUMS}"
    )
    return replace(cleaned, options=options, notes=(*cleaned.notes, note))


def suppress_verdicts(
    verdicts: Sequence[Verdict], below: int, ruled: Audit | None = None
) -> tuple[Verdict, ...]:
    """Verdicts without what they tell of cells of fewer than ``below`` faces or images.

    Args:
        verdicts: One per rule of a policy.
        below: Cells of fewer faces or images are not shown.
        ruled: What the rules stand on (``ruled.audit_of_rules``), so that no cell follows from it.

    Raises:
        UsageError: If ``below`` is negative.
    """
    check_suppression(below)
    if not below:
        return tuple(verdicts)
    dear = frozenset() if ruled is None else subgroups_of(ruled)
    cleaner = _Cleaner(below, hidden_keys(list(counts_of_rules(ruled).values()), below, dear))
    return tuple(map(cleaner.verdict, verdicts))


def counts_of_rules(ruled: Audit | None) -> dict[str, dict[Key, int]]:
    """Every count that the rules of a policy tell; none without a policy."""
    return {} if ruled is None else counts_of(ruled)


class _Cleaner:
    """Leaves hidden cells out of facts, and blanks figures and counts that are too small."""

    def __init__(self, below: int, hidden: frozenset[Key]) -> None:
        self.below = below
        self.hidden = hidden
        self.reason = REASON.format(below)

    def audit(self, found: Audit) -> Audit:
        """The audit without what is hidden."""
        cleaned = self.fact(found)
        if not isinstance(cleaned, Audit):
            raise TypeError("an audit as a whole is never left out")
        cleaned = self.corrections(cleaned)
        places = hidden_places(found.confusions, self.below)
        bins = hidden_bins(found.calibration, self.below)
        return replace(
            cleaned,
            confusions=tuple(self.confusion(one, places) for one in cleaned.confusions),
            calibration=tuple(self.reliability(one, bins) for one in cleaned.calibration),
        )

    def cleaned(self, value: Any) -> Any:
        """The value, or ``_DROPPED``."""
        if isinstance(value, Estimate):
            return self.blank() if self.few(value.n) else value
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
        if isinstance(value, MetricValue) and self.hides_metric(value):
            return replace(value, estimate=self.blank())
        if isinstance(value, RocCurve) and (self.hides_class(value) or self.few(value.auc.n)):
            return _DROPPED
        if isinstance(value, Disparity) and self.hides_extreme(value):
            return _DROPPED
        if isinstance(value, Coverage):
            return self.coverage(value)
        if isinstance(value, WithFailures):
            return self.with_failures(value)
        if isinstance(value, Composition):
            return self.composition(value)
        if isinstance(value, Decomposition):
            parts["contributions"] = self.contributions(value)
        if isinstance(value, Comparison):
            parts |= self.differences(value)
        cleaned = replace(value, **{name: self.cleaned(part) for name, part in parts.items()})
        if isinstance(cleaned, LeakEffect) and self.few(value.leaked.n):
            return replace(cleaned, every=self.blank())  # less the rest, it would tell
        return cleaned

    def hides_metric(self, value: MetricValue) -> bool:
        """Whether a metric would tell how many faces a hidden key has."""
        if self.few(value.estimate.n):
            return True
        if value.label is not None:
            return self.hides_class(value)
        return base_key(value.task, value.metric, value.subgroup) in self.hidden

    def hides_class(self, value: Any) -> bool:
        """Whether figures of a class in a subgroup are hidden; any of them tells its faces.

        Among faces annotated as the class, all that recall tells is how often the model was right.
        """
        if annotated_key(value) in self.hidden:
            return True
        own = value.subgroup.get(value.task, value.subgroup.get(f"{value.task}_true"))
        if own is not None and getattr(value, "metric", None) == "recall":
            return False
        return predicted_key(value) in self.hidden

    def hides_extreme(self, value: Disparity) -> bool:
        """Whether faces in the worst or the best subgroup of a gap are hidden."""
        places = [{**value.within, **one} for one in (value.worst, value.best) if one is not None]
        if value.label is None:
            keys = [base_key(value.task, value.metric, place) for place in places]
        else:
            names = (value.task, f"{value.task}_pred")
            keys = [key_of(place, **{name: value.label}) for place in places for name in names]
        return not self.hidden.isdisjoint(keys)

    def coverage(self, value: Coverage) -> Any:
        """Images of a subgroup whose statuses are all shown; of everybody, what can be shown."""
        images = (key_of(value.subgroup) or EVERYBODY) | {IMAGES}
        if images in self.hidden:
            return _DROPPED
        counts = {status: n for status, n in value.statuses.items() if n}
        hidden = {status for status, n in counts.items() if self.few(n)}
        if len(hidden) == 1:
            hidden |= set(sorted(counts.keys() - hidden, key=lambda one: counts[one] or 0)[:1])
        several = value.rates.get(SEVERAL)
        shown = counts.keys() - hidden - ({OK} if hidden else set())
        failed = value.images - (value.statuses.get(OK) or 0)
        blank = self.few(failed) or OK in hidden
        few = several is not None and self.few(round(part_of(several) or 0))
        return replace(
            value,
            statuses={name: None if name in hidden else n for name, n in value.statuses.items()},
            failure_rate=self.blank() if blank else self.cleaned(value.failure_rate),
            rates={
                name: self.blank()
                if (hidden and name not in shown) or (few and name == SEVERAL)
                else self.cleaned(rate)
                for name, rate in value.rates.items()
            },
        )

    def with_failures(self, value: WithFailures) -> WithFailures:
        """A figure of scored faces, without the faces that were missed where those are hidden."""
        faces = key_of(value.subgroup) if value.label is None else annotated_key(value)
        if self.few(value.scored.n) or (value.label is not None and faces in self.hidden):
            value = replace(value, scored=self.blank())
        if faces is None or not (
            value.scored.suppressed or faces | {IMAGES} in self.hidden or self.few(value.missed)
        ):
            return value
        return replace(value, missed=None, with_failures=self.blank(), difference=self.blank())

    def composition(self, value: Composition) -> Composition:
        """Shares as predicted, and by whatever correction, of classes that are not hidden."""
        told = (part_of(one) for one in (value.share, value.corrected) if one is not None)
        by_share, *by_corrected = (self.few(round(part or 0)) for part in told)
        by_share |= self.few(value.share.n) or predicted_key(value) in self.hidden
        if not (by_share or any(by_corrected)):
            return value
        reference = value.reference
        if reference is not None:
            reference = replace(reference, difference=self.blank())
        return replace(
            value,
            share=self.blank() if by_share else value.share,
            corrected=value.corrected and self.blank(),
            em=value.em and self.blank(),
            reference=reference,
        )

    def corrections(self, found: Audit) -> Audit:
        """No correction and no test where a class is hidden: its faces can be solved for from them.

        How a model confuses classes may be known, and what target shares are is.
        """
        methods = {one.task: one.method for one in found.corrections}

        def hides(one: Composition) -> bool:
            return (
                one.share.suppressed
                or (one.corrected is not None and one.corrected.suppressed)
                or (methods.get(one.task) == "annotated" and annotated_key(one) in self.hidden)
            )

        hidden = {(one.task, key_of(one.subgroup)) for one in found.composition if hides(one)}

        def uncorrected(one: Composition) -> Composition:
            if (one.task, key_of(one.subgroup)) not in hidden or methods.get(one.task) is None:
                return one
            return replace(
                one,
                corrected=one.corrected and self.kept_back(one.corrected),
                em=one.em and self.kept_back(one.em),
                reference=one.reference
                and replace(one.reference, difference=self.kept_back(one.reference.difference)),
            )

        return replace(
            found,
            composition=tuple(map(uncorrected, found.composition)),
            corrections=tuple(
                replace(
                    one,
                    reference=one.reference and FitTest(None, None, None, self.reason),
                    unseen_share=None if one.unseen_share else one.unseen_share,
                )
                if (one.task, EVERYBODY) in hidden
                else one
                for one in found.corrections
            ),
        )

    def confusion(self, value: Confusion, places: HiddenPlaces) -> Confusion:
        """A matrix without the places hidden in its grouping and the classes hidden in it."""
        hidden = places[value.task.name, names_of(value.subgroup)].copy()
        for at, label in enumerate(value.task.classes):
            for name, line in (
                (value.task.name, hidden[at]),
                (f"{value.task.name}_pred", hidden.T[at]),
            ):
                if key_of(value.subgroup, **{name: label}) in self.hidden:
                    line[:] = True
        return replace(value, hidden=hidden)

    def reliability(self, value: Reliability, bins: HiddenBins) -> Reliability:
        """Bins without those hidden in the grouping."""
        own = key_of(value.subgroup, **{f"({value.task})": "calibration"})
        if value.n is None or self.few(value.n) or own in self.hidden:
            return replace(value, n=None, bins=(), reason=self.reason)
        hidden = bins[value.task, names_of(value.subgroup)]
        return replace(
            value,
            bins=tuple(
                replace(place, confidence=None, right=self.blank())
                if place.lower in hidden
                else place
                for place in value.bins
            ),
        )

    def verdict(self, value: Verdict) -> Verdict:
        """The same outcome, without naming what it rests on where that may be too small."""
        value = replace(value, unplaced=None)  # everybody less the subgroups: it tells of the last
        sides = (*value.subgroups, *value.rests_on)
        if not (sides or value.small):
            return value
        told = replace(value, explanation=EXPLAINED[value.outcome], small=(), rests_on=())
        if not self.few(value.n) and not any(
            self.hides_side(value, one) for one in sides or value.small
        ):
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

    def hides_side(self, value: Verdict, subgroup: Subgroup) -> bool:
        """Whether a subgroup that a verdict names, or what it says of it, is hidden."""
        place = {**value.only, **subgroup}
        key = key_of(place)
        failing = value.metric in OF_FAILURES or value.failures == "errors"
        if value.metric in OF_FAILURES and not place and self.few(_failed(value)):
            return True
        if key in self.hidden or (failing and key is not None and key | {IMAGES} in self.hidden):
            return True
        if value.label is None:
            return base_key(value.task, value.metric, place) in self.hidden
        return any(
            key_of(place, **{name: value.label}) in self.hidden
            for name in (str(value.task), f"{value.task}_pred")
        )

    def few(self, n: int | None) -> bool:
        return n is not None and 0 < n < self.below

    def kept_back(self, value: Estimate) -> Estimate:
        """A figure that is not shown; where there is none, why."""
        return value if value.value is None else self.blank()

    def blank(self) -> Estimate:
        return Estimate(None, None, None, 0, self.reason, suppressed=True)

    def is_hidden(self, value: Any) -> bool:
        """Whether a value is a subgroup that is not shown."""
        if not isinstance(value, Mapping) or not value:
            return False
        return all(isinstance(one, str) for one in value.values()) and key_of(value) in self.hidden

    def is_hidden_age(self, value: Any) -> bool:
        if not isinstance(value, ConditionedAge) or value.age_group is None:
            return False
        return self.is_hidden({**value.subgroup, AGE_GROUP: value.age_group})

    def differences(self, value: Comparison) -> dict[str, Any]:
        """Subgroups that are shown, and differences between them."""

        def hides(one: SubgroupFigure) -> bool:
            place = {**value.within, **one.subgroup}
            estimate = Estimate(one.estimate, None, None, one.n)
            metric = MetricValue(value.task, value.metric, place, estimate, value.label)
            return self.is_hidden(place) or self.hides_metric(metric)

        hidden = [one.subgroup for one in value.subgroups if hides(one)]
        pairs, rest = (
            tuple(one for one in found if one.first not in hidden and one.second not in hidden)
            for found in (value.pairs, value.versus_rest)
        )
        shown = tuple(one for one in value.subgroups if one.subgroup not in hidden)
        return {"subgroups": shown, "pairs": pairs, "versus_rest": rest}

    def contributions(self, value: Decomposition) -> tuple[Any, ...]:
        """What comes from cells that are shown."""
        sides = [value.first, value.second or {}]
        return tuple(
            one
            for one in value.contributions
            if not any(self.is_hidden({**side, value.within: one.value}) for side in sides)
        )


def _failed(verdict: Verdict) -> int | None:
    """How many images a rate of all images tells to have failed."""
    if verdict.value is None or verdict.n is None:
        return None
    share = verdict.value if verdict.metric == "failure_rate" else 1 - verdict.value
    return round(share * verdict.n)
