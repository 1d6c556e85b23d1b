"""Why a score is what it is: which groups of features, and whose recent events, raised it most.

Group occlusion: each group in turn is set to its typical values, the student scores all versions in one batch, and
the fall of the logit is the group's effect (Covert et al., "Explaining by removing", 2021). The same row under the
same bundle always gets the same reasons. Where a student has early exits, its rule for short histories is left out:
an effect is of the events, not of the exit that their absence would lead to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from riskdistill.features import Encoded, Feature, FeatureSpec
from riskdistill.models.onnx_model import Scorer
from riskdistill.student.exit_scorer import EarlyExitScorer

MATERIAL = 0.05  # effects on the logit below this are not reasons


class Explained(Protocol):
    """Whose scores are explained: a bundle, or what will be one (see `riskdistill.bundle.Bundle`)."""

    @property
    def spec(self) -> FeatureSpec: ...
    @property
    def student(self) -> Scorer: ...
    @property
    def typical(self) -> NDArray[np.float32]: ...
    @property
    def spread(self) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Reason:
    """One reason.

    Attributes:
        code: the feature group, or "sender events" / "receiver events".
        text: in words, with the figure that stands out most.
        effect: how much it raised the logit.
    """

    code: str
    text: str
    effect: float


def reasons(bundle: Explained, encoded: Encoded, limit: int = 3) -> list[Reason]:
    """The strongest reasons for one row's score, the strongest first; empty where nothing raised it.

    Args:
        bundle: whose student is asked.
        encoded: exactly one row.
        limit: how many at most.
    """
    groups = bundle.spec.groups
    context = np.repeat(encoded.context, len(groups) + 3, axis=0)
    events = np.repeat(encoded.events, len(groups) + 3, axis=0)
    for row, columns in enumerate(groups.values(), start=1):
        context[row, list(columns)] = bundle.typical[list(columns)]
    half = bundle.spec.events_per_party
    events[-2, :half] = 0.0
    events[-1, half:] = 0.0
    student = bundle.student
    if isinstance(student, EarlyExitScorer):
        student = student.by_score_alone()  # or a row would leave earlier because its events were taken away
    logits = student.score(Encoded(context, events)).logit
    effects = logits[0] - logits[1:]
    codes = [*groups, "sender events", "receiver events"]
    order = sorted(range(len(codes)), key=lambda index: (-effects[index], index))
    return [
        Reason(codes[index], _text(bundle, encoded, codes[index]), round(float(effects[index]), 4))
        for index in order[:limit]
        if effects[index] >= MATERIAL
    ]


def _text(bundle: Explained, encoded: Encoded, code: str) -> str:
    columns = bundle.spec.groups.get(code)
    if columns is None:
        return f"the order and amounts of the {code.removesuffix(' events')}'s recent payments"
    row = encoded.context[0]
    column = max(columns, key=lambda candidate: _surprise(bundle, row, candidate))
    feature = bundle.spec.context[column]
    return (
        f"{feature.meaning}: {_value(feature, row[column])} (typically {_value(feature, bundle.typical[column])})"
    )


def _surprise(bundle: Explained, row: NDArray[np.float32], column: int) -> float:
    """Distance from the typical value in interquartile ranges; what is missing surprises least."""
    distance = abs(float(row[column]) - float(bundle.typical[column]))
    spread = float(bundle.spread[column])
    if np.isnan(distance):
        return 0.0
    return distance / (spread if spread > 0 else 1.0)


def _value(feature: Feature, value: float) -> str:
    if np.isnan(value):
        return "none"
    if feature.unit == "flag":
        return "yes" if value else "no"
    if feature.unit == "seconds":
        for size, name in ((86_400.0, "days"), (3_600.0, "hours"), (60.0, "minutes")):
            if value >= size:
                return f"{value / size:.1f} {name}"
        return f"{value:.0f} seconds"
    if feature.unit == "share":
        return f"{100 * value:.0f} %"
    number = f"{value:,.0f}" if abs(value) >= 100 or float(value).is_integer() else f"{value:,.2f}"
    return f"{number} {feature.unit}" if feature.unit not in {"ratio", "index", "bucket"} else number
