"""How a model does on parts of the traffic (typologies, segments) at its threshold, with 95 % intervals (Wilson's).

Payments of one scheme are found or missed together: for the interval of a recall each scheme is one trial, however
many payments it has. Alerts are taken one by one for the interval of a precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from riskdistill.evaluation.metrics import Interval
from riskdistill.evaluation.ranking import Labels, wilson


@dataclass(frozen=True)
class Share:
    """A share and its interval."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class Part:
    """One part of the test period.

    Attributes:
        laundering, schemes: its laundering payments, and of how many operations they are.
        alerts: payments of it on which the model alerts.
        precision, recall: None where there is nothing that they could be a share of.
    """

    name: str
    rows: int
    laundering: int
    schemes: int
    alerts: int
    precision: Share | None
    recall: Share | None


def measure_parts(
    label: Labels, scheme: NDArray[np.generic], alert: Labels, parts: Mapping[str, NDArray[np.bool_]]
) -> tuple[Part, ...]:
    """Each part, measured.

    Args:
        label: bool [n]; alert: bool [n], whether the model alerts.
        scheme: [n], a name for each laundering row.
        parts: bool [n] by name.
    """
    return tuple(_part(name, rows, label, scheme, alert) for name, rows in parts.items())


def _part(name: str, rows: NDArray[np.bool_], label: Labels, scheme: NDArray[np.generic], alert: Labels) -> Part:
    laundering, alerts, found = (int(kind[rows].sum()) for kind in (label, alert, label & alert))
    schemes = len(np.unique(scheme[rows & label]))
    return Part(
        name=name,
        rows=int(rows.sum()),
        laundering=laundering,
        schemes=schemes,
        alerts=alerts,
        precision=_share(found, alerts, alerts),
        recall=_share(found, laundering, schemes),
    )


def _share(found: int, of: int, trials: int) -> Share | None:
    if not of:
        return None
    low, high = wilson(found / of, trials)
    return Share(found / of, (float(low), float(high)))
