from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from faceaudit.models.bundle import Output, years_output
from faceaudit.ordered import in_background, in_chunks, in_order
from faceaudit.pipeline.scores import activate, scores_of
from faceaudit.schema import age_group_names


def test_results_come_back_in_order() -> None:
    def slow(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number * number

    assert list(in_order(slow, range(50), workers=4)) == [n * n for n in range(50)]


def test_work_ahead_is_bounded() -> None:
    begun: list[int] = []

    def note(number: int) -> int:
        begun.append(number)
        return number

    results = in_order(note, range(1000), workers=2)
    next(results)
    time.sleep(0.05)
    assert len(begun) <= 6
    results.close()
    assert len(begun) <= 6


def test_an_error_in_a_worker_is_raised_and_the_rest_given_up() -> None:
    done = threading.Event()

    def fail(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        if number > 100:
            done.set()
        return number

    with pytest.raises(ValueError, match="three"):
        list(in_order(fail, range(1000), workers=2))
    assert not done.is_set()


def test_an_error_in_the_background_is_as_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    threads = set(threading.enumerate())

    def fail() -> int:
        raise OSError("gone")

    result = in_background(fail)
    for thread in set(threading.enumerate()) - threads:
        thread.join()
    assert result() is None
    assert told == []


def test_chunks_cover_everything_once() -> None:
    assert list(in_chunks(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(in_chunks([], 3)) == []


def test_activations() -> None:
    logits = np.log(np.asarray([[1.0, 3.0]], np.float32))
    np.testing.assert_allclose(activate(logits, "softmax"), [[0.25, 0.75]], atol=1e-6)
    np.testing.assert_allclose(activate(logits[:, 1:], "sigmoid"), [[0.25, 0.75]], atol=1e-6)
    shares = np.asarray([[0.25, 0.75]], np.float32)
    np.testing.assert_array_equal(activate(shares, "none"), shares)
    np.testing.assert_array_equal(activate(shares[:, 1:], "none"), shares)
    rounded = np.asarray([[1.0000001, 2e-9], [0.5, 0.4995], [0, 0]], np.float32)
    found = activate(rounded, "none")
    np.testing.assert_allclose(found[:2].sum(axis=1), 1, atol=1e-15)
    assert found[0].max() <= 1
    assert np.isnan(found[2]).all()
    huge = np.asarray([[1000.0, -1000.0]], np.float32)
    np.testing.assert_array_equal(activate(huge, "softmax"), [[1.0, 0.0]])


def test_age_groups_are_sums_of_years() -> None:
    years = np.full((1, 101), -50.0, np.float32)
    years[0, [17, 18, 40]] = np.log([0.3, 0.2, 0.5])
    found = scores_of({"age": years}, [years_output()], (0, 18, 65))
    assert age_group_names((0, 18, 65)) == ("0-17", "18-64", "65+")
    np.testing.assert_allclose(found.probs["age_group"], [[0.3, 0.7, 0.0]], atol=1e-6)
    assert found.age is not None
    np.testing.assert_allclose(found.age, [0.3 * 17 + 0.2 * 18 + 0.5 * 40], atol=1e-4)


def test_a_row_of_scores_does_not_depend_on_its_neighbours() -> None:
    raw = np.random.default_rng(0).normal(size=(9, 101)).astype(np.float32)
    output: Output = years_output()
    whole = scores_of({"age": raw}, [output], (0, 18))
    assert whole.age is not None
    for row in range(9):
        alone = scores_of({"age": raw[row : row + 1]}, [output], (0, 18))
        assert alone.age is not None
        assert alone.age[0] == whole.age[row]
        assert np.array_equal(alone.probs["age_group"][0], whole.probs["age_group"][row])


def test_no_module_of_the_pipeline_declares_a_global() -> None:
    """No module of the pipeline keeps state between runs."""
    folder = Path(__file__).parents[2] / "faceaudit" / "pipeline"
    for path in folder.glob("*.py"):
        assert "global " not in path.read_text(), path
