"""Everyday payments around the accounts of a story."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from riskdistill.augmentation.accounts import NONE, SIDES, Accounts, said
from riskdistill.augmentation.perturbation import Conserved, Perturbation
from riskdistill.augmentation.rows import DAY, Ints, both_sides, derived, held_accounts, pc, spans, stories, times
from riskdistill.data.schema import LABELS, NORMAL


class BenignNoise(Perturbation):
    """Ordinary payments in which an account of a story stands for one of the parties, labelled as normal.

    For each account of a story up to `payments`, each made after an ordinary payment drawn at random: in the same
    currency, at its time of the day, on a day from `around_days` before the story's first payment to as many after
    its last. The story itself happens as it did, and the balances in it know nothing of the noise. Where the
    account's balance is known, it is what it was at the account's first payment in the story, and a payment above
    it is left out.
    """

    conserves: ClassVar[frozenset[Conserved]] = frozenset({"story"})

    name: Literal["benign_noise"] = "benign_noise"
    among: Literal["laundering", "ordinary", "all"] = "laundering"
    payments: int = Field(default=2, ge=1, le=50)
    around_days: int = Field(default=3, ge=0, le=28)

    def apply(
        self, transactions: pa.Table, labels: pa.Table, rng: np.random.Generator, ordinary: pa.Table
    ) -> tuple[pa.Table, pa.Table]:
        """New ordinary payments and their labels; the source of each is the ordinary payment it is made after."""
        story = stories(labels)
        _, actor = held_accounts(transactions, story)
        actor = np.repeat(actor, self.payments)  # positions in the senders followed by the receivers
        stands_as = rng.integers(0, len(SIDES), len(actor))  # the payer or the payee
        template = _templates(transactions, actor, stands_as, ordinary, rng)
        drawn = template != NONE
        actor, stands_as, template = actor[drawn], stands_as[drawn], template[drawn]
        of_story = story[actor % len(story)] if len(story) else actor
        changes = _parties(transactions, actor, stands_as, ordinary.take(pa.array(template)))
        first, last = (at // DAY for at in spans(story, times(transactions)))
        day = rng.integers(first[of_story] - self.around_days, last[of_story] + self.around_days, endpoint=True)
        changes["timestamp"] = day * DAY + times(ordinary)[template] % DAY
        new, told = derived(self.name, ordinary, _normal(ordinary), template, **changes)
        possible = _possible(new)
        return new.filter(possible), told.filter(possible)


def _templates(
    transactions: pa.Table, actor: Ints, stands_as: Ints, ordinary: pa.Table, rng: np.random.Generator
) -> Ints:
    """For each actor an ordinary row in which the party that it stands for holds its currency; NONE without one."""
    currency = both_sides(transactions, "currency_paid", "currency_received").take(pa.array(actor))
    template = np.full(len(actor), NONE)
    for number, (_, word) in enumerate(SIDES):
        for code in sorted(pc.unique(currency).to_pylist()):
            wanted = np.flatnonzero((stands_as == number) & pc.equal(currency, code).to_numpy(zero_copy_only=False))
            there = np.flatnonzero(pc.equal(ordinary[f"currency_{word}"], code).to_numpy())
            if len(there):
                template[wanted] = there[rng.integers(0, len(there), len(wanted))]
    return template


def _parties(transactions: pa.Table, actor: Ints, stands_as: Ints, templates: pa.Table) -> dict[str, Any]:
    """The columns of both parties: the actor where it stands, and the template's own party on the other side."""
    actors = Accounts(transactions)
    places = np.where(stands_as == np.arange(len(SIDES))[:, None], actor, NONE)
    changes = actors.columns(templates, places)
    for (side, _), at in zip(SIDES, places, strict=True):
        own = said(templates, side)
        changes[f"{side}_balance"] = pc.coalesce(actors.instead(own, at)["balance"], own["balance"])
    return changes


def _possible(new: pa.Table) -> Any:
    """A mask of the payments between two accounts whose payer is not known to have less than is paid."""
    apart = pc.or_(*(pc.not_equal(new[f"sender_{word}"], new[f"receiver_{word}"]) for word in ("bank", "account")))
    return pc.and_(apart, pc.fill_null(pc.greater_equal(new["sender_balance"], new["amount_paid"]), True))


def _normal(ordinary: pa.Table) -> pa.Table:
    """Labels of payments that are nothing but ordinary, known at once."""
    rows = ordinary.num_rows
    columns = [
        ordinary["tx_id"],
        pa.repeat(False, rows),
        pa.repeat(NORMAL, rows),
        pa.nulls(rows, pa.string()),
        ordinary["timestamp"],
    ]
    return pa.Table.from_arrays(columns, schema=LABELS)
