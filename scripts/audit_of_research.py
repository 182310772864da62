"""Fill docs/audit-of-research.md: ``python -m scripts.audit_of_research [--check]``."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from faceaudit.reporting.run import report
from scripts.readme import fill, rewrite

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "audit-of-research.md"
PREDICTIONS = ROOT / "docs" / "results" / "utkface_val_research.parquet"


def audit() -> str:
    """The report's Markdown form, its headings one level down and without its title."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "report.md"
        report(PREDICTIONS, output=target, formats=["md"], verify="never")
        text = target.read_text(encoding="utf-8")
    return re.sub(r"^# .*\n+", "", text).rstrip()


def filled(document: str) -> str:
    """The document with the report made anew."""
    return fill(document, {"audit": audit}, DOCUMENT.name)


def main() -> None:
    """Write the document, or say that it is stale."""
    rewrite(DOCUMENT, filled, "scripts.audit_of_research")


if __name__ == "__main__":
    main()
