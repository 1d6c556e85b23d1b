"""The same payments, with other accounts."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from riskdistill.augmentation.accounts import NONE, SIDES, Account, Accounts, parties
from riskdistill.augmentation.perturbation import Conserved, Perturbation
from riskdistill.augmentation.rows import by_story, derived, stories


class CounterpartySubstitution(Perturbation):
    """Some of a story's accounts give way to others: at least one, and at most a share `most` of them.

    The others are accounts of ordinary traffic that hold the same currency; one stands in for another in all of the
    story's payments. Balances stay with the story. By default only laundering is told this way: an honest payment
    to a stranger would be a new story. A story for whose account there is no other is not told anew.
    """

    conserves: ClassVar[frozenset[Conserved]] = frozenset(
        {"amount", "count", "shape", "time_order", "gaps", "times"}
    )

    name: Literal["counterparty_substitution"] = "counterparty_substitution"
    among: Literal["laundering", "ordinary", "all"] = "laundering"
    most: float = Field(default=0.3, gt=0, le=1)

    def apply(
        self, transactions: pa.Table, labels: pa.Table, rng: np.random.Generator, ordinary: pa.Table
    ) -> tuple[pa.Table, pa.Table]:
        """The perturbed copies and their labels, as `Perturbation.apply` says."""
        story = stories(labels)
        others = Accounts(ordinary)
        places = np.full((2, len(story)), NONE)
        actors = [parties(transactions, side) for side, _ in SIDES]
        held = [transactions[f"currency_{word}"].to_pylist() for _, word in SIDES]
        for rows in by_story(story):
            homes: dict[Account, str] = {}
            for row in rows.tolist():
                for side in (0, 1):
                    homes.setdefault(actors[side][row], held[side][row])
            instead = self._substitutes(homes, others, rng)
            for side in (0, 1):
                places[side, rows] = [instead.get(actors[side][row], NONE) for row in rows.tolist()]
        rows = np.flatnonzero(np.isin(story, story[(places != NONE).any(axis=0)]))
        changes = others.columns(transactions.take(pa.array(rows)), places[:, rows])
        return derived(self.name, transactions, labels, rows, **changes)

    def _substitutes(
        self, homes: dict[Account, str], others: Accounts, rng: np.random.Generator
    ) -> dict[Account, int]:
        """Places of the accounts that stand in for some of those in `homes`, all different and none of them."""
        most = max(1, int(self.most * len(homes)))
        names, taken = list(homes), set(homes)
        instead: dict[Account, int] = {}
        for number in rng.permutation(len(names))[: rng.integers(1, most, endpoint=True)]:
            place = others.other(homes[names[number]], taken, rng)
            if place != NONE:
                instead[names[number]] = place
                taken.add(others.name[place])
        return instead
