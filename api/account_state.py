"""Rebuilds account state at start: the history first, then the log's transactions, in the order first seen.

What the service observes live is the next step of the same stream, so scores after a restart are those that
would have come without one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from api.pseudonyms import Pseudonyms
from riskdistill.data.schema import TRANSACTIONS
from riskdistill.data.transaction import to_table
from riskdistill.errors import UnreadableFileError
from riskdistill.features.engine import FeatureEngine
from riskdistill.storage.decisions import DecisionLog

ROWS: Final = 50_000  # replayed at a time


def rebuild(engine: FeatureEngine, history: Path | None, log: DecisionLog, pseudonyms: Pseudonyms) -> int:
    """Replays into `engine`; gives the place in the order of observation that comes next.

    Args:
        engine: a new engine.
        history: a Parquet file of canonical transactions with real account ids, in order of arrival, or a
            folder whose files `transactions*.parquet` are taken in order of their names.
        log: decisions, whose transactions carry pseudonyms already.
        pseudonyms: for the history.

    Raises:
        UnreadableFileError: the history is absent, damaged, or not canonical.
    """
    if history is not None:
        for table in _history(history):
            engine.replay(pseudonyms.table(table), tokens=False)
    following = 1
    stored = log.in_state_order()
    while decisions := list(islice(stored, ROWS)):
        engine.replay(to_table(decision.transaction for decision in decisions), tokens=False)
        following = decisions[-1].observed + 1
    return following


def _history(path: Path) -> Iterator[pa.Table]:
    files = sorted(path.glob("transactions*.parquet")) if path.is_dir() else [path]
    if not files:
        raise UnreadableFileError(
            "no file transactions*.parquet there", where=str(path), mend="check the history's path"
        )
    for file in files:
        try:
            with pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(ROWS, columns=TRANSACTIONS.names):
                    yield pa.Table.from_batches([batch]).select(TRANSACTIONS.names).cast(TRANSACTIONS)
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise UnreadableFileError(
                f"not a file of canonical transactions: {error}",
                where=str(file),
                mend="make it with riskdistill ingest",
            ) from error
