"""Where no terminal draws bars, a long job still says what it has done and how far it is."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pipelines import progress
from pipelines.progress import EVERY, Steps


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    return now


def steps_to(file: io.StringIO, *, terminal: bool = False) -> Steps:
    return Steps(Console(file=file, force_terminal=terminal, width=80))


def test_a_log_has_each_step_as_soon_as_it_begins_and_ends() -> None:
    file, note = io.StringIO(), "out-of-fold log loss 0.1308 [weighted] by transaction, and more than fits a line"
    with steps_to(file) as steps:
        step = steps.step("ensemble of teachers")
        assert file.getvalue() == "ensemble of teachers, begun\n"
        step.done(note)
        assert file.getvalue().splitlines()[1:] == [f"ensemble of teachers, done after 0:00:00: {note}"]
        steps.step("gates").done()
    assert file.getvalue().splitlines()[2:] == ["gates, begun", "gates, done after 0:00:00"]


def test_a_long_step_is_told_once_a_minute(clock: list[float]) -> None:
    file = io.StringIO()
    with steps_to(file) as steps:
        step = steps.step("teacher", 4)
        step.at(1, note="epoch 1")
        clock[0] = EVERY
        step.advance(1)
        step.advance(1)
    assert file.getvalue().splitlines() == ["teacher, begun", "teacher, 50% after 0:00:00: epoch 1"]


def test_a_long_step_of_unknown_length_is_under_way(clock: list[float]) -> None:
    file = io.StringIO()
    with steps_to(file) as steps:
        step = steps.step("ingest")
        clock[0] = EVERY
        step.at(1_000)
    assert file.getvalue().splitlines() == ["ingest, begun", "ingest, under way after 0:00:00"]


def test_a_terminal_has_bars_and_no_lines() -> None:
    file = io.StringIO()
    with steps_to(file, terminal=True) as steps:
        steps.step("gates").done("7 of 7 passed")
    assert "━" in file.getvalue()
    assert "begun" not in file.getvalue()
