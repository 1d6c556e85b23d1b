"""How one network is trained, and the phases of the teacher's training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from riskdistill.config.base import Count, NonNegative, OpenShare, Positive, Section, Seed, Share, sums_to_one

Precision = Literal["fp32", "bf16", "fp16"]


class TrainingConfig(Section):
    """How one network is trained."""

    epochs: Count = 4
    rows_per_epoch: Count | None = 60_000  # at most, other rows of the mix in each epoch; None: the whole mix
    batch_size: Count = 256
    accumulation: Count = 1  # batches whose gradients make one step
    precision: Precision = "fp32"  # bf16 and fp16: mixed with fp32, which weights stay in; fp16 needs a GPU
    learning_rate: Positive = 1e-3  # the peak, after the warm-up
    weight_decay: NonNegative = 0.01
    warmup: Share = 0.05  # share of all steps
    clip: Positive = 1.0  # largest gradient norm
    average_decay: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.995  # of the running average of weights
    patience: Count = 2  # epochs without a better judgement on validation rows before it stops
    label_smoothing: Annotated[float, Field(strict=True, ge=0, lt=0.5)] = 0.05
    scheme_power: Share = 0.5  # a row weighs 1 / (rows of its scheme) ** power; 0: every row alike
    curriculum: Literal["none", "easy_first"] = "none"  # easy_first: a student meets what its teachers err on last
    mixup: NonNegative = 0.0  # alpha of MixUp on encoded rows; 0: off
    adversarial: Share = 0.0  # share of the loss that is taken on adversarial examples; 0: off
    checkpoint_minutes: NonNegative = 2.0  # between checkpoints within an epoch; after each there is one anyway
    seed: Seed = 7  # where the file is silent: the experiment's


class StudentTrainingConfig(TrainingConfig):
    """How a student is trained: longer than a teacher, whose answers can hardly be learned by heart."""

    epochs: Count = 6
    rows_per_epoch: Count | None = 110_000
    learning_rate: Positive = 3e-3
    patience: Count = 3
    scheme_power: Share = 0.0  # of what is learned from labels, with a teacher and without one


class PretrainingConfig(Section):
    """The general phase: what a network learns from traffic without labels."""

    rows: Count = 200_000  # at most
    batch_size: Count = 256
    learning_rate: Positive = 1e-3
    mask: OpenShare = 0.15  # share of the events' fields and of the context features that are hidden
    bins: Annotated[int, Field(strict=True, ge=2)] = 16  # quantile bins in which hidden numbers are guessed
    contrast_temperature: Positive = 0.1
    fields: NonNegative = 1.0  # weights of the terms; 0: off
    features: NonNegative = 1.0
    following: NonNegative = 0.5
    contrast: NonNegative = 0.2


class AlignmentConfig(Section):
    """The alignment phase: what the business asks of the scores."""

    learning_rate: Positive = 2e-4
    softness: Positive = 1.0  # logits around the threshold over which an alert is neither raised nor not
    miss_cost: Positive = 100.0  # of laundering that is missed, in false alerts
    recall: NonNegative = 0.5  # weights of the terms; 0: off
    cost: NonNegative = 0.2
    feedback: NonNegative = 0.5
    labels: NonNegative = 1.0  # keeps the scores near probabilities


class PhasesConfig(Section):
    """Three phases of a teacher's training; each takes its share of the steps, 0 leaves it out.

    `general` learns from the real rows of the mix without their labels, `domain` from labels as `training` says,
    `alignment` moves scores to the alert budget: `serving.review` where it is a share, else
    `evaluation.typology_budget`. Early stopping keeps the better of the last two:

        phases: {steps: 3000, general: 0.7, domain: 0.2, alignment: 0.1}
    """

    steps: Count = 3_000  # of all phases; each runs for whole epochs nearest to its share
    general: Share = 0.7
    domain: Share = 0.2
    alignment: Share = 0.1
    pretraining: PretrainingConfig = PretrainingConfig()
    aligning: AlignmentConfig = AlignmentConfig()

    @field_validator("alignment")
    @classmethod
    def _make_a_whole(cls, alignment: float, info: ValidationInfo) -> float:
        return sums_to_one(alignment, "general", "domain", "alignment", info=info)
