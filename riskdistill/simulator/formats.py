"""How two parties usually pay each other.

Ordinary habits and laundering schemes draw from the same mixes, so that a payment's format tells only who
pays whom.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from riskdistill.simulator.arrays import Ints, draw
from riskdistill.simulator.population import Kind, Population

FORMATS: Final = ("wire", "ach", "card", "cash", "cheque", "instant", "crypto")

# Rows: person to person, person to firm, firm to person, firm to firm. Columns: FORMATS.
_MIX: Final = np.array(
    [
        [0.05, 0.17, 0.03, 0.09, 0.08, 0.54, 0.04],
        [0.03, 0.20, 0.40, 0.08, 0.06, 0.21, 0.02],
        [0.07, 0.40, 0.04, 0.03, 0.12, 0.32, 0.02],
        [0.26, 0.30, 0.09, 0.02, 0.13, 0.17, 0.03],
    ]
)


def usual_format(rng: np.random.Generator, population: Population, sender: Ints, receiver: Ints) -> Ints:
    """A format for each payment, from its two parties: cash at a cash desk, crypto at a coin exchange."""
    kinds = population.kind[np.stack([sender, receiver])]
    pair = 2 * (kinds[0] != Kind.PERSON) + (kinds[1] != Kind.PERSON)
    chosen = np.empty(len(sender), dtype=np.int64)
    for row, mix in enumerate(_MIX):
        rows = pair == row
        chosen[rows] = draw(rng, np.arange(len(FORMATS)), int(rows.sum()), mix)
    chosen[(kinds == Kind.EXCHANGE).any(axis=0)] = FORMATS.index("crypto")
    chosen[(kinds == Kind.CASH_DESK).any(axis=0)] = FORMATS.index("cash")
    return chosen
