"""Decisions for tests of what stores them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from riskdistill.data.transaction import Transaction
from riskdistill.storage.decisions import Decision


def make(number: int, **changes: Any) -> Decision:
    """A decision by its number, made so many seconds into 2026; `changes` replace fields."""
    transaction = Transaction(
        tx_id=f"tx-{number}",
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        sender_account="5f2a",
        sender_bank="B1",
        receiver_account="77c0",
        receiver_bank="B2",
        amount_paid=12.5,
        currency_paid="EUR",
        amount_received=12.5,
        currency_received="EUR",
        payment_format="Wire",
    )
    fields: dict[str, Any] = {
        "decision_id": f"d-{number}",
        "tx_id": f"tx-{number}",
        "transaction": transaction,
        "request_hash": "ab" * 32,
        "decided_at": datetime(2026, 1, 1, 0, 0, number % 60, 250, tzinfo=UTC),
        "observed": number,
        "score": 0.25,
        "student_score": 0.25,
        "band": "low",
        "action": "allow",
        "route": "student",
        "bundle_version": "0123456789abcdef",
        "latency_ms": 0.5,
    }
    return Decision(**(fields | changes))
