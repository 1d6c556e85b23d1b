"""Answers why a stored decision is what it is, as far as the log and the warm bundles tell."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, Field

from api.serving_bundle import Warm
from riskdistill.bundle import Bundle
from riskdistill.errors import RiskDistillError
from riskdistill.features.encoded import Encoded
from riskdistill.features.packed import unpack
from riskdistill.models.onnx_model import Scorer
from riskdistill.reasons import Explanation, Reason, explain
from riskdistill.storage.decisions import Decision, Route, StatedReason

_SAME = 1e-6  # a score computed again must be this near


class View(BaseModel):
    """What one model makes of the row that was scored, now."""

    score: float
    reproduced: bool | None = Field(description="whether that is the stored score; None where none is stored")
    reasons: tuple[StatedReason, ...]
    past: tuple[StatedReason, ...] = Field(description="past payments that raised the score most, each alone")


class Explained(BaseModel):
    """A decision explained. `lacks` says what could not be told, and why."""

    decision_id: str
    tx_id: str
    bundle_version: str
    score: float
    route: Route
    typology: str | None
    suppression: str | None
    catalogue: str | None = Field(description="version of the sentences that `reasons` are told in")
    reasons: tuple[StatedReason, ...] = Field(description="as stored with the decision")
    past: tuple[StatedReason, ...]
    facts: dict[str, float] = Field(description="values that the stored reasons name")
    student: View | None
    teacher: View | None
    features: dict[str, float | None] | None = Field(description="all features that were read; None: no such thing")
    lacks: list[str]


def explained(decision: Decision, warm: Warm | None) -> Explained:
    """The stored reasons, and the models' views where row and bundle are there."""
    lacks: list[str] = []
    row, bundle = _row(decision, lacks), _bundle(decision, warm, lacks)
    student = teacher = features = None
    if row is not None and bundle is not None:
        student = _view(bundle, row, bundle.student, decision.student_score)
        values = zip(bundle.spec.names, map(float, row.context[0]), strict=True)
        features = {name: None if np.isnan(value) else value for name, value in values}
        if bundle.teacher is not None:
            teacher = _view(bundle, row, bundle.teacher, decision.teacher_score)
        else:
            lacks.append("the bundle has no teacher that is loaded")
    stored = decision.explained
    return Explained(
        decision_id=decision.decision_id,
        tx_id=decision.tx_id,
        bundle_version=decision.bundle_version,
        score=decision.score,
        route=decision.route,
        typology=decision.typology,
        suppression=decision.suppression,
        catalogue=stored.catalogue if stored else None,
        reasons=decision.reasons,
        past=stored.past if stored else (),
        facts=stored.facts if stored else {},
        student=student,
        teacher=teacher,
        features=features,
        lacks=lacks,
    )


def stated(found: tuple[Reason, ...]) -> tuple[StatedReason, ...]:
    """Reasons as a decision stores them."""
    return tuple(StatedReason(code=one.code, text=one.text, effect=one.effect) for one in found)


def _row(decision: Decision, lacks: list[str]) -> Encoded | None:
    if decision.features is None:
        lacks.append(
            "the features that were read are kept of alerts and samples only (RISKDISTILL_KEEP_FEATURES=all keeps "
            "all); a replay of the log gives them again"
        )
        return None
    try:
        return unpack(decision.features)
    except RiskDistillError as error:
        lacks.append(str(error))
        return None


def _bundle(decision: Decision, warm: Warm | None, lacks: list[str]) -> Bundle | None:
    for bundle in warm.all if warm is not None else ():
        if bundle.version == decision.bundle_version:
            return bundle
    lacks.append(f"bundle {decision.bundle_version} is not warm, so its models cannot be asked again")
    return None


def _view(bundle: Bundle, row: Encoded, model: Scorer, stored: float | None) -> View:
    score = float(model.score(row).score[0])
    found: Explanation = explain(bundle, row, model=model)
    return View(
        score=score,
        reproduced=None if stored is None else abs(score - stored) <= _SAME,
        reasons=stated(found.reasons),
        past=stated(found.past),
    )
