"""Hard-example mining and curricula: how hard a row is, and an epoch's rows with the hard ones drawn again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def entropy(logit: NDArray[np.float32]) -> NDArray[np.float32]:
    """The entropy [n], in nats, of two-class answers with these logits."""
    size = np.abs(logit.astype(np.float64))
    odds = np.exp(-size)
    return np.asarray(np.log1p(odds) + size * odds / (1 + odds), np.float32)


def error(logit: NDArray[np.float32], label: NDArray[np.float32]) -> NDArray[np.float32]:
    """How hard each row [n] is, 0 to 1: the teacher's distance |p - label|, or 1/2 where the label is NaN."""
    probability = 0.5 * (1 + np.tanh(0.5 * logit.astype(np.float64)))
    return np.nan_to_num(np.abs(probability - label), nan=0.5).astype(np.float32)


def redraw(
    draw: NDArray[np.int64], hardness: NDArray[np.float32], share: float, random: np.random.Generator
) -> NDArray[np.int64]:
    """An epoch's rows `draw` [m], a random `share` of them replaced by rows of the draw in proportion to hardness.

    Rows keep their number, and nothing comes in that was not in the draw. Where no row is hard, nothing moves.

    Args:
        hardness: [all rows], not negative.
    """
    odds = hardness[draw].astype(np.float64)
    replaced = random.permutation(len(draw))[: int(share * len(draw))]
    if not odds.sum() > 0:
        return draw
    mined = draw.copy()
    mined[replaced] = random.choice(draw, size=len(replaced), p=odds / odds.sum())
    return mined
