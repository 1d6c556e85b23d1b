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


def test_a_log_has_each_step_as_soon_as_it_ends_and_whole() -> None:
    file, note = io.StringIO(), "out-of-fold log loss 0.1308 [weighted] by transaction, and more than fits a line"
    with steps_to(file) as steps:
        steps.step("ensemble of teachers").done(note)
        assert file.getvalue() == f"ensemble of teachers, done after 0:00:00: {note}\n"
        steps.step("gates").done()
    assert file.getvalue().splitlines()[1:] == ["gates, done after 0:00:00"]


def test_a_long_step_is_told_once_a_minute(clock: list[float]) -> None:
    file = io.StringIO()
    with steps_to(file) as steps:
        step = steps.step("teacher", 4)
        step.at(1, note="epoch 1")
        clock[0] = EVERY
        step.advance(1)
        step.advance(1)
    assert file.getvalue() == "teacher, 50% after 0:00:00: epoch 1\n"


def test_a_long_step_of_unknown_length_is_under_way(clock: list[float]) -> None:
    file = io.StringIO()
    with steps_to(file) as steps:
        step = steps.step("ingest")
        clock[0] = EVERY
        step.at(1_000)
    assert file.getvalue() == "ingest, under way after 0:00:00\n"


def test_a_terminal_has_bars_and_no_lines() -> None:
    file = io.StringIO()
    with steps_to(file, terminal=True) as steps:
        steps.step("gates").done("7 of 7 passed")
    assert "━" in file.getvalue()
    assert "done after" not in file.getvalue()
