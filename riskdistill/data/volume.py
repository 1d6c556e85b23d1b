"""Traffic per day: how much, which days are unlike their weekday, and what is dated far from all the rest."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

from riskdistill.data.schema import EARLIEST, LATEST

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

DAY: Final = 86_400_000_000  # microseconds
NEIGHBOURS: Final = 4  # weeks before and after, whose same weekday says what is usual
FEWEST: Final = 3  # such days, below which nothing is usual
FAR: Final = 5.0  # robust deviations from the usual
_FIRST: Final = EARLIEST.date()
_BEGIN: Final = (_FIRST - date(1970, 1, 1)).days
_DAYS: Final = (LATEST - EARLIEST).days
_WEEK: Final = 7


class DailyVolume:
    """Rows and dollars of every day that canonical times allow: some hundred kilobytes for any source."""

    def __init__(self) -> None:
        self.rows: Ints = np.zeros(_DAYS, np.int64)
        self.usd: Floats = np.zeros(_DAYS)

    def add(self, times: Ints, usd: Floats) -> None:
        """Count rows by their times [n], microseconds since 1970, and their amounts [n] in dollars."""
        day = times // DAY - _BEGIN
        first = int(day.min())
        rows = np.bincount(day - first)
        self.rows[first : first + len(rows)] += rows
        self.usd[first : first + len(rows)] += np.bincount(day - first, weights=usd)

    def main_span(self) -> tuple[int, int]:
        """First and last day (counted from 1990) within which a row is not far from all the rest.

        The limits are Tukey's outer fences of the rows' days: three times the range between the quartiles, and a
        week's at least, beyond them ("Exploratory Data Analysis", 1977).
        """
        below = np.cumsum(self.rows)
        lower, upper = np.searchsorted(below, [0.25 * below[-1], 0.75 * below[-1]])
        margin = 3 * max(int(upper - lower), _WEEK)
        used = np.flatnonzero(self.rows)
        return max(int(lower) - margin, int(used[0])), min(int(upper) + margin, int(used[-1]))

    def date_of(self, day: int) -> date:
        """The date of a day that is counted from 1990."""
        return _FIRST + timedelta(days=day)


def unlike_their_weekday(rows: Ints) -> tuple[Flags, Flags]:
    """Which of the consecutive days with `rows` [n] have far more or fewer rows than is usual.

    Usual is the median of the same weekday in the four weeks before and after; far is more than FAR deviations off,
    where a deviation is the largest of: 1.4826 times the median deviation of those days, chance (the root of the
    usual), and a tenth of the usual. The first and the last day may be parts of days and are left out.

    Returns:
        unusual: bool[n].
        judged: bool[n], false where fewer than FEWEST such days are there to compare with.
    """
    count = len(rows)
    whole = rows.astype(np.float64)
    whole[[0, -1]] = np.nan
    padded = np.pad(whole, NEIGHBOURS * _WEEK, constant_values=np.nan)
    weeks = [week for week in range(-NEIGHBOURS, NEIGHBOURS + 1) if week]
    near = np.stack([padded[_WEEK * (NEIGHBOURS + week) :][:count] for week in weeks])
    judged = (np.isfinite(near).sum(axis=0) >= FEWEST) & np.isfinite(whole)
    usual, spread = np.zeros(count), np.ones(count)
    usual[judged] = np.nanmedian(near[:, judged], axis=0)
    spread[judged] = 1.4826 * np.nanmedian(np.abs(near[:, judged] - usual[judged]), axis=0)
    spread = np.maximum.reduce([spread, np.sqrt(usual), 0.1 * usual, np.ones(count)])
    return judged & (np.abs(rows - usual) > FAR * spread), judged
