"""The fast spelling is the slow one, byte for byte."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from riskdistill.data.transaction import Transaction
from riskdistill.storage.canonical_bytes import transaction_bytes
from riskdistill.storage.chain import canonical_json

TEXTS = st.text(min_size=1, max_size=20).filter(lambda text: text.strip() and text.isprintable())
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
    if draw(st.booleans()):
        fields["sender_class"] = draw(TEXTS)
    money = {"amount_paid": draw(AMOUNTS), "amount_received": draw(AMOUNTS)}
    codes = {
        "currency_paid": "EUR",
        "currency_received": "SEK",
        "sender_country": draw(st.sampled_from([None, "DE"])),
    }
    return Transaction(**fields, **money, **codes, timestamp=draw(MOMENTS), payment_format=draw(TEXTS))


@given(transactions())
def test_transactions_are_spelled_alike(transaction: Transaction) -> None:
    assert transaction_bytes(transaction).decode() == canonical_json(transaction.model_dump(mode="json"))
