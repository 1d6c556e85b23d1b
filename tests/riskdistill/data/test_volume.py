"""Volume: days that stand out do, slow growth and parts of days do not."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.data.volume import DAY, DailyVolume, unlike_their_weekday

WEEKLY = np.array([1000, 1010, 990, 1005, 1200, 400, 300])


def weeks(count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.tile(WEEKLY, count)


def at(day: str) -> int:
    return int(np.datetime64(day, "us").astype(np.int64))


def test_the_weekly_rhythm_is_usual_and_growth_is_not_sudden() -> None:
    assert not unlike_their_weekday(weeks(10))[0].any()
    growing = (weeks(40) * np.linspace(1.0, 4.0, 280)).astype(np.int64)
    assert not unlike_their_weekday(growing)[0].any()


@pytest.mark.parametrize(("day", "rows"), [(30, 3000), (30, 0), (33, 1200)])
def test_a_day_unlike_its_weekday_is_found(day: int, rows: int) -> None:
    rhythm = weeks(10)
    rhythm[day] = rows  # 1,200 rows are as many as on a Friday, and day 33 is a Saturday
    assert np.flatnonzero(unlike_their_weekday(rhythm)[0]).tolist() == [day]


def test_the_ends_are_parts_of_days_and_a_short_source_says_nothing() -> None:
    rhythm = weeks(10)
    rhythm[[0, -1]] = 1
    assert not unlike_their_weekday(rhythm)[0].any()
    unusual, judged = unlike_their_weekday(weeks(3))
    assert not unusual.any()
    assert not judged.any()
    assert unlike_their_weekday(np.array([5]))[1].tolist() == [False]


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=120))
def test_only_judged_days_are_unusual(rows: list[int]) -> None:
    unusual, judged = unlike_their_weekday(np.array(rows))
    assert len(unusual) == len(judged) == len(rows)
    assert not (unusual & ~judged).any()


def test_days_are_counted_with_their_dollars_whatever_the_stretches() -> None:
    times = np.array([at("2026-01-01"), at("2026-01-03") + DAY - 1, at("2026-01-01") + 1])
    volume, parts = DailyVolume(), DailyVolume()
    volume.add(times, np.array([1.0, 2.0, 4.0]))
    for one, usd in zip(times, (1.0, 2.0, 4.0), strict=True):
        parts.add(np.array([one]), np.array([usd]))
    first, last = volume.main_span()
    assert (volume.date_of(first), volume.date_of(last)) == (date(2026, 1, 1), date(2026, 1, 3))
    assert volume.rows[first : last + 1].tolist() == [2, 0, 1]
    assert volume.usd[first : last + 1].tolist() == [5.0, 0.0, 2.0]
    assert (volume.rows == parts.rows).all()
    assert (volume.usd == parts.usd).all()


def test_rows_far_from_all_the_rest_are_outside_the_main_span() -> None:
    volume = DailyVolume()
    bulk = at("2022-09-01") + DAY * np.arange(10).repeat(30)
    volume.add(np.concatenate([bulk, [at("1999-01-01"), at("2023-06-01")]]), np.ones(302))
    first, last = volume.main_span()
    assert date(1999, 1, 1) < volume.date_of(first) <= date(2022, 9, 1)
    assert date(2022, 9, 10) <= volume.date_of(last) < date(2023, 6, 1)
