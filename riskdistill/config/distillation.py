"""What a student learns from its teachers, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from riskdistill.config.base import Count, NonNegative, Section, Share


class TermConfig(Section):
    """One named term of the distillation loss."""

    name: Literal["logits", "attention_relations", "labels", "typology"]
    weight: NonNegative


class TemperatureConfig(Section):
    """Temperature of the logit term: `start` up to `after_epoch` (from 1), then rising to `end`."""

    start: Annotated[float, Field(strict=True, ge=1)] = 5.0
    end: Annotated[float, Field(strict=True, ge=1)] = 8.0
    after_epoch: Annotated[int, Field(strict=True, ge=0)] = 5

    @field_validator("end")
    @classmethod
    def _rises(cls, end: float, info: ValidationInfo) -> float:
        if end < info.data.get("start", end):
            raise ValueError(f"{end} is below the start {info.data['start']}")
        return end


class DistillationConfig(Section):
    """The student's loss: a weighted sum of named terms."""

    terms: tuple[TermConfig, ...] = (
        TermConfig(name="logits", weight=0.7),
        TermConfig(name="attention_relations", weight=0.3),
        TermConfig(name="labels", weight=0.5),
        TermConfig(name="typology", weight=0.1),
    )
    temperature: TemperatureConfig = TemperatureConfig()
    relation_heads: Count = 4  # divides both models' widths
    # of the boosted trees in the logits that are taught: they see what the event teacher misses, and the reverse
    trees_share: Share = 0.5

    @field_validator("terms")
    @classmethod
    def _named_once_and_some_weight(cls, terms: tuple[TermConfig, ...]) -> tuple[TermConfig, ...]:
        names = [term.name for term in terms]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"named more than once: {', '.join(twice)}")
        if not any(term.weight for term in terms):
            raise ValueError("at least one term needs a weight above 0")
        return terms
