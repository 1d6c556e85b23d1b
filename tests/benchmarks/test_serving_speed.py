"""What the sections of the serving benchmark make of a load: here on answers that are made up."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, cast

import pytest
import serving_speed
from http_load import Load
from serving_speed import Bench

LOW, ALERT = {"band": "low", "route": "student"}, {"band": "review", "route": "student"}
ASKED, LATE = {"band": "review", "route": "teacher"}, {"band": "low", "route": "student_degraded"}


class _Bench:
    """As fast as the load that it was given."""

    single = serving_speed.Timed(Load(1.0, Counter({200: 100})), 0.5)


def _load(*answers: tuple[float, dict[str, str]]) -> Load:
    """Answers 200, each after so many seconds; they come in reverse order of the requests."""
    numbered = list(enumerate(answers))[::-1]
    return Load(
        1.0,
        Counter({200: len(answers)}),
        [seconds for _, (seconds, _) in numbered],
        [(number, 200, json.dumps(said).encode()) for number, (_, said) in numbered],
    )


def _measured(monkeypatch: pytest.MonkeyPatch, plain: Load, routed: Load) -> dict[str, Any]:
    loads = iter([plain, routed])
    monkeypatch.setattr(serving_speed, "_open", lambda *_, **__: next(loads))
    return {row.name: row for row in serving_speed.bypass(cast(Bench, _Bench()))}


def test_bypass_compares_transactions_that_are_low_and_the_students_on_both_sides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = _load((0.002, LOW), (0.002, LOW), (0.9, ALERT), (0.9, ALERT))
    routed = _load((0.003, LOW), (0.003, LOW), (0.05, ASKED), (0.05, ASKED))
    found = _measured(monkeypatch, plain, routed)
    assert found["p99 without bypass"].measured == pytest.approx(2)
    assert found["it moves by"].measured == pytest.approx(50)
    assert not found["it moves by"].passes
    assert found["teacher within its deadline"].passes


def test_a_teacher_that_is_late_misses_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = _load((0.002, LOW), (0.9, ALERT), (0.9, ALERT))
    routed = _load((0.002, LOW), (0.05, ASKED), (0.1, LATE))
    found = _measured(monkeypatch, plain, routed)
    assert found["it moves by"].passes
    assert found["teacher within its deadline"].measured == pytest.approx(50)
    assert not found["teacher within its deadline"].passes
