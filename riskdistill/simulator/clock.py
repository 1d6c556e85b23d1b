"""Days and hours of the simulated world: pay days, weekends, seasons, opening hours.

Times are float days since the start of the simulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np

from riskdistill.simulator.arrays import Floats, Ints, draw

SEASON = np.array([0.95, 0.92, 0.98, 1.0, 1.0, 1.0, 1.02, 0.98, 1.0, 1.02, 1.12, 1.35])  # January first
SHOPPING_BY_WEEKDAY = np.array([0.9, 0.9, 0.95, 1.0, 1.2, 1.3, 0.75])  # Monday first


@dataclass(frozen=True)
class Clock:
    """The simulated period: `days` days from midnight `start` (UTC)."""

    start: datetime
    days: int

    @property
    def weekday(self) -> Ints:
        """Weekday of each day, Monday 0; shape [days]."""
        return (self.start.weekday() + np.arange(self.days)) % 7

    @property
    def shopping_weight(self) -> Floats:
        """How busy the shops are on each day; shape [days]."""
        months = np.array([(self.start + timedelta(days=d)).month for d in range(self.days)])
        return np.asarray(SEASON[months - 1] * SHOPPING_BY_WEEKDAY[self.weekday])

    def monthly(self, due: Ints) -> tuple[Ints, Ints]:
        """Every month's occurrences of a day of the month (1 to 28), moved to Monday from a weekend.

        Args:
            due: day of the month of each standing order; shape [n].

        Returns:
            Positions into `due` and the day of each occurrence, of equal length.
        """
        first = self.start.date()
        last = first + timedelta(days=self.days)
        months = range(first.year * 12 + first.month - 1, last.year * 12 + last.month)
        opening = np.array([(date(m // 12, m % 12 + 1, 1) - first).days for m in months])
        day = opening[:, None] + due[None, :] - 1
        weekday = (self.start.weekday() + day) % 7
        day = day + np.where(weekday >= 5, 7 - weekday, 0)
        which = np.broadcast_to(np.arange(len(due)), day.shape)
        inside = (day >= 0) & (day < self.days)
        return which[inside], day[inside]

    def shopping_days(self, rng: np.random.Generator, n: int) -> Ints:
        """`n` days, busier ones more often."""
        return draw(rng, np.arange(self.days), n, self.shopping_weight)

    def working_days(self, rng: np.random.Generator, n: int) -> Ints:
        """`n` days, seldom on weekends."""
        return draw(rng, np.arange(self.days), n, np.where(self.weekday < 5, 1.0, 0.08))


def office_hours(rng: np.random.Generator, n: int) -> Floats:
    """Times of day when firms pay, as a fraction of a day."""
    return np.asarray((7.5 + 11 * rng.beta(2.0, 2.2, n)) / 24)


def waking_hours(rng: np.random.Generator, n: int) -> Floats:
    """Times of day when people pay, as a fraction of a day; one in twelve at any hour."""
    day = (6.5 + 17 * rng.beta(2.4, 2.0, n)) / 24
    return np.where(rng.random(n) < 1 / 12, rng.random(n), day)
