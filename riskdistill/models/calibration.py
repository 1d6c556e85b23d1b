"""From a network's logit to a probability that means what it says at natural prevalence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from riskdistill.errors import TrainingError


def prior_shift(natural: float, mixed: float) -> float:
    """What to add to a logit learned at prevalence `mixed` so that it holds at prevalence `natural`.

    Elkan, "The foundations of cost-sensitive learning", 2001. Both in (0, 1).
    """
    return float(np.log(natural / (1 - natural)) - np.log(mixed / (1 - mixed)))


class Calibrator(BaseModel):
    """Score = sigmoid(slope · (logit + prior_shift) + intercept): Platt scaling after the prior correction.

    The slope is positive, so that calibration never changes a ranking.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prior_shift: float = 0.0
    slope: float = Field(default=1.0, gt=0)
    intercept: float = 0.0

    def __call__(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated probabilities [n] of logits [n]."""
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(self.log_odds(logits), -500, 500))))

    def log_odds(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated log-odds [n] of logits [n]."""
        corrected = np.asarray(logits, np.float64) + self.prior_shift
        return np.asarray(self.slope * corrected + self.intercept)

    @classmethod
    def fit(cls, logits: NDArray[np.floating], labels: NDArray[np.bool_], *, shift: float = 0.0) -> Calibrator:
        """Fit on rows that training did not see, at natural prevalence (Platt, 1999).

        Raises:
            TrainingError: labels of one kind only.
        """
        if labels.all() or not labels.any():
            raise TrainingError(
                "calibration needs laundering and normal rows in the validation period",
                mend="choose a longer validation period",
            )
        from sklearn.linear_model import LogisticRegression  # only fitting needs it; scoring starts without

        corrected = (np.asarray(logits, np.float64) + shift)[:, None]
        fitted = LogisticRegression(C=1e6, max_iter=1_000).fit(corrected, labels)
        slope = float(fitted.coef_[0, 0])
        if slope <= 0:  # the model ranks validation worse than chance: leave its order alone
            return cls(prior_shift=shift)
        return cls(prior_shift=shift, slope=slope, intercept=float(fitted.intercept_[0]))
