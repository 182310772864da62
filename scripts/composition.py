"""Fill what docs/composition.md says of UTKFace: ``python -m scripts.composition [--check]``.

It is made of what the benchmark wrote:

    file=docs/results/composition_of_utkface.json
    python -m benchmarks.composition_of_utkface --draws 40 --json $file
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.composition_of_utkface import held, table_of_counts, table_of_shares, told
from benchmarks.predict_tables import as_markdown
from faceaudit.audit.composition import DOUBTFUL
from scripts.readme import fill, rewrite

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "composition.md"
RESULT = ROOT / "docs" / "results" / "composition_of_utkface.json"
Share = Mapping[str, Any]


@functools.cache
def found() -> dict[str, Any]:
    """What the benchmark wrote."""
    return dict(json.loads(RESULT.read_text(encoding="utf-8")))


def utkface() -> str:
    """What was done, on how many faces."""
    return (
        f"`python -m benchmarks.composition_of_utkface --draws {found()['draws']}` puts the "
        f"annotations of the table of UTKFace's\nvalidation images that ships aside "
        f"({found()['faces']:,} faces, predicted by the bundle `fairface`), corrects the\nshares "
        "as a user would, and then looks whether intervals held the annotated shares."
    )


def validation() -> str:
    """Shares corrected by the validation of the model alone."""
    return as_markdown(*table_of_shares(found()))


def caution() -> str:
    """What the test of label shift said, and of which tasks it was silent though shares are off."""
    tests = {one["task"]: one["p_value"] for one in found()["tests"]}
    lines = []
    if null := {one["task"] for one in found()["shares"] if held(one) is None}:
        lines.append(f"- Null, with the reason on the page: corrected shares of {_tasks(null)}.")
    for task, p in tests.items():
        own = [one for one in found()["shares"] if one["task"] == task and held(one) is not None]
        if own:
            lines.append(f"- **{_name(task).capitalize()}**: {_test(p)}. {_outcome(own)}")
    return "\n".join(lines)


def _test(p: float | None) -> str:
    if p is None:
        return "label shift could not be tested"
    warned = "the page warns" if p < DOUBTFUL else "and the page gives **no warning** of it"
    return f"the test of label shift gives p = {p:.1g}, {warned}"


def _outcome(own: Iterable[Share]) -> str:
    """Which intervals miss the annotated share."""
    missed = [
        f"{one['label']} ({told(one['corrected'])}, annotated {one['annotated']:.1%}, predicted "
        f"{one['predicted']['value']:.1%})"
        for one in own
        if not held(one)
    ]
    if not missed:
        return "All corrected intervals hold the annotated shares."
    return f"Corrected intervals miss the annotated share of {'; '.join(missed)}."


def labeled() -> str:
    """How often intervals held, where labels correct."""
    return as_markdown(*table_of_counts(found()), texts=2)


def samples() -> str:
    """How often the intervals of the samples held, and of which tasks other images told nothing."""
    sizes: dict[str, list[Share]] = {}
    for one in found()["with_labels"]:
        sizes.setdefault(one["labeled"], []).append(one)
    lines = []
    for title, own in sizes.items():
        known = [one for one in own if "corrected" in one["held"]]
        if known:
            shares = [one["held"]["corrected"][0] / one["held"]["corrected"][1] for one in known]
            widths = [100 * one["half_width"] for one in known]
            lines.append(
                f"- Corrected by {title}, intervals held in {_span(shares, '.1%')} of the cases, "
                f"at ±{_span(widths, '.1f')} points."
            )
        for one in own:
            if one["null"]:
                lines.append(
                    f"- By {title}, {one['null']} of {found()['draws']} draws gave no corrected "
                    f"shares of {_name(one['task'])}: every share is null, with the reason. More "
                    "labels help, or fewer classes, such as by `--age-bins`."
                )
    return "\n".join(lines)


def _span(values: list[float], form: str) -> str:
    low, high = (format(end, form) for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _name(task: str) -> str:
    return task.replace("_", " ")


def _tasks(names: Iterable[str]) -> str:
    return " and ".join(_name(name) for name in sorted(names))


PARTS = {part.__name__: part for part in (utkface, validation, caution, labeled, samples)}


def filled(text: str) -> str:
    """The text with every part made anew."""
    return fill(text, PARTS, DOCUMENT.name)


def main() -> None:
    """Write the document, or say that it is stale."""
    rewrite(DOCUMENT, filled, "scripts.composition")


if __name__ == "__main__":
    main()
