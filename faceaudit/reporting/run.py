"""The report: one table to a page and the same figures as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from faceaudit.audit.results import Audit
from faceaudit.audit.ruled import audit_of_rules
from faceaudit.audit.run import Verify, audit
from faceaudit.audit.suppress import check_suppression, suppress
from faceaudit.audit.suppress_changes import suppress_both
from faceaudit.audit.tally import TALLY_SUFFIX
from faceaudit.audit.verdict import exit_codes
from faceaudit.errors import SchemaError, UnknownNameError, UsageError, check_names, first_exit
from faceaudit.labels import ANNOTATED, NONE, PROVENANCES
from faceaudit.reporting.calibration import with_composition
from faceaudit.reporting.changes import Choices, find_changes, in_common_schemes, readings_of
from faceaudit.reporting.check import PolicySource, load_policy, policy_file
from faceaudit.reporting.html import render
from faceaudit.reporting.json_report import to_json
from faceaudit.reporting.markdown import to_markdown
from faceaudit.reporting.source import Reading, Source, as_paths, label_file, read_source
from faceaudit.reporting.subject import Baseline, Provenance, Subject, has_labels
from faceaudit.reporting.without_leaks import leave_out, with_effects
from faceaudit.storage import as_path, check_outputs, write_text
from faceaudit.tables import SUFFIXES

FORMATS: dict[str, Callable[[Subject], str]] = {
    "html": render,
    "json": to_json,
    "md": to_markdown,
}
"""What a report is written as; the name is also the file's suffix."""
USUAL_FORMATS = ("html", "json")
REPORT_SUFFIXES = {f".{name}" for name in FORMATS}


@dataclass(frozen=True)
class ReportFiles:
    """The files that were written, in the order of the formats, and the audit that they hold."""

    paths: tuple[Path, ...]
    audit: Audit

    @property
    def exit_code(self) -> int:
        """What a scheduler sees: 10 if a rule failed, 3 if one could not be decided, else 0."""
        return first_exit(exit_codes(self.audit.verdicts))


def report(
    table: Path | Sequence[Path],
    *,
    output: Path | None = None,
    labels: str = NONE,
    provenance: str = ANNOTATED,
    columns: Mapping[str, str] | None = None,
    classes: Mapping[str, Sequence[str]] | None = None,
    age_bins: Sequence[int] | None = None,
    scheme_map: Mapping[str, str] | None = None,
    by: Sequence[str] | None = None,
    within: str | None = None,
    unit: str | None = None,
    min_n: int = 30,
    suppress_below: int = 0,
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
    calibration: Path | None = None,
    reference: Path | None = None,
    verify: Verify = "auto",
    policy: PolicySource | None = None,
    without_leaks: Path | None = None,
    baseline: Path | None = None,
    title: str | None = None,
    formats: Sequence[str] = USUAL_FORMATS,
) -> ReportFiles:
    """Audit a table of predictions and write the report.

    Args:
        table: A Parquet or CSV file, or a folder of ``part-*.parquet``; or a tally, or several,
            which are summed.
        output: Where the page goes, ``NAME.html``; None is beside the table, under its name. The
            JSON has the same name.
        labels: Annotations to join: ``none``, ``auto``, a label format, or ``FORMAT:FILE``.
        provenance: Where the labels come from, unless the table says it itself.
        columns: Canonical name -> name in the table, where they differ.
        classes: Task -> its classes in the order of a bare list of scores.
        age_bins: Lower bounds of the age groups, in years.
        scheme_map: Task -> the scheme to coarsen it to.
        by: Sensitive features; None takes every annotated one of gender and race, or all that a
            tally has.
        within: A control feature: figures are also given within each of its values, and compared at
            the same mix of them.
        unit: A column whose values (a person, a prompt) name rows that are not independent.
        min_n: Subgroups with fewer faces are shown and marked, and not ranked.
        suppress_below: Cells of fewer faces or images are not shown, for privacy; 0 shows all.
        confidence: Of all intervals.
        replicates: Draws of permutation tests and of distances from a baseline; intervals need
            none. With fewer than 500 no test is a permutation.
        seed: Of the draws.
        calibration: Labeled faces (CSV or Parquet) that correct the shares of the classes: what
            ``faceaudit sample`` drew of this table, or a labeled table of predictions.
        reference: Target shares (columns task, class, share) that the composition is compared with.
        verify: Whether to recompute the figures with scikit-learn and fairlearn.
        policy: Rules to hold against the table: a TOML file, or its contents; None holds none.
        without_leaks: A table that ``leaks`` wrote: rows whose picture is in several sets are left
            out, and the page shows what they had changed.
        baseline: An earlier table or tally; the page and the JSON then also tell what changed.
        title: Of the page; None names the model or the table.
        formats: Any of ``FORMATS``.

    Raises:
        FaceauditError: If an option cannot work, or the table or the labels cannot be read.
    """
    paths = as_paths(table)
    output = None if output is None else as_path(output)
    _check(formats, provenance, output)
    check_suppression(suppress_below)
    targets = [target(paths[0], output, name) for name in formats]
    others = (calibration, reference, without_leaks, baseline, policy_file(policy))
    check_outputs(targets, (*paths, label_file(labels), *others))
    rules = None if policy is None else load_policy(policy)
    reading = Reading(labels, provenance, columns, classes, age_bins, scheme_map)
    source = read_source(paths, reading)
    divided = None if without_leaks is None else leave_out(source, as_path(without_leaks))
    source = source if divided is None else divided.source
    found = audit(
        source.table,
        by=by,
        within=within,
        unit=unit,
        min_n=min_n,
        confidence=confidence,
        replicates=replicates,
        seed=seed,
        verify=verify,
        policy=rules,
    )
    if divided is not None:
        found = with_effects(
            found, divided, unit=unit, confidence=confidence, replicates=replicates, seed=seed
        )
    found = with_composition(found, source, calibration, reference)
    found = replace(found, notes=(*source.notes, *found.notes))
    ruled = audit_of_rules(source.table, rules) if rules and suppress_below else None
    changes = None
    if baseline is None:
        found = suppress(found, suppress_below, ruled=ruled)
    else:
        choices = Choices(by, unit, min_n, confidence, replicates, seed)
        changes = _changes(as_path(baseline), paths[0], source, reading, choices, suppress_below)
        found, compared = suppress_both(found, changes.changes, suppress_below, ruled)
        changes = replace(changes, changes=compared)
    origin = source.origin(has_labels(found))
    subject = Subject(found, origin, title or _title(origin, found), changes)
    texts = [FORMATS[name](subject) for name in formats]
    for file, text in zip(targets, texts, strict=True):
        write_text(file, text)
    return ReportFiles(tuple(targets), found)


def _changes(
    baseline: Path, table: Path, source: Source, reading: Reading, choices: Choices, below: int
) -> Baseline:
    """What changed between an earlier table and the audited one, with all cells.

    Raises:
        UsageError: If cells are to be suppressed, and the classes compared are not the audited.
    """
    readings = readings_of(([baseline], [table]), reading)
    earlier = read_source([baseline], readings[0])
    sides = in_common_schemes(earlier, source, (baseline, table), readings)
    if below and sides[1] is not source:
        raise UsageError(
            f"--suppress-below {below} with --baseline {baseline}: its classes are coarser than "
            f"those of {table}, and the counts of both would tell each other; bring both to one "
            "scheme with --map or --age-bins"
        )
    try:
        return Baseline(find_changes(*sides, choices), baseline.name)
    except SchemaError as error:
        raise SchemaError(f"--baseline {baseline} (the first) and {table}: {error}") from error


def target(table: Path, output: Path | None, suffix: str) -> Path:
    """Where a report goes: beside its table, or where the user said.

    Raises:
        UsageError: If that is a folder.

    Example:
        >>> str(target(Path("out/faces.parquet"), None, "html"))
        'out/faces.html'
    """
    if output is not None and output.is_dir():
        raise UsageError(f"--output {output}: a folder; give a file such as {output}/report.html")
    given = output or table
    known = REPORT_SUFFIXES if output else {*SUFFIXES, TALLY_SUFFIX}
    stem = given.stem if given.suffix.lower() in known else given.name
    return given.parent / f"{stem}.{suffix}"


def _check(formats: Sequence[str], provenance: str, output: Path | None) -> None:
    check_names("report format", formats, FORMATS)
    if not formats:
        raise UsageError(f"--format: give at least one of {', '.join(FORMATS)}")
    if provenance not in PROVENANCES:
        raise UnknownNameError("provenance of labels", provenance, PROVENANCES)


def _title(provenance: Provenance, found: Audit) -> str:
    model = provenance.metadata.model.get("name") if provenance.metadata else None
    kind = "Audit" if has_labels(found) else "Composition"
    of_model = f"{kind} of {model}" if kind == "Audit" else f"{kind} by {model}"
    return of_model if model else f"{kind} of {PurePath(provenance.path).name}"
