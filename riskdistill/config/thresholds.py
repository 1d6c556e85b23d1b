"""By which rule scores become alerts."""

from __future__ import annotations

from typing import Literal

from pydantic import ValidationInfo, field_validator

from riskdistill.config.base import OpenShare, Positive, Section


class ThresholdConfig(Section):
    """Where reviewing begins (`riskdistill.evaluation.thresholds`); a rule reads its own settings alone."""

    rule: Literal["budget", "cost", "fpr"] = "budget"
    budget: OpenShare = 0.005  # share of the traffic that is reviewed or held
    alerts_per_day: Positive | None = None  # instead of a share
    missed_cost: Positive = 200.0  # of laundering that passes, in any unit
    alert_cost: Positive = 1.0  # of one review, in the same unit
    fpr: OpenShare = 0.005  # share of the normal transactions that is reviewed

    @property
    def share(self) -> float | None:
        """Of the traffic that is reviewed; None where another rule, or a number of alerts, decides it."""
        return self.budget if self.rule == "budget" and self.alerts_per_day is None else None

    @field_validator("alert_cost")
    @classmethod
    def _is_worth_it(cls, alert: float, info: ValidationInfo) -> float:
        if alert >= info.data.get("missed_cost", float("inf")):
            raise ValueError(
                f"{alert} is not below missed_cost {info.data['missed_cost']}: nothing would be reviewed"
            )
        return alert
