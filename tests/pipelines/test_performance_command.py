"""`riskdistill monitor performance` and `monitor drill`, on the logs that a real service left."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from monitoring.alarms import Alarm
from monitoring.drills import DrillResult
from pipelines.label_file import read_outcomes
from pipelines.performance import decided, evenly_sampled
from pipelines.progress import Steps
from riskdistill.bundle import Bundle
from riskdistill.errors import DataError
from riskdistill.storage.decisions import Decision, DecisionLog


def log_of(folder: Path) -> DecisionLog:
    return DecisionLog(f"sqlite:///{folder}/decisions.db", create=False)


@pytest.fixture
def decisions(service_folder: Path) -> list[Decision]:
    return [entry.decision for entry in log_of(service_folder).read()]


def write_labels(path: Path, decisions: list[Decision]) -> Path:
    """Every third decision is looked at, a day later; the first one twice; others are as nobody looked."""
    lines = ["tx_id,is_laundering,known_at"]
    for place, one in enumerate(decisions):
        seen = place % 3 == 0
        known = one.decided_at + timedelta(days=1) if seen else one.transaction.timestamp
        lines.append(f"{one.tx_id},{str(seen and place % 2 == 0).lower()},{known.isoformat()}")
    second = decisions[0].decided_at + timedelta(days=2)
    path.write_text("\n".join([*lines, f"{decisions[0].tx_id},false,{second.isoformat()}"]))
    return path


def test_labels_are_read_with_what_they_say_and_when(
    service_folder: Path, decisions: list[Decision], tiny_bundle: Bundle, tmp_path: Path
) -> None:
    rows = decided(log_of(service_folder), write_labels(tmp_path / "labels.csv", decisions), tiny_bundle)
    assert len(rows.time) == len(decisions)
    assert rows.label[:7].tolist() == [1, -1, -1, 0, -1, -1, 1], "a label as old as its payment says nothing"
    assert (rows.known[::3] > rows.time[::3]).all()
    assert (rows.known[1::3] == 0).all()
    np.testing.assert_array_equal(rows.sampled, evenly_sampled(sorted(decisions, key=lambda one: one.decided_at)))
    assert (rows.again[:2].tolist(), rows.again[2:].max()) == ([0, -1], -1), "the first was looked at twice"


def test_a_sample_drawn_more_often_near_the_line_is_made_even() -> None:
    shares = [None] * 1_000 + [0.01] * 1_000 + [0.1] * 10_000
    made: Any = [SimpleNamespace(sample_share=share, decision_id=f"d{n}") for n, share in enumerate(shares)]
    even = evenly_sampled(made)
    assert not even[:1_000].any()
    assert even[1_000:2_000].all()
    assert even[2_000:].mean() == pytest.approx(0.1, abs=0.01)
    assert not evenly_sampled(made[:1_000]).any()


def test_the_report_is_written_and_its_windows_are_shown(
    done: Callable[..., str], service_folder: Path, decisions: list[Decision], tiny_bundle: Bundle, tmp_path: Path
) -> None:
    labels = write_labels(tmp_path / "labels.csv", decisions)
    at = (decisions[-1].decided_at + timedelta(minutes=1)).isoformat()
    options = ("--decisions", f"sqlite:///{service_folder}/decisions.db", "--labels", labels)
    told = done("monitor", "performance", *options, "--bundle", tiny_bundle.path, "--out", tmp_path, "--as-of", at)
    assert "not mature" in told
    assert f"report {tmp_path}/performance.html" in told
    report = json.loads((tmp_path / "performance.json").read_text())
    assert sum(window["decisions"] for window in report["windows"]) == len(decisions)
    assert all(window["labelled"] == 0 for window in report["windows"]), "labels of tomorrow are not used"


@pytest.mark.parametrize(
    ("line", "told"),
    [("t1,maybe,2026-01-01T00:00:00Z", "is_laundering of"), ("t1,true,soon", "known_at cannot be")],
)
def test_a_label_that_is_none_is_refused(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "labels.csv").write_text(f"tx_id,is_laundering,known_at\n{line}\n")
    with pytest.raises(DataError, match=told):
        read_outcomes(tmp_path / "labels.csv")


def test_a_time_without_a_zone_is_refused(
    refused: Callable[..., str], service_folder: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    options = ("--decisions", f"sqlite:///{service_folder}/decisions.db", "--labels", tmp_path, "--out", tmp_path)
    told = refused("monitor", "performance", *options, "--bundle", tiny_bundle.path, "--as-of", "2026-01-01")
    assert "no offset from UTC" in told


def made_up(passed: bool, at: Decision) -> DrillResult:
    return DrillResult(
        scenario="slow_model",
        fault="<slow>",
        fault_at=at.decided_at,
        right=("controller: slow",),
        detected=Alarm(at=at.decided_at, detector="controller: slow" if passed else "drift", detail="three times"),
        passed=passed,
        false_alarms=(),
        delay_hours=2.0,
        exposure=10,
        restored="the previous model",
        restore_seconds=0.1,
        seconds=1.0,
    )


@pytest.mark.parametrize("passed", [True, False])
def test_drills_are_written_and_a_wrong_detector_fails_the_command(
    passed: bool, decisions: list[Decision], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines import drill
    from pipelines.cli import main

    def results(*_: object, **__: object) -> Iterator[DrillResult]:
        yield made_up(passed, decisions[0])

    monkeypatch.setattr(drill, "drill", results)
    assert main(["monitor", "drill", "all", "--out", str(tmp_path)]) == int(not passed)
    assert json.loads((tmp_path / "drills.json").read_text())["results"][0]["passed"] is passed
    assert "&lt;slow&gt;" in (tmp_path / "drills.html").read_text()


@pytest.mark.parametrize(("passed", "found"), [(True, "controller: slow, right"), (False, "drift, wrong")])
def test_a_drill_tells_of_each_scenario_as_it_begins_and_ends(
    passed: bool, found: str, decisions: list[Decision], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines import drill

    file, told = io.StringIO(), ["healthy stream, begun", "healthy stream, done after 0:00:00: 3 payments"]
    healthy = SimpleNamespace(stream=SimpleNamespace(transactions=[1, 2, 3]), fault_at=0, setting=None)
    monkeypatch.setattr(drill, "base", lambda *_, **__: healthy)

    def run(scenario: str, *_: object, **__: object) -> DrillResult:
        told.append(f"{scenario}, begun")
        assert file.getvalue().splitlines() == told
        told.append(f"{scenario}, done after 0:00:00: found by {found}")
        return made_up(passed, decisions[0])

    monkeypatch.setattr(drill, "run_drill", run)
    one = drill.Scenario("a fault", (), lambda base: base.stream)
    monkeypatch.setattr(drill, "SCENARIOS", {"slow_model": one, "bad_release": one})
    with Steps(Console(file=file)) as steps:
        assert len(list(drill.drill(drill.ALL, steps))) == 2
    assert file.getvalue().splitlines() == told


def test_an_unknown_scenario_names_those_there_are(refused: Callable[..., str], tmp_path: Path) -> None:
    told = refused("monitor", "drill", "earthquake", "--out", tmp_path)
    assert "no scenario 'earthquake'" in told
    assert "poisoned_labels" in told
