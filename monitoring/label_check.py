"""Do labels that came lately say something else than those that came before, of alerts of the same time?

When the world changes, alerts of a day have other outcomes, whenever their labels come. When labels are wrong,
because someone feeds bad ones or a process broke, it is the day on which a label came that matters, for alerts of
any day. So two things are asked: whether labels that came after a moment differ from those before it, of alerts
of the weeks before that moment; and whether they do so among alerts of one and the same day, added up over the
days (Mantel and Haenszel, JNCI 22, 1959). The first is strong, and a change of the world fools it; the second is
weak, and is not fooled. It is taken for granted that outcomes do not decide how long they take.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from monitoring.maturity import DAY

SAME_DAY: Final = 0.02  # p-value among alerts of one and the same day


class LateLabels(NamedTuple):
    """How labels that came after a moment differ.

    Attributes:
        p_value: of 'late and early labels are alike'.
        same_day: the same among alerts of one and the same day.
        gap: late less early share of laundering.
        same_day_gap: the same among alerts of one and the same day.
    """

    p_value: float
    same_day: float
    gap: float
    same_day_gap: float

    def turned(self, alpha: float) -> bool:
        """Whether it is the labels that changed, and not the world."""
        alike = np.sign(self.gap) == np.sign(self.same_day_gap)
        return bool(self.p_value < alpha and self.same_day < SAME_DAY and alike)


def late_labels(
    time: NDArray[np.int64],
    known: NDArray[np.int64],
    laundering: NDArray[np.bool_],
    since: int,
    now: int,
    *,
    days: int = 28,
) -> LateLabels:
    """Compare labels that came after `since` with those that came before.

    Args:
        time: of alerts with a label by `now`, microseconds since 1970.
        known: when each label came.
        laundering: what it says.
        since: the moment that divides the labels.
        now: labels of later do not count.
        days: alerts of so many days before `since` are looked at.
    """
    rows = (time < since) & (time >= since - days * DAY) & (known <= now) & (known > 0)
    day, late, positive = time[rows] // DAY, known[rows] > since, laundering[rows]
    p_value, gap = _stratified(np.zeros_like(day), late, positive)
    same_day, same_day_gap = _stratified(day, late, positive)
    return LateLabels(p_value, same_day, gap, same_day_gap)


def _stratified(
    strata: NDArray[np.int64], late: NDArray[np.bool_], positive: NDArray[np.bool_]
) -> tuple[float, float]:
    """p-value and common difference of the shares of positives, late less early."""
    beyond = variance = weight = 0.0
    for one in np.unique(strata):
        here = strata == one
        total, after, found = int(here.sum()), int(late[here].sum()), int(positive[here].sum())
        if 0 < after < total:
            beyond += float((late & positive)[here].sum()) - after * found / total
            variance += after * (total - after) * found * (total - found) / (total**2 * max(total - 1, 1))
            weight += after * (total - after) / total
    if variance <= 0:
        return 1.0, 0.0
    return float(2 * stats.norm.sf(abs(beyond) / np.sqrt(variance))), beyond / weight
