"""A decision log that tests of its checks and of what is deleted from it begin with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from stored_decisions import make

from riskdistill.storage.anchors import AnchorKey
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.suppressions import SuppressionList, Target

WHO = {"actor": "ann", "reason": "five years are over"}
CUT = datetime(2026, 1, 1, 0, 0, 4, tzinfo=UTC)  # three of `filled` are older
KEY, OTHER = AnchorKey("11" * 32), AnchorKey("22" * 32)


def filled(url: str, count: int = 6) -> DecisionLog:
    """Decision number n was made n seconds into the year."""
    log = DecisionLog(url)
    log.append([make(number) for number in range(1, count + 1)])
    return log


def suppressed(url: str, *reasons: str) -> SuppressionList:
    """A suppression for each reason."""
    suppressions, end = SuppressionList(url), datetime.now(UTC) + timedelta(days=1)
    for reason in reasons:
        suppressions.add(Target(typology="cycle"), owner="ops", reason=reason, expires_at=end, actor="ann")
    return suppressions
