"""Shadow, canary and approvals: what the service follows, whose approval counts, and that old logs still read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from riskdistill.errors import NotFoundError, ReleaseError
from riskdistill.storage.chain import GENESIS, canonical_json, link
from riskdistill.storage.releases import Release, ReleaseLog, State

ANN, BOB = {"actor": "ann", "reason": "because"}, {"actor": "bob", "reason": "I looked at it"}


@pytest.fixture
def log(tmp_path: Path) -> ReleaseLog:
    return ReleaseLog(f"sqlite:///{tmp_path}/releases.db")


def registered(log: ReleaseLog, version: str, *, shadow: bool = False) -> str:
    return log.register(version, version, **ANN, shadow=shadow).release_id


def test_a_release_is_registered_into_shadow_in_one_write_with_its_figures(log: ReleaseLog) -> None:
    release = log.register("a", "a", **ANN, evidence={"recall": 0.7}, shadow=True)
    assert release.state is State.SHADOW
    assert [(entry.after, entry.evidence) for entry in log.history()] == [
        (State.REGISTERED, {"recall": 0.7}),
        (State.SHADOW, {"recall": 0.7}),
    ]


def test_a_challenger_compared_with_another_champion_than_now_is_not_registered(log: ReleaseLog) -> None:
    first, second = registered(log, "a"), registered(log, "b")
    with pytest.raises(ReleaseError, match=f"no release is champion by now, not {first}"):
        log.register("c", "c", **ANN, against=first)
    log.promote(first, **ANN, evidence={})
    log.register("c", "c", **ANN, against=first)
    log.promote(second, **ANN, evidence={})
    with pytest.raises(ReleaseError, match=f"{second} is champion by now, not {first}"):
        log.register("d", "d", **ANN, against=first)
    assert len(log.list()) == 3


def test_the_challenger_is_the_canary_or_else_the_newest_shadow(log: ReleaseLog) -> None:
    assert log.challenger() is None
    older, newer = registered(log, "a", shadow=True), registered(log, "b", shadow=True)
    assert _id(log.challenger()) == newer
    log.stage(older, State.CANARY, **ANN, evidence={}, share=0.05)
    assert _id(log.challenger()) == older
    assert log.serving() == (None, None, log.get(older))
    log.promote(older, **ANN, evidence={})
    assert (_id(log.serving().champion), _id(log.serving().challenger)) == (older, newer)
    assert log.get(older).share == 0


def test_a_canary_may_grow_but_there_is_one_at_a_time(log: ReleaseLog) -> None:
    first, second = registered(log, "a"), registered(log, "b")
    for share in (0.05, 0.2):
        assert log.stage(first, State.CANARY, **ANN, evidence={}, share=share).share == share
    assert log.get(first).share == 0.2
    with pytest.raises(ReleaseError, match="cannot become canary"):
        log.stage(first, State.CANARY, **ANN, evidence={}, share=0.2)
    with pytest.raises(ReleaseError, match=f"{first} is the canary"):
        log.stage(second, State.CANARY, **ANN, evidence={}, share=0.05)


@pytest.mark.parametrize(("state", "share"), [("canary", 0.0), ("canary", 1.0), ("shadow", 0.1), ("canary", -0.1)])
def test_a_share_that_does_not_suit_the_stage_is_refused(log: ReleaseLog, state: str, share: float) -> None:
    release = registered(log, "a")
    with pytest.raises(ReleaseError, match="share"):
        log.stage(release, State(state), **ANN, evidence={}, share=share)


def test_an_approval_leaves_the_state_and_its_time_and_is_kept(log: ReleaseLog) -> None:
    release = log.get(registered(log, "a", shadow=True))
    approved = log.approve(release.release_id, **BOB, evidence={"page": "gates.html"})
    assert approved == log.get(release.release_id) == release.model_copy(update={"approved_by": ("bob",)})
    last = log.history()[-1]
    assert (last.kind, last.before, last.after, last.actor) == ("approval", State.SHADOW, State.SHADOW, "bob")
    assert last.at > release.changed_at
    log.promote(release.release_id, **ANN, evidence={})
    assert log.get(release.release_id).approved_by == ("bob",)
    log.verify()


def test_a_hold_outlasts_changes_of_the_champion_and_is_no_change_itself(log: ReleaseLog) -> None:
    first, second = registered(log, "a"), registered(log, "b")
    with pytest.raises(ReleaseError, match="no release is champion"):
        log.hold(**ANN)
    champion = log.promote(first, **ANN, evidence={})
    with pytest.raises(ReleaseError, match="no hold stands"):
        log.resume(**ANN)
    assert log.hold(**BOB) == champion == log.get(first)
    with pytest.raises(ReleaseError, match="bob holds all action already"):
        log.hold(**ANN)
    log.promote(second, **ANN, evidence={})
    hold = log.held()
    assert hold is not None
    assert (hold.actor, hold.reason, hold.release_id, hold.said) == ("bob", BOB["reason"], first, "action held")
    assert log.resume(**ANN).release_id == second
    assert log.held() is None
    log.hold(**ANN)
    log.verify()


def test_four_eyes_let_nobody_promote_on_their_own_approval(log: ReleaseLog) -> None:
    release = registered(log, "a")
    log.approve(release, **ANN, evidence={})
    for attempt in (
        lambda: log.promote(release, **ANN, evidence={}, approvals=1),
        lambda: log.stage(release, State.CANARY, **ANN, evidence={}, share=0.1, approvals=1),
    ):
        with pytest.raises(ReleaseError, match="0 of 1 approvals by others than ann"):
            attempt()
    log.approve(release, **BOB, evidence={})
    assert log.promote(release, **ANN, evidence={}, approvals=1).state is State.CHAMPION


def test_an_approval_counts_once_and_not_for_what_is_over(log: ReleaseLog) -> None:
    release = registered(log, "a")
    log.approve(release, **BOB, evidence={})
    with pytest.raises(ReleaseError, match="bob has approved r1 already"):
        log.approve(release, **BOB, evidence={})
    log.retire(release, **ANN, evidence={})
    with pytest.raises(ReleaseError, match="r1 is retired"):
        log.approve(release, **ANN, evidence={})
    with pytest.raises(NotFoundError):
        log.approve("r9", **BOB, evidence={})


def test_a_canary_can_be_withdrawn_on_evidence(log: ReleaseLog) -> None:
    good, bad = registered(log, "a"), registered(log, "b")
    log.promote(good, **ANN, evidence={})
    log.stage(bad, State.CANARY, **ANN, evidence={}, share=0.1)
    assert log.withdraw(bad, **BOB, evidence={"alerts": 3}).state is State.ROLLED_BACK
    assert (_id(log.champion()), log.challenger()) == (good, None)


def test_a_log_of_before_approvals_is_read_verified_and_continued(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/releases.db"
    ReleaseLog(url).close()
    entry = {"sequence": 1, "release_id": "r1", "bundle_path": "/a", "bundle_version": "a", "before": None}
    entry |= {
        "after": "registered",
        "actor": "ann",
        "reason": "x",
        "evidence": {},
        "at": "2026-01-01T00:00:00+00:00",
    }
    body = canonical_json(entry)
    assert "kind" not in json.loads(body)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        row = {"sequence": 1, "body": body, "hash": link(GENESIS, body)}
        connection.execute(sa.text("INSERT INTO release_transitions VALUES (:sequence, :body, :hash)"), row)
    engine.dispose()
    log = ReleaseLog(url)
    assert log.get("r1").approved_by == ()
    log.approve("r1", **BOB, evidence={})
    log.promote("r1", **ANN, evidence={}, approvals=1)
    assert log.verify().entries == 3


def _id(release: Release | None) -> str | None:
    return None if release is None else release.release_id
