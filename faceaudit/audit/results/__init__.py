"""What an audit finds: frozen facts, one dataclass per kind, from which page and JSON are made.

A figure that is not defined is None with a ``reason``; it is never 0, NaN or a neutral value.
Subgroups are mappings from feature to class, ``{"race": "Black", "gender": "Female"}``; ``{}`` is
everybody.
"""

from faceaudit.audit.results.audit import Audit, LeakEffect, LeaksLeftOut, Verification
from faceaudit.audit.results.conditioned import (
    ConditionedAge,
    Contribution,
    Decomposition,
    Standardised,
)
from faceaudit.audit.results.coverage import Coverage, WithFailures
from faceaudit.audit.results.gaps import (
    AnyGapTest,
    Comparison,
    Disparity,
    Equivalence,
    PairwiseDifference,
    SubgroupFigure,
)
from faceaudit.audit.results.shares import Composition, Correction, FitTest, ReferenceShare
from faceaudit.audit.results.values import (
    Confusion,
    Estimate,
    MetricKey,
    MetricValue,
    Reliability,
    ReliabilityBin,
    RocCurve,
    Subgroup,
)
from faceaudit.audit.results.verdicts import Exemption, Outcome, PolicyFacts, Verdict

__all__ = [
    "AnyGapTest",
    "Audit",
    "Comparison",
    "Composition",
    "ConditionedAge",
    "Confusion",
    "Contribution",
    "Correction",
    "Coverage",
    "Decomposition",
    "Disparity",
    "Equivalence",
    "Estimate",
    "Exemption",
    "FitTest",
    "LeakEffect",
    "LeaksLeftOut",
    "MetricKey",
    "MetricValue",
    "Outcome",
    "PairwiseDifference",
    "PolicyFacts",
    "ReferenceShare",
    "Reliability",
    "ReliabilityBin",
    "RocCurve",
    "Standardised",
    "Subgroup",
    "SubgroupFigure",
    "Verdict",
    "Verification",
    "WithFailures",
]
