"""MLflow follows the release log; whatever is wrong with it is a warning, and nothing waits for it."""

from __future__ import annotations

import builtins
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from riskdistill import tracking
from riskdistill.errors import UnavailableError
from riskdistill.storage.releases import ReleaseLog, State
from riskdistill.tracking import MODEL, VARIABLE, Tracker

# MLflow 3.17 uses a loader strategy that SQLAlchemy 2.1 is about to drop
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:DeprecationWarning", "ignore::UserWarning"
)
WHO: dict[str, Any] = {"actor": "ann", "reason": "a test"}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[ReleaseLog]:
    """Three releases with bundles; the first is champion, the second shadows."""
    log = ReleaseLog(f"sqlite:///{tmp_path}/releases.db")
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(f"bundle {name}")
        log.register(tmp_path / name, name, **WHO)
    log.promote("r1", **WHO, evidence={})
    log.stage("r2", State.SHADOW, **WHO, evidence={})
    yield log
    log.close()


def test_aliases_follow_every_transition_and_bundles_are_stored_once(log: ReleaseLog, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    mlflow = Tracker(uri, deadline=250)
    assert mlflow.follow(log)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def aliases() -> dict[str, str]:
        held = client.get_registered_model(MODEL).aliases
        return {alias: client.get_model_version(MODEL, held[alias]).tags["riskdistill.release"] for alias in held}

    assert aliases() == {"champion": "r1", "challenger": "r2"}
    log.promote("r2", **WHO, evidence={})
    assert mlflow.follow(log)
    assert aliases() == {"champion": "r2", "previous": "r1"}
    log.rollback(**WHO, evidence={})
    assert mlflow.follow(log)
    assert aliases() == {"champion": "r1"}
    versions = client.search_model_versions(f"name = '{MODEL}'")
    assert sorted(version.tags["riskdistill.release"] for version in versions) == ["r1", "r2", "r3"]
    stored = [Path(version.source) / "manifest.json" for version in versions]
    assert sorted(path.read_text() for path in stored) == ["bundle a", "bundle b", "bundle c"]
    assert all(path.is_relative_to(tmp_path) for path in stored)

    page = tmp_path / "index.html"
    page.write_text("a page")
    assert mlflow.log_run("retrain", parameters={"mode": "full"}, metrics={"recall": 0.7}, artefacts=[page])
    (experiment,) = [found for found in client.search_experiments() if found.name == MODEL]
    (run,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'retrain'")
    assert (run.data.params, run.data.metrics) == ({"mode": "full"}, {"recall": 0.7})
    assert [found.path for found in client.list_artifacts(run.info.run_id)] == ["index.html"]


def test_an_mlflow_that_hangs_is_left_to_itself(
    log: ReleaseLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    release = threading.Event()
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=lambda **_: release.wait(20)))
    assert not Tracker("https://mlflow.example.com", deadline=0.02).follow(log)
    release.set()
    assert "does not answer within 0.02 s: the aliases are not set" in caplog.text


def test_without_the_library_a_warning_tells_the_mend(
    log: ReleaseLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = builtins.__import__

    def absent(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "mlflow":
            raise ImportError("No module named 'mlflow'")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    assert not Tracker("sqlite:///mlflow.db").follow(log)
    assert "install riskdistill[mlflow]: the aliases are not set" in caplog.text


def test_a_release_log_that_is_away_is_a_warning_too(
    log: ReleaseLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(_: ReleaseLog) -> None:
        raise UnavailableError("the release log cannot be read now")

    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=lambda **_: None))
    monkeypatch.setattr(ReleaseLog, "serving", away)
    assert not Tracker("https://mlflow.example.com").follow(log)
    assert "MLflow cannot follow (the release log cannot be read now): the aliases are not set" in caplog.text


def test_nothing_is_tracked_unless_the_environment_names_it(
    log: ReleaseLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(Tracker, "follow", lambda self, _: asked.append(self._uri))
    monkeypatch.delenv(VARIABLE, raising=False)
    tracking.follow(log)
    monkeypatch.setenv(VARIABLE, "https://mlflow.example.com")
    tracking.follow(log)
    assert asked == ["https://mlflow.example.com"]
