"""Payments while they are still numbers: one set of equally long arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from riskdistill.simulator.arrays import Accounts, Bools, Floats, Ints
from riskdistill.simulator.formats import usual_format
from riskdistill.simulator.population import Kind, Population

ORDINARY: Final = -1  # scheme, and position of the typology, of a payment that belongs to none
# round sums among payments from a person or a firm, to a person or a firm
ROUND: Final = np.array([[0.35, 0.1], [0.15, 0.2]])
ROUND_CASH: Final = 0.9
NEVER: Final = np.float32(np.inf)  # day on which what nobody found becomes known


@dataclass(frozen=True)
class Payments:
    """Equally long arrays, one entry a payment.

    time: days since the start; sender, receiver: positions in the population; value: US dollars; format: position
    in the names of formats. What is true: scheme (a number, or ORDINARY) and typology (a position in the names of
    shapes, or ORDINARY). What the bank has on record: recorded (a typology, or ORDINARY), from the day `known` on.
    """

    time: Floats
    sender: Accounts
    receiver: Accounts
    value: Floats
    format: npt.NDArray[np.int8]
    scheme: npt.NDArray[np.int64]
    typology: npt.NDArray[np.int8]
    recorded: npt.NDArray[np.int8]
    known: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: Ints | Bools | slice) -> Self:
        """The payments at positions `rows` (or where a mask is true)."""
        return type(self)(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def changed(self, **columns: Any) -> Self:
        """The same payments with other `columns`."""
        return type(self)(**{f.name: columns.get(f.name, getattr(self, f.name)) for f in fields(self)})

    @classmethod
    def concat(cls, parts: Iterable[Self]) -> Self:
        """All payments of `parts` (one at least), one after the other."""
        parts = list(parts)
        return cls(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)})


def as_people_write(
    rng: np.random.Generator, population: Population, sender: Ints, receiver: Ints, value: Floats
) -> Floats:
    """`value` (US dollars), some of it brought to a round sum in the payer's currency; cash at a desk mostly.

    Ordinary payments and laundering are written alike, so that a round sum tells only who pays whom.
    """
    payer, payee = population.kind[sender], population.kind[receiver]
    share = ROUND[(payer != Kind.PERSON).astype(np.int64), (payee != Kind.PERSON).astype(np.int64)]
    share = np.where((payer == Kind.CASH_DESK) | (payee == Kind.CASH_DESK), ROUND_CASH, share)
    written = value / population.rate[sender]
    unit = np.where(written < 100, 5.0, np.where(written < 3_000, 10.0, 100.0))
    even = (rng.random(len(value)) < share) & (written > unit)
    return np.where(even, np.rint(written / unit) * unit * population.rate[sender], value)


def pay(
    population: Population,
    rng: np.random.Generator,
    *,
    time: Floats,
    sender: Ints,
    receiver: Ints,
    value: Floats,
) -> Payments:
    """Ordinary payments in the parties' usual formats, of those that are in business at that time.

    Nobody pays the own account; accounts that are not open, or asleep, neither pay nor are paid.
    """
    happens = (sender != receiver) & population.in_business(sender, time) & population.in_business(receiver, time)
    rows = np.flatnonzero(happens)
    payer, payee = sender[rows].astype(np.int32), receiver[rows].astype(np.int32)
    none = np.full(len(rows), ORDINARY, dtype=np.int8)
    return Payments(
        time=time[rows],
        sender=payer,
        receiver=payee,
        value=as_people_write(rng, population, payer, payee, value[rows]),
        format=usual_format(rng, population, payer, payee),
        scheme=np.full(len(rows), ORDINARY, dtype=np.int64),
        typology=none,
        recorded=none,
        known=np.full(len(rows), NEVER),
    )
