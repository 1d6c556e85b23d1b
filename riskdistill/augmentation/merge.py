"""Several payments of one pair as one."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from riskdistill.augmentation.accounts import SIDES, Account, parties
from riskdistill.augmentation.perturbation import MICROSECONDS_AN_HOUR, Conserved, Hours, Perturbation
from riskdistill.augmentation.rows import Floats, Ints, amounts, codes, derived, moved_balances, pc, times
from riskdistill.data.schema import MAX_AMOUNT


class Merge(Perturbation):
    """In a story, payments from one account to another that follow each other within `within_hours` become one.

    It is made when the last of them was, with their sum; up to `most` are merged, of one format and one pair of
    currencies. Money that the receiver pays on in the story in between keeps its payments apart: it would come too
    late. Payments of no scheme, of one pair and with one label, are a story here; a story without payments to merge
    is not told anew.
    """

    conserves: ClassVar[frozenset[Conserved]] = frozenset({"total", "accounts", "shape", "time_order"})

    name: Literal["merge"] = "merge"
    most: int = Field(default=4, ge=2, le=20)
    within_hours: Hours = 72.0

    def stories(self, transactions: pa.Table, labels: pa.Table) -> Ints:
        """See `Perturbation.stories`: a scheme, or else what one account pays another."""
        pair = [transactions[f"{side}_{word}"] for side, _ in SIDES for word in ("bank", "account")]
        of_none = pc.binary_join_element_wise("pair", *pair, labels["typology"], "\x1f")
        scheme = pc.binary_join_element_wise("scheme", labels["scheme_id"], "\x1f")
        return codes([pc.coalesce(scheme, of_none)])[0]

    def apply(
        self, transactions: pa.Table, labels: pa.Table, rng: np.random.Generator, ordinary: pa.Table
    ) -> tuple[pa.Table, pa.Table]:
        """The merged payments and the other ones of their stories, as `Perturbation.apply` says."""
        story = self.stories(transactions, labels)
        run = self._runs(transactions, story)
        last, number = np.unique(run, return_inverse=True)
        told = np.isin(story, story[run != np.arange(len(run))])[last]
        rows, amount = last[told], np.stack([_sums(each, number) for each in amounts(transactions)])[:, told]
        balances = moved_balances(transactions, story, rows, times(transactions)[rows], amount)
        return derived(
            self.name, transactions, labels, rows, amount_paid=amount[0], amount_received=amount[1], **balances
        )

    def _runs(self, transactions: pa.Table, story: Ints) -> Ints:
        """For each row the position of the last row of those that it is merged with."""
        time, amount = times(transactions), amounts(transactions)
        payers, payees = parties(transactions, "sender"), parties(transactions, "receiver")
        words = ("currency_paid", "currency_received", "payment_format")
        kinds = list(zip(*(transactions[word].to_pylist() for word in words), strict=True))
        paid_on: dict[tuple[int, Account], list[int]] = {}
        for row, payer in enumerate(payers):
            paid_on.setdefault((int(story[row]), payer), []).append(int(time[row]))
        latest: dict[object, list[int]] = {}
        runs: list[list[int]] = []
        for row, payee in enumerate(payees):
            key = story[row], payers[row], payee, kinds[row]
            left = paid_on.get((int(story[row]), payee), [])
            if key not in latest or not self._joins(row, latest[key], time, amount, left):
                latest[key] = []
                runs.append(latest[key])
            latest[key].append(row)
        last = np.empty(len(time), dtype=np.int64)
        for run in runs:
            last[run] = run[-1]
        return last

    def _joins(self, row: int, run: list[int], time: Ints, amount: Floats, left: list[int]) -> bool:
        """Whether a payment may join a run: `left` are the times at which the receiver paid on."""
        return (
            len(run) < self.most
            and time[row] - time[run[0]] <= self.within_hours * MICROSECONDS_AN_HOUR
            and bisect_left(left, time[run[0]]) == bisect_right(left, time[row])
            and amount[:, [*run, row]].sum(axis=1).max() <= MAX_AMOUNT
        )


def _sums(amount: Floats, number: Ints) -> Floats:
    """Sums of amounts by `number`; whole cents add up to whole cents."""
    cents = np.bincount(number, np.round(amount, 2) != amount) == 0
    total = np.bincount(number, amount)
    return np.where(cents, np.round(total, 2), total)
