"""What every perturbation is: declared bounds, a declared effect, and one way to apply it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from riskdistill.augmentation.rows import Ints, stories

Conserved = Literal[
    "amount", "total", "value", "count", "accounts", "shape", "time_order", "gaps", "times", "story"
]
Hours = Annotated[float, Field(gt=0, le=24 * 28)]
MICROSECONDS_AN_HOUR = 3_600_000_000


class Perturbation(BaseModel, ABC):
    """One way to tell a story of payments a little differently; its fields are its bounds.

    `conserves` is a promise that tests keep:
        amount: for each source row, what is paid in and what comes out is what it was, to the cent, and an account
            in between pays on what it got.
        total: in a story, what each account pays each other adds up, by currency, to what it did.
        value: for each source row, the dollars paid and received, at the fixed rates, are what they were to the
            smallest unit of the new currency.
        count: one new row for each source row of a story that is told.
        accounts: a new row has the sender and the receiver of its source.
        shape: in a story, accounts change one to one: who paid whom is what it was but for the names.
        time_order: in a scheme, the new rows of what came first are not later than those of what came next.
        gaps: all rows of a story move by the same time.
        times: a story's payments happen at the times at which its payments happened.
        story: the story happens as it did, and the new rows beside it; otherwise they take its place.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    effect: ClassVar[Literal["keeps", "changes"]] = "keeps"  # on is_laundering and typology
    conserves: ClassVar[frozenset[Conserved]]

    name: str
    share: float = Field(default=0.1, gt=0, le=1, description="share of the stories that are told anew")
    among: Literal["laundering", "ordinary", "all"] = "all"

    def stories(self, transactions: pa.Table, labels: pa.Table) -> Ints:
        """The number of each row's story, told whole or not at all: its scheme, or else the row by itself."""
        return stories(labels)

    @abstractmethod
    def apply(
        self, transactions: pa.Table, labels: pa.Table, rng: np.random.Generator, ordinary: pa.Table
    ) -> tuple[pa.Table, pa.Table]:
        """New synthetic rows from the rows given.

        Args:
            transactions: canonical rows of whole stories to perturb, in order of time.
            labels: their labels, row for row.
            ordinary: canonical rows of the same period that are not known to be laundering: where other accounts,
                channels, currencies and everyday payments are found.

        Returns:
            Canonical transactions and their labels, row for row, in no particular order; none for a story that
            this perturbation cannot change. New ids are the source's with `~<name><number>` after it.
        """
