"""What a habit is: something that some accounts do again and again, window after window.

A habit is set up once with a population (who does it, how much, when it falls due) and then asked, for any window
by itself, for the payments that begin there. What follows from them, such as a loan's repayment, may lie beyond the
window's end.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from riskdistill.simulator.arrays import Floats, Ints
from riskdistill.simulator.clock import Window
from riskdistill.simulator.payments import Payments
from riskdistill.simulator.population import Population

Habit = Callable[[Window, np.random.Generator], Payments]
SetUp = Callable[[Population, np.random.Generator], Habit]


def busyness(rng: np.random.Generator, n: int, spread: float = 1 / 3) -> Floats:
    """How busy each of `n` accounts is; 1 on average."""
    return np.asarray(rng.gamma(1 / spread, spread, n))


def events(rng: np.random.Generator, who: Ints, expected: Floats) -> Ints:
    """Each of `who` once for every event of a Poisson stream; `expected` [len(who)] in this window."""
    return np.repeat(who, rng.poisson(expected))


def whole(population: Population, payer: Ints, value: Floats, unit: float) -> Floats:
    """`value` (US dollars) rounded up to a multiple of `unit` in the payer's currency."""
    rate = population.rate[payer]
    return np.asarray(np.ceil(value / rate / unit) * unit * rate)
