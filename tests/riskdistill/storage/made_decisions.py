"""Decisions that tests of cases and queue are about: alerts, each by its transaction's id."""

from __future__ import annotations

from datetime import UTC, datetime

from stored_decisions import make

from riskdistill.storage.decisions import Decision

PAID = datetime(2026, 1, 1, tzinfo=UTC)
A, B = "a" * 32, "b" * 32


def decided(*tx_ids: str) -> dict[str, Decision]:
    return {tx_id: decision(tx_id) for tx_id in tx_ids}


def decision(tx_id: str) -> Decision:
    named = {"tx_id": tx_id, "sender_account": A, "receiver_account": B}
    transaction = make(0).transaction.model_copy(update=named)
    told = {"decision_id": f"d-{tx_id}", "tx_id": tx_id, "transaction": transaction, "decided_at": PAID}
    return make(0, **told, score=0.9, student_score=0.9, band="high", action="hold")
