"""Error analysis: what a model misses and what it alerts for nothing, by typology, segment and amount.

What is missed most is what a retraining makes more of (`emphasis`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from riskdistill.evaluation.ranking import Floats, Labels, alert_probability, alerts_within

TYPOLOGY: Final = "typology"
SHOWN: Final = 12  # values of one slice that are told, but for typologies; the rest stand together
REST: Final = "others"
_AMOUNTS: Final = (100.0, 1_000.0, 3_000.0, 10_000.0, 50_000.0)  # US dollars


class ErrorLine(BaseModel):
    """How one part of the traffic fared; alerts are expected values where equal scores share the last ones.

    Attributes:
        slice: what the traffic is cut by; value: which part of it this is.
        recall: None where there is no laundering; false_alerts: alerts on rows that are not known to be laundering.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    slice: str
    value: str
    rows: int
    laundering: int
    missed: float
    recall: float | None
    alerts: float
    false_alerts: float


class ErrorAnalysis(BaseModel):
    """What a model misses and what it alerts for nothing, at an alert budget.

    Attributes:
        model: version of the bundle.
        budget: share of traffic that is alerted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    budget: float
    rows: int
    laundering: int
    recall: float | None
    lines: tuple[ErrorLine, ...]

    def of(self, slice: str) -> tuple[ErrorLine, ...]:
        """The lines of one slice, the most missed first."""
        return tuple(line for line in self.lines if line.slice == slice)

    def emphasis(self, most: float) -> dict[str, float]:
        """By typology, how many times as often it is to be made: 1 where all is found, `most` where nothing is."""
        return {
            line.value: round(1 + (most - 1) * (1 - line.recall), 2)
            for line in self.of(TYPOLOGY)
            if line.recall is not None and line.recall < 1
        }


def analyse(
    model: str, scores: Floats, label: Labels, budget: float, slices: Mapping[str, NDArray[Any]]
) -> ErrorAnalysis:
    """Count a model's errors on rows with labels.

    Args:
        model: version of the bundle.
        scores: float64 [n].
        label: bool [n], what is known to be laundering.
        budget: share of the rows that is alerted.
        slices: the value, as text, of each row; under `TYPOLOGY` only laundering rows are counted.
    """
    alerted = alert_probability(scores, alerts_within(budget, len(scores))) if len(scores) else scores
    lines: list[ErrorLine] = []
    for name, values in slices.items():
        rows = label if name == TYPOLOGY else np.ones_like(label)
        lines += _lines(name, values[rows].astype(str), label[rows], alerted[rows])
    found, laundering = float(alerted[label].sum()), int(label.sum())
    return ErrorAnalysis(
        model=model,
        budget=budget,
        rows=len(label),
        laundering=laundering,
        recall=found / laundering if laundering else None,
        lines=tuple(lines),
    )


def amount_bands(usd: NDArray[np.floating]) -> NDArray[np.str_]:
    """The band of each amount in US dollars."""
    names = np.array(["below 100", "100 to 1,000", "1,000 to 3,000", "3,000 to 10,000", "10,000 to 50,000", "more"])
    return np.asarray(names[np.searchsorted(_AMOUNTS, usd, side="right")])


def _lines(name: str, values: NDArray[np.str_], label: Labels, alerted: Floats) -> list[ErrorLine]:
    """A line for each value, those with most missed laundering first, then those with most false alerts."""
    if not len(values):
        return []
    names, of = np.unique(values, return_inverse=True)
    missed, false = np.bincount(of, (1 - alerted) * label), np.bincount(of, alerted * ~label)
    order = np.lexsort((-false, -missed))
    place, most = np.empty(len(names), np.int64), len(names) if name == TYPOLOGY else SHOWN
    place[order] = np.minimum(np.arange(len(names)), most)
    of, shown = place[of], [*(str(names[each]) for each in order[:most]), REST]
    lines = []
    for number in np.unique(of):
        rows = of == number
        laundering, found = int(label[rows].sum()), float(alerted[rows & label].sum())
        lines.append(
            ErrorLine(
                slice=name,
                value=shown[number],
                rows=int(rows.sum()),
                laundering=laundering,
                missed=laundering - found,
                recall=found / laundering if laundering else None,
                alerts=float(alerted[rows].sum()),
                false_alerts=float(alerted[rows & ~label].sum()),
            )
        )
    return lines
