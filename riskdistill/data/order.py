"""The order of a table's rows: by time, and what stands for time where the clock of a source is coarse.

A source that stamps by the day or the hour does not say what came first within it, but its file has some order,
and that order can hold the answer: AMLGentex writes each day's laundering last, so that the place of a row among
those of its day tells its label with a ROC-AUC of 0.998. Whatever counts "earlier" rows of the same stamp would
read the label off the file. So such rows are put in an order that their content alone decides, by a hash, which is
the same for every order of the file. The price: where the file's order within a stamp was true, as it may be for
the steps of one scheme, it is lost.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from riskdistill.data.columns import hash64, pc
from riskdistill.data.schema import ACCOUNT_FIELDS, TRANSACTIONS

_SEPARATOR = "\x1f"  # no canonical text holds control characters
# what a payment says by itself; what is known of its accounts besides may come later and must move no row
_SAID = [name for name in TRANSACTIONS.names if name != "tx_id" and name not in ACCOUNT_FIELDS]


def time_order(transactions: pa.Table, *, coarse: bool) -> npt.NDArray[np.int64]:
    """Positions that put canonical `transactions` in order of time.

    Args:
        coarse: rows of one timestamp are in no known order: a hash of what they say orders them (ids left out,
            which may count rows, and balances and customer fields, which only some exports have). Rows that say
            the same are ordered by a hash of their ids, so that not even then the file's order stays. Otherwise
            rows of one timestamp keep their order.
    """
    times = transactions["timestamp"].cast(pa.int64()).to_numpy()
    if not coarse:
        return np.argsort(times, kind="stable")
    said = [
        pc.fill_null(
            transactions[name].cast(pa.int64() if name == "timestamp" else pa.string()).cast(pa.string()), ""
        )
        for name in _SAID
    ]
    content = pc.binary_join_element_wise(*said, pa.scalar(_SEPARATOR))
    return np.lexsort((hash64(transactions["tx_id"]), hash64(content), times))
