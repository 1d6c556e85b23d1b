"""The feature engine: the one place where a transaction becomes numbers, in backfill and live alike.

    engine = FeatureEngine()
    encoded = engine.replay(table)          # history, row by row, in the table's order
    encoded = engine.observe(transaction)   # the next step of the same stream

What it promises: features use only what came strictly before; they do not depend on how the stream was cut into
batches; a transaction id that is among the sender's last `RING` events counts once; a row costs the same however
long the history.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from riskdistill.data.currencies import CURRENCY_CODES, USD_PER_UNIT
from riskdistill.data.transaction import Transaction
from riskdistill.errors import StateError, TransactionError
from riskdistill.features import update
from riskdistill.features.encoded import Encoded
from riskdistill.features.record import ACCOUNT, TRANSACTION
from riskdistill.features.spec import FORMAT_BUCKETS, FeatureSpec

CHUNK: Final = 16_384  # rows between two calls of `progress`
_CURRENCY: Final = {code: index + 1 for index, code in enumerate(CURRENCY_CODES)}
_BYTES: Final = np.dtype((np.void, ACCOUNT.itemsize))  # copies a record whole, not field by field
_USD: Final = np.array([0.0, *USD_PER_UNIT.values()])


def _hash(text: str) -> int:
    return int(xxhash.xxh64_intdigest(text.encode()))


def account_key(bank: str, account: str) -> int:
    """The 64-bit key of an account; an account is known by its bank and its number there."""
    return _hash(f"{bank}\x1f{account}")


def format_bucket(payment_format: str) -> int:
    """The hash bucket of a payment format, 1 to FORMAT_BUCKETS - 1."""
    return 1 + _hash(payment_format) % (FORMAT_BUCKETS - 1)


class FeatureEngine:
    """Account records and the compiled step over them. Not thread-safe: one writer.

    Args:
        spec: which features and how many event tokens; the default is what bundles are trained with.
    """

    def __init__(self, spec: FeatureSpec | None = None) -> None:
        self.spec = spec or FeatureSpec()
        self._rows: dict[int, int] = {}  # account key -> row of its record
        self._records: NDArray[Any] = np.zeros(1_024, ACCOUNT)

    def __len__(self) -> int:
        """The number of accounts known."""
        return len(self._rows)

    def replay(
        self,
        transactions: pa.Table,
        *,
        tokens: bool | NDArray[np.bool_] = True,
        progress: Callable[[int], None] | None = None,
    ) -> Encoded:
        """Encode and apply canonical transactions in the table's order.

        Args:
            transactions: canonical rows, in order of arrival.
            tokens: whether to write event tokens, for all rows or by a mask [n]; the rows without are left out
                of `events`, so with a mask `events` has `mask.sum()` rows.
            progress: called with the number of rows done since the last call.

        Raises:
            TransactionError: an amount is not finite or a currency is not known.
        """
        rows = self._encode_columns(transactions)
        wanted = np.full(len(rows), tokens) if isinstance(tokens, bool) else np.asarray(tokens, bool)
        slots = np.where(wanted, np.cumsum(wanted) - 1, -1).astype(np.int64)
        context = np.empty((len(rows), len(self.spec.context)), np.float32)
        events = np.empty((int(wanted.sum()), *self._events_shape), np.float32)
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            update.replay(self._records, rows[part], context[part], events, slots[part])
            if progress is not None:
                progress(len(rows[part]))
        return Encoded(context, events)

    def observe(self, transaction: Transaction) -> Encoded:
        """Encode one transaction as known strictly before it, then apply it."""
        return self._step(self._encode_one(transaction), self._records)

    @contextmanager
    def observing(self, transaction: Transaction) -> Iterator[Encoded]:
        """As `observe`, but applied at the end of the `with` block; if that raises, the engine is as it was.

        Nothing else may use the engine inside the block.
        """
        known = len(self._rows)
        encoded, places, moved_on = self._attempt(transaction)
        try:
            yield encoded
        except BaseException:
            self._forget_all_but(known)
            raise
        self._records.view(_BYTES)[places] = moved_on.view(_BYTES)

    def peek(self, transaction: Transaction) -> Encoded:
        """Encode one transaction without applying it; the engine is as it was."""
        known = len(self._rows)
        encoded, _, _ = self._attempt(transaction)
        self._forget_all_but(known)
        return encoded

    def save(self, path: Path) -> None:
        """Write all account records to `path` (.npz), atomically."""
        temporary = path.with_suffix(".tmp")
        keys = np.fromiter(self._rows, np.uint64, len(self._rows))
        with temporary.open("wb") as file:
            np.savez(
                file,
                keys=keys,
                records=self._records[: len(keys)].view(np.uint8).reshape(len(keys), ACCOUNT.itemsize),
                version=np.array(self.spec.record_version),
            )
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def restore(self, path: Path) -> None:
        """Replace all account records by those that `save` wrote.

        Raises:
            StateError: the file is absent, damaged, or of another record version; the engine keeps its state.
        """
        try:
            # opened here, as NumPy leaves a file open that it cannot read
            with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                version, keys, records = int(saved["version"]), saved["keys"], saved["records"]
        except Exception as error:
            raise StateError(
                f"cannot read the snapshot ({error})", where=str(path), mend="replay the history instead"
            ) from error
        if version != self.spec.record_version or records.shape != (len(keys), ACCOUNT.itemsize):
            raise StateError(
                f"snapshot of record version {version}, this engine writes {self.spec.record_version}",
                where=str(path),
                mend="replay the history instead",
            )
        self._rows = {int(key): row for row, key in enumerate(keys)}
        self._records = np.zeros(max(1_024, len(keys)), ACCOUNT)
        self._records[: len(keys)] = np.ascontiguousarray(records).view(ACCOUNT).reshape(-1)

    @property
    def _events_shape(self) -> tuple[int, int]:
        return 2 * self.spec.events_per_party, len(self.spec.token_channels)

    def _step(self, row: NDArray[Any], records: NDArray[Any]) -> Encoded:
        context = np.empty((1, len(self.spec.context)), np.float32)
        events = np.empty((1, *self._events_shape), np.float32)
        update.replay(records, row, context, events, np.zeros(1, np.int64))
        return Encoded(context, events)

    def _attempt(self, transaction: Transaction) -> tuple[Encoded, list[int], NDArray[Any]]:
        """The encoded row, the rows of the records that it changes, and what they are after it."""
        row = self._encode_one(transaction)
        places = list(dict.fromkeys((int(row["sender"][0]), int(row["receiver"][0]))))
        copies = self._records.view(_BYTES)[places].view(ACCOUNT)
        row["sender"], row["receiver"] = 0, len(places) - 1
        return self._step(row, copies), places, copies

    def _forget_all_but(self, known: int) -> None:
        while len(self._rows) > known:
            self._rows.popitem()

    def _row_of(self, key: int) -> int:
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = len(self._rows)
            if row >= len(self._records):
                self._records = np.concatenate([self._records, np.zeros(len(self._records), ACCOUNT)])
            self._records[row] = np.zeros((), ACCOUNT)  # a row may have been lent to an attempt
        return row

    def _encode_one(self, transaction: Transaction) -> NDArray[Any]:
        sender = account_key(transaction.sender_bank, transaction.sender_account)
        receiver = account_key(transaction.receiver_bank, transaction.receiver_account)
        countries = transaction.sender_country, transaction.receiver_country
        row = np.zeros(1, TRANSACTION)
        row[0] = (
            self._row_of(sender),
            self._row_of(receiver),
            sender,
            receiver,
            _hash(transaction.tx_id),
            # datetime.timestamp() rounds to a float; integer microseconds agree with the Arrow column
            _epoch_seconds(transaction),
            transaction.amount_paid * USD_PER_UNIT[transaction.currency_paid],
            transaction.amount_received * USD_PER_UNIT[transaction.currency_received],
            transaction.amount_paid,
            np.nan if None in countries else float(countries[0] != countries[1]),
            format_bucket(transaction.payment_format),
            _CURRENCY[transaction.currency_paid],
            _CURRENCY[transaction.currency_received],
            transaction.sender_bank == transaction.receiver_bank,
        )
        return row

    def _encode_columns(self, table: pa.Table) -> NDArray[Any]:
        rows = np.zeros(len(table), TRANSACTION)
        if not len(table):
            return rows
        for side in ("sender", "receiver"):
            joined = pc.binary_join_element_wise(table[f"{side}_bank"], table[f"{side}_account"], "\x1f")
            codes, uniques = _factorize(joined)
            keys = np.array([_hash(key) for key in uniques], np.uint64)
            rows[f"{side}_key"] = keys[codes]
        # records in order of first appearance, as a live engine would make them
        order = np.stack([rows["sender_key"], rows["receiver_key"]], axis=1).reshape(-1)
        accounts, first, codes = np.unique(order, return_index=True, return_inverse=True)
        places = np.empty(len(accounts), np.int64)
        for index in np.argsort(first):
            places[index] = self._row_of(int(accounts[index]))
        both = places[codes].reshape(-1, 2)
        rows["sender"], rows["receiver"] = both[:, 0], both[:, 1]
        rows["tx"] = [_hash(tx) for tx in table["tx_id"].to_pylist()]
        rows["time"] = table["timestamp"].cast(pa.int64()).to_numpy() / 1e6
        for side in ("paid", "received"):
            codes, names = _factorize(table[f"currency_{side}"])
            rows[f"currency_{side}"] = _currency_indices(names)[codes]
            amounts = table[f"amount_{side}"].to_numpy()
            rows[f"usd_{side}"] = amounts * _USD[rows[f"currency_{side}"]]
        rows["amount"] = table["amount_paid"].to_numpy()
        if not np.isfinite(rows["usd_paid"]).all() or not np.isfinite(rows["usd_received"]).all():
            raise TransactionError("an amount is not a finite number", mend="ingest the file first")
        codes, formats = _factorize(table["payment_format"])
        rows["format"] = np.array([format_bucket(name) for name in formats], np.uint8)[codes]
        rows["same_bank"] = pc.equal(table["sender_bank"], table["receiver_bank"]).to_numpy()
        crossed = pc.not_equal(table["sender_country"], table["receiver_country"]).cast(pa.float32())
        rows["cross_border"] = crossed.to_numpy()
        return rows


def _epoch_seconds(transaction: Transaction) -> float:
    moment = transaction.timestamp
    return (int(moment.replace(microsecond=0).timestamp()) * 1_000_000 + moment.microsecond) / 1e6


def _factorize(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[str]]:
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return encoded.indices.to_numpy(), encoded.dictionary.to_pylist()


def _currency_indices(codes: list[str]) -> NDArray[np.uint8]:
    unknown = sorted(set(codes) - _CURRENCY.keys())
    if unknown:
        raise TransactionError(f"unknown currency {unknown[0]!r}", mend=f"use one of {', '.join(CURRENCY_CODES)}")
    return np.array([_CURRENCY[code] for code in codes], np.uint8)
