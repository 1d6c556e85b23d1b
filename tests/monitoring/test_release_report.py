"""The evidence of a release: told from the logs and the bundle alone, the same each time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_shadow import scored
from traffic_log import GOOD, NEW, decide, open_logs

from monitoring.release_page import write_release_report
from monitoring.release_report import ReleaseReport, release_report
from riskdistill.bundle import Thresholds
from riskdistill.errors import NotFoundError
from riskdistill.evaluation.gates import RETRAINING, Gate
from riskdistill.storage.releases import ReleaseLog, State

WHO: dict[str, Any] = {"actor": "ann", "reason": "a test"}
CARD = "# Model card\n\n| a | b |\n|---|---|\n| 1 | <script> |\n"
GATE = Gate(name="size", figure=1.0, bar=1.25, better="lower", detail="<b>equal</b>")


def bundle_of(folder: Path, version: str = NEW) -> Any:
    (folder / "model_card.md").write_text(CARD)
    manifest = SimpleNamespace(
        name="bank",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        dataset_fingerprint="d1",
        feature_fingerprint="f1",
        typologies=("normal", "cycle"),
        parameters={"student": 1},
    )
    limits = Thresholds(review=0.5, hold=0.8, uncertain_low=0.4, uncertain_high=0.6, high_risk=0.9)
    return SimpleNamespace(path=folder, version=version, manifest=manifest, thresholds=limits)


def test_a_canary_that_became_champion_and_was_rolled_back_is_told_whole(tmp_path: Path) -> None:
    releases, decisions = open_logs(tmp_path)
    retraining = {"gates": [GATE.model_dump(mode="json")], "judged_on": {"rows": 9, "laundering": 2}}
    retraining["judged_on"] |= {"from": "2026-01-01T00:00:00", "to": "2026-01-09T00:00:00"}
    releases.register("bundles/next", "next0000", **WHO, evidence={RETRAINING: retraining}, shadow=True)
    releases.approve("r3", actor="bob", reason="looked at it", evidence={})
    releases.stage("r3", State.CANARY, **WHO, evidence={}, share=0.25)
    decisions.append([decide(0.1, version="next0000"), *(decide(0.1) for _ in range(3))])
    releases.promote("r3", **WHO, evidence={}, approvals=1)
    decisions.append([decide(0.9, version="next0000") for _ in range(2)])
    measures = [{"metric": "more_alerts", "segment": "all", "e_value": 900.0, "alpha": 0.0025, "margin": 1.5}]
    measures[0] |= {"counts": {"champion_only": 40}, "harm": True, "acts": True}
    releases.rollback(actor="monitor", reason="more alerts", evidence={"measures": measures})
    decisions.append([decide(0.9, version="next0000"), decide(0.1)])

    scores = [scored(0.1, 0.2), scored(0.6, 0.7, decided_by="challenger")]
    report = release_report(releases, "r3", bundle_of(tmp_path, "next0000"), decisions, scores)
    assert (report.release.state, report.release.approved_by) == (State.ROLLED_BACK, ("bob",))
    assert (report.replaced, report.replaced_by) == ("r2", "r2")
    assert report.gates == (GATE,)
    assert [(spell.state, spell.share, spell.decisions, spell.all_decisions) for spell in report.spells] == [
        (State.CANARY, 0.25, 1, 4),
        (State.CHAMPION, 1.0, 2, 2),
    ]
    assert report.spells[0].end == report.spells[1].start
    rollback = report.rollback
    assert rollback is not None
    assert (rollback.actor, rollback.restored) == ("monitor", "r2")
    assert rollback.followed_seconds is not None
    assert 0 < rollback.followed_seconds < 60
    assert [window.transactions for window in report.shadow] == [2]
    assert report.release_log.head == releases.verify().head
    assert report.decision_log == decisions.head()

    page = write_release_report(tmp_path / "report", report)
    html = page.read_text()
    for told in ("r3", "bob", "looked at it", "25.0%", "more alerts", "champion only 40", report.decision_log.hash):
        assert told in html
    assert "&lt;script&gt;" in html
    assert "<b>equal" not in html
    assert "<table>\n<thead>" in html  # of the card
    assert "http" not in html
    again = ReleaseReport.model_validate_json((page.parent / "release.json").read_text())
    assert again == report
    assert page.read_bytes() == write_release_report(tmp_path / "again", again).read_bytes()


def test_without_a_decision_log_it_tells_what_the_release_log_says(tmp_path: Path) -> None:
    releases, _ = open_logs(tmp_path)
    first = release_report(releases, "r1", bundle_of(tmp_path, GOOD))
    assert (first.release.state, first.replaced, first.replaced_by) == (State.PREVIOUS, None, "r2")
    assert (first.spells[0].decisions, first.decision_log, first.rollback, first.shadow) == (None, None, None, ())
    assert first.spells[0].end is not None
    second = release_report(releases, "r2", bundle_of(tmp_path))
    assert (second.replaced, second.replaced_by) == ("r1", None)
    assert second.spells[0].end is None
    assert "nobody" in write_release_report(tmp_path, second).read_text()


def test_a_restored_champion_has_two_times_in_which_it_decided(tmp_path: Path) -> None:
    releases, _ = open_logs(tmp_path)
    releases.rollback(**WHO, evidence={})
    report = release_report(releases, "r1", bundle_of(tmp_path, GOOD))
    assert [(spell.state, spell.end is None) for spell in report.spells] == [
        (State.CHAMPION, False),
        (State.CHAMPION, True),
    ]
    assert report.spells[1].start - report.spells[0].start > timedelta(0)
    assert (report.replaced, report.replaced_by) == (None, None)


def test_a_release_that_is_not_there_is_named(tmp_path: Path) -> None:
    log = ReleaseLog(f"sqlite:///{tmp_path}/empty.db")
    with pytest.raises(NotFoundError, match="no release 'r9'"):
        release_report(log, "r9", bundle_of(tmp_path))
