"""From canonical transactions to the numbers that the kernels read: keys, dollars, codes.

Tables and single transactions are encoded by different code, one for many rows at once and one for speed on one
row; a test holds them together, bit by bit.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from riskdistill.data.columns import hash64
from riskdistill.data.currencies import CURRENCY_CODES
from riskdistill.data.rates import Rates
from riskdistill.data.transaction import Transaction
from riskdistill.errors import TransactionError
from riskdistill.features.record import TRANSACTION
from riskdistill.features.spec import FORMAT_BUCKETS

FACTS: Final = ("balance", "tenure_days", "contact_changes")  # optional columns of the sender and of the receiver
_CURRENCY: Final = {code: index + 1 for index, code in enumerate(CURRENCY_CODES)}
_PACKED: Final = struct.Struct("=2q3Q4d6d2If4B")  # record.TRANSACTION, field by field
_NAN: Final = float("nan")
_hash: Final = xxhash.xxh3_64_intdigest


def account_key(bank: str, account: str) -> int:
    """The 64-bit key of an account; an account is known by its bank and its number there."""
    return _hash(f"{bank}\x1f{account}".encode())


def format_bucket(payment_format: str) -> int:
    """The hash bucket of a payment format, 1 to FORMAT_BUCKETS - 1."""
    return 1 + int(xxhash.xxh64_intdigest(payment_format.encode())) % (FORMAT_BUCKETS - 1)


@lru_cache(maxsize=1_024)  # bounded: clients choose the text
def _bucket(payment_format: str) -> int:
    return format_bucket(payment_format)


class RowEncoder:
    """Encodes transactions as record.TRANSACTION. Not thread-safe: `one` reuses its row.

    Args:
        rates: dollars per unit of each currency, as of a day.
    """

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._row = np.zeros(1, TRANSACTION)
        self._bytes = self._row.view(np.uint8).data

    def __reduce__(self) -> tuple[type[RowEncoder], tuple[Rates]]:
        return RowEncoder, (self._rates,)  # the row is working space

    def one(self, transaction: Transaction, place: Callable[[int], int]) -> NDArray[Any]:
        """One transaction as an array of one row, which the next call overwrites.

        Args:
            place: gives the row of an account's record for its key; called for the sender, then for the receiver.
        """
        said = vars(transaction)  # quicker than two dozen attributes
        sender_bank, receiver_bank = said["sender_bank"], said["receiver_bank"]
        sender = account_key(sender_bank, said["sender_account"])
        receiver = account_key(receiver_bank, said["receiver_account"])
        paid, received = said["currency_paid"], said["currency_received"]
        seconds = said["timestamp"].timestamp()
        rate_paid = self._rates.at(paid, seconds)
        rate_received = rate_paid if received == paid else self._rates.at(received, seconds)
        of_sender, of_receiver = said["sender_balance"], said["receiver_balance"]
        here, there = said["sender_country"], said["receiver_country"]
        _PACKED.pack_into(
            self._bytes,
            0,
            place(sender),
            place(receiver),
            sender,
            receiver,
            _hash(said["tx_id"].encode()),
            seconds,
            said["amount_paid"] * rate_paid,
            said["amount_received"] * rate_received,
            said["amount_paid"],
            _NAN if of_sender is None else of_sender * rate_paid,
            _NAN if of_receiver is None else of_receiver * rate_received,
            _known(said["sender_tenure_days"]),
            _known(said["receiver_tenure_days"]),
            _known(said["sender_contact_changes"]),
            _known(said["receiver_contact_changes"]),
            _hash(sender_bank.encode()) & 0xFFFFFFFF,
            _hash(receiver_bank.encode()) & 0xFFFFFFFF,
            _NAN if here is None or there is None else here != there,
            _bucket(said["payment_format"]),
            _CURRENCY[paid],
            _CURRENCY[received],
            sender_bank == receiver_bank,
        )
        return self._row

    def many(self, transactions: Sequence[Transaction], place: Callable[[int], int]) -> NDArray[Any]:
        """As `one`, a row for each, in an array of their own."""
        rows = np.empty(len(transactions), TRANSACTION)
        packed = rows.view(np.uint8).data
        for start, transaction in zip(range(0, len(packed), _PACKED.size), transactions, strict=True):
            self.one(transaction, place)
            packed[start : start + _PACKED.size] = self._bytes
        return rows

    def table(self, table: pa.Table) -> NDArray[Any]:
        """The rows of a canonical table, accounts named by their keys only.

        Raises:
            TransactionError: a currency is not known.
        """
        rows = np.zeros(len(table), TRANSACTION)
        if not len(table):
            return rows
        for side in ("sender", "receiver"):
            joined = pc.binary_join_element_wise(table[f"{side}_bank"], table[f"{side}_account"], "\x1f")
            rows[f"{side}_key"] = _hashed(joined)
            rows[f"{side}_bank"] = _hashed(table[f"{side}_bank"]) & 0xFFFFFFFF
        rows["tx"] = hash64(table["tx_id"])
        rows["time"] = table["timestamp"].cast(pa.int64()).to_numpy() / 1e6
        for at, (side, party) in enumerate((("paid", "sender"), ("received", "receiver"))):
            codes, names = _factorize(table[f"currency_{side}"])
            rows[f"currency_{side}"] = _currency_indices(names)[codes]
            rate = self._rates.of_rows(rows[f"currency_{side}"], rows["time"])
            rows[f"usd_{side}"] = table[f"amount_{side}"].to_numpy() * rate
            for number, fact in enumerate(FACTS):
                column = table[f"{party}_{fact}"]
                values = np.nan if column.null_count == len(column) else column.to_numpy()
                rows["facts"][:, 2 * number + at] = values * rate if fact == "balance" else values
        rows["amount"] = table["amount_paid"].to_numpy()
        codes, formats = _factorize(table["payment_format"])
        rows["format"] = np.array([format_bucket(name) for name in formats], np.uint8)[codes]
        rows["same_bank"] = pc.equal(table["sender_bank"], table["receiver_bank"]).to_numpy()
        crossed = pc.not_equal(table["sender_country"], table["receiver_country"]).cast(pa.float32())
        rows["cross_border"] = crossed.to_numpy()
        return rows


def _known(value: float | None) -> float:
    return _NAN if value is None else value


def _factorize(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[str]]:
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return encoded.indices.to_numpy(), encoded.dictionary.to_pylist()


def _hashed(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """The hash of every text, each distinct one hashed once."""
    codes, texts = _factorize(column)
    return np.fromiter((_hash(text.encode()) for text in texts), np.uint64, len(texts))[codes]


def _currency_indices(codes: list[str]) -> NDArray[np.uint8]:
    unknown = sorted(set(codes) - _CURRENCY.keys())
    if unknown:
        raise TransactionError(f"unknown currency {unknown[0]!r}", mend=f"use one of {', '.join(CURRENCY_CODES)}")
    return np.array([_CURRENCY[code] for code in codes], np.uint8)
