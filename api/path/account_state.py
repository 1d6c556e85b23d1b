"""Rebuilds account state at start: the history first, then the log's transactions, in the order first seen.

What the service observes live is the next step of the same stream, so scores after a restart are those that
would have come without one. A history may reach into the log's time: what is in both counts once, where the
history has it. (Known by 64-bit hashes of the ids, eight bytes a transaction: among a hundred million, one is
mistaken for another with a chance of 0.03 %.) Where decisions were pruned from the log, the history must hold their
transactions, or whoever pruned them chose that accounts forget them (`riskdistill.storage.retention`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import compress, islice, takewhile
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from api.path.known_ids import KnownIds
from api.path.pseudonyms import Pseudonyms
from riskdistill.data.canonical import canonical_table
from riskdistill.data.schema import TRANSACTIONS
from riskdistill.data.transaction import to_table
from riskdistill.errors import StateError, TransactionError, UnreadableFileError
from riskdistill.features.engine import FeatureEngine
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.retention import due, needed_of_history, tombstones, tx_hash

_logger = logging.getLogger(__name__)
ROWS: Final = 50_000  # replayed at a time


class StateSource(NamedTuple):
    """What account state can be built from at any time, since it only follows from these."""

    new_engine: Callable[[], FeatureEngine]
    history: Path | None
    log: DecisionLog
    pseudonyms: Pseudonyms

    def build(self, ids: KnownIds | None = None) -> tuple[FeatureEngine, int]:
        """An engine as of the history and the log, and the last place in the order of observation.

        Takes `ids` and raises as `rebuild`.
        """
        engine = self.new_engine()
        return engine, rebuild(engine, self.history, self.log, self.pseudonyms, ids=ids) - 1

    def last_place(self) -> int:
        """The last place in the order of observation that the log holds; 0 before the first."""
        return self.log.last_observed()


def rebuild(
    engine: FeatureEngine,
    history: Path | None,
    log: DecisionLog,
    pseudonyms: Pseudonyms,
    until: str | None = None,
    ids: KnownIds | None = None,
) -> int:
    """Replays into `engine`; gives the place in the order of observation that comes next.

    Args:
        engine: a new engine.
        history: a Parquet file of canonical transactions with real account ids, in order of arrival, or a
            folder whose files `transactions*.parquet` are taken in order of their names.
        log: decisions, whose transactions carry pseudonyms already.
        pseudonyms: for the history.
        until: id of a decision that the state is rebuilt for: just before its transaction was seen.
        ids: gets the ids of the log's transactions.

    Raises:
        UnreadableFileError: the history is absent, damaged, or not canonical.
        StateError: decisions were pruned whose transactions the history should hold, and does not.
    """
    replayed = [np.empty(0, np.uint64)]
    if history is not None:
        for table in _history(history):
            engine.advance(pseudonyms.table(table))
            replayed.append(_hashes(table["tx_id"].to_pylist()))
    known = np.unique(np.concatenate(replayed))
    _check_covers(known, log)
    following, repeated = max((told.observed for told in tombstones(log)), default=0) + 1, 0
    stored = takewhile(lambda decision: decision.decision_id != until, log.in_state_order())
    while decisions := list(islice(stored, ROWS)):
        is_new = ~np.isin(_hashes(decision.tx_id for decision in decisions), known)
        engine.advance(to_table(decision.transaction for decision in compress(decisions, is_new)))
        if ids is not None:
            for decision in decisions:
                ids.add(decision.tx_id)
        following = max(following, decisions[-1].observed + 1)
        repeated += int((~is_new).sum())
    if repeated:
        _logger.info("%d transactions of the decision log are in the history already", repeated)
    return following


def missing_of(log: DecisionLog, history: Path | None, before: datetime) -> int:
    """How many of the transactions decided before a time the `history` lacks: those it cannot stand in for.

    Raises:
        UnreadableFileError: the history is absent, damaged, or not canonical.
    """
    parts = [np.empty(0, np.uint64)]
    if history is not None:
        parts += [_hashes(table["tx_id"].to_pylist()) for table in _history(history)]
    return int((~np.isin(_hashes(due(log, before)), np.concatenate(parts))).sum())


def _check_covers(known: NDArray[np.uint64], log: DecisionLog) -> None:
    missing = int((~np.isin(needed_of_history(log), known)).sum())
    if missing:
        raise StateError(
            f"{missing:,} transactions whose decisions were pruned from the log are not in the history",
            where="account state",
            mend="give the history that was named when they were pruned (--history)",
        )


def _hashes(tx_ids: Iterable[str]) -> NDArray[np.uint64]:
    return np.fromiter(map(tx_hash, tx_ids), np.uint64)


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
