"""Batch analytics and fairness auditing for models that predict age, gender and race from faces.

Every command is a function here: ``faceaudit.predict``, ``faceaudit.report``, ...
They are imported when they are first used, so importing faceaudit costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_FUNCTIONS = {
    "check": "faceaudit.reporting",
    "compare": "faceaudit.reporting",
    "demo": "faceaudit.showcase.run",
    "export": "faceaudit.models.standalone",
    "leaks": "faceaudit.reporting.leaks",
    "predict": "faceaudit.pipeline.predict",
    "prepare": "faceaudit.pipeline.prepare",
    "purge": "faceaudit.jobs",
    "quantize": "faceaudit.training.quantize",
    "report": "faceaudit.reporting",
    "run": "faceaudit.jobs",
    "sample": "faceaudit.reporting",
    "tally": "faceaudit.reporting",
    "train": "faceaudit.training.train",
    "tune": "faceaudit.training.tune",
    "zoo": "faceaudit.training.zoo",
}

__all__ = [
    "__version__",
    "check",
    "compare",
    "demo",
    "export",
    "leaks",
    "predict",
    "prepare",
    "purge",
    "quantize",
    "report",
    "run",
    "sample",
    "tally",
    "train",
    "tune",
    "zoo",
]


def __getattr__(name: str) -> Any:
    if name not in _FUNCTIONS:
        raise AttributeError(f"module 'faceaudit' has no attribute {name!r}")
    return getattr(import_module(_FUNCTIONS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
