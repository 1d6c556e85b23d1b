"""The shapes of laundering schemes, on paper: who pays whom, how much, in which order.

The eight published shapes are those of Altman et al., "Realistic Synthetic Financial Transactions for
Anti-Money Laundering Models" (NeurIPS 2023), figure 2; UNLISTED laundering fits no shape. `methods` has the ways of
laundering that authorities describe. Whatever a middleman gets he pays on, less a small fee.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import numpy as np

from riskdistill.data.schema import UNLISTED
from riskdistill.simulator.arrays import Floats, Ints

CASH_DESK: Final = -1  # instead of a member: the cash desk of the other party's bank
EXCHANGE: Final = -2  # instead of a member: some coin exchange


class Role(IntEnum):
    """What a member must be, where a scheme needs somebody of a kind."""

    ANYBODY = 0
    MULE = 1  # a person, most often with a new account or little income
    FIRM = 2  # a company or merchant
    FRONT = 3  # a merchant, who has reason to pay in cash
    ABROAD = 4  # of another country than the first member
    SLEEPER = 5  # an account that has been silent for long


@dataclass(frozen=True)
class Legs:
    """One scheme on paper, as equally long arrays in no particular order.

    sender, receiver: numbers of members from 0, or CASH_DESK or EXCHANGE; amount: in the scheme's unit; time: in
    the scheme's pace, from 0. Money is never paid on before it came. roles: of members who are not just anybody.
    """

    sender: Ints
    receiver: Ints
    amount: Floats
    time: Floats
    roles: Mapping[int, Role] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.time)

    @property
    def members(self) -> int:
        """How many different accounts take part, cash desks and exchanges aside."""
        return int(max(self.sender.max(), self.receiver.max())) + 1


Shape = Callable[[np.random.Generator], Legs]


def legs(
    sender: Ints | int, receiver: Ints | int, amount: Floats, time: Floats, roles: Mapping[int, Role] | None = None
) -> Legs:
    """Legs of which one party may be the same in all."""
    payers, payees = (np.broadcast_to(np.asarray(party), time.shape) for party in (sender, receiver))
    return Legs(payers, payees, amount, time, roles or {})


def join(*parts: Legs) -> Legs:
    """One scheme of several parts whose members are numbered alike."""
    return Legs(
        sender=np.concatenate([part.sender for part in parts]),
        receiver=np.concatenate([part.receiver for part in parts]),
        amount=np.concatenate([part.amount for part in parts]),
        time=np.concatenate([part.time for part in parts]),
        roles={member: role for part in parts for member, role in part.roles.items()},
    )


def _renumbered(legs: Legs) -> Legs:
    """The same legs with members, who have no roles, numbered without gaps."""
    _, number = np.unique(np.concatenate([legs.sender, legs.receiver]), return_inverse=True)
    n = len(legs)
    return Legs(number[:n], number[n:], legs.amount, legs.time)


def parts(rng: np.random.Generator, n: int) -> Floats:
    """n shares of a whole, uneven but of one order of size."""
    return np.asarray(rng.dirichlet(np.full(n, 6.0)))


def after_fee(rng: np.random.Generator, n: int | None = None) -> Floats:
    """What is left of 1 after a small fee."""
    return np.asarray(1 - rng.beta(1.0, 40.0, n))


def _many(rng: np.random.Generator) -> int:
    """How many accounts stand around the middle of a fan: 3 to 25, mostly few."""
    return min(3 + int(rng.gamma(1.5, 4.0)), 25)


def fan_out(rng: np.random.Generator) -> Legs:
    """One account pays many."""
    n = _many(rng)
    return legs(0, np.arange(1, n + 1), n * parts(rng, n), rng.uniform(0, 6, n))


def fan_in(rng: np.random.Generator) -> Legs:
    """Many accounts pay one."""
    n = _many(rng)
    return legs(np.arange(1, n + 1), 0, n * parts(rng, n), rng.uniform(0, 6, n))


def gather_scatter(rng: np.random.Generator) -> Legs:
    """Many pay one, which pays many others."""
    n, m = rng.integers(3, 8, 2)
    gather = legs(np.arange(1, n + 1), 0, n * parts(rng, n), rng.uniform(0, 3, n))
    total = gather.amount.sum() * after_fee(rng)
    out = np.arange(n + 1, n + m + 1)
    return join(gather, legs(0, out, total * parts(rng, m), rng.uniform(3.1, 6, m)))


def scatter_gather(rng: np.random.Generator) -> Legs:
    """One pays many, which pay one other."""
    n = int(rng.integers(3, 9))
    scatter = legs(0, np.arange(2, n + 2), n * parts(rng, n), rng.uniform(0, 3, n))
    onward = scatter.time + rng.uniform(0.1, 3, n)
    return join(scatter, legs(scatter.receiver, 1, scatter.amount * after_fee(rng, n), onward))


def chain(rng: np.random.Generator, path: Ints, gap: float, roles: Mapping[int, Role] | None = None) -> Legs:
    """Each account of `path` pays the next what it got, less a fee."""
    n = len(path) - 1
    amount = np.cumprod(np.append(1.0, after_fee(rng, n - 1)))
    return legs(path[:-1], path[1:], amount, np.cumsum(gap * (0.1 + rng.exponential(1.0, n))), roles)


def cycle(rng: np.random.Generator) -> Legs:
    """The money comes back to where it set out."""
    n = int(rng.integers(3, 9))
    return chain(rng, np.append(np.arange(n), 0), 1.0)


def _layer(rng: np.random.Generator, paid_in: Floats, first: int, n: int, earliest: float) -> Legs:
    """Accounts 0, 1, … hold `paid_in`; each pays it to one or more of the `n` accounts from `first` on."""
    pays = rng.random((len(paid_in), n)) < 0.5
    pays[np.arange(len(paid_in)), rng.integers(0, n, len(paid_in))] = True
    weight = pays * rng.gamma(5.0, 1.0, pays.shape)
    amount = paid_in[:, None] * weight / weight.sum(axis=1, keepdims=True)
    source, sink = np.nonzero(pays)
    return legs(source, first + sink, amount[pays], rng.uniform(earliest, earliest + 3, len(source)))


def bipartite(rng: np.random.Generator) -> Legs:
    """Several accounts pay several others."""
    n, m = rng.integers(2, 6, 2)
    return _renumbered(_layer(rng, 2 * rng.uniform(0.6, 1.4, n), int(n), int(m), 0.0))


def stack(rng: np.random.Generator) -> Legs:
    """Two bipartite layers, one after the other."""
    n, m, last = (int(k) for k in rng.integers(2, 6, 3))
    first = _layer(rng, 2 * rng.uniform(0.6, 1.4, n), n, m, 0.0)
    held = np.bincount(first.receiver - n, first.amount, minlength=m)
    funded = np.flatnonzero(held)
    second = _layer(rng, held[funded] * after_fee(rng, len(funded)), n + m, last, 3.1)
    onward = Legs(n + funded[second.sender], second.receiver, second.amount, second.time)
    return _renumbered(join(first, onward))


def random_walk(rng: np.random.Generator) -> Legs:
    """The money wanders among a few accounts, which it may visit again."""
    members, steps = int(rng.integers(4, 8)), int(rng.integers(4, 11))
    path = np.cumsum(np.append(0, rng.integers(1, members, steps))) % members
    return _renumbered(chain(rng, path, 1.0))


def unlisted(rng: np.random.Generator) -> Legs:
    """A few payments over a long time among a small group, in no shape and of unrelated amounts."""
    members, n = int(rng.integers(2, 6)), int(rng.integers(1, 7))
    sender = rng.integers(0, members, n)
    receiver = (sender + rng.integers(1, members, n)) % members
    amount = np.exp(0.8 * rng.standard_normal(n))
    return _renumbered(legs(sender, receiver, amount, rng.uniform(0, 12, n)))


PUBLISHED: Final[dict[str, Shape]] = {
    "fan_out": fan_out,
    "fan_in": fan_in,
    "gather_scatter": gather_scatter,
    "scatter_gather": scatter_gather,
    "cycle": cycle,
    "bipartite": bipartite,
    "stack": stack,
    "random": random_walk,
    UNLISTED: unlisted,
}
