"""Decisions that tests of cases and queue are about."""

from __future__ import annotations

from datetime import UTC, datetime

from riskdistill.data.transaction import Transaction
from riskdistill.storage.decisions import Decision

PAID = datetime(2026, 1, 1, tzinfo=UTC)
A, B = "a" * 32, "b" * 32


def decided(*tx_ids: str) -> dict[str, Decision]:
    return {tx_id: decision(tx_id) for tx_id in tx_ids}


def decision(tx_id: str) -> Decision:
    transaction = Transaction(
        tx_id=tx_id,
        timestamp=PAID,
        sender_account=A,
        sender_bank="B1",
        receiver_account=B,
        receiver_bank="B2",
        amount_paid=12.5,
        currency_paid="EUR",
        amount_received=12.5,
        currency_received="EUR",
        payment_format="wire",
    )
    return Decision(
        decision_id=f"d-{tx_id}",
        tx_id=tx_id,
        transaction=transaction,
        request_hash="ab" * 32,
        decided_at=PAID,
        score=0.9,
        student_score=0.9,
        band="high",
        action="hold",
        route="student",
        bundle_version="0123456789abcdef",
        latency_ms=0.5,
    )
