"""Days and hours of the simulated world: pay days, weekends, seasons, opening hours.

Times are float days since the start of the simulation. The world is made a window at a time, and what falls due in
a window does not depend on the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property

import numpy as np

from riskdistill.simulator.arrays import Floats, Ints, draw

SEASON = np.array([0.95, 0.92, 0.98, 1.0, 1.0, 1.0, 1.02, 0.98, 1.0, 1.02, 1.12, 1.35])  # January first
SHOPPING_BY_WEEKDAY = np.array([0.9, 0.9, 0.95, 1.0, 1.2, 1.3, 0.75])  # Monday first
WORK_BY_WEEKDAY = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.08, 0.08])
MONTH = 30.0  # days, where a rate is given per month


@dataclass(frozen=True)
class Window:
    """`days` days of a world that starts at midnight `start` (UTC), from day `first` on.

    `season_shift` moves the seasons of the year: by so many days everything that is usual then comes earlier.
    """

    start: datetime
    first: int
    days: int
    season_shift: int = 0

    @property
    def end(self) -> int:
        """The first day after the window."""
        return self.first + self.days

    @property
    def months(self) -> float:
        """How many months the window is long."""
        return self.days / MONTH

    @cached_property
    def weekday(self) -> Ints:
        """Weekday of each day, Monday 0; shape [days]."""
        return (self.start.weekday() + self.first + np.arange(self.days)) % 7

    @cached_property
    def shopping(self) -> Floats:
        """How busy the shops are on each day, 1 on the average day; shape [days]."""
        moved = self.start + timedelta(days=self.first + self.season_shift)
        months = np.array([(moved + timedelta(days=d)).month for d in range(self.days)])
        return np.asarray(SEASON[months - 1] * SHOPPING_BY_WEEKDAY[self.weekday])

    def monthly(self, due: Ints) -> tuple[Ints, Ints]:
        """The occurrences in this window of a day of the month (1 to 28), moved to Monday from a weekend.

        Args:
            due: day of the month of each standing order; shape [n].

        Returns:
            Positions into `due` and the day of each occurrence, of equal length.
        """
        first = self.start.date()
        earliest, latest = (first + timedelta(days=day) for day in (self.first - 3, self.end))
        months = range(earliest.year * 12 + earliest.month - 1, latest.year * 12 + latest.month)
        which, days = [], []
        for month in months:
            opening = (date(month // 12, month % 12 + 1, 1) - first).days
            on = opening + np.arange(28)  # the day on which each day of the month falls, then is paid
            on = on + np.array([0, 0, 0, 0, 0, 2, 1])[(self.start.weekday() + on) % 7]
            falls = (on >= self.first) & (on < self.end)
            here = np.flatnonzero(falls[due - 1])
            which.append(here)
            days.append(on[due[here] - 1])
        return np.concatenate(which), np.concatenate(days)

    def shopping_days(self, rng: np.random.Generator, n: int) -> Ints:
        """`n` days, busier ones more often."""
        return self._days(rng, n, self.shopping)

    def working_days(self, rng: np.random.Generator, n: int) -> Ints:
        """`n` days, seldom on weekends."""
        return self._days(rng, n, WORK_BY_WEEKDAY[self.weekday])

    def any_days(self, rng: np.random.Generator, n: int) -> Ints:
        """`n` days, all alike."""
        return rng.integers(self.first, self.end, n)

    def _days(self, rng: np.random.Generator, n: int, weights: Floats) -> Ints:
        return np.asarray(draw(rng, np.arange(self.first, self.end), n, weights))


def office_hours(rng: np.random.Generator, n: int) -> Floats:
    """Times of day when firms pay, as a fraction of a day."""
    # the mean of two even draws: as humped as a beta distribution, at a fifth of its cost
    return np.asarray((7.5 + 5.5 * (rng.random(n) + rng.random(n))) / 24)


def waking_hours(rng: np.random.Generator, n: int) -> Floats:
    """Times of day when people pay, as a fraction of a day; one in twelve at any hour."""
    day = (6.5 + 8.5 * (rng.random(n) + rng.random(n))) / 24
    return np.where(rng.random(n) < 1 / 12, rng.random(n), day)
