"""How one network is trained."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from riskdistill.config.base import Count, NonNegative, Positive, Section, Seed, Share


class TrainingConfig(Section):
    """How one network is trained."""

    epochs: Count = 6
    batch_size: Count = 256
    learning_rate: Positive = 1e-3  # the peak, after the warm-up
    weight_decay: NonNegative = 0.01
    warmup: Share = 0.05  # share of all steps
    clip: Positive = 1.0  # largest gradient norm
    average_decay: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.995  # of the running average of weights
    patience: Count = 2  # epochs without a better validation PR-AUC before it stops
    label_smoothing: Annotated[float, Field(strict=True, ge=0, lt=0.5)] = 0.05
    mixup: NonNegative = 0.0  # alpha of MixUp on encoded rows; 0: off
    adversarial: Share = 0.0  # share of the loss that is taken on adversarial examples; 0: off
    seed: Seed = 7  # where the file is silent: the experiment's
