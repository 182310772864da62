"""The gate: a policy held against a table, for people, programs and schedulers."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceaudit.audit.policy import Policy, parse_rules, read_policy
from faceaudit.audit.results import LeaksLeftOut, Outcome, PolicyFacts, Verdict
from faceaudit.audit.ruled import audit_of_rules
from faceaudit.audit.run import find_verdicts
from faceaudit.audit.suppress import check_suppression, suppress_verdicts
from faceaudit.audit.verdict import exit_codes, outcome_of
from faceaudit.errors import InputError, UnknownNameError, first_exit
from faceaudit.labels import ANNOTATED, NONE, PROVENANCES
from faceaudit.reporting.format import NOT_AVAILABLE, count, subgroup_name
from faceaudit.reporting.json_report import (
    label_facts,
    leaks_facts,
    policy_facts,
    table_facts,
    verdict_facts,
    written,
)
from faceaudit.reporting.source import Reading, as_paths, has_labels, label_file, read_source
from faceaudit.reporting.subject import MIXED, Provenance, word_of
from faceaudit.reporting.without_leaks import is_doubtful, leave_out, note_of
from faceaudit.schema import SCHEMA_VERSION
from faceaudit.storage import as_path, check_outputs, write_text

log = logging.getLogger(__name__)

PolicySource = Path | str | Mapping[str, Any]
"""A TOML file, or what it would hold: ``{"rule": [{...}, ...]}``."""
OUTCOMES: dict[Outcome, str] = {
    "pass": "pass",
    "fail": "fail",
    "insufficient": "insufficient evidence",
}
"""How an outcome is called."""


@dataclass(frozen=True)
class Check:
    """The verdicts of a policy on a table."""

    verdicts: tuple[Verdict, ...]
    policy: PolicyFacts
    table: Provenance
    notes: tuple[str, ...]
    leaks: LeaksLeftOut | None = None
    """Rows that were left out because their picture is in several sets."""

    @property
    def outcome(self) -> Outcome:
        """Failed if any rule is, passed only if all are."""
        return outcome_of(self.verdicts)

    @property
    def exit_codes(self) -> list[int]:
        """Every exit code that applies, the one to end with first."""
        return exit_codes(self.verdicts)

    @property
    def exit_code(self) -> int:
        """What a scheduler sees: 10 if a rule failed, 3 if one could not be decided, else 0."""
        return first_exit(self.exit_codes)

    def to_json(self) -> str:
        """The verdicts for programs, with the keys that a report's JSON has."""
        return written(
            {
                "schema_version": SCHEMA_VERSION,
                "table": table_facts(self.table),
                "labels": label_facts(self.table),
                "policy": policy_facts(self.policy),
                "outcome": self.outcome,
                "exit_codes": self.exit_codes,
                "verdicts": [verdict_facts(verdict) for verdict in self.verdicts],
                "leaks": None if self.leaks is None else leaks_facts(self.leaks),
                "notes": list(self.notes),
            }
        )

    def to_text(self) -> str:
        """The verdicts as a table for a terminal, in the policy's own units."""
        return "\n".join(_lines(self))


def check(
    table: Path | Sequence[Path],
    policy: PolicySource,
    *,
    output: Path | None = None,
    labels: str = NONE,
    provenance: str = ANNOTATED,
    columns: Mapping[str, str] | None = None,
    classes: Mapping[str, Sequence[str]] | None = None,
    age_bins: Sequence[int] | None = None,
    scheme_map: Mapping[str, str] | None = None,
    unit: str | None = None,
    min_n: int = 30,
    suppress_below: int = 0,
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
    without_leaks: Path | None = None,
) -> Check:
    """Hold a policy against a table of predictions: pass, fail or insufficient evidence per rule.

    Args:
        table: A Parquet or CSV file, or a folder of ``part-*.parquet``; or a tally, or several,
            which are summed.
        policy: A TOML file, or its contents.
        output: A file for the verdicts as JSON, ``NAME.json``; None writes none.
        labels: Annotations to join: ``none``, ``auto``, a label format, or ``FORMAT:FILE``.
        provenance: Where the labels come from, unless the table says it itself.
        columns: Canonical name -> name in the table, where they differ.
        classes: Task -> its classes in the order of a bare list of scores.
        age_bins: Lower bounds of the age groups, in years.
        scheme_map: Task -> the scheme to coarsen it to.
        unit: A column whose values (a person, a prompt) name rows that are not independent.
        min_n: Fewest faces of a subgroup that is judged, where a rule does not say it.
        suppress_below: Nothing is told of subgroups of fewer faces or images, for privacy.
        confidence: With which all verdicts hold together, where a rule does not say it.
        replicates: As ``report`` takes it; no verdict rests on draws.
        seed: Of the draws.
        without_leaks: A table that ``leaks`` wrote: rows whose picture is in several sets are left
            out.

    Raises:
        FaceauditError: If an option or a rule cannot work, or the table or the labels cannot be
            read.
    """
    paths = as_paths(table)
    if provenance not in PROVENANCES:
        raise UnknownNameError("provenance of labels", provenance, PROVENANCES)
    check_suppression(suppress_below)
    if output is not None:
        others = (label_file(labels), policy_file(policy), without_leaks)
        check_outputs([as_path(output)], (*paths, *others))
    rules, day = load_policy(policy), dt.date.today()
    source = read_source(paths, Reading(labels, provenance, columns, classes, age_bins, scheme_map))
    divided = None if without_leaks is None else leave_out(source, as_path(without_leaks))
    leaks = None if divided is None else divided.facts()
    checked = source.table if divided is None else divided.source.table
    verdicts, notes = find_verdicts(
        checked,
        rules,
        unit=unit,
        min_n=min_n,
        confidence=confidence,
        replicates=replicates,
        seed=seed,
        day=day,
    )
    ruled = audit_of_rules(checked, rules) if suppress_below else None
    origin = source.origin(has_labels(source.table))
    found = Check(
        suppress_verdicts(verdicts, suppress_below, ruled),
        PolicyFacts(rules.name, rules.sha256, day),
        origin,
        (*source.notes, *notes, *_whose(origin), *([] if leaks is None else [note_of(leaks)])),
        leaks,
    )
    if leaks is not None and is_doubtful(leaks):
        log.warning("%s", note_of(leaks))
    if output is not None:
        write_text(as_path(output), found.to_json())
    return found


def policy_file(given: PolicySource | None) -> Path | str | None:
    """The file that a policy is read from; None where its contents are given, or none."""
    return None if isinstance(given, Mapping) else given


def load_policy(given: PolicySource) -> Policy:
    """A policy from a file or from its contents.

    Raises:
        InputError: If the file cannot be read.
        UsageError: If a key or value in it cannot be used.
    """
    if isinstance(given, Mapping):
        text = json.dumps(given, sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return Policy("policy", digest, parse_rules(given, "policy"))
    path = as_path(given)
    try:
        return read_policy(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(
            f"{path}: the policy cannot be read ({error.strerror}); "
            "`faceaudit check --init policy.toml` writes one to begin with"
        ) from error


def summary(verdicts: Sequence[Verdict]) -> str:
    """How many rules have which outcome.

    Example:
        >>> summary(())
        '0 pass, 0 fail, 0 insufficient evidence'
    """
    found = [verdict.outcome for verdict in verdicts]
    return ", ".join(f"{found.count(outcome)} {word}" for outcome, word in OUTCOMES.items())


def _lines(found: Check) -> Iterator[str]:
    head = ("outcome", "value", "interval", "n", "needed", "rule")
    rows = [head, *(_row(verdict) for verdict in found.verdicts)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
    for row, verdict in zip(rows, (None, *found.verdicts), strict=True):
        cells = [
            cell.rjust(width) if 0 < k < 5 else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
        if verdict is not None:
            yield from (f"    {told}" for told in _told(verdict))
    yield from _whose(found.table)
    if found.leaks is not None:
        yield note_of(found.leaks)
    yield (
        f"{found.policy.name} on {found.table.path}: {summary(found.verdicts)}; "
        f"exit code {found.exit_code}"
    )


def _whose(table: Provenance) -> Iterator[str]:
    """Whose labels the verdicts rest on, where nobody annotated them."""
    provenance = table.labels_provenance or ANNOTATED
    if provenance == MIXED:
        yield f"The labels are of {MIXED}."
    elif provenance != ANNOTATED:
        why = PROVENANCES.get(provenance, provenance)
        yield f"The labels are {word_of(provenance)}, not annotated: {why}."


def _row(verdict: Verdict) -> tuple[str, ...]:
    bounds = (verdict.low, verdict.high)
    return (
        verdict.outcome,
        _number(verdict.value),
        "" if bounds == (None, None) else " to ".join(map(_number, bounds)),
        NOT_AVAILABLE if verdict.n is None else count(verdict.n),
        "" if verdict.n_needed is None else count(verdict.n_needed),
        verdict.rule,
    )


def _told(verdict: Verdict) -> Iterator[str]:
    names = " against ".join(map(subgroup_name, verdict.subgroups)) if verdict.by else ""
    yield f"{names}: {verdict.explanation}" if names else verdict.explanation
    for one in verdict.exemptions:
        state = f"excepted until {one.expires}" if one.current else f"expired on {one.expires}"
        covers = f"{one.covers} {'subgroup' if one.covers == 1 else 'subgroups'}"
        told = f"{state}, approved by {one.approved_by}: {one.reason}"
        yield f"{subgroup_name(one.subgroup)} ({covers}) {told}"
    yield f"owner: {verdict.owner}; reason: {verdict.reason}"


def _number(value: float | None) -> str:
    return NOT_AVAILABLE if value is None else f"{value:.4g}"
