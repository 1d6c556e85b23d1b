"""The bundle: the self-contained, checked directory that is served.

    bundle/
      manifest.json      format, feature fingerprint, typologies, how it was made, SHA-256 of every other file
      features.json      the feature specification, with the typical value of each feature for explanations
      student.onnx  calibration.json  thresholds.json
        or segment_0.onnx …  exits.json in place of student.onnx, where the student has early exits
      teacher.onnx  teacher_gate.json  teacher_trees_0.txt …    the ensemble that teaches and takes the bypass
      profile.json  reference.parquet     what live traffic is compared with
      experiment.json  student_network.safetensors …    for retraining: how it was made, trained weights
      model_card.md

Nothing in it is executable or pickled. Whoever has the directory can score, explain and monitor; whoever changes
a byte of it is found out at load.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from riskdistill.data.rates import SECONDS_A_DAY, Rates
from riskdistill.errors import BundleDamagedError, BundleIncompatibleError, TrainingError, UnreadableFileError
from riskdistill.features import Encoded, FeatureEngine, FeatureSpec
from riskdistill.manifest import FORMAT_VERSION, MANIFEST, Manifest, read_json, sha256, verified_manifest
from riskdistill.models.calibration import Calibrator
from riskdistill.models.onnx_model import NetworkScorer, OnnxScorer, Provider, Scorer
from riskdistill.student.exit_scorer import RULE_FILE, EarlyExitScorer

EXPERIMENT: Final = "experiment.json"
NETWORK: Final = "_network."  # in the names of the files of trained weights, ROLE_network.json and .safetensors
Band = Literal["low", "medium", "high"]
Action = Literal["allow", "review", "hold"]
BypassReason = Literal["above_threshold", "uncertain"]
ACTIONS: Final[Mapping[Band, Action]] = {"low": "allow", "medium": "review", "high": "hold"}


class Thresholds(BaseModel):
    """Calibrated scores at which something happens; chosen on the validation period."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    review: float = Field(ge=0, le=1)
    hold: float = Field(ge=0, le=1)
    uncertain_low: float = Field(ge=0, le=1)
    uncertain_high: float = Field(ge=0, le=1)
    high_risk: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not (self.review <= self.hold and self.uncertain_low <= self.uncertain_high):
            raise ValueError("review must not be above hold, nor uncertain_low above uncertain_high")
        return self

    def band(self, score: float) -> Band:
        """The risk band of a score."""
        if score >= self.hold:
            return "high"
        return "medium" if score >= self.review else "low"

    def bypass(self, score: float) -> BypassReason | None:
        """Why a student's score goes on to the teacher, or None where the student decides."""
        if score >= self.high_risk:
            return "above_threshold"
        return "uncertain" if self.uncertain_low <= score < self.uncertain_high else None


class KnownRates(BaseModel):
    """The rates to the dollar that were known at the end of the training.

    Attributes:
        until: that day, counted from 1970.
        fingerprint: as `Rates.known_on` tells them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    until: int
    fingerprint: str

    @classmethod
    def of(cls, rates: Rates, until: datetime) -> KnownRates:
        """Of `rates`, as known on the day of `until`."""
        day = int(until.timestamp() // SECONDS_A_DAY)
        return cls(until=day, fingerprint=rates.known_on(day))


@dataclass(frozen=True)
class BundleParts:
    """What `write_bundle` puts into a bundle beside the ONNX files.

    Attributes:
        rates: which rates to the dollar the models were trained at.
        typical: float32 [features], the median of each feature, for explanations.
        spread: float32 [features], the interquartile range of each.
        profile: JSON-able reference profile that the monitor wrote.
        reference: Parquet file with a sample of reference rows, or None.
        experiment: JSON of a `provenance.Provenance`, or None where it will not be retrained.
    """

    name: str
    created_at: datetime
    dataset_fingerprint: str
    spec: FeatureSpec
    rates: KnownRates
    typologies: tuple[str, ...]
    parameters: Mapping[str, int]
    thresholds: Thresholds
    calibrators: Mapping[str, Calibrator]
    typical: NDArray[np.float32]
    spread: NDArray[np.float32]
    profile: Mapping[str, Any]
    reference: Path | None
    model_card: str
    experiment: str | None = None


class Runtime(NamedTuple):
    """What computes a bundle's networks."""

    threads: int = 1  # of one scoring call
    provider: Provider = "cpu"


@dataclass
class Bundle:
    """A verified bundle, ready to score.

    Attributes:
        student: always there.
        teacher: None until `load_teacher`, or for good where the bundle has none.
        typical, spread: float32 [features], see `BundleParts`.
    """

    path: Path
    manifest: Manifest
    spec: FeatureSpec
    rates: KnownRates
    thresholds: Thresholds
    profile: dict[str, Any]
    student: Scorer
    teacher: NetworkScorer | None
    typical: NDArray[np.float32]
    spread: NDArray[np.float32]
    runtime: Runtime

    @classmethod
    def load(cls, path: Path, *, teacher: bool = True, threads: int = 1, provider: Provider = "cpu") -> Bundle:
        """Verify every file and load the models.

        Args:
            path: the bundle's directory.
            teacher: whether to load the teacher now; `load_teacher` does it later.
            threads: of one scoring call.
            provider: what computes the networks, see `models.onnx_model.open_session`.

        Raises:
            BundleDamagedError: a file is missing, unreadable or was changed.
            BundleIncompatibleError: written for another format or features, or of models of several datasets; or
                the provider is not there.
        """
        manifest = verified_manifest(path)
        try:
            return cls._load(path, manifest, teacher, Runtime(threads, provider))
        except (ValidationError, KeyError, TypeError) as error:
            told = " ".join(str(error).split())  # pydantic tells in several lines
            raise BundleDamagedError(
                f"its files do not hold what they should ({told})", where=str(path), mend="build the bundle again"
            ) from error

    @classmethod
    def _load(cls, path: Path, manifest: Manifest, teacher: bool, runtime: Runtime) -> Bundle:
        features = read_json(path / "features.json")
        try:
            spec = FeatureSpec.told(features["spec"])
        except ValidationError as error:
            raise BundleIncompatibleError(
                f"its feature specification is none of this version ({error.errors()[0]['msg']})",
                where=str(path),
                mend="serve it with the version that made it",
            ) from error
        current = spec.fingerprint  # of these settings, as this version computes them
        if manifest.feature_fingerprint != current or features["spec"] != spec.model_dump(mode="json"):
            raise BundleIncompatibleError(
                f"made for features {manifest.feature_fingerprint}, this version computes {current}",
                where=str(path),
                mend="train a bundle with this version, or serve it with the version that made it",
            )
        bundle = cls(
            path=path,
            manifest=manifest,
            spec=spec,
            rates=KnownRates.model_validate(features["rates"]),
            thresholds=Thresholds.model_validate(read_json(path / "thresholds.json")),
            profile=read_json(path / "profile.json"),
            student=_student(path, manifest, runtime),
            teacher=None,
            typical=_floats(features["typical"]),
            spread=_floats(features["spread"]),
            runtime=runtime,
        )
        if teacher:
            bundle.load_teacher()
        return bundle

    @property
    def has_teacher(self) -> bool:
        """Whether the bundle comes with a teacher, loaded or not."""
        return "teacher.onnx" in self.manifest.files

    def load_teacher(self, first: Encoded | None = None) -> None:
        """Load the teacher, if the bundle has one and it is not loaded yet.

        Args:
            first: a row that it scores before it can be seen, so that nobody else pays for first-time work.
        """
        if self.teacher is None and self.has_teacher:
            teacher = _teacher(self.path, self.manifest, self.runtime)
            if first is not None:
                teacher.score(first)
            self.teacher = teacher

    @property
    def version(self) -> str:
        """16 hex digits over the content of all files."""
        return self.manifest.version

    @property
    def typologies(self) -> tuple[str, ...]:
        """Names of the typology classes, in the order of `Scored.typology`."""
        return self.manifest.typologies

    def engine(self, rates: Rates | None = None) -> FeatureEngine:
        """A new, empty feature engine of this bundle's specification.

        Args:
            rates: dollars per unit as of a day, where the bundle was trained with such a file. They go on after the
                training, so they are no part of the bundle; up to its end they must be the same.

        Raises:
            BundleIncompatibleError: they are not.
        """
        engine = FeatureEngine(self.spec, rates)
        if engine.rates.known_on(self.rates.until) != self.rates.fingerprint:
            raise BundleIncompatibleError(
                "trained at other rates to the dollar",
                where=str(self.path),
                mend="give the file of rates that it was trained with: --rates, or RISKDISTILL_RATES",
            )
        return engine


def write_bundle(path: Path, parts: BundleParts, models: Sequence[Path]) -> Bundle:
    """Write a bundle beside its final place, verify it, and move it there; no half-written one is ever seen.

    Args:
        path: where it goes; an older bundle there is replaced.
        parts: everything but the models.
        models: files of the models: all of the student's and, optionally, all of the teacher's.
    """
    draft = path.with_name(f".{path.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for file in models:
        shutil.copyfile(file, draft / file.name)
    if parts.reference is not None:
        shutil.copyfile(parts.reference, draft / "reference.parquet")
    typical, spread = _numbers(parts.typical), _numbers(parts.spread)
    features = {
        "spec": parts.spec.model_dump(mode="json"),
        "rates": parts.rates.model_dump(),
        "typical": typical,
        "spread": spread,
    }
    calibrators = {role: calibrator.model_dump() for role, calibrator in parts.calibrators.items()}
    _write_json(draft / "features.json", features)
    _write_json(draft / "calibration.json", calibrators)
    _write_json(draft / "thresholds.json", parts.thresholds.model_dump())
    _write_json(draft / "profile.json", parts.profile)
    (draft / "model_card.md").write_text(parts.model_card)
    if parts.experiment is not None:
        (draft / EXPERIMENT).write_text(parts.experiment)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name=parts.name,
        created_at=parts.created_at,
        feature_fingerprint=parts.spec.fingerprint,
        dataset_fingerprint=parts.dataset_fingerprint,
        typologies=parts.typologies,
        parameters=dict(parts.parameters),
        files={file.name: sha256(file) for file in sorted(draft.iterdir())},
    ).sealed()
    _write_json(draft / MANIFEST, manifest.model_dump(mode="json"))
    Bundle.load(draft)
    older = path.with_name(f".{path.name}.older")
    shutil.rmtree(older, ignore_errors=True)
    if path.exists():
        os.replace(path, older)  # a directory that holds files cannot be replaced in one step
    os.replace(draft, path)
    shutil.rmtree(older, ignore_errors=True)
    return Bundle.load(path)


def rebuild_bundle(bundle: Bundle, path: Path, *, calibrators: Mapping[str, Calibrator]) -> Bundle:
    """Write a copy of `bundle` with other calibrators, which its card tells: models and thresholds stay."""
    manifest, reference, experiment = bundle.manifest, bundle.path / "reference.parquet", bundle.path / EXPERIMENT
    told = f"\nRebuilt from bundle `{bundle.version}` with other calibrators, after all that is measured here.\n"
    parts = BundleParts(
        name=manifest.name,
        created_at=manifest.created_at,
        dataset_fingerprint=manifest.dataset_fingerprint,
        spec=bundle.spec,
        rates=bundle.rates,
        typologies=manifest.typologies,
        parameters=manifest.parameters,
        thresholds=bundle.thresholds,
        calibrators=calibrators,
        typical=bundle.typical,
        spread=bundle.spread,
        profile=bundle.profile,
        reference=reference if reference.exists() else None,
        model_card=(bundle.path / "model_card.md").read_text() + told,
        experiment=experiment.read_text() if experiment.exists() else None,
    )
    return write_bundle(path, parts, [bundle.path / name for name in manifest.files if _is_model(name)])


def _is_model(name: str) -> bool:
    return name.endswith(".onnx") or name.startswith("teacher_") or NETWORK in name or name == RULE_FILE


def _scorer(path: Path, role: str, manifest: Manifest, runtime: Runtime) -> OnnxScorer:
    return OnnxScorer(
        path / f"{role}.onnx",
        _calibrator(path, role),
        threads=runtime.threads,
        provider=runtime.provider,
        dataset=manifest.dataset_fingerprint,
    )


def _student(path: Path, manifest: Manifest, runtime: Runtime) -> Scorer:
    """In segments, or a single network where there are no early exits."""
    if RULE_FILE not in manifest.files:
        return _scorer(path, "student", manifest, runtime)
    return EarlyExitScorer(
        path,
        _calibrator(path, "student"),
        threads=runtime.threads,
        provider=runtime.provider,
        dataset=manifest.dataset_fingerprint,
    )


def _calibrator(path: Path, role: str) -> Calibrator:
    return Calibrator.model_validate(read_json(path / "calibration.json")[role])


def _teacher(path: Path, manifest: Manifest, runtime: Runtime) -> NetworkScorer:
    """The ensemble, or a single network where there is no gate."""
    # here: it takes longer to import than all of the student, which serves meanwhile
    from riskdistill.models.ensemble_scorer import GATE, EnsembleScorer

    if GATE not in manifest.files:
        return _scorer(path, "teacher", manifest, runtime)
    try:
        return EnsembleScorer(
            path,
            _calibrator(path, "teacher"),
            threads=runtime.threads,
            provider=runtime.provider,
            dataset=manifest.dataset_fingerprint,
        )
    except (TrainingError, UnreadableFileError) as error:
        raise BundleIncompatibleError(
            f"its teacher's parts do not belong together ({error})", where=str(path), mend="build the bundle again"
        ) from error


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False))


def _numbers(values: NDArray[np.float32]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _floats(values: list[float | None]) -> NDArray[np.float32]:
    return np.array([np.nan if value is None else value for value in values], np.float32)
