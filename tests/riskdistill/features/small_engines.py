"""Engines with few tokens for the tests of what the engine promises, and when two encodings are the same."""

from __future__ import annotations

import numpy as np
from payment_histories import Payment, history, payment, table, transaction

from riskdistill.features import Encoded, FeatureEngine, FeatureSpec

SMALL = FeatureSpec(events_per_party=4)
NAMES = SMALL.names


def engine_after(rows: list[Payment], spec: FeatureSpec = SMALL) -> FeatureEngine:
    engine = FeatureEngine(spec)
    engine.advance(table(rows))
    return engine


def encoded(rows: list[Payment], spec: FeatureSpec = SMALL) -> Encoded:
    return FeatureEngine(spec).encode(table(rows))


def named(one: Encoded, row: int = -1) -> dict[str, float]:
    """Features of one row by name, of an encoding with `SMALL`."""
    return dict(zip(NAMES, one.context[row].tolist(), strict=True))


def same(left: Encoded, right: Encoded) -> bool:
    """Whether two encodings are equal to the bit."""
    return (left.context.tobytes(), left.events.tobytes()) == (right.context.tobytes(), right.events.tobytes())


def busy(count: int, seed: int = 0) -> list[Payment]:
    return history(np.random.default_rng(seed), count, steps=(0.0, 60.0, 5_000.0))


def go_on_alike(left: FeatureEngine, right: FeatureEngine, rows: list[Payment]) -> bool:
    """Whether both engines give equal features for the same next payments; `rows` are renamed, so as to be new."""
    later = table([row | {"tx_id": f"later-{row['tx_id']}"} for row in rows])
    return same(left.encode(later), right.encode(later))


def probe(engine: FeatureEngine, seconds: float = 1e7) -> Encoded:
    return engine.peek(transaction(payment(999_999, 0, 1, seconds)))
