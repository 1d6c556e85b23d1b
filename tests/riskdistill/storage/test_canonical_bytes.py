"""The fast spelling is the slow one, byte for byte."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from riskdistill.data.transaction import Transaction
from riskdistill.storage.canonical_bytes import decision_bytes, transaction_bytes
from riskdistill.storage.chain import canonical_json
from riskdistill.storage.decisions import Decision, Shadow, StatedReason

TEXTS = st.text(min_size=1, max_size=20).filter(lambda text: text.strip() and text.isprintable())
SHARES = st.floats(0, 1) | st.floats(0, 1e-3)
AMOUNTS = st.floats(0, 1e12) | st.floats(0, 1e-3) | st.integers(0, 10**9).map(float)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))


@st.composite
def transactions(draw: st.DrawFn) -> Transaction:
    fields: dict[str, Any] = {
        name: draw(TEXTS)
        for name in ("tx_id", "sender_account", "sender_bank", "receiver_account", "receiver_bank")
    }
    if draw(st.booleans()):
        fields["sender_balance"] = -draw(AMOUNTS)
    if draw(st.booleans()):
        fields["receiver_tenure_days"] = draw(st.floats(0, 1e4))
    money = {"amount_paid": draw(AMOUNTS), "amount_received": draw(AMOUNTS)}
    codes = {
        "currency_paid": "EUR",
        "currency_received": "SEK",
        "sender_country": draw(st.sampled_from([None, "DE"])),
    }
    return Transaction(**fields, **money, **codes, timestamp=draw(MOMENTS), payment_format=draw(TEXTS))


@st.composite
def decisions(draw: st.DrawFn) -> Decision:
    zone = draw(st.sampled_from([UTC, timezone(timedelta(hours=2))]))
    reasons = draw(st.lists(st.builds(StatedReason, code=st.text(), text=st.text(), effect=SHARES), max_size=2))
    shadow = draw(st.none() | st.builds(Shadow, bundle_version=TEXTS, score=SHARES, action=st.just("hold")))
    transaction = draw(transactions())
    return Decision(
        decision_id="d",
        tx_id=transaction.tx_id,
        transaction=transaction,
        request_hash="h",
        decided_at=draw(MOMENTS).astimezone(zone),
        score=draw(SHARES),
        student_score=draw(SHARES),
        band="low",
        action="allow",
        route="student",
        reasons=tuple(reasons),
        bundle_version=draw(TEXTS),
        latency_ms=draw(AMOUNTS),
        shadow=shadow,
    )


@given(transactions())
def test_transactions_are_spelled_alike(transaction: Transaction) -> None:
    assert transaction_bytes(transaction).decode() == canonical_json(transaction.model_dump(mode="json"))


@given(decisions())
def test_decisions_are_spelled_alike(decision: Decision) -> None:
    assert decision_bytes(decision).decode() == canonical_json(decision.model_dump(mode="json"))
