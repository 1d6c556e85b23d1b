"""What a service keeps beside its decisions: signed anchors, and requests, encrypted, if it has a key."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fake_serving import body, running, settings_for
from sqlalchemy import text

from api.app import create_app
from riskdistill.errors import AuditError, ConfigError, NotFoundError, UnavailableError
from riskdistill.storage.administrative_acts import ActLog
from riskdistill.storage.anchors import anchors_of, checked, read_anchors
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.payloads import PayloadKeys, read_payload
from riskdistill.storage.retention import prune, prune_payloads

pytestmark = pytest.mark.anyio
OLD, NEW = "aa" * 32, "bb" * 32
WHO = {"actor": "ann", "reason": "a court asks"}


async def decided(state: Path, bundle: Path, tx_id: str, **settings: object) -> str:
    """The id of a decision that a service made which has stopped since."""
    async with running(create_app(settings_for(state, bundle=bundle, **settings))) as client:
        return str((await client.post("/v1/score", json=body(tx_id))).json()["decision_id"])


def log_of(state: Path) -> DecisionLog:
    return DecisionLog(f"sqlite:///{state}/decisions.db")


async def test_requests_are_not_kept_without_a_key(tmp_path: Path, bundle: Path) -> None:
    decision = await decided(tmp_path, bundle, "tx-1")
    with pytest.raises(NotFoundError, match="no payload is kept"):
        read_payload(log_of(tmp_path), PayloadKeys(OLD), decision, **WHO)


async def test_a_request_is_kept_encrypted_and_who_reads_it_is_logged(tmp_path: Path, bundle: Path) -> None:
    decision = await decided(tmp_path, bundle, "tx-1", payload_key=OLD)
    held = b"".join(path.read_bytes() for path in tmp_path.glob("decisions.db*"))
    assert b"DE-sender" not in held
    log = log_of(tmp_path)
    assert json.loads(read_payload(log, PayloadKeys(OLD), decision, **WHO))["sender_account"] == "DE-sender"
    [(_, act)] = log.acts("payload_read")
    assert (act.actor, act.reason, act.details) == ("ann", "a court asks", {"decision_id": decision})
    assert log.verify().entries == 2


async def test_a_new_key_seals_and_the_old_one_still_opens(tmp_path: Path, bundle: Path) -> None:
    first = await decided(tmp_path, bundle, "tx-1", payload_key=OLD)
    second = await decided(tmp_path, bundle, "tx-2", payload_key=f"{NEW},{OLD}")
    log = log_of(tmp_path)
    for decision in (first, second):
        assert "DE-sender" in read_payload(log, PayloadKeys(f"{NEW},{OLD}"), decision, **WHO)
    assert "tx-2" in read_payload(log, PayloadKeys(NEW), second, **WHO)
    with pytest.raises(ConfigError, match="which is not known here"):
        read_payload(log, PayloadKeys(NEW), first, **WHO)


async def test_a_payload_opens_under_its_own_decision_only(tmp_path: Path, bundle: Path) -> None:
    first = await decided(tmp_path, bundle, "tx-1", payload_key=OLD)
    await decided(tmp_path, bundle, "tx-2", payload_key=OLD)
    log = log_of(tmp_path)
    with log.writing() as connection:
        other = "UPDATE payloads SET sealed = (SELECT sealed FROM payloads WHERE sequence = 2) WHERE sequence = 1"
        connection.execute(text(other))
    with pytest.raises(AuditError, match="another decision's"):
        read_payload(log, PayloadKeys(OLD), first, **WHO)


@pytest.mark.parametrize("alone", [True, False])
async def test_payloads_are_deleted_alone_or_with_their_decisions(
    tmp_path: Path, bundle: Path, alone: bool
) -> None:
    await decided(tmp_path, bundle, "tx-1", payload_key=OLD)
    log = log_of(tmp_path)
    assert prune_payloads(log, datetime(2020, 1, 1, tzinfo=UTC), **WHO) == 0
    if alone:
        assert prune_payloads(log, datetime.now(UTC), **WHO) == 1
    else:
        assert prune(log, datetime.now(UTC), "forget", **WHO) == 1
    assert log.fetch(text("SELECT * FROM payloads")) == []
    assert [act.kind for _, act in log.acts()] == ["payloads_pruned" if alone else "pruned"]
    assert log.verify().pruned == (0 if alone else 1)


@pytest.mark.parametrize("secret", ["", "short", "aa" * 31, f"{OLD},"])
def test_a_payload_key_that_is_none_is_refused_without_showing_it(secret: str) -> None:
    with pytest.raises(ConfigError, match="64 hexadecimal digits") as caught:
        PayloadKeys(secret)
    assert "short" not in str(caught.value)


async def test_a_service_anchors_its_log_now_and_then_and_when_it_stops(tmp_path: Path, bundle: Path) -> None:
    settings = settings_for(tmp_path, bundle=bundle, anchor_seconds=0.01)
    async with running(create_app(settings)) as client:
        await client.post("/v1/score", json=body("tx-1"))
        async with asyncio.timeout(20):
            while not (tmp_path / "anchors.jsonl").is_file():
                await asyncio.sleep(0)
    await decided(tmp_path, bundle, "tx-2", anchor_seconds=3600.0)
    log = log_of(tmp_path)
    anchors = read_anchors(tmp_path / "anchors.jsonl")
    assert [anchor.sequence for anchor in anchors] == [1, 2]
    assert anchors_of(log) == anchors
    assert log.verify(checked(anchors)).entries == 2
    assert (tmp_path / "anchor.key").stat().st_mode & 0o777 == 0o600
    assert len({anchor.public_key for anchor in anchors}) == 1  # the key outlives a restart


async def test_the_heads_of_journals_are_anchored_too_and_kept_with_the_decision_log(
    tmp_path: Path, bundle: Path
) -> None:
    app = create_app(settings_for(tmp_path, bundle=bundle))
    async with running(app) as client:
        await client.post("/v1/score", json=body("tx-1"))
        app.state.service.parts.acts.append(actor="ann", act="key.created", subject="payments")
    anchors = read_anchors(tmp_path / "anchors.jsonl")
    assert [(anchor.log, anchor.sequence) for anchor in anchors] == [("decisions", 1), ("administrative_acts", 1)]
    assert anchors_of(log_of(tmp_path), of="administrative_acts") == anchors[1:]
    acts = ActLog(f"sqlite:///{tmp_path}/acts.db", create=False)
    assert acts.journal.verify(checked(anchors, of="administrative_acts")).entries == 1
    acts.close()


async def test_a_journal_that_is_away_holds_up_no_other_anchor(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away() -> None:
        raise UnavailableError("the database does not answer")

    app = create_app(settings_for(tmp_path, bundle=bundle))
    async with running(app) as client:
        await client.post("/v1/score", json=body("tx-1"))
        parts = app.state.service.parts
        parts.acts.append(actor="ann", act="key.created", subject="payments")
        monkeypatch.setattr(parts.desk.cases.journal, "head", away)
    assert "the case log could not be anchored: the database does not answer" in caplog.text
    anchors = read_anchors(tmp_path / "anchors.jsonl")
    assert {anchor.log for anchor in anchors} == {"decisions", "administrative_acts"}
