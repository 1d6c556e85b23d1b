"""Rebuilds account state at start: the history first, then the log's transactions, in the order first seen.

What the service observes live is the next step of the same stream, so scores after a restart are those that
would have come without one. A history may reach into the log's time: what is in both counts once, where the
history has it. (Known by 64-bit hashes of the ids, eight bytes a transaction: among a hundred million, one is
mistaken for another with a chance of 0.03 %.)
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import compress, islice
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from api.known_ids import KnownIds
from api.pseudonyms import Pseudonyms
from riskdistill.data.canonical import canonical_table
from riskdistill.data.schema import TRANSACTIONS
from riskdistill.data.transaction import to_table
from riskdistill.errors import TransactionError, UnreadableFileError
from riskdistill.features.engine import FeatureEngine
from riskdistill.storage.decisions import DecisionLog

_logger = logging.getLogger(__name__)
ROWS: Final = 50_000  # replayed at a time


class Rebuilt(NamedTuple):
    """What the log told.

    Attributes:
        next_place: in the order of observation.
        known: the ids of its transactions.
    """

    next_place: int
    known: KnownIds


def rebuild(engine: FeatureEngine, history: Path | None, log: DecisionLog, pseudonyms: Pseudonyms) -> Rebuilt:
    """Replays into `engine`.

    Args:
        engine: a new engine.
        history: a Parquet file of canonical transactions with real account ids, in order of arrival, or a
            folder whose files `transactions*.parquet` are taken in order of their names.
        log: decisions, whose transactions carry pseudonyms already.
        pseudonyms: for the history.

    Raises:
        UnreadableFileError: the history is absent, damaged, or not canonical.
    """
    replayed = [np.empty(0, np.uint64)]
    if history is not None:
        for table in _history(history):
            engine.advance(pseudonyms.table(table))
            replayed.append(_hashes(table["tx_id"].to_pylist()))
    in_history, known = np.unique(np.concatenate(replayed)), KnownIds()
    following, repeated = 1, 0
    stored = log.in_state_order()
    while decisions := list(islice(stored, ROWS)):
        is_new = ~np.isin(_hashes(decision.tx_id for decision in decisions), in_history)
        engine.advance(to_table(decision.transaction for decision in compress(decisions, is_new)))
        for decision in decisions:
            known.add(decision.tx_id)
        following, repeated = decisions[-1].observed + 1, repeated + int((~is_new).sum())
    if repeated:
        _logger.info("%d transactions of the decision log are in the history already", repeated)
    return Rebuilt(following, known)


def _hashes(tx_ids: Iterable[str]) -> NDArray[np.uint64]:
    return np.fromiter((xxhash.xxh64_intdigest(tx_id.encode()) for tx_id in tx_ids), np.uint64)


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
                    yield canonical_table(batch)
        except (OSError, ValueError, pa.ArrowException, TransactionError) as error:
            raise UnreadableFileError(
                f"not a file of canonical transactions: {error}",
                where=str(file),
                mend="make it with riskdistill ingest",
            ) from error
