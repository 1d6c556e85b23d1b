"""How the student is made smaller, and how its size is searched."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from riskdistill.config.base import Count, Positive, Section, Seed
from riskdistill.config.models import Switch

KeptShare = Annotated[float, Field(strict=True, gt=0, le=1)]


class PruningConfig(Section):
    """Shares of the student's parts that structured pruning keeps; 1 keeps all."""

    heads: KeptShare = 1.0  # attention heads of each layer
    feedforward: KeptShare = 1.0  # hidden units of each feed-forward block
    context: KeptShare = 1.0  # hidden units of the block that reads the context vector


def kept_parts(share: float, parts: int) -> int:
    """How many of a network's parts pruning keeps; at least one.

    >>> kept_parts(0.5, 3), kept_parts(0.01, 4)
    (2, 1)
    """
    return max(1, math.ceil(share * parts - 1e-9))


class CompressionConfig(Section):
    """How the taught student is made smaller or faster before it is served; by default not at all.

    What was cut or rounded is won back by one gentle epoch with the teachers' answers. The student that learns
    without a teacher, for comparison, stays as it is.
    """

    pruning: PruningConfig = PruningConfig()
    int8: Switch = False  # weights and activations in 8 bits, their ranges fixed
    early_exits: Switch = False  # rows leave after the first layers where these are sure

    @property
    def prunes(self) -> bool:
        """Whether anything is cut."""
        return self.pruning != PruningConfig()

    @field_validator("early_exits")
    @classmethod
    def _not_of_integers(cls, exits: bool, info: ValidationInfo) -> bool:
        if exits and info.data.get("int8"):
            raise ValueError("int8 is asked for too, but segments between exits are of 32-bit numbers: choose one")
        return exits


class SearchConfig(Section):
    """The search for the student's size within a latency budget.

    Of the choices those are offered that the experiment's features and relation heads allow.
    """

    trials: Count = 30
    rows: Count = 20_000  # of the one epoch in which each candidate is trained
    latency_us: Positive = 150.0  # of one row alone, median, on this machine, one thread
    width: tuple[Count, ...] = (16, 24, 32, 48, 64)
    layers: tuple[Count, ...] = (1, 2, 3)
    heads: tuple[Count, ...] = (2, 4)
    events_per_party: tuple[Count, ...] = (2, 4, 8, 16)
    pieces: tuple[Count, ...] = (400, 800, 1_200, 2_400)
    context_width: tuple[Count, ...] = (16, 32, 64, 128)
    seed: Seed = 7

    @field_validator("width", "layers", "heads", "events_per_party", "pieces", "context_width")
    @classmethod
    def _some_choice(cls, choices: tuple[int, ...]) -> tuple[int, ...]:
        if not choices:
            raise ValueError("at least one choice is needed")
        return choices
