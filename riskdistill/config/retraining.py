"""How a champion is retrained, and the gates that its challenger has to pass."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from riskdistill.config.base import Count, NonNegative, OpenShare, Positive, Section, Share, sums_to_one

RetrainingMode = Literal["student", "teacher_and_student", "full"]


class GatesConfig(Section):
    """What a challenger may cost against the champion, on mature data that neither has learned from."""

    recall_margin: Share = 0.05  # at the alert budget: the interval of the difference may not go below minus this
    # the same on the typologies that the champion knows, together; at 0.02, in a simulation with 160 schemes, 70 %
    # of the challengers that were as good as the champion failed
    forgetting: Share = 0.05
    schemes: Count = 10  # below which neither is judged, and so is not passed
    typology_floor: Share = 0.1  # recall that may be lost on any one typology
    typology_schemes: Count = 5  # below which a typology is not judged by itself
    calibration: NonNegative = 0.005  # calibration error that may be added
    latency: Positive = 1.25  # times the champion's, for one row
    size: Positive = 1.25  # times the champion's bytes
    reasons: Share = 0.5  # share of the reasons that both give for the same alerts, at least


class RetrainingConfig(Section):
    """How `riskdistill retrain` makes a challenger."""

    mode: RetrainingMode = "teacher_and_student"
    # shares of the mature rows, oldest first: most of what is new must be learned from, the newest judges
    train: OpenShare = 0.84
    validation: OpenShare = 0.08
    test: OpenShare = 0.08
    synthetic: Share = 0.1  # of the mix, taken from its normal rows
    # how often a typology that the champion misses entirely is made anew, against one that it always finds
    emphasis: Annotated[float, Field(strict=True, ge=1)] = 4.0
    learning_rate: Annotated[float, Field(strict=True, gt=0, le=1)] = 0.5  # of networks trained on; times the usual
    gates: GatesConfig = GatesConfig()

    @field_validator("test")
    @classmethod
    def _whole(cls, test: float, info: ValidationInfo) -> float:
        return sums_to_one(test, "train", "validation", "test", info=info)
