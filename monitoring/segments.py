"""Segments: parts of the traffic that are watched beside the whole, named as `dimension=value`.

They are the sender's bank, country and class of customer (as the payment says), and the channel.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskdistill.data.transaction import Transaction

DIMENSIONS: Final = {
    "bank": "sender_bank",
    "channel": "payment_format",
    "country": "sender_country",
    "class": "sender_class",
}
MOST: Final = 12  # segments watched: each further one takes its part of the false-alarm budget
SMALLEST: Final = 0.02  # share of the traffic: below it nothing is shown in useful time


def segments_of(transaction: Transaction) -> tuple[str, ...]:
    """The segments that a transaction belongs to, one of each dimension that is known."""
    values = ((dimension, getattr(transaction, column)) for dimension, column in DIMENSIONS.items())
    return tuple(f"{dimension}={value}" for dimension, value in values if value is not None)


def segment_rows(transactions: pa.Table, names: Collection[str] | None = None) -> dict[str, NDArray[np.bool_]]:
    """The rows of segments of canonical transactions.

    Args:
        transactions: canonical.
        names: which segments, where they are settled; otherwise those that are worth watching, at most `MOST`, the
            largest first. A dimension of a single value is the whole, and left out.
    """
    rows: dict[str, NDArray[np.bool_]] = {}
    for dimension, column in DIMENSIONS.items():
        codes = transactions[column].combine_chunks().dictionary_encode()
        values = codes.dictionary.to_pylist()
        index = codes.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        for place, value in enumerate(values):
            name, here = f"{dimension}={value}", index == place
            if name in names if names is not None else len(values) > 1 and here.mean() >= SMALLEST:
                rows[name] = here
    largest = sorted(rows, key=lambda name: (-int(rows[name].sum()), name))
    return {name: rows[name] for name in (largest if names is not None else largest[:MOST])}
