"""Are the labels to be trusted? A second look at some of them, by somebody else, tells.

When labels go wrong, because someone feeds bad ones or a process broke, alerts seem to turn out otherwise than
before, and so they do when the world changes. The times at which labels come hardly part the two: labels are a
few days late, and a world that changed a few days earlier explains the same labels (tried on the drills: within 2
nats for a fortnight). So a share of the alerts is looked at twice, and what is watched is how often the second
verdict contradicts the first: a changed world leaves both alike.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from monitoring.maturity import DAY

DAYS: Final = 7  # of second looks that are compared with those before
USUAL: Final = 0.02  # share of contradictions where there are few looks before, counted as `WORTH` looks
WORTH: Final = 100


class SecondLooks(BaseModel):
    """How often second verdicts contradicted the first ones lately."""

    model_config = ConfigDict(frozen=True)

    looks: int = Field(description="within the last days")
    contradicted: int = Field(description="of them")
    usual: float = Field(description="share of contradictions before")
    p_value: float = Field(description="of so many contradictions at the usual share")


def second_looks(
    first: NDArray[np.int8], second: NDArray[np.int8], looked: NDArray[np.int64], now: int
) -> SecondLooks | None:
    """Compare the second looks of the last `DAYS` with those before; None where there were none lately.

    Args:
        first, second: the verdicts, row for row.
        looked: when the second one came, microseconds since 1970; 0 where there is none.
        now: what came later is not known.
    """
    there = (looked > 0) & (looked <= now)
    late = there & (looked > now - DAYS * DAY)
    if not late.any():
        return None
    contradicts = first != second
    before = there & ~late
    usual = float((contradicts[before].sum() + USUAL * WORTH) / (before.sum() + WORTH))
    found, looks = int(contradicts[late].sum()), int(late.sum())
    p_value = float(stats.binom.sf(found - 1, looks, usual))
    return SecondLooks(looks=looks, contradicted=found, usual=usual, p_value=p_value)
