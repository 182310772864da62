"""What the tests of one comparison found, in a plain sentence or two.

Three tests look at the subgroups: every pair, each against the rest, and any gap at all. One may
find what another does not; the sentences say what each found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from faceaudit.audit.power import POWER
from faceaudit.audit.results import AnyGapTest, Audit, Comparison, PairwiseDifference, Subgroup
from faceaudit.reporting import format as text
from faceaudit.reporting.glossary import Unit, grouping_title, metric_facts, task_title
from faceaudit.schema import AGE

MOST_NAMED = 3


@dataclass(frozen=True)
class ToldApart:
    """A comparison, and what its sentences need to know besides."""

    found: Comparison
    word: str
    """Provenance of the labels, such as "annotated"."""
    ends: PairwiseDifference | None = None
    """The two subgroups farthest apart, if they are told apart; pairs may not be listed."""
    mix: float | None = None
    """How far the mixes of annotated classes are apart, 0 to 1; None is not known."""

    @property
    def pairs(self) -> tuple[PairwiseDifference, ...]:
        """The pairs that are told apart, the widest first."""
        return self.found.shown or ((self.ends,) if self.ends else ())

    @property
    def rests(self) -> tuple[PairwiseDifference, ...]:
        """The subgroups that are told apart from all others, the farthest first."""
        shown = (one for one in self.found.versus_rest if one.shown)
        return tuple(sorted(shown, key=lambda one: -abs(one.difference)))

    @property
    def any_gap(self) -> bool:
        """Whether the test of any gap at all finds one."""
        gap = self.found.any_gap
        return gap is not None and gap.p_value <= 1 - self.found.confidence

    @property
    def disagree(self) -> bool:
        """Whether differences are shown that the test of any gap at all does not find."""
        return bool(self.pairs or self.rests) and not self.any_gap


def told_apart(audit: Audit, found: Comparison, word: str) -> ToldApart:
    """The told of a comparison, with what the rest of its audit knows of them."""
    plain = ToldApart(found, word, _ends(audit, found))
    return replace(plain, mix=mix_apart(audit, found)) if plain.disagree else plain


def sentence(told: ToldApart) -> str:
    """What a comparison allows to be said."""
    found, word = told.found, told.word
    what = f"{task_title(found.task).lower()} {metric_facts(found.metric).title.lower()}".replace(
        "in years mae", "error"
    )
    whom, gap = f"subgroups of {grouping_title(found.by, word)}", found.any_gap
    if gap is None:
        return f"Differences in {what} between {whom} were not tested: {found.reason}."
    p_value = text.probability(gap.p_value)
    if told.pairs or told.rests:
        return f"{capital(what)} is {_who(told)}. {_beyond_mix(told, gap)}".strip()
    if told.any_gap:
        same = f"at the same {word} {strata}, " if (strata := _strata(gap)) else ""
        return (
            f"{capital(f'{same}{whom}')} differ in {what} ({p_value}); as measured, "
            f"{_nobody(found)} with the faces at hand."
        )
    return (
        f"No difference in {what} between {whom} can be told apart from chance ({p_value}); "
        f"{_would_have_shown(found)}."
    )


def in_brief(told: ToldApart) -> str:
    """The same in a few words."""
    found, gap = told.found, told.found.any_gap
    unit = metric_facts(found.metric).unit
    if told.pairs:
        many = f" ({len(found.shown)} of {len(found.pairs)} pairs)" if found.pairs else ""
        return f"differs: {_apart(told.pairs[0], unit)}{many}"
    if told.rests:
        many = f"{len(told.rests)} of {len(found.versus_rest)} subgroups"
        alone = ", no pair told apart" if found.pairs else ""
        return f"differs: {_apart(told.rests[0], unit)} ({many}{alone})"
    if told.any_gap and gap is not None:
        same = f"at the same {told.word} {strata} there" if (strata := _strata(gap)) else "there"
        return f"{same} is a gap ({text.probability(gap.p_value)}); as measured, {_nobody(found)}"
    return f"no difference shown; {_would_have_shown(found)}"


def mix_apart(audit: Audit, found: Comparison) -> float | None:
    """How far the mixes of annotated classes of the ranked subgroups are apart at most, 0 to 1.

    It is the total variation distance; no share that is a mean over classes differs by more for the
    mix alone. Of ages in years the classes are age groups. None where they are not all known.
    """
    faces = _faces_by_age(audit) if found.task == AGE else _faces_by_class(audit, found.task)
    rows = [faces.get(frozenset(one.subgroup.items())) for one in found.ranked]
    known = [row for row in rows if row is not None and any(row)]
    if not known or len(known) < len(rows):
        return None
    counts = np.array(known, np.float64)
    shares = counts / counts.sum(axis=1, keepdims=True)
    return float(np.abs(shares[:, None] - shares).sum(axis=-1).max() / 2)


def other_name(second: Subgroup | None) -> str:
    """Whom a subgroup is compared with."""
    return "all other faces" if second is None else text.subgroup_name(second)


def capital(words: str) -> str:
    """The words with a capital at their start."""
    return words[:1].upper() + words[1:]


def _ends(audit: Audit, found: Comparison) -> PairwiseDifference | None:
    """The worst and the best subgroup, where they are told apart and no pairs are listed."""
    better = metric_facts(found.metric).better
    place = (found.task, found.metric, found.label, found.by, found.within)
    if found.pairs or better == "zero":
        return None
    for one in audit.disparities:
        if (one.task, one.metric, one.label, one.by, one.within) != place or not one.shown:
            continue
        if one.worst and one.best and one.difference and one.low is not None and one.high:
            ends = (one.worst, one.best) if better == "lower" else (one.best, one.worst)
            p_value = one.p_adjusted or 0.0
            return PairwiseDifference(*ends, one.difference, one.low, one.high, p_value, p_value)
    return None


def _faces_by_class(audit: Audit, task: str) -> dict[frozenset[tuple[str, str]], list[int]]:
    """Faces of every annotated class by subgroup."""
    return {
        frozenset(one.subgroup.items()): one.counts.sum(axis=1).tolist()
        for one in audit.confusions
        if one.task.name == task and (one.hidden is None or not one.hidden.any())
    }


def _faces_by_age(audit: Audit) -> dict[frozenset[tuple[str, str]], list[int]]:
    """Faces of every annotated age group by subgroup."""
    groups = list(dict.fromkeys(one.age_group for one in audit.conditioned_age if one.age_group))
    faces: dict[frozenset[tuple[str, str]], list[int]] = {}
    for one in audit.conditioned_age:
        if one.age_group and "exact" in one.estimates:
            row = faces.setdefault(frozenset(one.subgroup.items()), [0] * len(groups))
            row[groups.index(one.age_group)] = one.estimates["exact"].n
    return faces


def _who(told: ToldApart) -> str:
    """Who differs from the rest, or where nobody does, which two differ most."""
    unit, rests = metric_facts(told.found.metric).unit, told.rests
    if not rests:
        return _apart(told.pairs[0], unit)
    named = "; ".join(_apart(one, unit) for one in rests[:MOST_NAMED])
    more = len(rests) - MOST_NAMED
    others = f"; {more} more {'differs' if more == 1 else 'differ'} from all others"
    alone = "; no two subgroups can be told apart from each other"
    ends = alone if told.found.pairs and not told.pairs else ""
    return f"{named}{others if more > 0 else ''}{ends}"


def _apart(one: PairwiseDifference, unit: Unit) -> str:
    """Such as "lower for Female, Indian than for all other faces by 8.0 to 19.0 points"."""
    up = one.difference > 0
    low, high = (one.low, one.high) if up else (-one.high, -one.low)
    return (
        f"{'higher' if up else 'lower'} for {text.subgroup_name(one.first)} than for "
        f"{other_name(one.second)} by {text.difference_interval(low, high, unit)}"
    )


def _nobody(found: Comparison) -> str:
    """That no difference is shown, of those that were looked at."""
    if not found.pairs:
        return "none of them can be told apart from all others"
    if len(found.ranked) == 2:
        return "the two cannot be told apart"
    rests = ", and none from all others" if found.versus_rest else ""
    return f"no two of them can be told apart{rests}"


def _strata(gap: AnyGapTest) -> str:
    """What is held fixed by the test of any gap at all; empty where nothing is."""
    if not gap.method.startswith("permutation"):
        return ""
    return "ages" if "age groups" in gap.method else "classes"


def _beyond_mix(told: ToldApart, gap: AnyGapTest) -> str:
    """What the test of any gap at all finds beyond the mix of classes, and what may be why."""
    p_value = text.probability(gap.p_value)
    if not (strata := _strata(gap)):
        return "" if told.any_gap else f"The test of any gap at all does not show one ({p_value})."
    mix = f"mix of {told.word} {strata}"
    if told.any_gap:
        return f"Not all of this comes from their {mix} ({p_value})."
    return (
        f"The test of any gap at the same {told.word} {strata} does not show one ({p_value})"
        f"{_why(told, strata)}."
    )


def _why(told: ToldApart, strata: str) -> str:
    """Whether the mix may be why differences are shown that are not at the same classes."""
    if told.mix is None:
        return ""
    shown = told.rests[0] if told.rests else told.pairs[0]
    share = metric_facts(told.found.metric).unit == "share"
    if told.mix <= (min(abs(shown.low), abs(shown.high)) if share else 0.0):
        return (
            f"; the subgroups' mixes of {strata} are too alike to be why: one test finds what the "
            "other does not"
        )
    return (
        f"; the subgroups differ in their mix of {strata}, by up to "
        f"{text.difference(told.mix, 'share')}, which may be all there is to it"
    )


def _would_have_shown(found: Comparison) -> str:
    if found.smallest_detectable is None:
        return "how large a gap would have shown is not known"
    gap = text.difference(found.smallest_detectable, metric_facts(found.metric).unit)
    whom = "between the two" if len(found.ranked) == 2 else "between any two"
    return f"a gap of {gap} {whom} would have shown with a chance of {POWER:.0%}"
