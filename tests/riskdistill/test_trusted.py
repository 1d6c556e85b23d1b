"""Objects made of trusted values are those that validation would have made, and dump to the same bytes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from riskdistill.data import transaction
from riskdistill.data.transaction import Transaction
from riskdistill.storage import decisions
from riskdistill.storage.decisions import Decision, StatedReason

PAYMENT = Transaction(
    tx_id="tx-1",
    timestamp=datetime(2026, 3, 1, 9, 30, tzinfo=UTC),
    sender_account="a",
    sender_bank="b",
    receiver_account="c",
    receiver_bank="d",
    amount_paid=9_450.0,
    currency_paid="EUR",
    amount_received=9_450.0,
    currency_received="EUR",
    payment_format="wire",
)
SHARES = st.floats(0, 1)
DECISIONS = st.builds(
    Decision,
    decision_id=st.uuids().map(str),
    tx_id=st.text(min_size=1),
    transaction=st.just(PAYMENT),
    request_hash=st.just("0" * 64),
    decided_at=st.datetimes(timezones=st.just(UTC)),
    observed=st.integers(0, 2**53),
    score=SHARES,
    student_score=SHARES,
    latency_ms=st.floats(0, 1e9),
    reasons=st.sampled_from([(), (StatedReason(code="velocity", text="often", effect=1.5),)]),
    at_risk_usd=st.none() | st.floats(0, 1e12),
    typology=st.none(),
    shadow=st.none(),
    bypass=st.none(),
    explained=st.none(),
)


@given(DECISIONS)
def test_a_decision_of_trusted_values_is_the_validated_one_to_the_byte(valid: Decision) -> None:
    made = decisions.trusted(dict(vars(valid)))
    assert made == valid
    assert made.model_dump_json() == valid.model_dump_json()
    assert Decision.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize(
    ("made", "change"),
    [
        (transaction.trusted(dict(vars(PAYMENT))), {"tx_id": "tx-2"}),
        (transaction.trusted(dict(vars(PAYMENT))), {"sender_country": "GB"}),
    ],
)
def test_it_is_frozen_copied_and_shown_as_any_other(made: BaseModel, change: dict[str, Any]) -> None:
    assert (made, repr(made), hash(made)) == (PAYMENT, repr(PAYMENT), hash(PAYMENT))
    assert made.model_copy(update=change) == PAYMENT.model_copy(update=change)
    with pytest.raises(ValidationError, match="frozen"):
        made.tx_id = "tx-3"  # type: ignore[attr-defined]
