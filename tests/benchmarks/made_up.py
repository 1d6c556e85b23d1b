"""Traffic that tests of the dataset benchmarks make up: a scheme to count by hand, labels for any payments."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from dataset_quantities import Source

from riskdistill.data.schema import LABELS

DAY = 86_400.0


def chain(**changes: object) -> Source:
    """1 pays 2 and 3 of one scheme, both pay on to 4 less a tenth; before that, 5 pays 1 twice."""
    facts: dict[str, object] = {
        "name": "chain",
        "natural": True,
        "unit": 1.0,
        "begin": 1_767_225_600.0,  # midnight
        "seconds": np.array([0.0, DAY, 2 * DAY, 2 * DAY + 60, 3 * DAY, 3 * DAY + 60]),
        "dollars": np.array([10.0, 30.0, 100.0, 200.0, 90.0, 180.0]),
        "sender": np.array([5, 5, 1, 1, 2, 3]),
        "receiver": np.array([1, 1, 2, 3, 4, 4]),
        "laundering": np.array([False, False, True, True, True, True]),
        "scheme": np.array([-1, -1, 0, 0, 0, 0]),
    }
    return Source(**{**facts, **changes})  # type: ignore[arg-type]


def labels_of(table: pa.Table, laundering: np.ndarray) -> pa.Table:
    columns = {
        "tx_id": table["tx_id"],
        "is_laundering": pa.array(laundering),
        "typology": pa.array(np.where(laundering, "cycle", "normal"), pa.string()),
        "scheme_id": pa.nulls(len(laundering), pa.string()),
        "known_at": table["timestamp"],
    }
    return pa.table(columns, schema=LABELS)
