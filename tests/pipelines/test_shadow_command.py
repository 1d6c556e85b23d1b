"""`monitor shadow` can be read: on 80 columns, and before anything was compared."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import main
from riskdistill.storage.releases import ReleaseLog
from riskdistill.storage.shadows import ShadowLog, ShadowScore

WHO: dict[str, Any] = {"actor": "ann", "reason": "a test"}


@pytest.fixture
def logs(tmp_path: Path) -> tuple[str, ...]:
    """The options that name a release log with r2 in shadow, and a decision log beside which no score is stored."""
    releases = ReleaseLog(f"sqlite:///{tmp_path}/releases.db")
    releases.register("old", "a", **WHO)
    releases.promote("r1", **WHO, evidence={})
    releases.register("new", "b", **WHO, shadow=True, against="r1")
    ShadowLog(f"sqlite:///{tmp_path}/decisions.db").close()
    return "--releases", f"sqlite:///{tmp_path}/releases.db", "--decisions", f"sqlite:///{tmp_path}/decisions.db"


def test_a_shadow_that_has_scored_nothing_is_told_so(done: Callable[..., str], logs: tuple[str, ...]) -> None:
    told = done("monitor", "shadow", *logs)
    assert told == "champion / r2 (shadow): nothing compared yet; each payment from now on will be"


def test_no_heading_and_no_figure_is_broken_on_80_columns(
    logs: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    score = {"champion_score": 0.01, "challenger_score": 0.04, "champion_alert": False, "challenger_alert": True}
    versions = {"decided_by": "champion", "challenger_release": "r2", "champion_version": "a"}
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    scores = [
        ShadowScore.model_validate(
            {"tx_id": f"t{number}", "decided_at": at, **versions, "challenger_version": "b", **score}
            | {"champion_us": 161.4, "challenger_us": 112.0}
        )
        for number in range(1_331)
    ]
    ShadowLog(logs[3], create=False).append(scores)
    assert main(["monitor", "shadow", *logs]) == 0
    words = capsys.readouterr().out.split()
    whole = ("from", "(UTC)", "scored", "canary", "agree", "overlap", "alerts", "shift", "KS", "µs")
    figures = ("2026-03-01", "00:00", "1,331", "0.0%", "0.00%", "100.00%", "+0.0300", "1.000", "161", "112")
    assert {*whole, *figures} <= set(words)
