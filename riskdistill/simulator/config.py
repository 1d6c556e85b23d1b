"""What to simulate: the typed configuration and the presets.

A configuration and nothing else decides a simulation: equal configurations give equal bytes, on any number of
workers.
"""

from __future__ import annotations

from datetime import UTC, datetime, time
from itertools import pairwise
from typing import Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

SMALLEST_POPULATION: Final = 60  # below this, schemes run out of distinct members


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Drift(_Part):
    """Changes that set in on one day; all that came before that day stays as it would have been without."""

    start_day: int = Field(ge=0, description="first day that is different, counted from the start")
    amount_factor: float = Field(default=1.0, gt=0, le=1000, description="inflation of every amount")
    new_format: str = Field(default="wallet", min_length=1, max_length=32)
    new_format_share: float = Field(default=0.0, ge=0, le=1, description="payments that move to new_format")
    season_shift_days: int = Field(
        default=0, ge=-366, le=366, description="seasons come earlier by so much, from the next whole week on"
    )
    new_typology: Literal["loan_back", "micro"] | None = Field(
        default=None, description="a way of laundering that nobody saw before"
    )
    adaptation: float = Field(
        default=0.0, ge=0, le=1, description="how far launderers adapt: smaller amounts, slower, more hops"
    )


class Recording(_Part):
    """What the bank gets to know of laundering, and when. Shares are of schemes where nothing else is said."""

    large: float = Field(default=0.75, ge=0, le=1, description="found among schemes of 10,000 dollars and more")
    small: float = Field(default=0.5, ge=0, le=1, description="found among the others")
    coverage: float = Field(default=0.9, ge=0, le=1, description="payments of a found scheme that are attributed")
    mistaken: float = Field(default=0.05, ge=0, lt=1, description="wrong ones among the payments on record")
    misnamed: float = Field(default=0.1, ge=0, le=1, description="found schemes with another typology on record")
    median_days: float = Field(default=12.0, gt=0, le=1000, description="from a scheme's last payment to its label")
    spread: float = Field(default=0.9, ge=0, le=3, description="deviation of the logarithm of that delay")


class SimulationConfig(_Part):
    """One simulated world.

    `laundering_share` is the share of transactions that schemes are begun for; what falls beyond the end of a short
    world, or is refused for lack of money, does not happen.
    """

    seed: int = Field(default=7, ge=0)
    accounts: int = Field(default=3_000, ge=SMALLEST_POPULATION, le=5_000_000)
    days: int = Field(default=120, ge=1, le=3_660)
    start: AwareDatetime = datetime(2025, 1, 1, tzinfo=UTC)
    banks: int = Field(default=12, ge=1, le=1_000)
    laundering_share: float = Field(default=0.008, ge=0, lt=0.5)
    recording: Recording = Recording()
    drifts: tuple[Drift, ...] = ()

    @field_validator("start")
    @classmethod
    def _at_midnight_utc(cls, start: datetime) -> datetime:
        start = start.astimezone(UTC)
        if start.time() != time(0):
            raise ValueError("start must be midnight UTC, such as 2025-01-01T00:00:00Z")
        return start

    @field_validator("drifts")
    @classmethod
    def _one_after_the_other(cls, drifts: tuple[Drift, ...]) -> tuple[Drift, ...]:
        if any(early.start_day >= late.start_day for early, late in pairwise(drifts)):
            raise ValueError("drifts must set in one after the other: give rising start_day")
        return drifts

    @model_validator(mode="after")
    def _banks_fit(self) -> Self:
        if self.banks * 10 > self.accounts:
            raise ValueError("banks must be at most a tenth of accounts")
        return self


# more is found than elsewhere, and sooner, as these worlds are short
_SOON: Final = Recording(large=0.85, small=0.7, median_days=5.0, spread=0.6)
PRESETS: Final[dict[str, SimulationConfig]] = {
    "tiny": SimulationConfig(accounts=200, days=30, banks=4, laundering_share=0.04, recording=_SOON),
    "demo": SimulationConfig(laundering_share=0.02, recording=_SOON),
    "benchmark": SimulationConfig(accounts=40_000, days=150, banks=30, laundering_share=0.003),
    "large": SimulationConfig(accounts=500_000, days=240, banks=120, laundering_share=0.001),
}
