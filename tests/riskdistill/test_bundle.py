"""The bundle: whole, unchanged and compatible, or refused by name; and the thresholds in it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from monitoring.profile import load_profile
from riskdistill.bundle import (
    ACTIONS,
    Bundle,
    BundleParts,
    KnownRates,
    Thresholds,
    write_bundle,
)
from riskdistill.data.rates import Rates
from riskdistill.dataset import Dataset
from riskdistill.errors import BundleDamagedError, BundleError, BundleIncompatibleError
from riskdistill.features import FeatureSpec
from riskdistill.manifest import FORMAT_VERSION, MANIFEST, Manifest, verified_manifest
from riskdistill.models import onnx_model
from riskdistill.models.calibration import Calibrator
from riskdistill.models.onnx_model import DATASET_KEY

FILES = [
    "calibration.json",
    "features.json",
    "model_card.md",
    "profile.json",
    "reference.parquet",
    "student.onnx",
    "teacher.onnx",
    "thresholds.json",
]


@pytest.fixture
def copied(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / "copied"))


@pytest.fixture
def parts(tiny_dataset: Dataset, tiny_run: tiny.TinyRun, tmp_path: Path) -> BundleParts:
    calibrators = {role: Calibrator() for role in tiny_run.onnx}
    return tiny.bundle_parts(tiny_dataset, calibrators, tiny_run.onnx["student"], tmp_path)


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest and seal it again, as another version or a forger would."""
    told = json.loads((path / MANIFEST).read_text())
    change(told)
    if told["format_version"] == FORMAT_VERSION:
        told = Manifest.model_validate(told).sealed().model_dump(mode="json")
    (path / MANIFEST).write_text(json.dumps(told))


# ---- whole


def test_a_bundle_comes_back_as_it_was_written(
    tiny_bundle: Bundle, tiny_run: tiny.TinyRun, tiny_dataset: Dataset
) -> None:
    assert sorted(os.listdir(tiny_bundle.path)) == sorted([*FILES, MANIFEST])
    loaded = Bundle.load(tiny_bundle.path)
    assert loaded.version == tiny_bundle.version
    assert len(loaded.version) == 16
    assert loaded.spec == tiny_dataset.spec
    assert loaded.typologies == tiny_dataset.typologies
    assert loaded.thresholds == tiny_bundle.thresholds
    assert loaded.manifest.dataset_fingerprint == tiny_dataset.fingerprint
    assert loaded.teacher is not None
    rows = tiny_dataset.test.encoded
    for before, after in ((tiny_bundle.student, loaded.student), (tiny_bundle.teacher, loaded.teacher)):
        assert before is not None
        np.testing.assert_array_equal(before.score(rows).score, after.score(rows).score)
    profile = load_profile(loaded.profile)
    assert profile.names == loaded.spec.names
    assert profile.rows == len(tiny_dataset.validation)


def told_of(path: Path, role: str, metadata: dict[str, str]) -> None:
    """Give a bundle's model other metadata, and seal the bundle again."""
    file = path / f"{role}.onnx"
    model = onnx.load(file)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    rewritten(path, lambda told: told["files"].update({file.name: digest}))


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_models_of_another_dataset_are_refused(tiny_bundle: Bundle, copied: Path, role: str) -> None:
    told_of(copied, role, {DATASET_KEY: "0123456789abcdef"})
    found = f"0123456789abcdef, not {tiny_bundle.manifest.dataset_fingerprint}"
    with pytest.raises(BundleIncompatibleError, match=found):
        Bundle.load(copied)


def test_a_model_that_names_no_dataset_is_older_and_passes(copied: Path) -> None:
    told_of(copied, "student", {})
    assert Bundle.load(copied).teacher is not None


def test_the_engine_of_a_bundle_encodes_what_its_models_read(
    tiny_bundle: Bundle, tiny_tables: tuple[Any, Any]
) -> None:
    encoded = tiny_bundle.engine().encode(tiny_tables[0].slice(0, 50))
    scored = tiny_bundle.student.score(encoded)
    assert scored.score.shape == (50,)
    assert scored.typology.shape == (50, len(tiny_bundle.typologies))
    assert len(tiny_bundle.engine()) == 0


def test_a_bundle_of_other_windows_is_written_and_read(
    parts: BundleParts, tiny_run: tiny.TinyRun, tmp_path: Path
) -> None:
    windows = tuple(2 * seconds for seconds in parts.spec.windows)
    spec = FeatureSpec(**parts.spec.model_dump(include=set(FeatureSpec.model_fields)) | {"windows": windows})
    bundle = write_bundle(tmp_path / "b", replace(parts, spec=spec), list(tiny_run.onnx.values()))
    assert Bundle.load(bundle.path).spec == spec


def test_a_bundle_trained_at_rates_of_the_day_is_not_served_at_others(
    parts: BundleParts, tiny_run: tiny.TinyRun, tmp_path: Path
) -> None:
    rates, grown = Rates({"EUR": {20_000: 1.1}}), Rates({"EUR": {20_000: 1.1, 20_900: 1.2}})
    until = datetime(2026, 1, 1, tzinfo=UTC)
    bundle = write_bundle(
        tmp_path / "b", replace(parts, rates=KnownRates.of(rates, until)), list(tiny_run.onnx.values())
    )
    assert bundle.engine(grown).rates is grown
    for other in (None, Rates({"EUR": {20_000: 1.3}})):
        with pytest.raises(BundleIncompatibleError, match="other rates"):
            bundle.engine(other)


def test_the_teacher_is_loaded_on_demand(tiny_bundle: Bundle) -> None:
    bundle = Bundle.load(tiny_bundle.path, teacher=False)
    assert bundle.teacher is None
    bundle.load_teacher()
    first = bundle.teacher
    bundle.load_teacher()
    assert bundle.teacher is first is not None


def test_the_provider_computes_student_and_teacher(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    open_session = onnx_model.open_session

    def opened(path: Path, threads: int, provider: str, dataset: str) -> Any:
        asked.append(f"{path.stem} {provider}")
        return open_session(path, threads, dataset=dataset)

    monkeypatch.setattr(onnx_model, "open_session", opened)
    Bundle.load(tiny_bundle.path, provider="cuda", teacher=False).load_teacher()
    assert asked == ["student cuda", "teacher cuda"]


def test_a_bundle_may_have_no_teacher(parts: BundleParts, tiny_run: tiny.TinyRun, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "alone", parts, [tiny_run.onnx["student"]])
    assert bundle.teacher is None
    assert not (bundle.path / "teacher.onnx").exists()


def test_missing_typical_values_survive(parts: BundleParts, tiny_run: tiny.TinyRun, tmp_path: Path) -> None:
    parts.typical[3] = np.nan
    bundle = write_bundle(tmp_path / "b", parts, list(tiny_run.onnx.values()))
    np.testing.assert_array_equal(bundle.typical, parts.typical)


def test_the_version_follows_the_content(parts: BundleParts, tiny_run: tiny.TinyRun, tmp_path: Path) -> None:
    one, same = (write_bundle(tmp_path / name, parts, list(tiny_run.onnx.values())) for name in ("one", "same"))
    assert one.version == same.version
    parts.typical[0] += 1
    assert write_bundle(tmp_path / "other", parts, list(tiny_run.onnx.values())).version != one.version


# ---- damaged or incompatible


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_one_changed_byte_is_found_and_the_file_named(copied: Path, name: str, place: float) -> None:
    content = bytearray((copied / name).read_bytes())
    content[round(place * (len(content) - 1))] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(BundleDamagedError, match=name):
        Bundle.load(copied)


def test_one_changed_byte_anywhere_in_the_manifest_is_found(copied: Path) -> None:
    content = (copied / MANIFEST).read_bytes()
    unseen = []
    for place in range(len(content)):
        (copied / MANIFEST).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            verified_manifest(copied)
            unseen.append(place)
        except BundleError as error:
            assert "\n" not in str(error)  # noqa: PT017 - most places raise one class, some the other
    assert unseen == []


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(BundleDamagedError, match=name):
        Bundle.load(copied)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b"\xff\xfe", b'{"format_version": 1}'])
def test_a_manifest_that_is_none_is_refused(copied: Path, content: bytes) -> None:
    (copied / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError):
        Bundle.load(copied)


def test_another_format_version_is_incompatible(copied: Path) -> None:
    rewritten(copied, lambda told: told.update(format_version=99))
    with pytest.raises(BundleIncompatibleError, match="bundle format 99, this version reads 1"):
        Bundle.load(copied)


def test_another_feature_fingerprint_is_incompatible(copied: Path) -> None:
    rewritten(copied, lambda told: told.update(feature_fingerprint="0" * 16))
    with pytest.raises(BundleIncompatibleError, match="made for features 0000000000000000"):
        Bundle.load(copied)


@pytest.mark.parametrize("change", [{"record_version": 0}, {"record_version": "one"}, {"windows": [60.0, 5.0]}])
def test_a_bundle_of_another_specification_is_incompatible(copied: Path, change: dict[str, Any]) -> None:
    """Whole and unchanged, but written by a version with other features."""
    features = json.loads((copied / "features.json").read_text())
    features["spec"].update(change)
    (copied / "features.json").write_text(json.dumps(features))
    digest = hashlib.sha256((copied / "features.json").read_bytes()).hexdigest()
    rewritten(copied, lambda told: told["files"].update({"features.json": digest}))
    with pytest.raises(BundleIncompatibleError, match="this version"):
        Bundle.load(copied)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "sub/file", ".."])
def test_a_manifest_cannot_name_a_file_outside(copied: Path, name: str) -> None:
    (copied.parent / "outside").write_bytes(b"")
    rewritten(copied, lambda told: told["files"].update({name: "0" * 64}))
    with pytest.raises(BundleDamagedError, match=r"leaves the bundle|is missing"):
        Bundle.load(copied)


@pytest.mark.parametrize("name", ["nowhere", "a file"])
def test_a_path_without_a_bundle_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a file").write_bytes(b"")
    with pytest.raises(BundleDamagedError, match="name the directory of a bundle"):
        Bundle.load(tmp_path / name)


# ---- replaced


def test_a_new_bundle_takes_the_old_one_s_place(copied: Path, parts: BundleParts, tiny_run: tiny.TinyRun) -> None:
    (copied / "left over").write_text("from the old one")
    parts.typical[0] += 1
    bundle = write_bundle(copied, parts, list(tiny_run.onnx.values()))
    assert sorted(os.listdir(copied)) == sorted([*FILES, MANIFEST])
    assert Bundle.load(copied).version == bundle.version
    assert [entry.name for entry in copied.parent.iterdir() if entry.name.startswith(".")] == []


@pytest.mark.parametrize("failure", ["no such model", "not a model", "no number"])
def test_a_failed_write_leaves_the_old_bundle(
    copied: Path, parts: BundleParts, tiny_run: tiny.TinyRun, tmp_path: Path, failure: str
) -> None:
    before = Bundle.load(copied).version
    models = dict(tiny_run.onnx)
    if failure == "no such model":
        models["student"] = tmp_path / "none" / "student.onnx"
    elif failure == "not a model":
        models["student"] = tmp_path / "student.onnx"
        models["student"].write_text("text")
    else:
        parts = BundleParts(**(vars(parts) | {"profile": {"rows": float("nan")}}))
    with pytest.raises((OSError, ValueError, BundleDamagedError)):
        write_bundle(copied, parts, list(models.values()))
    assert Bundle.load(copied).version == before


# ---- thresholds

scores = st.floats(0, 1)
ordered = st.builds(
    lambda actions, uncertain, high: Thresholds(
        review=min(actions),
        hold=max(actions),
        uncertain_low=min(uncertain),
        uncertain_high=max(uncertain),
        high_risk=high,
    ),
    st.tuples(scores, scores),
    st.tuples(scores, scores),
    scores,
)


@given(ordered, scores, scores)
def test_a_higher_score_never_lowers_the_band(thresholds: Thresholds, one: float, other: float) -> None:
    order = ["low", "medium", "high"]
    low, high = sorted((one, other))
    assert order.index(thresholds.band(low)) <= order.index(thresholds.band(high))


@given(ordered)
def test_a_threshold_belongs_to_what_begins_there(thresholds: Thresholds) -> None:
    assert thresholds.band(thresholds.hold) == "high"
    if thresholds.review < thresholds.hold:
        assert thresholds.band(thresholds.review) == "medium"
    if thresholds.review > 0:
        assert thresholds.band(np.nextafter(thresholds.review, 0)) == "low"
    assert [ACTIONS[band] for band in ("low", "medium", "high")] == ["allow", "review", "hold"]


@given(ordered, scores)
def test_the_bypass_is_taken_at_high_risk_and_where_the_student_is_uncertain(
    thresholds: Thresholds, score: float
) -> None:
    reason = thresholds.bypass(score)
    if score >= thresholds.high_risk:
        assert reason == "above_threshold"
    else:
        assert (reason == "uncertain") == (thresholds.uncertain_low <= score < thresholds.uncertain_high)


@pytest.mark.parametrize(
    "wrong", [{"review": 0.9}, {"uncertain_low": 0.8}, {"hold": 1.1}, {"review": -0.1}, {"hold": float("nan")}]
)
def test_thresholds_out_of_order_are_refused(wrong: dict[str, float]) -> None:
    right = {"review": 0.5, "hold": 0.8, "uncertain_low": 0.4, "uncertain_high": 0.6, "high_risk": 0.9}
    Thresholds(**right)
    with pytest.raises(ValidationError):
        Thresholds(**(right | wrong))
