"""Keys that callers gave to their requests, and what each was used with."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, insert, select

from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.tables import IDEMPOTENCY
from riskdistill.storage.verification import as_text


def claim(log: DecisionLog, wanted: Mapping[str, str], kept: timedelta) -> dict[str, str]:
    """The fingerprint that each key stands for: the one wanted, if nobody came before; durable on return.

    Args:
        log: beside which the keys are kept.
        wanted: fingerprints by key.
        kept: keys older than this are forgotten.

    Raises:
        UnavailableError: the database cannot be written now.
    """
    now = datetime.now(UTC)
    with log.writing() as connection:
        connection.execute(delete(IDEMPOTENCY).where(IDEMPOTENCY.c.claimed_at < as_text(now - kept)))
        rows = connection.execute(select(IDEMPOTENCY).where(IDEMPOTENCY.c.key.in_(list(wanted)))).all()
        known = {row.key: row.fingerprint for row in rows}
        new = [
            {"key": key, "fingerprint": fingerprint, "claimed_at": as_text(now)}
            for key, fingerprint in wanted.items()
            if key not in known
        ]
        if new:
            connection.execute(insert(IDEMPOTENCY), new)
    return {**wanted, **known}
