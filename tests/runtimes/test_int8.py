"""When int8 may be used: a graph that is whole, and a loss that was shown to be small."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from faceaudit.errors import BundleError, UsageError
from faceaudit.models.bundle import Bundle, hash_of, load_bundle
from faceaudit.models.int8 import INT8, POOLED, check_int8, comparison_lines, int8_graph, shortfalls
from faceaudit.runtimes import open_runtime
from faceaudit.runtimes.onnx_runtime import OnnxRuntime

GOOD = {
    "task": "race", "metric": "accuracy", "on": POOLED, "n": 4000, "float32": 0.7, "int8": 0.699,
    "difference": -0.001, "low": -0.004, "high": 0.002,
}  # fmt: skip
GENDER = {**GOOD, "task": "gender"}
YEARS = {**GOOD, "task": "age", "metric": "mae", "low": -0.02, "high": 0.05}


@pytest.fixture
def copied(random_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A bundle with an int8 graph (the float32 one, here: what is tested is the permission)."""
    folder = tmp_path / "bundle"
    shutil.copytree(random_bundle.graph.parent, folder)
    bundle = load_bundle(str(folder))
    shutil.copy(bundle.graph, int8_graph(bundle))
    return with_facts(bundle, compared=[GENDER, GOOD, YEARS])


def with_facts(bundle: Bundle, **facts: Any) -> Bundle:
    known = {"sha256": hash_of([int8_graph(bundle)]), **bundle.card.get(INT8, {})}
    return replace(bundle, card={**bundle.card, INT8: {**known, **facts}})


def test_a_graph_with_a_small_loss_is_used_and_recorded(copied: Bundle) -> None:
    runtime = open_runtime(copied, device="cpu", precision="int8")
    facts = runtime.facts()
    assert facts["precision"] == "int8"
    assert facts["graph"] == copied.card[INT8]["sha256"]
    assert open_runtime(copied, device="cpu").facts()["precision"] == "float32"


def test_a_bundle_without_the_graph_is_refused_in_one_line(random_bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="random has no int8 graph; use --precision float32") as e:
        open_runtime(random_bundle, device="cpu", precision="int8")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({**GOOD, "low": -0.005}, "race accuracy"),
        ({**GOOD, "low": None}, "race accuracy"),
        ({**YEARS, "high": 0.1}, "age mae"),
        ({**YEARS, "high": None}, "age mae"),
    ],
)
def test_a_loss_that_was_not_excluded_is_refused(
    copied: Bundle, changed: Mapping[str, Any], said: str
) -> None:
    kept = [one for one in (GENDER, GOOD, YEARS) if one["task"] != changed["task"]]
    with pytest.raises(UsageError, match=said):
        check_int8(with_facts(copied, compared=[*kept, changed]))


def test_sets_by_themselves_are_shown_but_not_judged(copied: Bundle) -> None:
    small = {**GOOD, "on": "one folder", "low": -0.02}
    assert shortfalls(copied, [small, GENDER, GOOD, YEARS]) == []
    lines = comparison_lines([small, GOOD, YEARS])
    assert len(lines) == 4
    assert lines[0].split("  ")[0] == "task"
    assert "-0.0010 (-0.0040 to 0.0020)" in lines[2]


def test_a_graph_that_was_never_compared_is_refused(copied: Bundle) -> None:
    with pytest.raises(UsageError, match="it was never compared"):
        check_int8(with_facts(copied, compared=[]))


def test_a_damaged_graph_is_one_clear_error(copied: Bundle) -> None:
    with int8_graph(copied).open("ab") as file:
        file.write(b"more")
    with pytest.raises(BundleError, match="is not the file that the bundle's facts name"):
        check_int8(copied)


def test_torch_has_no_int8(copied: Bundle) -> None:
    with pytest.raises(UsageError, match="not to be had in torch; choose one of: auto, float32"):
        open_runtime(copied, device="cpu", precision="int8", runtime="torch")


@pytest.mark.parametrize(
    ("said", "raised"),
    [
        ("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : bad allocation", MemoryError),
        ("Failed to allocate memory for requested buffer of size 99", MemoryError),
        ("Non-zero status code returned while running Conv", errors.RuntimeException),
    ],
)
def test_memory_that_does_not_suffice_is_an_error_that_the_engine_knows(
    random_bundle: Bundle, said: str, raised: type[Exception]
) -> None:
    runtime = OnnxRuntime(random_bundle, ["gender"])

    class Session:
        def run(self, *_: object) -> None:
            raise errors.RuntimeException(said)

    runtime._session = Session()
    with pytest.raises(raised):
        runtime.infer(np.zeros((2, 64, 64, 3), np.uint8))
