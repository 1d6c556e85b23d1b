"""What every perturbation is: declared bounds, a declared effect, and one way to apply it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

Conserved = Literal["amount", "count", "accounts", "time_order"]
Hours = Annotated[float, Field(gt=0, le=24 * 28)]
MICROSECONDS_AN_HOUR = 3_600_000_000


class Perturbation(BaseModel, ABC):
    """One way to tell a story of payments a little differently; its fields are its bounds.

    `conserves` is a promise that tests keep:
        amount: for each source row, the sender pays and the receiver gets what they did, to the cent, and an
            account in between pays on what it got.
        count: one new row for each source row.
        accounts: a new row has the sender and the receiver of its source.
        time_order: in a scheme, the new rows of what came first are not later than those of what came next.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    effect: ClassVar[Literal["keeps", "changes"]] = "keeps"  # on is_laundering and typology
    conserves: ClassVar[frozenset[Conserved]]

    name: str
    share: float = Field(default=0.1, gt=0, le=1, description="share of the stories that are told anew")
    among: Literal["laundering", "ordinary", "all"] = "all"

    @abstractmethod
    def apply(
        self, transactions: pa.Table, labels: pa.Table, rng: np.random.Generator
    ) -> tuple[pa.Table, pa.Table]:
        """New synthetic rows from the rows given.

        Args:
            transactions: canonical rows to perturb, in order of time.
            labels: their labels, row for row.

        Returns:
            Canonical transactions and their labels, row for row, in no particular order. New ids are the
            source's with `~<name><number>` after it.
        """
