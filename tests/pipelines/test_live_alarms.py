"""A watch alarms on silence and on what labels say, on logs as a service leaves them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from service_process import until
from traffic_log import decide
from webhook_receiver import SECRET, receiving

from monitoring.drift import measure_drift
from monitoring.profile import build_profile
from pipelines.drift_file import DriftFile
from pipelines.live_alarms import LiveAlarms
from riskdistill.bundle import Bundle, rebuild_bundle
from riskdistill.errors import UnavailableError
from riskdistill.models.calibration import Calibrator
from riskdistill.storage.decisions import Decision, DecisionLog, Shadow
from riskdistill.storage.releases import ReleaseLog, State

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def decided_until(end: datetime, version: str, days: int) -> list[Decision]:
    """Ten decisions a day, evenly; the champion alerts on each."""
    times = [end - timedelta(hours=2.4 * back) for back in range(10 * days)]
    return [decide(0.9, version=version).model_copy(update={"decided_at": time}) for time in sorted(times)]


@pytest.fixture
def releases(tmp_path: Path, tiny_bundle: Bundle) -> ReleaseLog:
    log = ReleaseLog(f"sqlite:///{tmp_path}/releases.db")
    log.register(tiny_bundle.path, tiny_bundle.version, actor="ann", reason="a test")
    log.promote("r1", actor="ann", reason="a test", evidence={})
    return log


@pytest.fixture
def decisions(tmp_path: Path) -> DecisionLog:
    return DecisionLog(f"sqlite:///{tmp_path}/decisions.db")


def test_a_watch_ends_a_canary_that_floods_the_team_and_tells_a_webhook(
    releases: ReleaseLog,
    decisions: DecisionLog,
    tiny_bundle: Bundle,
    tmp_path: Path,
    done: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calibrators = {role: Calibrator(intercept=3.0) for role in ("student", "teacher")}
    other = rebuild_bundle(tiny_bundle, tmp_path / "other", calibrators=calibrators)
    releases.register(other.path, other.version, actor="ann", reason="a test")
    releases.stage("r2", State.CANARY, actor="ann", reason="a test", evidence={}, share=0.2)
    rows = [decide(0.999, 0.0, version=other.version) for _ in range(400)]
    decisions.append([row.model_copy(update={"shadow": _beside(row, tiny_bundle)}) for row in rows])
    monkeypatch.setenv("RISKDISTILL_WEBHOOK_SECRET", SECRET)
    logs = ("--releases", f"sqlite:///{tmp_path}/releases.db", "--decisions", f"sqlite:///{tmp_path}/decisions.db")
    with receiving() as receiver:
        told = done("monitor", "watch", *logs, "--looks", 2, "--interval", 0.1, "--webhook", receiver.url)
        (received,) = receiver.wait_for(1)
    assert "rolled_back canary: more_alerts: e-value" in told
    assert told.count("canary") == 1, "the second look finds none"
    assert [(release.release_id, release.state) for release in releases.list()] == [
        ("r1", State.CHAMPION),
        ("r2", State.ROLLED_BACK),
    ]
    body = json.loads(received.body)
    assert (body["type"], body["data"]["release_id"]) == ("monitor.rolled_back", "r2")
    assert body["data"]["verdict"]["restored"] == "r1"


def _beside(row: Decision, champion: Bundle) -> Shadow | None:
    return row.shadow and row.shadow.model_copy(update={"bundle_version": champion.version})


def test_a_watch_tells_that_no_payment_comes_any_more(
    releases: ReleaseLog,
    decisions: DecisionLog,
    tiny_bundle: Bundle,
    tmp_path: Path,
    done: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decisions.append(decided_until(datetime.now(UTC) - timedelta(hours=10), tiny_bundle.version, 9))
    monkeypatch.setenv("RISKDISTILL_WEBHOOK_SECRET", SECRET)
    logs = ("--releases", f"sqlite:///{tmp_path}/releases.db", "--decisions", f"sqlite:///{tmp_path}/decisions.db")
    with receiving() as receiver:
        told = done("monitor", "watch", *logs, "--looks", 2, "--interval", 0.1, "--webhook", receiver.url)
        (received,) = receiver.wait_for(1)
    silence = "volume: nothing for 10.0 hours; the longest that is usual is 2.4"
    assert told.count(f"alarm {silence}") == 2
    body = json.loads(received.body)
    assert (body["type"], body["data"]["about"]) == ("monitor.alarm_began", silence)
    assert body["data"]["verdict"]["action"] == "none"


def test_labels_that_second_looks_contradict_alarm_until_another_release_is_champion(
    releases: ReleaseLog, decisions: DecisionLog, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    made = decided_until(NOW - timedelta(days=3), tiny_bundle.version, 20)
    decisions.append(made)
    lines = ["tx_id,is_laundering,known_at"]
    for one in made:
        first, second = (one.decided_at + timedelta(days=days) for days in (1, 2))
        wrong = second > NOW - timedelta(days=5)
        lines.append(f"{one.tx_id},{str(wrong).lower()},{first.isoformat()}")
        lines.append(f"{one.tx_id},false,{second.isoformat()}")
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(lines))
    alarms = LiveAlarms(releases, decisions, labels, lambda: NOW)
    until(lambda: alarms.standing("r1") != ())
    (alarm,) = alarms.standing("r1")
    assert alarm.detector == "labels"
    assert "second looks contradict" in alarm.detail
    assert alarms.standing("r2") == ()


def test_labels_that_cannot_be_read_are_a_warning_and_silence_is_judged_all_the_same(
    releases: ReleaseLog,
    decisions: DecisionLog,
    tiny_bundle: Bundle,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    decisions.append(decided_until(NOW - timedelta(days=1), tiny_bundle.version, 9))
    (tmp_path / "labels.csv").write_text("tx_id,is_laundering\nx,perhaps\n")
    alarms = LiveAlarms(releases, decisions, tmp_path / "labels.csv", lambda: NOW)
    assert len(list(alarms.read())) == 90
    assert [alarm.detector for alarm in alarms.standing("r1")] == ["volume"]
    until(lambda: not alarms.is_measuring)
    assert "what labels say is not known, and is asked again in an hour" in caplog.text
    assert [alarm.detector for alarm in alarms.standing("r1")] == ["volume"]
    assert not alarms.is_measuring


def test_a_drift_report_alarms_while_it_is_of_the_champion_and_says_drift(
    releases: ReleaseLog,
    decisions: DecisionLog,
    tiny_bundle: Bundle,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "drift.json"
    alarms = LiveAlarms(releases, decisions, None, lambda: NOW, DriftFile(path))
    assert alarms.standing("r1") == ()
    assert "no new drift report" in caplog.text
    for number, (bundle, factor, expected) in enumerate(
        [
            (tiny_bundle.version, 9.0, ["drift: a"]),
            ("another", 9.0, []),
            (tiny_bundle.version, 1.0, []),
            (tiny_bundle.version, 9.0, ["drift: a"]),
        ]
    ):
        path.write_text(_report(bundle, factor))
        os.utime(path, (number, number))
        assert [alarm.detector for alarm in alarms.standing("r1")] == expected
    path.write_text("half a rep")
    assert [alarm.detector for alarm in alarms.standing("r1")] == ["drift: a"]
    assert "is no drift report; the one before it holds" in caplog.text


def test_a_release_log_that_is_away_leaves_the_alarm_of_drift_as_it_was(
    releases: ReleaseLog,
    decisions: DecisionLog,
    tiny_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "drift.json"
    path.write_text(_report(tiny_bundle.version, 9.0))
    alarms, later = (LiveAlarms(releases, decisions, None, lambda: NOW, DriftFile(path)) for _ in range(2))
    standing = alarms.standing("r1")
    assert [alarm.detector for alarm in standing] == ["drift: a"]

    def away(*_: object) -> None:
        raise UnavailableError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(releases, "get", away)
        assert alarms.standing("r1") == standing
        assert later.standing("r1") == ()
    assert later.standing("r1") == standing


def _report(bundle: str, factor: float) -> str:
    column = np.arange(600, dtype=np.float32)[:, None]
    profile = build_profile(column, ["a"], np.linspace(0, 0.1, 600), alert_rate=0.02, bypass_rate=0.0)
    found = measure_drift(profile, column * factor, ["a"], np.linspace(0, 0.1, 600))
    return found.model_copy(update={"bundle": bundle}).model_dump_json()


def test_a_watch_lets_drift_act_only_if_it_is_told_of_drift(refused: Callable[..., str], tmp_path: Path) -> None:
    logs = ("--releases", f"sqlite:///{tmp_path}/r.db", "--decisions", f"sqlite:///{tmp_path}/d.db")
    assert "no drift report could act" in refused("monitor", "watch", *logs, "--drift-acts")
