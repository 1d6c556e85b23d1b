"""Champion and challenger on the same live transactions, window by window, from stored shadow scores.

It compares students: how often both alert on the same, how far scores shift, and what each takes for a row alone.
Nothing here says which of them is right: that needs labels (`riskdistill retrain` asked them, and maturity will).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from riskdistill.storage.shadows import ShadowScore

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ShadowWindow(BaseModel):
    """What one window shows.

    Attributes:
        start: when it begins, UTC.
        by_challenger: transactions that the challenger decided, as a canary.
        agreement: share of transactions on which both alert or neither does.
        overlap: alerts of both over alerts of either; None where nobody alerts.
        shift: mean of the challenger's score less the champion's.
        distance: the largest distance between the two distributions of scores (Kolmogorov and Smirnov's).
        champion_us, challenger_us: median microseconds for a row alone; None where none was timed.
    """

    model_config = ConfigDict(frozen=True)

    start: datetime
    transactions: int
    by_challenger: int
    agreement: float
    overlap: float | None
    champion_alerts: float = Field(description="share of transactions")
    challenger_alerts: float = Field(description="share of transactions")
    shift: float
    distance: float
    champion_us: float | None
    challenger_us: float | None


def compare(scores: Iterable[ShadowScore], width: timedelta) -> tuple[ShadowWindow, ...]:
    """The windows of that width that hold any score, the oldest first."""
    windows: dict[int, list[ShadowScore]] = {}
    for score in scores:
        windows.setdefault((score.decided_at - _EPOCH) // width, []).append(score)
    return tuple(_window(_EPOCH + number * width, windows[number]) for number in sorted(windows))


def _window(start: datetime, scores: list[ShadowScore]) -> ShadowWindow:
    old, new = (
        np.array([getattr(score, f"{side}_score") for score in scores]) for side in ("champion", "challenger")
    )
    alerts = np.array([(score.champion_alert, score.challenger_alert) for score in scores])
    either = int(alerts.any(axis=1).sum())
    return ShadowWindow(
        start=start,
        transactions=len(scores),
        by_challenger=sum(score.decided_by == "challenger" for score in scores),
        agreement=float((alerts[:, 0] == alerts[:, 1]).mean()),
        overlap=float(alerts.all(axis=1).sum() / either) if either else None,
        champion_alerts=float(alerts[:, 0].mean()),
        challenger_alerts=float(alerts[:, 1].mean()),
        shift=float((new - old).mean()),
        distance=_distance(old, new),
        champion_us=_median([score.champion_us for score in scores]),
        challenger_us=_median([score.challenger_us for score in scores]),
    )


def _distance(old: np.ndarray, new: np.ndarray) -> float:
    places = np.concatenate([old, new])
    shares = [np.searchsorted(np.sort(side), places, side="right") / len(side) for side in (old, new)]
    return float(np.abs(shares[0] - shares[1]).max())


def _median(taken: list[float | None]) -> float | None:
    timed = [microseconds for microseconds in taken if microseconds is not None]
    return float(np.median(timed)) if timed else None
