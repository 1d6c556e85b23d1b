"""Made-up labels for times that are given: as few columns as the split looks at decide everything else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskdistill.data.schema import LABELS, NORMAL


def labels_of(known_at: NDArray[np.int64], typologies: Sequence[str]) -> pa.Table:
    """Canonical labels, one row for each time (microseconds) at which it became known."""
    bad = [name != NORMAL for name in typologies]
    columns = [
        pa.array([f"t{row}" for row in range(len(bad))]),
        pa.array(bad),
        pa.array(typologies, pa.string()),
        pa.array([f"S-{name}" if name != NORMAL else None for name in typologies], pa.string()),
        pa.array(known_at, pa.int64()).cast(LABELS.field("known_at").type),
    ]
    return pa.Table.from_arrays(columns, schema=LABELS)
