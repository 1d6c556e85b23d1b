"""A registered release keeps the bundle that it was registered with, whatever its path holds later."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.bundle_store import expectation, keep
from riskdistill.bundle import Bundle, rebuild_bundle
from riskdistill.errors import BundleDamagedError
from riskdistill.models.calibration import Calibrator
from riskdistill.releasing import load_release
from riskdistill.storage.releases import ReleaseLog

SIGNED = ("--actor", "ann", "--reason", "a test")


@pytest.fixture
def made(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A bundle where a job has put it."""
    return Bundle.load(Path(shutil.copytree(tiny_bundle.path, tmp_path / "run" / "bundle")))


def retrain(bundle: Bundle) -> Bundle:
    """Another bundle in the same place."""
    return rebuild_bundle(bundle, bundle.path, calibrators={role: Calibrator() for role in ("student", "teacher")})


def test_a_release_outlives_a_retraining_into_the_same_folder(
    done: Callable[..., str], made: Bundle, tmp_path: Path
) -> None:
    log = ("--releases", f"sqlite:///{tmp_path}/state/new/releases.db")
    done("release", "register", made.path, *log, *SIGNED)
    done("release", "promote", "r1", *log, *SIGNED)
    second = retrain(made)
    done("release", "register", second.path, *log, *SIGNED)
    done("release", "promote", "r2", *log, *SIGNED)
    releases = ReleaseLog(log[1], create=False)
    store = tmp_path / "state" / "new" / "bundles"
    for release, version in zip(releases.list(), (made.version, second.version), strict=True):
        assert Path(release.bundle_path) == store / version
        assert load_release(release).version == version
        assert Bundle.load(store / version).teacher is not None
        assert expectation(release).review == made.thresholds.review
        assert expectation(release).alert_rate == pytest.approx(made.profile["alert_rate"], abs=0.01)
    assert {path.name for path in store.iterdir()} == {made.version, second.version}


def test_a_release_registered_without_a_store_is_not_judged_by_its_successor(made: Bundle, tmp_path: Path) -> None:
    release = ReleaseLog(f"sqlite:///{tmp_path}/releases.db").register(
        made.path, made.version, actor="ann", reason="a test"
    )
    other = retrain(made)
    with pytest.raises(BundleDamagedError, match=f"bundle {other.version} is there now, not {made.version}"):
        expectation(release)


def test_a_kept_bundle_is_verified_and_never_written_again(made: Bundle, tmp_path: Path) -> None:
    place = keep(made, tmp_path / "store")
    written = (place / "student.onnx").stat().st_mtime_ns
    assert keep(made, tmp_path / "store") == keep(Bundle.load(place), tmp_path / "store") == place
    assert (place / "student.onnx").stat().st_mtime_ns == written
    (place / "thresholds.json").write_text("{}")
    with pytest.raises(BundleDamagedError, match=r"thresholds\.json is not what the manifest says"):
        keep(made, tmp_path / "store")


def test_a_log_that_is_no_file_needs_a_store(refused: Callable[..., str], made: Bundle) -> None:
    told = refused("release", "register", made.path, "--releases", "postgresql://ann:pw1234@db/x", *SIGNED)
    assert told.startswith("postgresql://ann:***@db/x: this log is in no file")
    assert "--store" in told


def test_another_store(done: Callable[..., str], made: Bundle, tmp_path: Path) -> None:
    log = ("--releases", f"sqlite:///{tmp_path}/a/releases.db")
    done("release", "register", made.path, *log, "--store", tmp_path / "b", *SIGNED)
    assert f"{tmp_path}/b/{made.version}" in done("release", "list", *log)
