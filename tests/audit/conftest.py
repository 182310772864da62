"""Generated tables of predictions, and what opens them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from faceaudit.schema import AGE_BINS, SCHEMES, age_group_names
from faceaudit.tables import PredictionTable, read_table

GROUPS = age_group_names(AGE_BINS["fairface9"])


def softmax_scores(generator: np.random.Generator, true: np.ndarray, classes: int) -> np.ndarray:
    """Scores that lean to the annotated class, rounded so that some are tied."""
    logits = generator.normal(size=(len(true), classes)) + 1.5 * np.eye(classes)[true]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return np.round(probs, 4)


def generated_rows(rows: int = 600, seed: int = 0) -> pl.DataFrame:
    """Faces with gender, race and age: annotated, predicted and scored; some rows have failed."""
    generator = np.random.default_rng(seed)
    columns: dict[str, Any] = {"image": [f"{index:05}.jpg" for index in range(rows)]}
    failed = generator.random(rows) < 0.05
    columns["status"] = np.where(failed, "no_face", "ok")
    age_true = np.round(np.minimum(generator.gamma(3, 12, rows), 116))
    age_pred = np.clip(age_true + generator.normal(1, 7, rows), 0, 116)
    group = np.searchsorted(AGE_BINS["fairface9"], age_true, side="right") - 1
    schemes = {"gender": SCHEMES["gender2"], "race": SCHEMES["utkface5"], "age_group": GROUPS}
    for name, classes in schemes.items():
        true = group if name == "age_group" else generator.integers(0, len(classes), rows)
        probs = softmax_scores(generator, true, len(classes))
        if name != "age_group":
            columns[f"{name}_true"] = np.array(classes)[true]
        columns[f"{name}_pred"] = np.array(classes)[probs.argmax(axis=1)]
        for label, scores in zip(classes, probs.T, strict=True):
            columns[f"{name}_prob_{label}"] = scores
    columns["age_true"] = age_true
    columns["age_pred"] = age_pred
    return pl.DataFrame(columns).with_columns(
        pl.when(status="ok").then(pl.col("^.*_pred.*$|^.*_prob_.*$")).name.keep()
    )


@pytest.fixture(scope="session")
def rows_of() -> Callable[..., pl.DataFrame]:
    return generated_rows


@pytest.fixture
def open_table(tmp_path: Path) -> Callable[..., PredictionTable]:
    """Write a frame as Parquet and open it as a table of predictions."""
    written = []

    def opened(frame: pl.DataFrame, **options: Any) -> PredictionTable:
        path = tmp_path / f"table{len(written)}.parquet"
        written.append(path)
        frame.write_parquet(path)
        return read_table(path, **options)

    return opened
