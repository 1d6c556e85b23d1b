"""Payments while they are still numbers: one set of equally long arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from riskdistill.simulator.arrays import Floats, Ints
from riskdistill.simulator.formats import usual_format
from riskdistill.simulator.population import Population

ORDINARY: Final = -1  # scheme of a payment that belongs to none


@dataclass(frozen=True)
class Payments:
    """Equally long arrays, one entry a payment.

    time: days since the start; sender, receiver: positions in the population; value: US dollars;
    format: position in `formats.FORMATS`; scheme: number of the scheme, or ORDINARY.
    """

    time: Floats
    sender: Ints
    receiver: Ints
    value: Floats
    format: Ints
    scheme: Ints

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: Ints | npt.NDArray[np.bool_]) -> Self:
        """The payments at positions `rows` (or where a mask is true)."""
        return type(self)(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @classmethod
    def concat(cls, parts: Iterable[Self]) -> Self:
        """All payments of `parts`, one after the other."""
        parts = list(parts)
        return cls(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)})


def pay(
    population: Population,
    rng: np.random.Generator,
    *,
    time: Floats,
    sender: Ints,
    receiver: Ints,
    value: Floats,
) -> Payments:
    """Ordinary payments in the parties' usual formats; nobody pays the own account."""
    rows = np.flatnonzero(sender != receiver)
    sender, receiver = sender[rows], receiver[rows]
    return Payments(
        time=time[rows],
        sender=sender,
        receiver=receiver,
        value=value[rows],
        format=usual_format(rng, population, sender, receiver),
        scheme=np.full(len(rows), ORDINARY),
    )
