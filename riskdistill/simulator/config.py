"""What to simulate: the typed configuration and the presets.

A configuration and nothing else decides a simulation: equal configurations give equal bytes.
"""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Final, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

SMALLEST_POPULATION: Final = 60  # below this, schemes run out of distinct members


class Drift(BaseModel):
    """Changes that set in on one day; all that came before that day stays as it would have been without."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start_day: int = Field(ge=0, description="first day that is different, counted from the start")
    amount_factor: float = Field(default=1.0, gt=0, le=1000, description="inflation of every amount")
    new_format: str = Field(default="wallet", min_length=1, max_length=32)
    new_format_share: float = Field(default=0.0, ge=0, le=1, description="payments that move to new_format")


class SimulationConfig(BaseModel):
    """One simulated world.

    `laundering_share` is the share of transactions that are laundering; schemes are added until it is met.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=7, ge=0)
    accounts: int = Field(default=3_000, ge=SMALLEST_POPULATION, le=5_000_000)
    days: int = Field(default=120, ge=1, le=3_660)
    start: AwareDatetime = datetime(2025, 1, 1, tzinfo=UTC)
    banks: int = Field(default=12, ge=1, le=1_000)
    laundering_share: float = Field(default=0.008, ge=0, lt=0.5)
    drift: Drift | None = None

    @field_validator("start")
    @classmethod
    def _at_midnight_utc(cls, start: datetime) -> datetime:
        start = start.astimezone(UTC)
        if start.time() != time(0):
            raise ValueError("start must be midnight UTC, such as 2025-01-01T00:00:00Z")
        return start

    @model_validator(mode="after")
    def _banks_fit(self) -> Self:
        if self.banks * 10 > self.accounts:
            raise ValueError("banks must be at most a tenth of accounts")
        return self


PRESETS: Final[dict[str, SimulationConfig]] = {
    "tiny": SimulationConfig(accounts=200, days=30, banks=4, laundering_share=0.04),
    "demo": SimulationConfig(),
}
