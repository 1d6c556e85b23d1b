"""The shapes of laundering schemes, on paper: who pays whom, how much, in which order.

The eight published shapes are those of Altman et al., "Realistic Synthetic Financial Transactions for
Anti-Money Laundering Models" (NeurIPS 2023), figure 2; structuring and rapid pass-through are in FATF's
indicators; UNLISTED laundering fits no shape. Whatever a middleman gets he pays on, less a small fee.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from riskdistill.data.schema import UNLISTED
from riskdistill.simulator.arrays import Floats, Ints

CASH_DESK: Final = -1  # instead of a member: the cash desk of the other party's bank
LIMIT: Final = "structuring"  # the one shape whose unit is a reporting limit


@dataclass(frozen=True)
class Legs:
    """One scheme on paper, as equally long arrays in no particular order.

    sender, receiver: numbers of members from 0, or CASH_DESK; amount: in the scheme's unit; time: in the
    scheme's pace, from 0. Money is never paid on before it came.
    """

    sender: Ints
    receiver: Ints
    amount: Floats
    time: Floats

    @property
    def members(self) -> int:
        """How many different accounts take part, cash desks aside."""
        return int(max(self.sender.max(), self.receiver.max())) + 1


def _legs(sender: Ints | int, receiver: Ints | int, amount: Floats, time: Floats) -> Legs:
    """Legs of which one party may be the same in all."""
    payers, payees = (np.broadcast_to(np.asarray(party), time.shape) for party in (sender, receiver))
    return Legs(payers, payees, amount, time)


def _join(*parts: Legs) -> Legs:
    columns = ("sender", "receiver", "amount", "time")
    return Legs(*(np.concatenate([getattr(p, c) for p in parts]) for c in columns))


def _renumbered(legs: Legs) -> Legs:
    """The same legs with members numbered without gaps."""
    _, number = np.unique(np.concatenate([legs.sender, legs.receiver]), return_inverse=True)
    n = len(legs.time)
    return Legs(number[:n], number[n:], legs.amount, legs.time)


def _parts(rng: np.random.Generator, n: int) -> Floats:
    """n shares of a whole, uneven but of one order of size."""
    return np.asarray(rng.dirichlet(np.full(n, 6.0)))


def _after_fee(rng: np.random.Generator, n: int | None = None) -> Floats:
    return np.asarray(1 - rng.beta(1.0, 40.0, n))


def fan_out(rng: np.random.Generator) -> Legs:
    """One account pays many."""
    n = int(rng.integers(4, 11))
    return _legs(0, np.arange(1, n + 1), n * _parts(rng, n), rng.uniform(0, 2, n))


def fan_in(rng: np.random.Generator) -> Legs:
    """Many accounts pay one."""
    n = int(rng.integers(4, 11))
    return _legs(np.arange(1, n + 1), 0, n * _parts(rng, n), rng.uniform(0, 2, n))


def gather_scatter(rng: np.random.Generator) -> Legs:
    """Many pay one, which pays many others."""
    n, m = rng.integers(3, 7, 2)
    gather = _legs(np.arange(1, n + 1), 0, n * _parts(rng, n), rng.uniform(0, 1, n))
    total = gather.amount.sum() * _after_fee(rng)
    out = np.arange(n + 1, n + m + 1)
    return _join(gather, _legs(0, out, total * _parts(rng, m), rng.uniform(1.1, 2, m)))


def scatter_gather(rng: np.random.Generator) -> Legs:
    """One pays many, which pay one other."""
    n = int(rng.integers(3, 8))
    scatter = _legs(0, np.arange(2, n + 2), n * _parts(rng, n), rng.uniform(0, 1, n))
    onward = scatter.time + rng.uniform(0.1, 1.5, n)
    return _join(scatter, _legs(scatter.receiver, 1, scatter.amount * _after_fee(rng, n), onward))


def _chain(rng: np.random.Generator, path: Ints, gap: float) -> Legs:
    """Each account of `path` pays the next what it got, less a fee."""
    n = len(path) - 1
    amount = np.cumprod(np.append(1.0, _after_fee(rng, n - 1)))
    return _legs(path[:-1], path[1:], amount, np.cumsum(gap * (0.1 + rng.exponential(1.0, n))))


def cycle(rng: np.random.Generator) -> Legs:
    """The money comes back to where it set out."""
    n = int(rng.integers(3, 8))
    return _chain(rng, np.append(np.arange(n), 0), 0.7)


def _layer(rng: np.random.Generator, paid_in: Floats, first: int, n: int, earliest: float) -> Legs:
    """Accounts 0, 1, … hold `paid_in`; each pays it to one or more of the `n` accounts from `first` on."""
    pays = rng.random((len(paid_in), n)) < 0.5
    pays[np.arange(len(paid_in)), rng.integers(0, n, len(paid_in))] = True
    weight = pays * rng.gamma(5.0, 1.0, pays.shape)
    amount = paid_in[:, None] * weight / weight.sum(axis=1, keepdims=True)
    source, sink = np.nonzero(pays)
    return _legs(source, first + sink, amount[pays], rng.uniform(earliest, earliest + 1, len(source)))


def bipartite(rng: np.random.Generator) -> Legs:
    """Several accounts pay several others."""
    n, m = rng.integers(2, 5, 2)
    return _renumbered(_layer(rng, 2 * rng.uniform(0.6, 1.4, n), int(n), int(m), 0.0))


def stack(rng: np.random.Generator) -> Legs:
    """Two bipartite layers, one after the other."""
    n, m, last = (int(k) for k in rng.integers(2, 5, 3))
    first = _layer(rng, 2 * rng.uniform(0.6, 1.4, n), n, m, 0.0)
    held = np.bincount(first.receiver - n, first.amount, minlength=m)
    funded = np.flatnonzero(held)
    second = _layer(rng, held[funded] * _after_fee(rng, len(funded)), n + m, last, 1.1)
    onward = Legs(n + funded[second.sender], second.receiver, second.amount, second.time)
    return _renumbered(_join(first, onward))


def random_walk(rng: np.random.Generator) -> Legs:
    """The money wanders among a few accounts, which it may visit again."""
    members, steps = int(rng.integers(4, 8)), int(rng.integers(4, 11))
    path = np.cumsum(np.append(0, rng.integers(1, members, steps))) % members
    return _renumbered(_chain(rng, path, 0.6))


def structuring(rng: np.random.Generator) -> Legs:
    """Cash deposits below a reporting limit, then mostly a payment of the sum to another account."""
    n = int(rng.integers(4, 11))
    deposits = _legs(CASH_DESK, 0, rng.uniform(0.72, 0.99, n), rng.uniform(0, 3, n))
    if rng.random() < 0.3:
        return deposits
    total = deposits.amount.sum() * _after_fee(rng)
    parts = int(rng.integers(1, 4))
    onward = _legs(0, np.arange(1, parts + 1), total * _parts(rng, parts), rng.uniform(3.05, 3.6, parts))
    return _join(deposits, onward)


def pass_through(rng: np.random.Generator) -> Legs:
    """Money runs through one to three accounts within hours."""
    return _chain(rng, np.arange(int(rng.integers(3, 6))), 0.12)


def unlisted(rng: np.random.Generator) -> Legs:
    """A few payments over a long time among a small group, in no shape and of unrelated amounts."""
    members, n = int(rng.integers(2, 6)), int(rng.integers(1, 7))
    sender = rng.integers(0, members, n)
    receiver = (sender + rng.integers(1, members, n)) % members
    amount = np.exp(0.8 * rng.standard_normal(n))
    return _renumbered(_legs(sender, receiver, amount, rng.uniform(0, 8, n)))


SHAPES: Final[dict[str, Callable[[np.random.Generator], Legs]]] = {
    "fan-out": fan_out,
    "fan-in": fan_in,
    "gather-scatter": gather_scatter,
    "scatter-gather": scatter_gather,
    "cycle": cycle,
    "bipartite": bipartite,
    "stack": stack,
    "random": random_walk,
    LIMIT: structuring,
    "pass-through": pass_through,
    UNLISTED: unlisted,
}
