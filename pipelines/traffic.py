"""What drift compares beside features and scores: kinds of payments and decisions, and segments of the traffic."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from monitoring.profile import Segment
from monitoring.segments import segment_rows
from riskdistill.bundle import Thresholds
from riskdistill.data.schema import NORMAL
from riskdistill.features import Encoded
from riskdistill.reasons import Explainable, explain

COLUMNS: Final = {
    "bank": "sender_bank",
    "channel": "payment_format",
    "country": "sender_country",
    "class": "sender_class",
    "currency": "currency_paid",
}
EXPLAINED: Final = 200  # alerts whose reasons are looked for


@dataclass(frozen=True)
class Kinds:
    """Categories and segments of some traffic, see `monitoring.profile.build_profile`."""

    categories: dict[str, Any]
    segments: dict[str, Segment]


def kinds_of(
    transactions: pa.Table,
    encoded: Encoded,
    score: NDArray[np.float64],
    *,
    thresholds: Thresholds,
    student: Explainable,
    typologies: tuple[str, ...],
    watched: Collection[str] | None = None,
) -> Kinds:
    """Look at scored transactions, row for row.

    Args:
        transactions: canonical.
        encoded, score: as the student saw and scored them.
        thresholds: from which scores there is an alert, and the teacher is asked.
        student: who scored, for reasons.
        typologies: names of the classes.
        watched: the segments; by default those that are worth it here.
    """
    alert = score >= thresholds.review
    alerts = np.flatnonzero(alert)
    categories: dict[str, Any] = {name: transactions[column] for name, column in COLUMNS.items()}
    categories["route"] = _routes(score, thresholds)
    if len(alerts):
        laundering = [place for place, name in enumerate(typologies) if name != NORMAL]
        if laundering:
            likely = student.student.score_all(encoded.take(alerts)).typology[:, laundering].argmax(1)
            categories["typology"] = np.array(typologies)[laundering][likely].tolist()
        some = alerts[np.linspace(0, len(alerts) - 1, min(EXPLAINED, len(alerts))).astype(np.int64)]
        told = [explain(student, encoded.take(slice(row, row + 1)), limit=1).reasons for row in some.tolist()]
        categories["reason"] = [found[0].code if found else "none" for found in told]
    segments = {
        name: Segment(rows=int(rows.sum()), alert_rate=float(alert[rows].mean()))
        for name, rows in segment_rows(transactions, watched).items()
    }
    return Kinds(categories, segments)


def _routes(score: NDArray[np.float64], thresholds: Thresholds) -> list[str]:
    """Whom each score would go to, and why; it does not tell of the sample, nor of the teacher's failures."""
    high = score >= thresholds.high_risk
    unsure = (score >= thresholds.uncertain_low) & (score < thresholds.uncertain_high)
    return np.select([high, unsure], ["teacher: above_threshold", "teacher: uncertain"], "student").tolist()  # type: ignore[no-any-return]
