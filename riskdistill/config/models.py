"""Sizes of the networks, and settings of the boosted trees."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from riskdistill.config.base import Count, Positive, Section

NonNegativeCount = Annotated[int, Field(strict=True, ge=0)]
Switch = Annotated[bool, Field(strict=True)]


class ModelConfig(Section):
    """Size of an event transformer; the defaults are the teacher's."""

    width: Count = 64
    layers: Count = 2
    heads: Count = 4  # divides the width
    feedforward: Count = 2  # hidden width of the feed-forward block, as a multiple of `width`
    dropout: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.1
    feature_dropout: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.3  # of whole context features
    events_per_party: Count = 16  # latest events that it reads, at most what the features keep
    pieces: Count = 2_400  # of the context features' piecewise-linear encoding, all together, about
    context_width: Count = 512  # hidden width of the block that reads the context vector
    token_pieces: NonNegativeCount = 16  # percentile pieces of each logarithmic channel of an event
    periodic: NonNegativeCount = 8  # learned frequencies of each logarithmic channel of an event
    counterparty_relations: Switch = True  # whether attention knows which events share a counterparty
    experts: Count = 1  # feed-forward blocks of each layer, of which a transaction uses two

    @field_validator("heads")
    @classmethod
    def _divides_the_width(cls, heads: int, info: ValidationInfo) -> int:
        if info.data.get("width", 0) % heads:
            raise ValueError(f"{heads} heads do not divide the width {info.data['width']}")
        return heads


class TeacherConfig(ModelConfig):
    """Size of the teacher, and how many networks of that size it is."""

    members: Count = 1  # trained from seeds of their own; their mean answers

    @property
    def network(self) -> ModelConfig:
        """Of each of them."""
        return ModelConfig(**self.model_dump(exclude={"members"}))


class StudentConfig(ModelConfig):
    """Size of the student: the same transformer with smaller defaults."""

    width: Count = 32
    layers: Count = 1
    heads: Count = 4
    # none: a teacher's answers need no guard against being learned by heart, and every feature has its part in them
    dropout: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.0
    feature_dropout: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.0
    events_per_party: Count = 8
    pieces: Count = 1_200
    context_width: Count = 32
    token_pieces: NonNegativeCount = 0
    periodic: NonNegativeCount = 0
    counterparty_relations: Switch = False


class TreeCandidate(Section):
    """One LightGBM setting; names are LightGBM's, `rounds` is the most trees it may grow."""

    num_leaves: Annotated[int, Field(strict=True, ge=2)] = 15
    learning_rate: Positive = 0.02
    feature_fraction: Annotated[float, Field(strict=True, gt=0, le=1)] = 0.4
    min_data_in_leaf: Count = 50
    rounds: Count = 1_500


class BoostedTreesConfig(Section):
    """Candidates for the baseline; the validation period chooses one."""

    candidates: tuple[TreeCandidate, ...] = (
        TreeCandidate(),
        TreeCandidate(num_leaves=31, learning_rate=0.03, feature_fraction=0.6),
        TreeCandidate(num_leaves=63, learning_rate=0.05, feature_fraction=0.8, rounds=600),
    )
    early_stopping_rounds: Count = 100

    @field_validator("candidates")
    @classmethod
    def _some(cls, candidates: tuple[TreeCandidate, ...]) -> tuple[TreeCandidate, ...]:
        if not candidates:
            raise ValueError("at least one candidate is needed")
        return candidates
