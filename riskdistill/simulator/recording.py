"""Labels as a bank gets them: of what was alerted or reported, late, some wrong, some never.

Large schemes cross the limits of alert rules more often than small ones. What nobody finds stays on record as
ordinary; what is found has its label some time after the scheme's last payment; some payments of it are missed, and
now and then the typology is another. Some ordinary payments are reported by mistake, large ones more often.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from riskdistill.simulator.arrays import Floats
from riskdistill.simulator.config import Recording, SimulationConfig
from riskdistill.simulator.methods import SHAPES
from riskdistill.simulator.payments import NEVER, ORDINARY, Payments

ALERT_TOTAL: Final = 10_000.0  # US dollars that a scheme moves, from which rules see it more often
SHORTEST: Final = 1.0  # days from the last payment to a label


def recorded(scheme: Payments, rules: Recording, rng: np.random.Generator) -> Payments:
    """One scheme's payments with what the bank will have on record of them, and from when."""
    n = len(scheme)
    large = scheme.value.sum() >= ALERT_TOTAL
    found = rng.random() < (rules.large if large else rules.small)
    covered = (rng.random(n) < rules.coverage) & found
    name = scheme.typology[:1]
    if rng.random() < rules.misnamed:
        name = rng.integers(0, len(SHAPES), 1).astype(np.int8)
    closed = scheme.time.max(initial=0.0) + _delay(rules, rng, 1)
    return scheme.changed(
        recorded=np.where(covered, name, np.int8(ORDINARY)) if n else scheme.recorded,
        known=np.where(covered, closed, NEVER).astype(np.float32),
    )


def with_mistakes(ordinary: Payments, config: SimulationConfig, rng: np.random.Generator) -> Payments:
    """The ordinary payments of a window, some of them on record as laundering by mistake.

    How many does not depend on the laundering there is, but on how much is found of it on average.
    """
    rules, share = config.recording, config.laundering_share
    right = share / (1 - share) * len(ordinary) * rules.coverage * (rules.large + rules.small) / 2
    n = min(int(rng.poisson(right * rules.mistaken / (1 - rules.mistaken))), len(ordinary))
    if n == 0:
        return ordinary
    reached = np.cumsum(np.sqrt(ordinary.value))
    rows = np.unique(np.searchsorted(reached, rng.random(n) * reached[-1], side="right"))
    names, known = ordinary.recorded.copy(), ordinary.known.copy()
    names[rows] = rng.integers(0, len(SHAPES), len(rows))
    known[rows] = ordinary.time[rows] + _delay(rules, rng, len(rows))
    return ordinary.changed(recorded=names, known=known)


def _delay(rules: Recording, rng: np.random.Generator, n: int) -> Floats:
    return SHORTEST + rules.median_days * np.exp(rules.spread * rng.standard_normal(n))
