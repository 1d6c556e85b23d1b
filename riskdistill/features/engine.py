"""The feature engine: the one place where a transaction becomes numbers, in backfill and live alike.

    engine = FeatureEngine()
    for encoded in engine.replay(table):    # history, row by row, in the table's order
        ...
    encoded = engine.observe(transaction)   # the next step of the same stream

What it promises: features use only what came strictly before; they do not depend on how the stream was cut into
batches; a transaction id that is among the sender's last `RING` events counts once; a row costs the same however
long the history; an account that was idle for `FeatureSpec.forget_after_days` is as new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskdistill.data.canonical import canonical_table
from riskdistill.data.rates import Rates
from riskdistill.data.transaction import Transaction
from riskdistill.features import snapshot, update
from riskdistill.features.encoded import Encoded
from riskdistill.features.record import ACCOUNT, DAY, RING
from riskdistill.features.rows import RowEncoder
from riskdistill.features.spec import FeatureSpec

BATCH_ROWS: Final = 8_192
_FIRST_CAPACITY: Final = 1_024
_BYTES: Final = np.dtype((np.void, ACCOUNT.itemsize))  # copies a record whole, not field by field
_FIRST: Final = np.zeros(1, np.int64)


class FeatureEngine:
    """Account records and the compiled step over them. Not thread-safe: one writer.

    Transactions come as `Transaction` objects, or as tables of canonical columns: an Arrow table, a pandas or
    Polars data frame, or anything else with an Arrow C stream.

    Args:
        spec: which features and how many event tokens; the default is what bundles are trained with.
        rates: dollars per unit of each currency as of a day; the default is one fixed table.
    """

    def __init__(self, spec: FeatureSpec | None = None, rates: Rates | None = None) -> None:
        self.spec = spec or FeatureSpec()
        self.rates = rates or Rates.fixed()
        self._encoder = RowEncoder(self.rates)
        self._windows, self._limits = np.array(self.spec.windows), np.array(self.spec.limits)
        self._width = len(self.spec.context)
        self._tokens = 2 * self.spec.events_per_party, len(self.spec.token_channels)
        self._places: dict[int, int] = {}  # account key -> row of its record, from 1
        self._records: NDArray[Any] = np.zeros(_FIRST_CAPACITY, ACCOUNT)  # row 0 stays blank

    def __len__(self) -> int:
        """The number of accounts known."""
        return len(self._places)

    @property
    def records(self) -> NDArray[Any]:
        """All account records (`record.ACCOUNT`), to be read and not kept."""
        return self._records[1 : len(self) + 1]

    def replay(
        self,
        transactions: object,
        *,
        tokens: bool = True,
        batch_rows: int = BATCH_ROWS,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[Encoded]:
        """Encode and apply transactions in the table's order, a batch at a time, which bounds what is made.

        A batch is applied when the iterator gives it. To keep no features use `advance`, to keep all `encode`.

        Args:
            transactions: a table of canonical columns, in order of arrival.
            tokens: whether to write event tokens.
            batch_rows: rows of one batch.
            progress: called with the number of rows done since the last call.

        Raises:
            TransactionError: at once, if a column is missing or a value is no canonical one; nothing is applied.
            ValueError: `batch_rows` is below 1.
        """
        if batch_rows < 1:
            raise ValueError(f"batches of {batch_rows} rows; give 1 or more")
        table = canonical_table(transactions)
        return self._batches(table, tokens, batch_rows, progress)

    def encode(
        self,
        transactions: object,
        *,
        tokens: bool | NDArray[np.bool_] = True,
        progress: Callable[[int], None] | None = None,
    ) -> Encoded:
        """As `replay`, in one piece.

        Args:
            transactions: a table of canonical columns, in order of arrival.
            tokens: whether to write event tokens, for all rows or by a mask [n]; the rows without are left out
                of `events`, so with a mask `events` has `mask.sum()` rows.
            progress: called with the number of rows done since the last call.

        Raises:
            TransactionError: a column is missing or a value is no canonical one; nothing is applied.
            ValueError: the mask is not as long as the table.
        """
        table = canonical_table(transactions)
        wanted = np.full(len(table), tokens) if isinstance(tokens, bool) else np.asarray(tokens, bool)
        if wanted.shape != (len(table),):
            raise ValueError(f"a mask of shape {wanted.shape} for {len(table)} transactions")
        slots = np.where(wanted, np.cumsum(wanted) - 1, -1).astype(np.int64)
        context = np.empty((len(table), self._width), np.float32)
        events = np.empty((int(wanted.sum()), *self._tokens), np.float32)
        for start in range(0, len(table), BATCH_ROWS):
            rows = self._rows_of(table.slice(start, BATCH_ROWS))
            part = slice(start, start + len(rows))
            self._run(rows, context[part], events, slots[part], apply=True)
            if progress is not None:
                progress(len(rows))
        return Encoded(context, events)

    def advance(self, transactions: object, *, progress: Callable[[int], None] | None = None) -> None:
        """Apply transactions and keep no features: the engine is where `replay` would have left it.

        Raises:
            TransactionError: a column is missing or a value is no canonical one; nothing is applied.
        """
        for _ in self.replay(transactions, tokens=False, progress=progress):
            pass

    def preview(self, transactions: object, *, tokens: bool = True) -> Encoded:
        """As `encode`, each row from all before it, but afterwards the engine is as it was.

        Holds a copy of every record that the rows touch.

        Raises:
            TransactionError: a column is missing or a value is no canonical one.
        """
        table, known = canonical_table(transactions), len(self)
        rows = self._encoder.table(table)
        keys = np.unique(np.concatenate([rows["sender_key"], rows["receiver_key"]])).tolist()
        touched = [place for place in map(self._place_or_blank, keys) if place]
        saved = self._records.view(_BYTES)[touched]
        try:
            return self.encode(table, tokens=tokens)
        finally:
            self._records.view(_BYTES)[touched] = saved
            while len(self) > known:
                self._places.popitem()

    def observe(self, transaction: Transaction) -> Encoded:
        """Encode one transaction as known strictly before it, then apply it."""
        return self._step(self._encoder.one(transaction, self._place), apply=True)

    def peek(self, transaction: Transaction) -> Encoded:
        """Encode one transaction without applying it; the engine is as it was."""
        return self._step(self._encoder.one(transaction, self._place_or_blank), apply=False)

    @contextmanager
    def observing_many(self, transactions: Sequence[Transaction]) -> Iterator[Encoded]:
        """As `observe` one after another, in one step; if the `with` block raises, the engine is as it was.

        Nothing else may use the engine inside the block.
        """
        known, rows = len(self), self._encoder.many(transactions, self._place)
        touched = np.concatenate([rows["sender"], rows["receiver"]])
        saved = self._records.view(_BYTES)[touched]
        context = np.empty((len(rows), self._width), np.float32)
        events = np.empty((len(rows), *self._tokens), np.float32)
        self._run(rows, context, events, np.arange(len(rows)), apply=True)
        try:
            yield Encoded(context, events)
        except BaseException:
            self._records.view(_BYTES)[touched] = saved
            while len(self) > known:
                self._places.popitem()
            raise

    def evict(self, now: datetime) -> int:
        """Free the records of accounts idle for longer than `spec.forget_after_days`; returns how many.

        Changes no feature of a transaction at or after `now`: such accounts are read as new in any case.

        Args:
            now: no later transaction is stamped before this; with a zone.

        Raises:
            ValueError: `now` has no zone.
        """
        if now.tzinfo is None:
            raise ValueError(f"{now.isoformat()} has no time zone; add one, e.g. datetime.now(UTC)")
        records = self._records[: len(self._places) + 1]
        newest = records["time"][np.arange(len(records)), (records["head"] - 1) % RING]
        kept = now.timestamp() - newest <= self.spec.forget_after_days * DAY
        kept[0] = True
        if not kept.all():
            self._adopt(records.view(_BYTES)[kept].view(ACCOUNT), int(kept.sum()) - 1)
        return int((~kept).sum())

    def save(self, path: Path, *, position: int = 0) -> None:
        """Write all account records to `path`, atomically.

        Args:
            position: how far in a log the engine is; `restore` gives it back to whoever replays the rest.
        """
        newest = self._records["last"][1 : len(self) + 1].max(initial=0.0)
        made = snapshot.Made.by(self.spec, self.rates, until=int(newest // DAY))
        snapshot.write(path, self._records, len(self), made, position)

    def restore(self, path: Path) -> int:
        """Replace all account records by those that `save` wrote; returns the position given there.

        The file is mapped, and copied on write: let it lie while the engine lives. (Saving to its path is safe.)

        Raises:
            StateError: the file is absent, damaged, or made by another record version, with another
                `forget_after_days` or `max_hops`, or at other rates; the engine keeps its state.
        """
        records, header = snapshot.read(path)
        header.made.require(self.spec, self.rates, where=str(path))
        self._adopt(records, header.accounts)
        return header.position

    def _adopt(self, records: NDArray[Any], accounts: int) -> None:
        keys = records["key"][1 : accounts + 1].tolist()
        self._places = dict(zip(keys, range(1, accounts + 1), strict=True))
        self._records = records

    def _batches(
        self, table: pa.Table, tokens: bool, batch_rows: int, progress: Callable[[int], None] | None
    ) -> Iterator[Encoded]:
        for start in range(0, len(table), batch_rows):
            rows = self._rows_of(table.slice(start, batch_rows))
            context = np.empty((len(rows), self._width), np.float32)
            events = np.empty((len(rows) if tokens else 0, *self._tokens), np.float32)
            slots = np.arange(len(rows)) if tokens else np.full(len(rows), -1)
            self._run(rows, context, events, slots, apply=True)
            if progress is not None:
                progress(len(rows))
            yield Encoded(context, events)

    def _rows_of(self, table: pa.Table) -> NDArray[Any]:
        """Encoded rows whose accounts all have a record; new ones in order of first appearance, as live."""
        rows = self._encoder.table(table)
        both = np.stack([rows["sender_key"], rows["receiver_key"]], axis=1).reshape(-1)
        told = pa.array(both).dictionary_encode()
        places = np.fromiter(map(self._place, told.dictionary.to_pylist()), np.int64, len(told.dictionary))
        places = places[told.indices.to_numpy()].reshape(-1, 2)
        rows["sender"], rows["receiver"] = places[:, 0], places[:, 1]
        return rows

    def _step(self, row: NDArray[Any], *, apply: bool) -> Encoded:
        context = np.empty((1, self._width), np.float32)
        events = np.empty((1, *self._tokens), np.float32)
        self._run(row, context, events, _FIRST, apply=apply)
        return Encoded(context, events)

    def _run(
        self,
        rows: NDArray[Any],
        context: NDArray[np.float32],
        events: NDArray[np.float32],
        slots: NDArray[np.int64],
        *,
        apply: bool,
    ) -> None:
        update.replay(self._records, rows, context, events, slots, self._windows, self._limits, apply)

    def _place_or_blank(self, key: int) -> int:
        return self._places.get(key, 0)

    def _place(self, key: int) -> int:
        place = self._places.get(key)
        if place is None:
            place = len(self._places) + 1
            if place >= len(self._records):
                grown = np.zeros(max(_FIRST_CAPACITY, len(self._records) * 3 // 2), ACCOUNT)
                grown.view(_BYTES)[: len(self._records)] = self._records.view(_BYTES)
                self._records = grown
            self._records.view(_BYTES)[place] = self._records.view(_BYTES)[0]  # it may have been lent to a preview
            self._records["key"][place] = key  # at once: a repeated payment may never be applied
            self._places[key] = place
        return place
