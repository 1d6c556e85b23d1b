"""The release log: the life cycle holds, changes are seen at once, and tampering is named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import sqlalchemy as sa
from databases import execute
from hypothesis import given, settings
from hypothesis import strategies as st

from riskdistill.errors import AuditError, ConfigError, NotFoundError, ReleaseError, UnavailableError
from riskdistill.storage.chain import GENESIS
from riskdistill.storage.life_cycle import Move
from riskdistill.storage.releases import LIFE_CYCLE, OVER, Release, ReleaseLog, State

WHO = {"actor": "ann", "reason": "because"}


def champion(log: ReleaseLog, version: str) -> Release:
    release = log.register(f"bundles/{version}", version, **WHO)
    return log.promote(release.release_id, **WHO, evidence={"pr_auc": 0.9})


def test_a_new_log_has_no_champion_and_verifies(url: str) -> None:
    log = ReleaseLog(url)
    assert (log.champion(), log.previous(), log.list(), log.history()) == (None, None, (), ())
    assert log.verify() == (0, GENESIS, 0)


def test_each_change_is_announced_before_it_is_written_and_what_is_refused_is_not(url: str) -> None:
    told = []

    def announce(moves: Sequence[Move], actor: str, reason: str) -> None:
        told.append(([after.state for _, after, _ in moves], actor, reason, len(plain.history())))

    plain, log = ReleaseLog(url), ReleaseLog(url, announce=announce)
    champion(log, "a")
    with pytest.raises(ReleaseError, match="no previous champion"):
        log.rollback(**WHO, evidence={})
    assert told == [([State.REGISTERED], "ann", "because", 0), ([State.CHAMPION], "ann", "because", 1)]


def test_what_cannot_be_announced_is_not_written(url: str) -> None:
    def away(*_: object) -> None:
        raise UnavailableError("the act log is away")

    log = ReleaseLog(url, announce=away)
    with pytest.raises(UnavailableError, match="act log is away"):
        champion(log, "a")
    assert log.history() == ()


def test_promotion_keeps_one_previous_and_retires_the_one_before(url: str) -> None:
    log = ReleaseLog(url)
    a, b, c = (champion(log, version) for version in "abc")
    assert [release.state for release in log.list()] == [State.RETIRED, State.PREVIOUS, State.CHAMPION]
    assert log.champion() == c
    assert (previous := log.previous()) is not None
    assert previous.release_id == b.release_id
    assert log.get(a.release_id).registered_at < log.get(a.release_id).changed_at


def test_rollback_restores_the_previous_and_records_the_evidence(url: str) -> None:
    log = ReleaseLog(url)
    good, bad = champion(log, "good"), champion(log, "bad")
    evidence = {"metric": "alert_rate", "e_value": 120.5}
    restored = log.rollback(actor="monitor", reason="harm", evidence=evidence, release_id=bad.release_id)
    assert restored.release_id == good.release_id
    assert log.champion() == restored
    assert log.previous() is None
    assert log.get(bad.release_id).state is State.ROLLED_BACK
    withdrawal, restoration = log.history()[-2:]
    assert (withdrawal.before, withdrawal.after) == (State.CHAMPION, State.ROLLED_BACK)
    assert (restoration.actor, restoration.reason, restoration.evidence) == ("monitor", "harm", evidence)


def test_rollback_without_a_previous_or_of_a_former_champion_is_refused(url: str) -> None:
    log = ReleaseLog(url)
    first = champion(log, "a")
    with pytest.raises(ReleaseError, match="no previous champion"):
        log.rollback(**WHO, evidence={})
    champion(log, "b")
    with pytest.raises(ReleaseError, match="by now"):
        log.rollback(**WHO, evidence={}, release_id=first.release_id)


def test_a_change_is_visible_to_another_log_at_once(url: str) -> None:
    writer, reader = ReleaseLog(url), ReleaseLog(url)
    assert reader.champion() is None
    release = champion(writer, "a")
    assert reader.champion() == release


def test_stages_lead_to_champion(url: str) -> None:
    log = ReleaseLog(url)
    release_id = log.register("a", "a", **WHO).release_id
    for stage in (State.SHADOW, State.CANARY):
        share = 0.05 if stage is State.CANARY else 0.0
        assert log.stage(release_id, stage, **WHO, evidence={}, share=share).state is stage
    assert log.promote(release_id, **WHO, evidence={}).state is State.CHAMPION
    with pytest.raises(ReleaseError, match="not a stage"):
        log.stage(release_id, State.RETIRED, **WHO, evidence={})


def test_what_the_life_cycle_forbids_is_refused_with_what_it_allows(url: str) -> None:
    log = ReleaseLog(url)
    release = champion(log, "a")
    with pytest.raises(ReleaseError, match="may become: previous, rolled_back"):
        log.retire(release.release_id, **WHO, evidence={})
    with pytest.raises(ReleaseError, match="cannot become champion"):
        log.promote(release.release_id, **WHO, evidence={})
    with pytest.raises(NotFoundError):
        log.promote("r99", **WHO, evidence={})
    assert len(log.history()) == 2


def test_a_release_that_is_over_says_what_to_do_instead(url: str) -> None:
    log = ReleaseLog(url)
    over = log.register("a", "a", **WHO).release_id
    log.retire(over, **WHO, evidence={})
    with pytest.raises(ReleaseError, match="r1 is retired and cannot become champion") as caught:
        log.promote(over, **WHO, evidence={})
    assert caught.value.mend == "retired is a release's end: register its bundle anew"


def test_the_same_bundle_has_one_release_at_a_time(url: str) -> None:
    log = ReleaseLog(url)
    first = log.register("a", "a", **WHO)
    with pytest.raises(ReleaseError, match="already release r1"):
        log.register("elsewhere", "a", **WHO)
    log.retire(first.release_id, **WHO, evidence={})
    assert log.register("a", "a", **WHO).release_id == "r2"


@pytest.mark.parametrize("evidence", [{"psi": math.nan}, {"model": object()}])
def test_evidence_that_cannot_be_stored_is_refused(url: str, evidence: dict[str, object]) -> None:
    log = ReleaseLog(url)
    release = log.register("a", "a", **WHO)
    with pytest.raises(ReleaseError, match="evidence cannot be stored"):
        log.promote(release.release_id, **WHO, evidence=evidence)


@pytest.mark.parametrize("who", [{"actor": " ", "reason": "x"}, {"actor": "x", "reason": ""}])
def test_nobody_and_no_reason_are_refused(url: str, who: dict[str, str]) -> None:
    with pytest.raises(ReleaseError, match="actor and a reason"):
        ReleaseLog(url).register("a", "a", **who)


@pytest.mark.parametrize(
    "statement", ["UPDATE release_transitions SET body = '{}'", "DELETE FROM release_transitions"]
)
def test_the_database_refuses_to_change_the_log(url: str, statement: str) -> None:
    champion(ReleaseLog(url), "a")
    engine = sa.create_engine(url)
    with pytest.raises(sa.exc.DatabaseError, match="append-only"), engine.begin() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE release_transitions SET body = replace(body, 'because', 'no reason') WHERE sequence = 3",
        "DELETE FROM release_transitions WHERE sequence = 3",
        "UPDATE release_transitions SET sequence = sequence + 10 WHERE sequence >= 3",
    ],
)
def test_tampering_behind_the_triggers_is_named(url: str, tampering: str) -> None:
    log = ReleaseLog(url)
    for version in "abc":
        champion(log, version)
    execute(url, tampering)
    with pytest.raises(AuditError, match="entry 3"):
        log.verify()


def test_writers_at_the_same_time_all_get_in_and_the_chain_holds(url: str) -> None:
    logs = [ReleaseLog(url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        releases = list(pool.map(lambda i: logs[i % 4].register("b", f"version-{i}", **WHO), range(16)))
    assert len({release.release_id for release in releases}) == 16
    assert logs[0].verify()[:2] == (16, logs[0].history()[-1].hash)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["promote", "rollback", "retire", "shadow"]), st.integers(1, 4)),
        max_size=12,
    )
)
def test_any_order_of_calls_leaves_at_most_one_champion_and_a_lawful_history(
    calls: list[tuple[str, int]],
) -> None:
    with TemporaryDirectory() as folder:
        _check(ReleaseLog(f"sqlite:///{folder}/releases.db"), calls)


def _check(log: ReleaseLog, calls: list[tuple[str, int]]) -> None:
    for version in "abcd":
        log.register(version, version, **WHO)
    for verb, number in calls:
        try:
            if verb == "rollback":
                log.rollback(**WHO, evidence={})
            elif verb == "shadow":
                log.stage(f"r{number}", State.SHADOW, **WHO, evidence={})
            else:
                getattr(log, verb)(f"r{number}", **WHO, evidence={})
        except ReleaseError:
            continue
    states = [release.state for release in log.list()]
    assert states.count(State.CHAMPION) <= 1
    assert states.count(State.PREVIOUS) <= 1
    assert all(entry.after in LIFE_CYCLE[entry.before] for entry in log.history())
    assert all(not LIFE_CYCLE[state] for state in OVER)
    log.verify()
    log.close()


def test_a_reader_does_not_create_a_log(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no database there"):
        ReleaseLog(f"sqlite:///{tmp_path}/none.db", create=False)
