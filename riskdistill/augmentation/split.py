"""One payment in several parts."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from riskdistill.augmentation.perturbation import MICROSECONDS_AN_HOUR, Conserved, Hours, Perturbation
from riskdistill.augmentation.rows import Floats, Ints, derived, numbers, room, stories, times
from riskdistill.data.schema import MAX_AMOUNT

_LARGE = 1e6  # amounts from here on are split in cents even if they are not whole cents


class Split(Perturbation):
    """One payment in `min_parts` to `max_parts` that add up to it, within `within_hours`; balances move with them.

    All parts of a scheme's payment come before the scheme's next payment. An amount of too few cents is
    split into as many parts as it has.
    """

    conserves: ClassVar[frozenset[Conserved]] = frozenset({"amount", "total", "accounts", "shape", "time_order"})

    name: Literal["split"] = "split"
    min_parts: int = Field(default=2, ge=2, le=20)
    max_parts: int = Field(default=4, ge=2, le=20)
    within_hours: Hours = 24.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_parts < self.min_parts:
            raise ValueError("max_parts must be at least min_parts")
        return self

    def apply(
        self, transactions: pa.Table, labels: pa.Table, rng: np.random.Generator, ordinary: pa.Table
    ) -> tuple[pa.Table, pa.Table]:
        """The perturbed copies and their labels, as `Perturbation.apply` says."""
        paid, received = numbers(transactions, "amount_paid"), numbers(transactions, "amount_received")
        time, n = times(transactions), len(paid)
        parts = rng.integers(self.min_parts, self.max_parts, n, endpoint=True)
        parts = np.minimum(parts, np.minimum(units(paid)[0], units(received)[0])).clip(1)
        used = np.arange(self.max_parts) < parts[:, None]
        weight = used * rng.gamma(4.0, 1.0, used.shape)
        within = room(stories(labels), time, self.within_hours * MICROSECONDS_AN_HOUR)
        wait = rng.random(used.shape) * within[:, None]
        wait[:, 0] = 0
        paid_parts, received_parts = portions(paid, weight, parts), portions(received, weight, parts)
        order = np.argsort(np.where(used, wait, np.inf), axis=1, kind="stable")
        spent = numbers(transactions, "sender_balance")[:, None] - _earlier(paid_parts, order)
        grown = numbers(transactions, "receiver_balance")[:, None] + _earlier(received_parts, order)
        return derived(
            self.name,
            transactions,
            labels,
            np.nonzero(used)[0],
            timestamp=(time[:, None] + np.floor(wait).astype(np.int64))[used],
            amount_paid=paid_parts[used],
            amount_received=received_parts[used],
            sender_balance=np.maximum(spent, -MAX_AMOUNT)[used],
            receiver_balance=np.minimum(grown, MAX_AMOUNT)[used],
        )


def _earlier(portion: Floats, order: Ints) -> Floats:
    """For each part the sum of those that come before it in `order`, row by row."""
    in_order = np.take_along_axis(portion, order, axis=1)
    earlier = np.empty_like(portion)
    np.put_along_axis(earlier, order, np.cumsum(in_order, axis=1) - in_order, axis=1)
    return earlier


def units(amount: Floats) -> tuple[Ints, Floats]:
    """Whole units in each amount, and units to one of its currency: cents, or a coin's hundred-millionths."""
    whole_cents = np.round(amount, 2) == amount
    scale = np.where(whole_cents | (amount >= _LARGE), 1e2, 1e8)
    many = np.where(whole_cents, np.rint(amount * scale), np.floor(amount * scale))
    return many.astype(np.int64), scale


def portions(amount: Floats, weight: Floats, parts: Ints) -> Floats:
    """Each amount in its first `parts` columns, by `weight` [n, k]; at least a unit each, nothing lost."""
    whole, scale = units(amount)
    row = np.arange(len(amount))
    reached = np.cumsum(weight, axis=1) / weight.sum(axis=1, keepdims=True)
    reached[np.arange(weight.shape[1]) >= parts[:, None] - 1] = 1.0
    cut = np.rint(reached * (whole - parts)[:, None])
    portion = (np.diff(cut, axis=1, prepend=0) + 1) / scale[:, None]
    portion[row, parts - 1] += amount - whole / scale
    return np.asarray(portion)
