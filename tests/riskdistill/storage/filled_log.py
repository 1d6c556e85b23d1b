"""A decision log that tests of its checks and of what is deleted from it begin with."""

from __future__ import annotations

from datetime import UTC, datetime

from stored_decisions import make

from riskdistill.storage.anchors import AnchorKey
from riskdistill.storage.decisions import DecisionLog

WHO = {"actor": "ann", "reason": "five years are over"}
CUT = datetime(2026, 1, 1, 0, 0, 4, tzinfo=UTC)  # three of `filled` are older
KEY = AnchorKey("11" * 32)


def filled(url: str, count: int = 6) -> DecisionLog:
    """Decision number n was made n seconds into the year."""
    log = DecisionLog(url)
    log.append([make(number) for number in range(1, count + 1)])
    return log
