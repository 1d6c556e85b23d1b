"""With the real feature engine: pseudonyms change no feature, and a rebuilt state is the live one."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api.path.account_state import missing_of, rebuild
from api.path.bodies import request_hash
from api.path.known_ids import KnownIds
from api.path.pseudonyms import Pseudonyms
from riskdistill.data.schema import ACCOUNT_FIELDS
from riskdistill.data.transaction import Transaction, to_table
from riskdistill.errors import StateError, UnreadableFileError
from riskdistill.features.engine import FeatureEngine
from riskdistill.storage.decisions import Decision, DecisionLog
from riskdistill.storage.retention import AccountState, prune

PSEUDONYMS = Pseudonyms("k" * 16)


def traffic(count: int) -> list[Transaction]:
    """Payments among a few accounts of two banks, some of them to oneself."""
    rng = random.Random(3)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        Transaction(
            tx_id=f"tx-{number}",
            timestamp=start + timedelta(seconds=977.25 * number),
            sender_account=f"account-{rng.randrange(6)}",
            sender_bank=f"B{rng.randrange(2)}",
            receiver_account=f"account-{rng.randrange(6)}",
            receiver_bank=f"B{rng.randrange(2)}",
            amount_paid=round(rng.uniform(1, 20_000), 2),
            currency_paid=rng.choice(["EUR", "USD"]),
            amount_received=round(rng.uniform(1, 20_000), 2),
            currency_received="EUR",
            payment_format=rng.choice(["wire", "card"]),
        )
        for number in range(count)
    ]


def decided(transaction: Transaction, observed: int) -> Decision:
    return Decision(
        decision_id=f"d-{transaction.tx_id}",
        tx_id=transaction.tx_id,
        transaction=transaction,
        request_hash=request_hash(transaction),
        decided_at=datetime.now(UTC),
        observed=observed,
        score=0.1,
        student_score=0.1,
        band="low",
        action="allow",
        route="student",
        bundle_version="a" * 16,
        latency_ms=0.1,
    )


@pytest.fixture
def log(tmp_path: Path) -> DecisionLog:
    return DecisionLog(f"sqlite:///{tmp_path}/decisions.db")


def test_features_do_not_depend_on_pseudonyms() -> None:
    plain, hidden = FeatureEngine(), FeatureEngine()
    for transaction in traffic(200):
        with_ids = plain.observe(transaction)
        without = hidden.observe(PSEUDONYMS.transaction(transaction))
        np.testing.assert_array_equal(with_ids.context, without.context)
        np.testing.assert_array_equal(with_ids.events, without.events)


def test_a_state_rebuilt_from_history_and_log_is_the_live_one(
    log: DecisionLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.path.account_state.ROWS", 37)
    past, live, following = np.split(np.array(traffic(300), dtype=object), [120, 260])
    pq.write_table(to_table(past), tmp_path / "transactions.parquet")
    engine = FeatureEngine()
    for transaction in past:
        engine.observe(PSEUDONYMS.transaction(transaction))
    for place, transaction in enumerate(live, start=1):
        hidden = PSEUDONYMS.transaction(transaction)
        engine.observe(hidden)
        log.append([decided(hidden, place)])
    rebuilt = FeatureEngine()
    assert rebuild(rebuilt, tmp_path, log, PSEUDONYMS) == len(live) + 1
    for transaction in map(PSEUDONYMS.transaction, following):
        expected, found = engine.observe(transaction), rebuilt.observe(transaction)
        np.testing.assert_array_equal(expected.context, found.context)
        np.testing.assert_array_equal(expected.events, found.events)


def test_a_history_from_before_the_optional_columns_is_replayed(log: DecisionLog, tmp_path: Path) -> None:
    past = to_table(traffic(50))
    rebuilt = []
    for name, table in (("old", past.drop_columns([*ACCOUNT_FIELDS])), ("new", past)):
        pq.write_table(table, tmp_path / f"{name}.parquet")
        rebuilt.append(FeatureEngine())
        assert rebuild(rebuilt[-1], tmp_path / f"{name}.parquet", log, PSEUDONYMS) == 1
    following = PSEUDONYMS.transaction(traffic(51)[-1])
    first, second = (engine.peek(following) for engine in rebuilt)
    np.testing.assert_array_equal(first.context, second.context)
    np.testing.assert_array_equal(first.events, second.events)


def test_a_body_without_balances_and_customer_fields_hashes_as_before_there_were_any() -> None:
    [plain] = traffic(1)
    assert request_hash(plain) == "24587e06bcd4ceb0521532ef4c3eacca2b5d8982d3dfd9ff65eeb017b4acaf99"
    assert request_hash(plain.model_copy(update={"sender_balance": 0.0})) != request_hash(plain)


def test_what_is_in_both_history_and_log_counts_once(
    log: DecisionLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("api.path.account_state.ROWS", 211)
    # two accounts and more events than a record keeps, so that the engine itself has forgotten the ids
    stream = [
        transaction.model_copy(update={"sender_account": "a", "receiver_account": "b"})
        for transaction in traffic(800)
    ]
    hidden = [PSEUDONYMS.transaction(transaction) for transaction in stream]
    pq.write_table(to_table(stream[:700]), tmp_path / "transactions.parquet")
    log.append([decided(transaction, place) for place, transaction in enumerate(hidden[100:], start=1)])
    once = FeatureEngine()
    once.advance(to_table(hidden))
    rebuilt = FeatureEngine()
    with caplog.at_level("INFO"):
        assert rebuild(rebuilt, tmp_path, log, PSEUDONYMS) == 701
    assert "600 transactions of the decision log are in the history" in caplog.text
    following = hidden[-1].model_copy(update={"tx_id": "next"})
    expected, found = once.peek(following), rebuilt.peek(following)
    np.testing.assert_array_equal(expected.context, found.context)
    np.testing.assert_array_equal(expected.events, found.events)


def test_without_history_and_decisions_the_state_is_empty(log: DecisionLog) -> None:
    engine = FeatureEngine()
    assert rebuild(engine, None, log, PSEUDONYMS) == 1
    assert len(engine) == 0


def test_a_history_that_is_not_canonical_is_refused(log: DecisionLog, tmp_path: Path) -> None:
    def attempt() -> None:
        rebuild(FeatureEngine(), tmp_path, log, PSEUDONYMS)

    with pytest.raises(UnreadableFileError, match="no file"):
        attempt()
    path = tmp_path / "transactions.parquet"
    for table in (
        to_table(traffic(3)).drop_columns(["currency_paid"]),
        pa.table({"x": [1]}),
    ):
        pq.write_table(table, path)
        with pytest.raises(UnreadableFileError, match="canonical"):
            attempt()
    path.write_bytes(b"PAR1 cut off")
    with pytest.raises(UnreadableFileError, match="canonical"):
        attempt()


@pytest.mark.parametrize("account_state", ["history", "forget"])
def test_what_was_pruned_comes_from_the_history_or_is_forgotten(
    log: DecisionLog, tmp_path: Path, account_state: AccountState
) -> None:
    stream = traffic(60)
    hidden = [PSEUDONYMS.transaction(transaction) for transaction in stream]
    cut = datetime(2025, 12, 31, tzinfo=UTC)
    for place, transaction in enumerate(hidden, start=1):
        decision = decided(transaction, place)
        log.append(
            [decision.model_copy(update={"decided_at": cut - timedelta(days=1)}) if place <= 40 else decision]
        )
    pq.write_table(to_table(stream[:39]), tmp_path / "short.parquet")
    pq.write_table(to_table(stream[:50]), tmp_path / "whole.parquet")
    assert missing_of(log, tmp_path / "short.parquet", cut) == 1
    assert missing_of(log, tmp_path / "whole.parquet", cut) == 0
    assert missing_of(log, None, cut) == 40
    assert prune(log, cut, account_state, actor="ann", reason="five years are over") == 40
    expected = FeatureEngine()
    if account_state == "history":
        for history in (None, tmp_path / "short.parquet"):
            with pytest.raises(StateError, match="are not in the history"):
                rebuild(FeatureEngine(), history, log, PSEUDONYMS)
        expected.advance(to_table(hidden))
    else:
        expected.advance(to_table(hidden[40:]))
    rebuilt = FeatureEngine()
    history = tmp_path / "whole.parquet" if account_state == "history" else None
    assert rebuild(rebuilt, history, log, PSEUDONYMS) == 61
    following = PSEUDONYMS.transaction(traffic(61)[-1])
    np.testing.assert_array_equal(expected.peek(following).context, rebuilt.peek(following).context)
    assert prune(log, datetime.now(UTC), "forget", actor="ann", reason="all") == 20
    if account_state == "forget":
        assert rebuild(FeatureEngine(), None, log, PSEUDONYMS) == 61  # places are not given twice


def test_the_ids_of_the_log_are_told_and_those_of_the_history_are_not(log: DecisionLog, tmp_path: Path) -> None:
    transactions = traffic(30)
    pq.write_table(to_table(transactions[:20]), tmp_path / "history.parquet")
    hidden = [PSEUDONYMS.transaction(transaction) for transaction in transactions]
    log.append([decided(transaction, place) for place, transaction in enumerate(hidden[15:], start=1)])
    ids = KnownIds()
    rebuild(FeatureEngine(), tmp_path / "history.parquet", log, PSEUDONYMS, ids=ids)
    assert [number for number in range(30) if f"tx-{number}" in ids] == list(range(15, 30))


def test_the_state_of_a_decision_is_the_one_just_before_its_transaction(log: DecisionLog) -> None:
    hidden = [PSEUDONYMS.transaction(transaction) for transaction in traffic(30)]
    log.append([decided(transaction, place) for place, transaction in enumerate(hidden, start=1)])
    expected, rebuilt = FeatureEngine(), FeatureEngine()
    expected.advance(to_table(hidden[:20]))
    rebuild(rebuilt, None, log, PSEUDONYMS, until=f"d-{hidden[20].tx_id}")
    np.testing.assert_array_equal(expected.peek(hidden[20]).context, rebuilt.peek(hidden[20]).context)
