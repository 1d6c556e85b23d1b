"""The end of a release, what a message may not tell, and the warning before a cold drift report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines import audit_commands
from pipelines.cli import main
from riskdistill.bundle import Bundle
from riskdistill.storage.decisions import DecisionLog

SIGNED = ("--actor", "ann", "--reason", "a test")


def test_a_release_can_be_retired_and_its_bundle_registered_anew(
    done: Callable[..., str], refused: Callable[..., str], tiny_bundle: Bundle, tmp_path: Path
) -> None:
    log = ("--releases", f"sqlite:///{tmp_path}/releases.db")
    done("release", "register", tiny_bundle.path, *log, *SIGNED)
    assert done("release", "retire", "r1", *log, *SIGNED) == f"r1 is retired: bundle {tiny_bundle.version}"
    done("release", "register", tiny_bundle.path, *log, *SIGNED)
    done("release", "promote", "r2", *log, *SIGNED)
    assert "r2 is champion and cannot become retired" in refused("release", "retire", "r2", *log, *SIGNED)


def test_an_unknown_decision_does_not_show_the_password_of_the_log(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = DecisionLog(f"sqlite:///{tmp_path}/decisions.db")
    monkeypatch.setattr(audit_commands, "DecisionLog", lambda *_, **__: empty)
    told = refused("audit", "show", "d-x", "--decisions", "postgresql://ann:pw1234@db/logs")
    assert told.startswith("postgresql://ann:***@db/logs: no decision d-x")


def test_drift_without_a_history_warns(
    capsys: pytest.CaptureFixture[str], live: Path, tiny_bundle: Bundle, simulated: Path, tmp_path: Path
) -> None:
    options = ["monitor", "drift", "--bundle", str(tiny_bundle.path), "--input", str(live), "--out", str(tmp_path)]
    assert main(options) == 0
    assert "warning: no --history" in capsys.readouterr().err
    assert main([*options, "--history", str(simulated)]) == 0
    assert "warning" not in capsys.readouterr().err
