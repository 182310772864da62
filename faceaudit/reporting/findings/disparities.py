"""Who is worst, as far as the comparison of the subgroups says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from faceaudit.audit.power import POWER
from faceaudit.audit.results import Audit, Disparity, Estimate, PairwiseDifference, Subgroup
from faceaudit.reporting import format as text
from faceaudit.reporting.findings.finding import Finding
from faceaudit.reporting.gaps import mix_and_rest
from faceaudit.reporting.glossary import MetricFacts, grouping_title, task_title
from faceaudit.reporting.leading import Gap, leading_gap
from faceaudit.reporting.subject import (
    Headline,
    Subject,
    confidence_percent,
    estimate_of,
    headlines,
    index_metrics,
    label_word,
)
from faceaudit.schema import AGE, AGE_GROUP

CHANCE_UNLIKELY = "excludes zero: chance alone is an unlikely explanation"


def disparities(subject: Subject) -> Iterator[Finding]:
    """For every task, who is shown to be worse than whom, or that nobody is."""
    told = headlines(subject.audit)
    if Headline(AGE, "mae") in told:  # Years say what age groups say, more finely.
        told = [headline for headline in told if headline.task != AGE_GROUP]
    for headline in told:
        gap = leading_gap(subject.audit, headline.task, headline.metric)
        if gap is not None:
            yield _Told(subject, headline, gap).finding()
        elif subject.audit.by:
            yield Finding(
                f"{task_title(headline.task)}: subgroups cannot be ranked",
                _no_ranking(subject.audit, headline),
            )


@dataclass(frozen=True)
class _Told:
    """One gap of one task, put into words."""

    subject: Subject
    headline: Headline
    gap: Gap

    def finding(self) -> Finding:
        """What is shown: the two ends, else another pair, else one against the rest, else none."""
        if self.gap.ends_shown:
            return self._of_ends(self._worst_said())
        if self.gap.pair is not None:
            return self._of_pair(self.gap.pair)
        if self.gap.against_rest is not None:
            return self._of_rest(self.gap.against_rest)
        return self._of_equals() if self.gap.alike else self._of_ends(self._nobody())

    def _of_ends(self, heading: str) -> Finding:
        gap, facts = self.gap.disparity, self.gap.facts
        worst, best = gap.worst or {}, gap.best or {}
        apart = text.difference(gap.difference, facts.unit)
        among = (
            f" between the two ranked subgroups of {self._grouping()}"
            if gap.n_ranked == 2
            else f", the largest among {gap.n_ranked} subgroups of {self._grouping()}"
        )
        return self._finding(
            heading,
            f"{self._against(worst, best)}: a difference of {apart}{among}.",
            f"{_hedge(gap, facts)} {_taken_apart(self.subject.audit, gap, worst, best)}".strip(),
        )

    def _of_pair(self, pair: PairwiseDifference) -> Finding:
        compared = self.gap.comparison
        listed, shown = (compared.pairs, compared.shown) if compared else ((), ())
        best = pair.second or {}
        are = "is told apart" if len(shown) == 1 else "are told apart, this one the widest"
        apart = text.difference(abs(pair.difference), self.gap.facts.unit)
        hedges = (
            self._shown(pair, "pairs"),
            self._of_ends_unshown(),
            _taken_apart(self.subject.audit, self.gap.disparity, pair.first, best),
        )
        return self._finding(
            f"{self._side(pair)} {self._metric_word()} for {self._faces(pair.first)} than for "
            f"{self._faces(best)}",
            f"{self._against(pair.first, best)}: a difference of {apart}. {len(shown)} of "
            f"{len(listed)} pairs of subgroups of {self._grouping()} {are}.",
            " ".join(filter(None, hedges)),
        )

    def _of_rest(self, one: PairwiseDifference) -> Finding:
        compared, unit = self.gap.comparison, self.gap.facts.unit
        rests = compared.versus_rest if compared else ()
        shown = sum(rest.shown for rest in rests)
        side = "more" if one.difference > 0 else "less"
        are = "is told apart" if shown == 1 else "are told apart"
        hedges = (
            self._shown(one, "subgroups"),
            self._of_ends_unshown(),
            _taken_apart(self.subject.audit, self.gap.disparity, one.first, None),
        )
        return self._finding(
            f"{self._side(one)} {self._metric_word()} for {self._faces(one.first)} than for all "
            "other faces",
            f"{self._measured(one.first)}, {text.difference(abs(one.difference), unit)} {side} "
            f"than for all other faces. {shown} of {len(rests)} subgroups of {self._grouping()} "
            f"{are} from all others.",
            " ".join(filter(None, hedges)),
        )

    def _of_equals(self) -> Finding:
        """One figure in all ranked subgroups: none is worst, and how far that carries."""
        facts = self.gap.facts
        found = [v.estimate.value for v in self.gap.values if v.estimate.value is not None]
        figure = text.quantity(found[0] if found else None, facts.unit)
        no_error = set(found) == {0.0 if facts.better == "lower" else 1.0}
        return self._finding(
            "no error was seen in any ranked subgroup"
            if no_error
            else f"the same {self._metric_word()} in every ranked subgroup",
            f"{self._lead()} {figure} {self._of()} the faces of each of "
            f"{self.gap.disparity.n_ranked} subgroups of {self._grouping()}.",
            self._detectable(),
        )

    def _finding(self, heading: str, sentence: str, hedge: str) -> Finding:
        return Finding(f"{task_title(self.headline.task)}: {heading}", sentence, hedge)

    def _worst_said(self) -> str:
        """Who is worst of all, or where others may be as bad, which ends differ."""
        metric, worst = self._metric_word(), self._worst()
        lower = self.gap.facts.better == "lower"
        if self.gap.worst_alone:
            return f"{'largest' if lower else 'lowest'} {metric} for {worst}"
        best = self._faces(self.gap.disparity.best or {})
        return f"{'larger' if lower else 'lower'} {metric} for {worst} than for {best}"

    def _nobody(self) -> str:
        """That nothing is shown, in the words of what was tested."""
        compared = self.gap.comparison
        if compared is not None and compared.versus_rest and not compared.pairs:
            return f"no subgroup can be told apart from all others in {self._metric_word()}"
        if self.gap.disparity.low is None and not (compared and compared.pairs):
            return f"differences in {self._metric_word()} between subgroups were not tested"
        return f"no two subgroups can be told apart in {self._metric_word()}"

    def _against(self, first: Subgroup, second: Subgroup) -> str:
        other = self._with_bounds(self._estimate(second))
        return f"{self._measured(first)}, against {other} {self._of()} {self._faces(second)}"

    def _measured(self, subgroup: Subgroup) -> str:
        confidence = confidence_percent(self.subject.audit)
        figure = self._with_bounds(self._estimate(subgroup), confidence)
        return f"{self._lead()} {figure} {self._of()} {self._faces(subgroup)}"

    def _lead(self) -> str:
        if self.headline.metric == "accuracy":
            word = label_word(self.subject)
            return f"{task_title(self.headline.task)} was predicted as {word} for"
        return f"Predicted {self.headline.task}s are off on average by"

    def _of(self) -> str:
        return "of" if self.headline.metric == "accuracy" else "for"

    def _estimate(self, subgroup: Subgroup) -> Estimate | None:
        index = index_metrics(self.subject.audit)
        return estimate_of(index, self.headline.task, self.headline.metric, subgroup)

    def _with_bounds(self, estimate: Estimate | None, confidence: str = "") -> str:
        if estimate is None:
            return text.NOT_AVAILABLE
        unit = self.gap.facts.unit
        bounds = text.interval(estimate.low, estimate.high, unit, " to ")
        word = f"{confidence} interval " if confidence else ""
        inside = ", ".join([f"{word}{bounds}"] * bool(bounds) + [f"n = {text.count(estimate.n)}"])
        return f"{text.quantity(estimate.value, unit)} ({inside})"

    def _faces(self, subgroup: Subgroup) -> str:
        return f"faces {text.described(subgroup, label_word(self.subject))}"

    def _worst(self) -> str:
        return self._faces(self.gap.disparity.worst or {})

    def _grouping(self) -> str:
        return grouping_title(self.gap.disparity.by, label_word(self.subject))

    def _metric_word(self) -> str:
        facts = self.gap.facts
        return "error" if facts.name == "mae" else facts.title.lower()

    def _side(self, one: PairwiseDifference) -> str:
        if self.gap.facts.better == "lower":
            return "larger" if one.difference > 0 else "smaller"
        return "higher" if one.difference > 0 else "lower"

    def _shown(self, one: PairwiseDifference, looked_at: str) -> str:
        low, high = sorted((abs(one.low), abs(one.high)))
        bounds = text.difference_interval(low, high, self.gap.facts.unit)
        return (
            f"The interval of the difference ({bounds}), "
            "which allows for having looked at all "
            f"{looked_at}, {CHANCE_UNLIKELY}."
        )

    def _of_ends_unshown(self) -> str:
        """That the ends of the ranking may be there by chance."""
        gap, unit, word = self.gap.disparity, self.gap.facts.unit, label_word(self.subject)
        if gap.worst is None or gap.best is None or gap.difference is None:
            return ""
        ends = " and ".join(f"faces {text.described(one, word)}" for one in (gap.worst, gap.best))
        lead = f"As measured, {ends} are farthest apart ({text.difference(gap.difference, unit)})"
        if gap.low is None or gap.high is None:
            return f"{lead}; that difference has no interval."
        bounds = text.difference_interval(gap.low, gap.high, unit)
        return f"{lead}; the interval of that difference ({bounds}) includes zero."

    def _detectable(self) -> str:
        compared = self.gap.comparison
        lead = "That no difference is seen is not evidence of none"
        if compared is None or compared.smallest_detectable is None:
            return f"{lead}."
        gap = text.difference(compared.smallest_detectable, self.gap.facts.unit)
        whom = "the two" if len(compared.ranked) == 2 else "any two"
        return (
            f"{lead}: a gap of {gap} between {whom} would have shown with a chance of {POWER:.0%}."
        )


def _hedge(disparity: Disparity, facts: MetricFacts) -> str:
    """What the interval of a difference allows to be said."""
    if disparity.low is None or disparity.high is None:
        why = f" ({disparity.reason})" if disparity.reason else ""
        return f"The difference has no interval{why}: insufficient evidence for a conclusion."
    bounds = text.difference_interval(disparity.low, disparity.high, facts.unit)
    return (
        f"The interval of the difference ({bounds}), "
        "which allows for having looked at all pairs, "
        + (
            f"{CHANCE_UNLIKELY}."
            if disparity.shown
            else "includes zero: insufficient evidence that they differ."
        )
    )


def _taken_apart(
    audit: Audit, disparity: Disparity, first: Subgroup, second: Subgroup | None
) -> str:
    """How much of a gap in ages is due to other ages, so that nobody reads it as a cause."""
    if disparity.task != AGE:
        return ""
    return next(
        (
            mix_and_rest(one)
            for one in audit.decompositions
            if (one.task, one.metric) == (disparity.task, disparity.metric)
            and one.by == disparity.by
            and one.within == AGE_GROUP
            and (one.first, one.second) == (first, second)
        ),
        "",
    )


def _no_ranking(audit: Audit, headline: Headline) -> str:
    reasons = [
        d.reason
        for d in audit.disparities
        if (d.task, d.metric) == (headline.task, headline.metric) and d.reason and not d.within
    ]
    return f"Insufficient evidence: {reasons[0]}." if reasons else "Insufficient evidence."
