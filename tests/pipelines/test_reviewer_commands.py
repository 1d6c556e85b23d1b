"""The reviewer's commands: monitor, release and audit, on the logs that a real service left."""

from __future__ import annotations

import json
import logging
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from webhook_receiver import SECRET, receiving

from monitoring.audit import AuditRecord
from monitoring.drift import DriftReport
from monitoring.rollback import RollbackController, Verdict
from pipelines.cli import main
from pipelines.drift import logged_window
from pipelines.explain_decision import Sources
from riskdistill import tracking
from riskdistill.bundle import Bundle, rebuild_bundle
from riskdistill.models.calibration import Calibrator
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.releases import ReleaseLog

SIGNED = ("--actor", "ann", "--reason", "a test")


# --- monitor


def test_drift_writes_its_pages(
    done: Callable[..., str], simulated: Path, live: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    """In so short a window, some features never change: nobody is warned of that."""
    options = ("--bundle", tiny_bundle.path, "--input", live, "--history", simulated, "--out", tmp_path / "drift")
    told = done("monitor", "drift", *options)
    assert re.search(r"verdict: \w+; \d+ of \d+ features drift", told)
    assert f"report {tmp_path}/drift/drift.html" in told
    assert {"drift.html", "drift.json"} < {path.name for path in (tmp_path / "drift").iterdir()}


def test_drift_of_what_a_service_decided_is_the_same_each_time(
    done: Callable[..., str], service_folder: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    log = DecisionLog(f"sqlite:///{service_folder}/decisions.db", create=False)
    made = [entry.decision for entry in log.read()]
    period = ("--from", made[20].decided_at.isoformat(), "--to", made[70].decided_at.isoformat())
    options = ("--bundle", tiny_bundle.path, *logs_in(service_folder)[:2], *period)
    written = []
    for name in "ab":
        done("monitor", "drift", *options, "--out", tmp_path / name)
        written.append(
            [(tmp_path / name / file).read_bytes() for file in ("drift.html", "drift.json", "evidently.html")]
        )
    assert written[0] == written[1]
    told = DriftReport.model_validate_json(written[0][1])
    assert told.logged is not None
    assert (told.rows, told.logged.first_sequence, told.logged.last_sequence) == (50, 21, 70)
    assert told.logged.hash in written[0][0].decode()
    window, _ = logged_window(tiny_bundle, log, made[20].decided_at, None, Sources(None, None, None, None))
    assert window.score == pytest.approx(
        [one.student_score for one in made[20:]], abs=1e-6
    )  # as the service saw it


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "give --input, or --decisions"),
        (("--input", "x", "--from", "2026-01-01T00:00:00Z"), "give --input, or --decisions"),
        (
            ("--decisions", "sqlite:///{folder}/decisions.db", "--to", "2020-01-01T00:00:00Z"),
            "nothing was decided then",
        ),
        (("--decisions", "sqlite:///{folder}/decisions.db", "--from", "May"), "--from: Invalid isoformat"),
    ],
)
def test_a_window_that_is_none_is_refused(
    refused: Callable[..., str],
    service_folder: Path,
    tiny_bundle: Bundle,
    tmp_path: Path,
    options: tuple[str, ...],
    told: str,
) -> None:
    named = [option.format(folder=service_folder) for option in options]
    drift = ("monitor", "drift", "--bundle", tiny_bundle.path, "--out", tmp_path, "--history", tmp_path)
    assert told in refused(*drift, *named)
    assert not list(tmp_path.iterdir())


def test_watching_empty_logs_finds_no_champion(done: Callable[..., str], tmp_path: Path) -> None:
    releases, decisions = f"sqlite:///{tmp_path}/releases.db", f"sqlite:///{tmp_path}/decisions.db"
    ReleaseLog(releases).close()
    DecisionLog(decisions).close()
    told = done("monitor", "watch", "--releases", releases, "--decisions", decisions, "--looks", 1)
    assert told == "1 none no release is champion"


def test_a_hold_is_entered_with_who_and_why_and_ends(
    done: Callable[..., str], refused: Callable[..., str], tmp_path: Path
) -> None:
    releases = f"sqlite:///{tmp_path}/releases.db"
    log = ReleaseLog(releases)
    log.register("a", "a", actor="ann", reason="trained")
    log.promote("r1", actor="ann", reason="the first", evidence={})
    who = ("--releases", releases, "--actor", "ann", "--reason", "a migration")
    assert "no watch acts" in done("monitor", "hold", *who)
    assert "ann holds all action already" in refused("monitor", "hold", *who)
    hold = log.held()
    assert hold is not None
    assert (hold.actor, hold.reason) == ("ann", "a migration")
    assert "watches act again" in done("monitor", "resume", *who)
    told = done("release", "history", "--releases", releases)
    assert "action held" in told
    assert "action resumed" in told


def test_watching_a_service_compares_its_champion(done: Callable[..., str], service_folder: Path) -> None:
    logs = [f"sqlite:///{service_folder}/{name}.db" for name in ("releases", "decisions")]
    told = done("monitor", "watch", "--releases", logs[0], "--decisions", logs[1], "--looks", 1, "--dry-run")
    assert told == "1 none no harm is shown"


def test_a_watch_tells_a_webhook_of_an_alarm_once(
    done: Callable[..., str], tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The champion's bundle is damaged: every look is an alarm."""
    log = ("--releases", f"sqlite:///{tmp_path}/releases.db")
    done("release", "register", tiny_bundle.path, *log, *SIGNED)
    done("release", "promote", "r1", *log, *SIGNED)
    (tmp_path / "bundles" / tiny_bundle.version / "student.onnx").unlink()
    decisions = f"sqlite:///{tmp_path}/decisions.db"
    DecisionLog(decisions).close()
    monkeypatch.setenv("RISKDISTILL_WEBHOOK_SECRET", SECRET)
    with receiving() as receiver:
        looks = ("--looks", 3, "--interval", 0.1, "--webhook", receiver.url, "--metrics-port", 0)
        told = done("monitor", "watch", *log, "--decisions", decisions, *looks)
    assert told.startswith("metrics at http://127.0.0.1:")
    assert told.count(" alarm ") == 3
    (received,) = receiver.received
    body = json.loads(received.body)
    assert (body["type"], body["data"]["release_id"]) == ("monitor.alarm_began", "r1")
    assert "student.onnx" in body["data"]["about"]


def test_a_rollback_is_told_and_the_next_look_made_while_mlflow_hangs(
    done: Callable[..., str], service_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts = iter([Verdict(action="rolled_back", reason="more_alerts", release_id="r2", restored="r1")])
    looked_again, told_meanwhile = threading.Event(), list[bool]()

    def look(controller: RollbackController, labels: object = None) -> Verdict:
        if (verdict := next(verdicts, None)) is None:
            looked_again.set()
        return verdict or Verdict(action="none", reason="no harm is shown")

    def hang(tracker: tracking.Tracker, log: ReleaseLog) -> bool:
        told_meanwhile.append(receiver.came.acquire(timeout=10) and looked_again.wait(10))
        return False

    monkeypatch.setattr(RollbackController, "look", look)
    monkeypatch.setattr(tracking.Tracker, "follow", hang)
    monkeypatch.setenv(tracking.VARIABLE, "https://mlflow.example.com")
    monkeypatch.setenv("RISKDISTILL_WEBHOOK_SECRET", SECRET)
    with receiving() as receiver:
        done(
            "monitor", "watch", *logs_in(service_folder), "--looks", 3, "--interval", 0.1, "--webhook", receiver.url
        )
    assert told_meanwhile == [True]
    assert json.loads(receiver.received[0].body)["type"] == "monitor.rolled_back"


def test_a_watch_without_the_secret_of_its_webhook_does_not_begin(
    refused: Callable[..., str], service_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RISKDISTILL_WEBHOOK_SECRET", raising=False)
    told = refused("monitor", "watch", *logs_in(service_folder), "--webhook", "https://example.com/hook")
    assert told.startswith("RISKDISTILL_WEBHOOK_SECRET: the webhook needs a secret")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:///absent.db", "absent.db: no database there (mend: check the path)"),
        ("logs.db", "the database URL cannot be used: "),
    ],
)
def test_a_wrong_log(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (
        ("monitor", "watch", "--releases", url, "--decisions", url),
        ("release", "list", "--releases", url),
        ("audit", "verify", "--decisions", url),
    ):
        assert refused(*command).startswith(told)


# --- release


def test_the_life_of_two_releases(
    done: Callable[..., str], refused: Callable[..., str], tiny_bundle: Bundle, tmp_path: Path
) -> None:
    log = ("--releases", f"sqlite:///{tmp_path}/releases.db")
    calibrators = {role: Calibrator() for role in ("student", "teacher")}
    second = rebuild_bundle(tiny_bundle, tmp_path / "second", calibrators=calibrators)
    for bundle in (tiny_bundle, second):
        assert bundle.version in done("release", "register", bundle.path, *log, *SIGNED)
    assert "already release r1" in refused("release", "register", tiny_bundle.path, *log, *SIGNED)
    assert "r1 is champion" in done("release", "promote", "r1", *log, *SIGNED)
    assert "no previous champion" in refused("release", "rollback", *log, *SIGNED)
    assert "r2 is champion" in done("release", "promote", "r2", *log, *SIGNED)
    assert f"r1 previous {tiny_bundle.version}" in done("release", "list", *log)
    assert "r1 is champion again" in done("release", "rollback", *log, *SIGNED)
    assert f"r2 rolled_back {second.version} {tmp_path}/bundles/{second.version}" in done("release", "list", *log)
    told = done("release", "history", *log)
    assert re.findall(r"(\w+) ann a test", told) == [
        "registered",
        "registered",
        "champion",
        "previous",
        "champion",
        "rolled_back",
        "champion",
    ]
    assert "release log intact: 7 entries" in done("audit", "verify", *log)
    assert "no release 'r3'" in refused("release", "promote", "r3", *log, *SIGNED)


def test_the_report_of_a_release_is_the_same_each_time_and_names_no_account(
    done: Callable[..., str], refused: Callable[..., str], service_folder: Path, tmp_path: Path
) -> None:
    written = []
    for name in "ab":
        said = done("release", "report", "r1", *logs_in(service_folder), "--out", tmp_path / name)
        assert said == f"report {tmp_path}/{name}/release.html"
        written.append([(tmp_path / name / file).read_bytes() for file in ("release.html", "release.json")])
    assert written[0] == written[1]
    told = json.loads(written[0][1])
    assert told["spells"][0]["decisions"] == told["spells"][0]["all_decisions"] == 80
    log = DecisionLog(f"sqlite:///{service_folder}/decisions.db", create=False)
    first = next(log.read()).decision.transaction
    assert first.sender_account not in written[0][0].decode() + written[0][1].decode()
    assert "no release 'r7'" in refused("release", "report", "r7", *logs_in(service_folder), "--out", tmp_path)


def test_a_release_that_no_service_shadowed_is_reported_with_a_note(
    service_folder: Path, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("decisions", "releases"):
        shutil.copyfile(service_folder / f"{name}.db", tmp_path / f"{name}.db")
    calibrators = {role: Calibrator() for role in ("student", "teacher")}
    second = rebuild_bundle(tiny_bundle, tmp_path / "second", calibrators=calibrators)
    releases = ReleaseLog(f"sqlite:///{tmp_path}/releases.db")
    releases.register(second.path, second.version, actor="ann", reason="a test", shadow=True)
    assert main(["release", "report", "r2", *logs_in(tmp_path), "--out", str(tmp_path / "report")]) == 0
    assert "note: no shadow scores: " in capsys.readouterr().err
    assert json.loads((tmp_path / "report" / "release.json").read_text())["shadow"] == []


def test_ids_and_paths_are_whole_on_a_narrow_terminal(
    done: Callable[..., str], tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    log = ("--releases", f"sqlite:///{tmp_path}/releases.db")
    done("release", "register", tiny_bundle.path, *log, *SIGNED)
    assert "…" not in done("release", "list", *log) + done("release", "history", *log)


def test_a_release_outlives_the_folder_that_it_was_registered_from(
    done: Callable[..., str], tiny_bundle: Bundle, tmp_path: Path
) -> None:
    log = ("--releases", f"sqlite:///{tmp_path}/releases.db")
    path = Path(shutil.copytree(tiny_bundle.path, tmp_path / "bundle"))
    done("release", "register", path, *log, *SIGNED)
    rebuild_bundle(tiny_bundle, path, calibrators={role: Calibrator() for role in ("student", "teacher")})
    assert f"bundle {tiny_bundle.version}" in done("release", "promote", "r1", *log, *SIGNED)


def test_a_release_is_promoted_though_mlflow_is_away(
    done: Callable[..., str],
    tiny_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def away(*_: object) -> bool:
        logging.getLogger(tracking.__name__).warning("away")
        return False

    monkeypatch.setenv(tracking.VARIABLE, "https://mlflow.example.com")
    monkeypatch.setattr(tracking.Tracker, "_within_the_deadline", away)
    signed = ("--releases", f"sqlite:///{tmp_path}/releases.db", "--actor", "ann", "--reason", "a test")
    done("release", "register", tiny_bundle.path, *signed)
    assert "r1 is champion" in done("release", "promote", "r1", *signed)
    assert caplog.text.count("away") == 2


# --- audit


def logs_in(folder: Path) -> tuple[str, ...]:
    return "--decisions", f"sqlite:///{folder}/decisions.db", "--releases", f"sqlite:///{folder}/releases.db"


@pytest.fixture
def copied_logs(service_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(service_folder, tmp_path / "logs"))


def test_the_logs_of_a_service_verify(done: Callable[..., str], service_folder: Path) -> None:
    told = done("audit", "verify", *logs_in(service_folder))
    assert re.search(r"decision log intact: 80 entries, head [0-9a-f]{64}", told)
    assert re.search(r"release log intact: 2 entries, head [0-9a-f]{64}", told)
    assert "case log intact: 0 entries" in told
    assert "suppression log intact: 0 entries" in told
    assert "act log intact: 0 entries" in done("audit", "verify", "--acts", f"sqlite:///{service_folder}/acts.db")


@pytest.mark.parametrize(
    ("log", "table", "change", "named"),
    [
        ("decisions", "decisions", "UPDATE decisions SET score = 0 WHERE sequence = 7", "sequence 7"),
        ("decisions", "decisions", "UPDATE decisions SET body = '{}' WHERE sequence = 7", "sequence 7"),
        ("decisions", "decisions", "DELETE FROM decisions WHERE sequence = 7", "7 is missing"),
        (
            "releases",
            "release_transitions",
            "UPDATE release_transitions SET body = '{}' WHERE sequence = 2",
            "entry 2",
        ),
    ],
    ids=["column", "body", "deleted", "release"],
)
def test_a_log_that_was_tampered_with_is_named_with_its_first_broken_entry(
    refused: Callable[..., str], copied_logs: Path, log: str, table: str, change: str, named: str
) -> None:
    database = sqlite3.connect(copied_logs / f"{log}.db")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        database.execute(change)
    for verb in ("update", "delete"):
        database.execute(f"DROP TRIGGER {table}_no_{verb}")
    database.execute(change)
    database.commit()
    database.close()
    told = refused("audit", "verify", *logs_in(copied_logs))
    assert told.startswith(f"{log.removesuffix('s')} log: ")
    assert named in told
    assert "(mend: restore" in told


def test_the_audit_record_and_one_decision(
    done: Callable[..., str], refused: Callable[..., str], service_folder: Path, tmp_path: Path
) -> None:
    told = done("audit", "record", *logs_in(service_folder), "--out", tmp_path / "audit")
    assert told == f"record {tmp_path}/audit/audit.html"
    decision = next(DecisionLog(f"sqlite:///{service_folder}/decisions.db", create=False).read()).decision
    decisions = logs_in(service_folder)[:2]
    assert f'"tx_id": "{decision.tx_id}"' in done("audit", "show", decision.decision_id, *decisions)
    assert "no decision d-x" in refused("audit", "show", "d-x", *decisions)


def test_the_audit_record_of_a_period(done: Callable[..., str], service_folder: Path, tmp_path: Path) -> None:
    made = [
        entry.decision for entry in DecisionLog(f"sqlite:///{service_folder}/decisions.db", create=False).read()
    ]
    period = ("--from", made[10].decided_at.isoformat(), "--to", made[60].decided_at.isoformat())
    done("audit", "record", *logs_in(service_folder), *period, "--out", tmp_path)
    record = AuditRecord.model_validate_json((tmp_path / "audit.json").read_text())
    assert sum(count.decisions for count in record.decisions) == 50
    assert record.decision_log.entries == 80
    assert sum(asked.decisions for asked in record.bypass) == sum(one.bypass is not None for one in made[10:60])
    assert sum(one.strongest for one in record.reasons) == sum(bool(one.reasons) for one in made[10:60])


def test_nothing_to_verify_is_a_mistake(refused: Callable[..., str]) -> None:
    assert (
        refused("audit", "verify")
        == "audit verify: no log named (mend: give --decisions, --releases, --acts, --export or more)"
    )
