"""Decisions get UUIDs of version 7: no two alike, in the order of time, written as the standard writes them."""

from __future__ import annotations

import time
import uuid

import pytest

from api.path.decision_ids import DecisionIds


def test_ids_are_version_7_of_the_standard_and_written_as_it_writes_them() -> None:
    ids = DecisionIds()
    for text in (ids.next() for _ in range(3_000)):
        found = uuid.UUID(text)
        assert str(found) == text
        assert (found.version, found.variant) == (7, uuid.RFC_4122)


def test_they_begin_with_the_time_in_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    stamp = uuid.UUID(DecisionIds().next()).int >> 80
    assert before <= stamp <= time.time_ns() // 1_000_000


def test_later_ids_sort_behind_earlier_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    ids, made = DecisionIds(), []
    for milliseconds in (1_790_000_000_000, 1_790_000_000_001, 1_790_000_065_536, 2_000_000_000_000):
        monkeypatch.setattr(time, "time_ns", lambda now=milliseconds: now * 1_000_000)
        made.append(ids.next())
    assert made == sorted(made)


def test_no_two_are_alike_though_made_in_one_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_790_000_000_000_000_000)
    one, other = DecisionIds(), DecisionIds()
    assert len({ids.next() for _ in range(3_000) for ids in (one, other)}) == 6_000
