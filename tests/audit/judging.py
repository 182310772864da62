"""Faces of known counts, and what rules say of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from faceaudit.audit.estimates import Options
from faceaudit.audit.evidence import Evidence
from faceaudit.audit.policy import Policy, parse_rules
from faceaudit.audit.results import Verdict
from faceaudit.audit.subgroups import Feature
from faceaudit.audit.tally import CellCounts, Tally
from faceaudit.audit.tally.tally import KINDS
from faceaudit.audit.verdict import judge
from faceaudit.schema import task_of_scheme
from faceaudit.tables import PredictionTable

OpenTable = Callable[..., PredictionTable]
RowsOf = Callable[..., pl.DataFrame]
DAY = dt.date(2027, 1, 15)
WORST = {"task": "gender", "metric": "accuracy", "by": ["site"], "measure": "worst"}
BETWEEN = {**WORST, "measure": "difference"}
NAMES = {"owner": "the board", "reason": "it was decided"}
SITE, CAMERA = Feature("site", "site"), Feature("camera", "camera")
RACE = Feature("race", "race_true", ("White", "Black"))
MANY_RIGHT = (2000, 1800)
BY_RACE = {**WORST, "by": ["race"], "at_least": 0.8}


def counts_of(numbers: np.ndarray) -> CellCounts:
    """Numbers of cells in a single block, (C, ...)."""
    dense = np.asarray(numbers)[:, None]
    codes = np.flatnonzero(dense)
    return CellCounts(codes, dense.ravel()[codes], dense.shape)


def sites(right: Sequence[tuple[int, int]]) -> Tally:
    """Faces of several sites: how many, and how many of them with the right gender."""
    cells = {(f"S{index}",): one for index, one in enumerate(right)}
    return faces_of((Feature("site", "site"),), cells)


def faces_of(features: tuple[Feature, ...], right: Mapping[Any, tuple[int, int]]) -> Tally:
    """Faces by the values of features: how many, and how many of them with the right gender."""
    confusion = np.array([[[yes, n - yes], [0, 0]] for n, yes in right.values()])
    empty: dict[str, dict[str, CellCounts]] = {kind: {} for kind in KINDS}
    images = counts_of(np.array([[n] for n, _ in right.values()]))
    return Tally(
        tasks=(task_of_scheme("gender", "gender2"),),
        features=features,
        cells=tuple(right),
        statuses=("ok",),
        unit=None,
        tables=(),
        numbers={
            **empty,
            "confusion": {"gender": counts_of(confusion)},
            "predicted": {"gender": counts_of(confusion.sum(axis=1))},
            "images": {"": images},
        },
    )


def policy(*rules: Mapping[str, Any]) -> Policy:
    whole = [{**NAMES, **rule} for rule in rules]
    return Policy("p.toml", "0" * 64, parse_rules({"rule": whole}, "p.toml"))


def verdicts(counted: Tally, *rules: Mapping[str, Any]) -> tuple[Verdict, ...]:
    return judge(policy(*rules), Evidence(counted, Options(replicates=100), DAY))


def verdict(counted: Tally, **rule: Any) -> Verdict:
    return verdicts(counted, rule)[0]
