"""How far long work is: what its log lines and its bar say."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

import pytest

from faceaudit import progress as module
from faceaudit.progress import counted, progress, shown_time


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_log_line_every_ten_seconds_tells_rate_time_left_and_a_note(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="faceaudit")
    with progress("epoch 1/3", 10_000, done=1000, note=lambda: "loss 3.7") as advance:
        for _ in range(5):
            clock[0] += 6
            advance(120)
    assert caplog.messages == [
        "epoch 1/3: 1240 of 10,000 images, 20 images/s, 7 min left, loss 3.7",
        "epoch 1/3: 1480 of 10,000 images, 20 images/s, 7 min left, loss 3.7",
    ]


def test_without_a_total_and_a_note_nothing_is_said_of_them(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="faceaudit")
    with progress("read", lambda: None) as advance:
        clock[0] += 10
        advance(5)
    assert caplog.messages == ["read: 5 images, 0.5 images/s"]


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_it_is_quiet_where_the_log_is(
    level: int, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(level, logger="faceaudit")
    with progress("predict", 10) as advance:
        clock[0] += 10
        advance(5)
    assert bool(caplog.messages) == (level == logging.INFO)


def test_items_count_with_their_images(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="faceaudit")
    found = []
    for item in counted("score", ["a", "bcd"], 4, len):
        clock[0] += 10
        found.append(item)
    assert found == ["a", "bcd"]
    assert [line.split(",")[0] for line in caplog.messages] == [
        "score: 1 of 4 images",
        "score: 4 of 4 images",
    ]


def test_on_a_terminal_a_bar_shows_what_is_done(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="faceaudit")
    screen: Any = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with progress("epoch 2/2", 200, done=60, note=lambda: "loss 1.25") as advance:
        advance(20)
    shown = screen.getvalue()
    assert "epoch 2/2" in shown
    assert "80/200" in shown
    assert "loss 1.25" in shown
    assert not caplog.messages


def test_spans_of_time() -> None:
    assert [shown_time(one) for one in (0.2, 99.4, 100, 5900, 6000)] == [
        "0 s",
        "99 s",
        "2 min",
        "98 min",
        "1 h 40 min",
    ]
