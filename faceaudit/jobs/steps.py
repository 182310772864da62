"""What a job can do: ``STEPS``, each a command with its options.

To add a step, write what is told of its result and add an entry; its options are the keywords of
the function of that name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

import faceaudit
from faceaudit.audit.results import Verdict
from faceaudit.audit.tally import Tally
from faceaudit.audit.verdict import exit_codes
from faceaudit.pipeline.messages import failures_message, prediction_message
from faceaudit.pipeline.predict import Prediction
from faceaudit.reporting import Check, CompareFiles, ReportFiles
from faceaudit.reporting.check import summary

NAMES = {"scheme_map": "map", "formats": "format"}
"""Keywords of functions whose option has another name."""
NOT_OPTIONS = ("quiet", "runtime")
"""Keywords that are no options of a job."""


@dataclass(frozen=True)
class Outcome:
    """What a step did."""

    facts: Mapping[str, Any]
    """For programs."""
    lines: Sequence[str]
    """For people."""
    exit_codes: Sequence[int] = ()
    """All that apply, but for 0."""


@dataclass(frozen=True)
class StepKind:
    """A command as a step of a job."""

    name: str
    arguments: tuple[str, ...]
    """Keywords that the command takes without an option's name, in its order."""
    outcome: Callable[[Any], Outcome]
    """What its result says."""
    outputs: tuple[str, ...] = ("output",)
    """Keywords that name what it writes."""
    table: str = "table"
    """The keyword that the table of ``predict`` is given as, unless the job names another."""

    @property
    def function(self) -> Callable[..., Any]:
        """The library's function of the same name."""
        found: Callable[..., Any] = getattr(faceaudit, self.name)
        return found

    @property
    def types(self) -> dict[str, Any]:
        """Keyword -> its type, of everything that a job can set."""
        hints = get_type_hints(self.function)
        return {key: hints[key] for key in self._parameters if key not in NOT_OPTIONS}

    @property
    def needed(self) -> list[str]:
        """Keywords without a default."""
        return [k for k, one in self._parameters.items() if one.default is inspect.Parameter.empty]

    @property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.function).parameters


def option_of(keyword: str) -> str:
    """What a job calls a keyword: the option's name, with ``_`` for ``-``."""
    return NAMES.get(keyword, keyword)


def _of_prediction(found: Prediction) -> Outcome:
    lines = [prediction_message(found), *([failures_message(found)] if found.exit_code else [])]
    facts = {
        "table": str(found.table),
        "images": found.images,
        "scored": found.scored,
        "faces": found.faces,
        "statuses": dict(found.statuses),
    }
    return Outcome(facts, lines, [found.exit_code] if found.exit_code else [])


def _of_tally(found: Tally) -> Outcome:
    facts = {"rows": found.rows, "subgroups": len(found.cells)}
    return Outcome(facts, [f"{found.rows:,} rows in {len(found.cells):,} subgroups"])


def _of_report(found: ReportFiles) -> Outcome:
    verdicts = found.audit.verdicts
    told = [summary(verdicts)] if verdicts else []
    facts = {"files": list(map(str, found.paths)), "verdicts": list(_verdicts(verdicts))}
    return Outcome(facts, [*map(str, found.paths), *told], _but_zero(exit_codes(verdicts)))


def _of_check(found: Check) -> Outcome:
    facts = {"verdicts": list(_verdicts(found.verdicts))}
    return Outcome(facts, found.to_text().splitlines(), _but_zero(found.exit_codes))


def _of_comparison(found: CompareFiles) -> Outcome:
    paths = list(map(str, found.paths))
    return Outcome({"files": paths}, paths)


def _verdicts(verdicts: Sequence[Verdict]) -> Iterator[dict[str, Any]]:
    for one in verdicts:
        yield {
            "rule": one.rule,
            "outcome": one.outcome,
            "value": one.value,
            "low": one.low,
            "high": one.high,
            "n": one.n,
            "n_needed": one.n_needed,
        }


def _but_zero(codes: Sequence[int]) -> list[int]:
    return [code for code in codes if code]


STEPS = {
    kind.name: kind
    for kind in (
        StepKind("predict", ("images", "out"), _of_prediction, outputs=("out",), table="out"),
        StepKind("tally", ("table", "file"), _of_tally, outputs=("file",)),
        StepKind("report", ("table",), _of_report),
        StepKind("check", ("table",), _of_check),
        StepKind("compare", ("first", "second"), _of_comparison, table="second"),
    )
}
"""In the order in which a job does them."""
