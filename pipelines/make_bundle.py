"""The last step of a run: thresholds and reference profile, written with the model card as a checked bundle."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monitoring.profile import ReferenceProfile, build_profile, draw_sample
from pipelines.datasets import Prepared
from pipelines.model_card import Carded, model_card
from pipelines.served import Served
from pipelines.traffic import kinds_of
from riskdistill.bundle import Bundle, BundleParts, KnownRates, Thresholds, write_bundle
from riskdistill.config import ExperimentConfig, ServingConfig
from riskdistill.data.rates import Rates
from riskdistill.evaluation.metrics import STUDENT, TEACHER, MetricsReport, ScoredPeriod
from riskdistill.evaluation.thresholds import choose_threshold
from riskdistill.features import FeatureSpec
from riskdistill.models.kept_networks import network_files
from riskdistill.models.onnx_model import Scorer
from riskdistill.provenance import Provenance
from riskdistill.reasons import Explainable


@dataclass(frozen=True)
class _Student:
    """A student whose bundle is not written yet, to be explained."""

    spec: FeatureSpec
    student: Scorer
    typical: NDArray[np.float32]
    spread: NDArray[np.float32]


def choose_thresholds(
    student: NDArray[np.float64],
    teacher: NDArray[np.float64],
    label: NDArray[np.bool_],
    days: float,
    serving: ServingConfig,
) -> Thresholds:
    """Thresholds from scores on the validation period, which is `days` long.

    The student's scores say what goes on to the teacher; what is reviewed and held is chosen among the scores that
    then decide, so that the rule of reviewing is kept by the routed service.
    """

    def exceeded_by(share: float, scores: NDArray[np.float64]) -> float:
        return float(np.quantile(scores, 1 - min(1.0, share)))

    half = serving.uncertain_width / 2
    reviewed = float((student >= choose_threshold(student, label, days, serving.review)).mean())
    high_risk = exceeded_by(serving.high_risk_budget, student)
    low = exceeded_by(reviewed + half, student)
    high = max(low, min(high_risk, exceeded_by(max(0.0, reviewed - half), student)))
    asked = (student >= high_risk) | ((student >= low) & (student < high))
    decided = np.where(asked, teacher, student)
    review = min(1.0, choose_threshold(decided, label, days, serving.review))
    return Thresholds(
        review=review,
        hold=max(review, exceeded_by(serving.hold_budget, decided)),
        uncertain_low=low,
        uncertain_high=high,
        high_risk=high_risk,
    )


def make_bundle(
    prepared: Prepared,
    config: ExperimentConfig,
    served: Served,
    validation: ScoredPeriod,
    test: ScoredPeriod,
    report: MetricsReport,
    out: Path,
    provenance: Provenance,
) -> Bundle:
    """The bundle of student and teacher; its reference is the validation period.

    It holds the weights as they were trained and how they came about, so that it can be retrained.
    """
    dataset = prepared.dataset
    score = validation.scores[STUDENT]
    later = slice(len(score) // 2, None)  # the half on which nothing was fitted but the calibration
    fold = dataset.validation.take(later)
    days = (fold.end - fold.start).total_seconds() / 86_400
    thresholds = choose_thresholds(
        score[later], validation.scores[TEACHER][later], fold.label, days, config.serving
    )
    quartiles = np.nanquantile(_without_empty_columns(dataset.train_context), (0.25, 0.5, 0.75), axis=0)
    typical, spread = quartiles[1].astype(np.float32), (quartiles[2] - quartiles[0]).astype(np.float32)
    student = _Student(dataset.spec, served.scorers[STUDENT], typical, spread)
    profile = _profile(prepared, student, score, thresholds)
    reference = out / "reference.parquet"
    draw_sample(dataset.validation.encoded.context, dataset.spec.names, score, seed=config.seed).to_parquet(
        reference
    )
    created_at = datetime.now(UTC).replace(microsecond=0)
    carded = Carded(config, prepared, served, report, test, thresholds, profile, provenance)
    parts = BundleParts(
        name=config.name,
        created_at=created_at,
        dataset_fingerprint=dataset.fingerprint,
        spec=dataset.spec,
        rates=KnownRates.of(Rates.read(config.features.rates), dataset.train_span[1]),
        typologies=dataset.typologies,
        parameters={role: report.models[role].parameters for role in (STUDENT, TEACHER)},
        thresholds=thresholds,
        calibrators={role: served.calibrators[role] for role in (STUDENT, TEACHER)},
        typical=typical,
        spread=spread,
        profile=profile.model_dump(mode="json"),
        reference=reference,
        model_card=model_card(carded, created_at),
        experiment=provenance.model_dump_json(indent=1),
    )
    networks = network_files(out / "models", (STUDENT, *served.teachers.names), out / "onnx")
    bundle = write_bundle(out / "bundle", parts, [*served.files, *networks])
    shutil.rmtree(out / "onnx")
    reference.unlink()
    return bundle


def _profile(
    prepared: Prepared, student: Explainable, score: NDArray[np.float64], thresholds: Thresholds
) -> ReferenceProfile:
    """What the validation period looks like to a student that gave it these scores."""
    dataset = prepared.dataset
    period = dataset.validation
    kinds = kinds_of(
        prepared.validation,
        period.encoded,
        score,
        thresholds=thresholds,
        student=student,
        typologies=dataset.typologies,
    )
    return build_profile(
        period.encoded.context,
        dataset.spec.names,
        score,
        alert_rate=float((score >= thresholds.review).mean()),
        bypass_rate=float(np.mean([thresholds.bypass(value) is not None for value in score])),
        hours=max((period.end - period.start).total_seconds() / 3_600, 1 / 60),
        times=period.time,
        categories=kinds.categories,
        segments=kinds.segments,
    )


def _without_empty_columns(context: NDArray[np.float32]) -> NDArray[np.float32]:
    """Columns that are NaN in every row become 0: what a source never has is never surprising."""
    return np.where(np.isnan(context).all(axis=0), np.float32(0), context)
