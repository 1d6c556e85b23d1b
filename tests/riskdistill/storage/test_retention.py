"""Pruning: what is old is deleted for good, and leaves a proof that nothing else was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from databases import execute
from filled_log import CUT, KEY, WHO, filled
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from stored_decisions import make

from riskdistill.errors import AuditError, ConfigError
from riskdistill.storage import retention, shadows
from riskdistill.storage.anchors import write_anchor
from riskdistill.storage.database import open_database
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.idempotency import claim
from riskdistill.storage.retention import (
    due,
    needed_of_history,
    prune,
    prune_payloads,
    prune_unchained,
    tombstones,
    tx_hash,
)
from riskdistill.storage.shadows import ShadowLog, ShadowScore, shadows_if_any


@pytest.mark.parametrize("chunk", [2, 5_000])
def test_pruned_decisions_leave_proof_and_the_log_verifies(
    url: str, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(retention, "CHUNK", chunk)
    log = filled(url)
    before = log.verify()
    assert list(due(log, CUT)) == ["tx-1", "tx-2", "tx-3"]
    assert prune(log, CUT, "history", **WHO) == 3
    assert prune(log, CUT, "history", **WHO) == 0  # nothing is left, and no act says so
    acts = log.acts("pruned")
    result = log.verify({before.entries: before.head})
    assert (result.entries, result.pruned) == (6 + len(acts), 3)
    assert [entry.decision.tx_id for entry in log.read()] == ["tx-4", "tx-5", "tx-6"]
    assert log.by_tx("tx-1") is None
    assert {act.actor for _, act in acts} == {"ann"}
    told = tombstones(log)
    assert sum(one.decisions for one in told) == 3
    assert (told[0].before, told[0].first, told[-1].last, told[-1].observed) == (CUT, 1, 3, 3)
    assert sorted(needed_of_history(log)) == sorted(map(tx_hash, ["tx-1", "tx-2", "tx-3"]))
    log.append([make(1)])  # the id is free again
    assert log.verify().pruned == 3


def test_what_accounts_shall_forget_leaves_no_trace_of_the_transactions(url: str) -> None:
    log = filled(url)
    prune(log, CUT, "forget", **WHO)
    assert len(needed_of_history(log)) == 0
    assert {one.account_state for one in tombstones(log)} == {"forget"}


def test_everything_can_be_pruned_and_the_log_goes_on(url: str) -> None:
    log = filled(url)
    assert prune(log, CUT + timedelta(days=1), "forget", **WHO) == 6
    log.append([make(7)])
    result = log.verify()
    assert (result.entries, result.pruned) == (8, 6)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE pruned_decisions SET hash = 'ff' WHERE sequence = 2", "this act deleted were changed"),
        ("UPDATE pruned_decisions SET hash = 'ff' WHERE sequence = 3", "sequence 4: previous hash"),
        ("DELETE FROM pruned_decisions WHERE sequence = 2", "sequence gap, 2"),
        ("DELETE FROM acts", "act that is not in the log: entry 7"),
        ("DELETE FROM decisions WHERE sequence = 5", "sequence gap, 5"),
        (
            "INSERT INTO pruned_decisions (sequence, hash, tombstone) "
            "SELECT sequence, hash, 7 FROM decisions WHERE sequence = 5",
            "sequence",
        ),
    ],
)
def test_what_pruning_left_cannot_be_changed_unseen(url: str, statement: str, says: str) -> None:
    log = filled(url)
    prune(log, CUT, "forget", **WHO)
    execute(url, statement)
    with pytest.raises(AuditError, match=says):
        log.verify()


def test_a_decision_deleted_under_a_forged_tombstone_is_found(url: str) -> None:
    log = filled(url)
    prune(log, CUT, "forget", **WHO)
    execute(
        url,
        "INSERT INTO pruned_decisions (sequence, hash, tombstone) "
        "SELECT sequence, hash, 7 FROM decisions WHERE sequence = 5",
        "DELETE FROM decisions WHERE sequence = 5",
    )
    with pytest.raises(AuditError, match="this act deleted were changed"):
        log.verify()


@pytest.mark.parametrize("table", ["decisions", "acts", "pruned_decisions", "anchors"])
def test_the_database_refuses_to_delete_without_proof(url: str, table: str) -> None:
    log = filled(url)
    prune(log, CUT, "forget", **WHO)
    write_anchor(log, KEY)
    engine = open_database(url)
    with engine.connect() as connection, pytest.raises(DatabaseError, match="append-only"):
        connection.execute(text(f"DELETE FROM {table}"))
    engine.dispose()


def test_deleted_bodies_are_gone_from_the_sqlite_files(tmp_path: Path) -> None:
    log = DecisionLog(f"sqlite:///{tmp_path}/decisions.db")
    log.append([make(number, request_hash=f"secret-{number}-{'x' * 50}") for number in range(1, 7)])
    prune(log, CUT, "forget", **WHO)
    held = b"".join(path.read_bytes() for path in tmp_path.glob("decisions.db*"))
    log.close()
    assert b"secret-3" not in held
    assert b"secret-4" in held


def shadow(number: int) -> ShadowScore:
    """Of a decision so many seconds into the year, as `filled` makes them."""
    return ShadowScore(
        tx_id=f"tx-{number}",
        decided_at=datetime(2026, 1, 1, 0, 0, number, tzinfo=UTC),
        decided_by="champion",
        challenger_release="r2",
        champion_version="a",
        challenger_version="b",
        champion_score=0.1,
        challenger_score=0.2,
        champion_alert=False,
        challenger_alert=False,
    )


@pytest.mark.parametrize("lot", [2, 5_000])
def test_old_shadow_scores_and_idempotency_keys_go_and_their_act_says_that_nothing_proves_it(
    url: str, monkeypatch: pytest.MonkeyPatch, lot: int
) -> None:
    monkeypatch.setattr(shadows, "_LOT", lot)
    log, made = filled(url), ShadowLog(url)
    made.append([shadow(number) for number in range(1, 7)])
    claim(log, {"key": "print"}, timedelta(days=1))
    execute(url, "UPDATE idempotency_keys SET claimed_at = '2026-01-01T00:00:01.000000+00:00'")
    claim(log, {"young": "print"}, timedelta(days=10_000))
    found = shadows_if_any(url)
    assert prune_unchained(log, found, CUT, **WHO) == (3, 1)
    assert prune_unchained(log, found, CUT, **WHO) == (0, 0)  # nothing is left, and no act says so
    assert [score.tx_id for score in made.read("r2")] == ["tx-4", "tx-5", "tx-6"]
    assert [row.key for row in log.fetch(text("SELECT key FROM idempotency_keys"))] == ["young"]
    [(_, act)] = log.acts("unchained_pruned")
    assert (act.actor, act.details["shadow_scores"], act.details["idempotency_keys"]) == ("ann", 3, 1)
    assert act.details["chained"] is False
    assert log.verify().entries == 7


def test_where_no_challenger_ever_scored_there_is_nothing_to_prune(url: str) -> None:
    log = filled(url, 1)
    assert shadows_if_any(url) is None
    assert prune_unchained(log, None, CUT, **WHO) == (0, 0)


def test_pruned_shadow_scores_are_gone_from_the_sqlite_files(tmp_path: Path) -> None:
    made = ShadowLog(f"sqlite:///{tmp_path}/decisions.db")
    made.append([shadow(number) for number in range(1, 7)])
    made.prune(CUT)
    held = b"".join(path.read_bytes() for path in tmp_path.glob("shadows.db*"))
    made.close()
    assert b'"tx-3"' not in held
    assert b'"tx-4"' in held


def test_the_future_is_not_pruned(url: str) -> None:
    log = filled(url, 1)
    for delete in (
        lambda at: prune(log, at, "forget", **WHO),
        lambda at: prune_payloads(log, at, **WHO),
        lambda at: prune_unchained(log, None, at, **WHO),
    ):
        with pytest.raises(ConfigError, match="not past"):
            delete(datetime.now(UTC) + timedelta(days=1))
