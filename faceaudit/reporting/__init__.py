"""From an audit to what people and programs read: a page, and the same figures as JSON.

``run.report`` is the whole flow. A section gathers values (``sections/``), charts are drawn
(``figures``), sentences are found (``findings``), and templates put them on the page (``html``).
"""

from faceaudit.reporting.check import Check, check
from faceaudit.reporting.compare import CompareFiles, compare
from faceaudit.reporting.run import ReportFiles, report
from faceaudit.reporting.sample import sample
from faceaudit.reporting.source import tally

__all__ = ["Check", "CompareFiles", "ReportFiles", "check", "compare", "report", "sample", "tally"]
