"""Do labels that came lately say something else of the same days than those that came before?

When the world changes, alerts of a day have other outcomes, whenever their labels come. When labels are wrong,
because someone feeds bad ones or a process broke, it is the day on which a label came that matters, for alerts of
any day. So the test compares, among alerts of one and the same day, labels that came after a moment with those
before it, and adds the days up (Mantel and Haenszel, JNCI 22, 1959). It takes for granted that outcomes do not
decide how long they take.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from monitoring.maturity import DAY


def late_labels(
    time: NDArray[np.int64],
    known: NDArray[np.int64],
    laundering: NDArray[np.bool_],
    since: int,
    now: int,
    *,
    days: int = 28,
) -> tuple[float, float]:
    """The p-value of 'labels since then are like those before', and by how much the share of laundering differs.

    Args:
        time: of alerts with a label by `now`, microseconds since 1970.
        known: when each label came.
        laundering: what it says.
        since: the moment that divides the labels.
        now: labels of later do not count.
        days: alerts of so many days before `since` are looked at.
    """
    rows = (time < since) & (time >= since - days * DAY) & (known <= now) & (known > 0)
    day, late, positive = (time[rows] // DAY).astype(np.int64), known[rows] > since, laundering[rows]
    beyond = variance = weight = 0.0
    for one in np.unique(day):
        here = day == one
        total, after, found = int(here.sum()), int(late[here].sum()), int(positive[here].sum())
        if 0 < after < total:
            beyond += float((late & positive)[here].sum()) - after * found / total
            variance += after * (total - after) * found * (total - found) / (total**2 * max(total - 1, 1))
            weight += after * (total - after) / total
    if variance <= 0:
        return 1.0, 0.0
    return float(2 * stats.norm.sf(abs(beyond) / np.sqrt(variance))), beyond / weight
