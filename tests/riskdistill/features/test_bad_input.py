"""Tables that are no canonical ones are refused whole: the engine is as it was."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from payment_histories import Payment, payment, table
from small_engines import SMALL, busy, engine_after, go_on_alike

from riskdistill.errors import TransactionError
from riskdistill.features import FeatureEngine

Feed = Callable[[FeatureEngine, object], object]


@pytest.fixture(params=["replay", "encode", "advance"])
def feed(request: pytest.FixtureRequest) -> Feed:
    """Gives the engine a table; `replay` is only called: a bad table must be refused before its first batch."""
    calls: dict[str, Feed] = {
        "replay": lambda engine, rows: engine.replay(rows, batch_rows=7),
        "encode": lambda engine, rows: engine.encode(rows),
        "advance": lambda engine, rows: engine.advance(rows),
    }
    return calls[request.param]


def refused(feed: Feed, rows: object, told: str) -> None:
    past = busy(20)
    engine = engine_after(past)
    with pytest.raises(TransactionError, match=told):
        feed(engine, rows)
    assert len(engine) == len(engine_after(past))
    assert go_on_alike(engine, engine_after(past), past)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"amount_paid": float("nan")}, "'amount_paid', row 20.*nan"),
        ({"amount_received": float("inf")}, "'amount_received', row 20.*inf"),
        ({"amount_paid": -1.0}, "'amount_paid', row 20"),
        ({"sender_balance": float("inf")}, "'sender_balance', row 20"),
        ({"currency_paid": "ZZZ"}, "'currency_paid', row 20.*ZZZ"),
        ({"currency_received": "usd"}, "'currency_received', row 20.*usd"),
    ],
)
def test_one_unusable_row_refuses_all(feed: Feed, changes: Payment, told: str) -> None:
    new = [payment(50 + number, number % 5, 2, 1e7) for number in range(20)]
    refused(feed, table([*new, payment(99, 3, 2, 1e7, **changes)]), told)


@pytest.mark.parametrize("kind", ["arrow", "pandas"])
def test_a_missing_column_is_named(feed: Feed, kind: str) -> None:
    rows = table([payment(50, 0, 1, 1e7)]).drop_columns("payment_format")
    refused(feed, rows if kind == "arrow" else rows.to_pandas(), "payment_format")


def test_what_is_no_table_is_refused(feed: Feed) -> None:
    refused(feed, 42, "int")


@pytest.mark.parametrize("length", [0, 4, 6])
def test_a_mask_of_another_length_is_refused(length: int) -> None:
    engine = FeatureEngine(SMALL)
    with pytest.raises(ValueError, match="5"):
        engine.encode(table(busy(5)), tokens=np.ones(length, bool))
    assert len(engine) == 0
