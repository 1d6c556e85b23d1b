"""How two parties usually pay each other.

Ordinary habits and laundering schemes draw from the same mixes, so that a payment's format tells only who
pays whom.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from riskdistill.simulator.arrays import Ints
from riskdistill.simulator.population import Kind, Population

FORMATS: Final = ("wire", "ach", "card", "cash", "cheque", "instant", "crypto")

# Rows: person to person, person to firm, firm to person, firm to firm; then those of special counters, which know
# one format each. Columns: FORMATS.
_MIX: Final = np.array(
    [
        [0.05, 0.17, 0.03, 0.09, 0.08, 0.54, 0.04],
        [0.03, 0.20, 0.40, 0.08, 0.06, 0.21, 0.02],
        [0.07, 0.40, 0.04, 0.03, 0.12, 0.32, 0.02],
        [0.26, 0.30, 0.09, 0.02, 0.13, 0.17, 0.03],
    ]
)
_ONLY: Final = {Kind.EXCHANGE: "crypto", Kind.CASH_DESK: "cash", Kind.TREASURY: "ach"}
# row r of the mix lies between r and r + 1, so that one search finds any row's format
_REACHED: Final = (
    np.arange(len(_MIX))[:, None] + np.cumsum(_MIX, axis=1) / _MIX.sum(axis=1, keepdims=True)
).ravel()
_FIXED: Final = np.full(len(Kind), -1, dtype=np.int8)
for _kind, _name in _ONLY.items():
    _FIXED[_kind] = FORMATS.index(_name)


def usual_format(
    rng: np.random.Generator, population: Population, sender: Ints, receiver: Ints
) -> npt.NDArray[np.int8]:
    """A format for each payment, from its two parties: cash at a cash desk, crypto at a coin exchange."""
    payer, payee = population.kind[sender], population.kind[receiver]
    pair = 2 * (payer != Kind.PERSON) + (payee != Kind.PERSON)
    place = np.searchsorted(_REACHED, pair + rng.random(len(pair)), side="right")
    chosen = (place - pair * len(FORMATS)).clip(0, len(FORMATS) - 1).astype(np.int8)
    fixed = np.maximum(_FIXED[payer], _FIXED[payee])
    return np.where(fixed >= 0, fixed, chosen)
