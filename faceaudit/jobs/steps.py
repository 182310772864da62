"""What a job can do: ``STEPS``, each a command with its options.

To add a step, write what is told of its result and what it writes, and add an entry; its options
are the keywords of the function of that name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import faceaudit
from faceaudit.audit.results import Verdict
from faceaudit.audit.tally import Tally
from faceaudit.audit.verdict import exit_codes
from faceaudit.errors import EXIT_TEMPORARY
from faceaudit.jobs.purge import Purge
from faceaudit.jobs.purge import message as purge_message
from faceaudit.pipeline.messages import failures_message, prediction_message
from faceaudit.pipeline.predict import Prediction
from faceaudit.reporting import Check, CompareFiles, ReportFiles
from faceaudit.reporting.check import summary
from faceaudit.reporting.compare import USUAL_FORMATS as OF_COMPARISONS
from faceaudit.reporting.compare import target as comparison_file
from faceaudit.reporting.run import USUAL_FORMATS, target
from faceaudit.storage import as_path

NAMES = {"scheme_map": "map", "formats": "format"}
"""Keywords of functions whose option has another name."""
NOT_OPTIONS = ("quiet", "runtime", "dry_run")
"""Keywords that are no options of a job."""
TYPES = {"policy": Path}
"""Keywords that a job gives in one form of several."""


@dataclass(frozen=True)
class Outcome:
    """What a step did; every step has every key, so that lines of a history are alike."""

    lines: Sequence[str] = ()
    """For people."""
    exit_codes: Sequence[int] = ()
    """All that apply, but for 0."""
    images: int | None = None
    """In the table; of a purge, those that were deleted."""
    scored: int | None = None
    """Images that this run scored."""
    faces: int | None = None
    statuses: Mapping[str, int] | None = None
    """Images by status."""
    files: Sequence[str] = ()
    """That were written."""
    verdicts: Sequence[Verdict] = ()
    stopped: str | None = None
    """The signal that asked the run to end, though this step was done."""

    def to_json(self) -> dict[str, Any]:
        """As a mapping of plain values."""
        statuses = [{"status": k, "images": v} for k, v in (self.statuses or {}).items()]
        return {
            "images": self.images,
            "scored": self.scored,
            "faces": self.faces,
            "statuses": statuses,
            "files": list(self.files),
            "verdicts": list(map(_verdict, self.verdicts)),
        }


@dataclass(frozen=True)
class StepKind:
    """A command as a step of a job."""

    name: str
    arguments: tuple[str, ...]
    """Keywords that the command takes without an option's name, in its order."""
    outcome: Callable[[Any], Outcome]
    """What its result says."""
    writes: Callable[[Mapping[str, Any]], list[Path]]
    """From its options to the files that it writes."""
    outputs: tuple[str, ...] = ("output",)
    """Keywords that name what it writes."""
    table: str = "table"
    """The keyword of its table: the one that it makes, or that of the step that makes one."""
    makes_table: bool = False
    """Whether the steps after it rest on its table."""
    takes_quiet: bool = False
    earlier: str = ""
    """The keyword of an earlier table, which may not be there where the day is in its name."""

    @property
    def function(self) -> Callable[..., Any]:
        """The library's function of the same name."""
        found: Callable[..., Any] = getattr(faceaudit, self.name)
        return found

    @property
    def types(self) -> dict[str, Any]:
        """Keyword -> its type, of everything that a job can set."""
        hints = {**get_type_hints(self.function), **TYPES}
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
    codes = [found.exit_code] if found.exit_code else []
    if found.stopped is not None:
        lines.append(f"{found.stopped}: the table is complete; the steps after it are left")
        codes.append(EXIT_TEMPORARY)
    return Outcome(
        lines,
        codes,
        images=found.images,
        scored=found.scored,
        faces=found.faces,
        statuses=found.statuses,
        files=[str(found.table)],
        stopped=found.stopped,
    )


def _of_tally(found: Tally) -> Outcome:
    return Outcome([f"{found.rows:,} rows in {len(found.cells):,} subgroups"])


def _of_report(found: ReportFiles) -> Outcome:
    files, verdicts = list(map(str, found.paths)), found.audit.verdicts
    told = [summary(verdicts)] if verdicts else []
    codes = _but_zero(exit_codes(verdicts))
    return Outcome([*files, *told], codes, files=files, verdicts=verdicts)


def _of_check(found: Check) -> Outcome:
    lines = found.to_text().splitlines()
    return Outcome(lines, _but_zero(found.exit_codes), verdicts=found.verdicts)


def _of_comparison(found: CompareFiles) -> Outcome:
    files = list(map(str, found.paths))
    return Outcome(files, files=files)


def _of_purge(found: Purge) -> Outcome:
    files = [str(path) for path in (found.tally, found.record) if path is not None]
    return Outcome(purge_message(found), images=found.images, files=files)


def _verdict(one: Verdict) -> dict[str, Any]:
    return {
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


def _named(*keywords: str) -> Callable[[Mapping[str, Any]], list[Path]]:
    """Files that options name."""
    return lambda options: [as_path(options[key]) for key in keywords if options.get(key)]


def _page(options: Mapping[str, Any]) -> list[Path]:
    table, output = as_path(options["table"]), options.get("output")
    return [target(table, output, name) for name in options.get("formats", USUAL_FORMATS)]


def _changes(options: Mapping[str, Any]) -> list[Path]:
    table, output = as_path(options["second"]), options.get("output")
    names = options.get("formats", OF_COMPARISONS)
    return [comparison_file(table, output, name) for name in names]


STEPS = {
    kind.name: kind
    for kind in (
        StepKind(
            "predict", ("images", "out"), _of_prediction, _named("out"),
            outputs=("out",), table="out", makes_table=True, takes_quiet=True,
        ),
        StepKind("tally", ("table", "file"), _of_tally, _named("file"), outputs=("file",)),
        StepKind("report", ("table",), _of_report, _page, earlier="baseline"),
        StepKind("check", ("table",), _of_check, _named("output")),
        StepKind(
            "compare", ("first", "second"), _of_comparison, _changes,
            table="second", earlier="first",
        ),
        StepKind("purge", ("dataset",), _of_purge, _named(), outputs=(), table="dataset"),
    )
}  # fmt: skip
"""In the order in which a job does them."""
