"""Strong supervision only where the teacher is confident."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from riskdistill.config import SelectionConfig


def teacher_weight(logit: NDArray[np.float32], config: SelectionConfig) -> NDArray[np.float32]:
    """The weight [n] of the teacher's terms on each row: 1 where it is confident, `otherwise` elsewhere.

    The entropy of a two-class answer falls with |logit|, so one rank serves both. Rows are ranked apart on either
    side of a half: over all of them, the many rows that are surely normal would crowd out every laundering row.

    Args:
        logit: [n] of the teacher, on the scale of the training mix.
    """
    weight = np.full(len(logit), config.otherwise, np.float32)
    for side in (logit > 0, logit <= 0):
        rows = np.flatnonzero(side)
        surest = rows[np.argsort(-np.abs(logit[rows]), kind="stable")]
        weight[surest[: int(np.ceil(config.confident * len(rows)))]] = 1.0
    return weight
