"""Rows of the canonical tables as arrays, and new rows made from old ones.

What a made row says of its accounts, where the source says it: a balance goes with the story, so it is scaled with
the amounts and moved by earlier parts of the same payment; tenure and contact changes go with the account, and
tenure grows with time. What was known does not become null: most made rows are laundering, and a model would learn
that a missing value tells them.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute

from riskdistill.data.schema import LABELS, MAX_AMOUNT, TIMESTAMP, TRANSACTIONS
from riskdistill.errors import DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
pc: Final[Any] = pyarrow.compute  # untyped: its published stubs refuse NumPy indices

PARTY: Final = ("bank", "account", "country", "class", "contact_changes", "since")  # what goes with an account
DAY: Final = 86_400_000_000  # microseconds
MARK: Final = "~"  # between a source's id and the name of what was done to it
ROOM_FOR_MARK: Final = 32  # characters of an id that a mark may need


def numbers(table: pa.Table, name: str) -> Floats:
    """A float column as a NumPy array; NaN for null."""
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def times(table: pa.Table, name: str = "timestamp") -> Ints:
    """A timestamp column as microseconds since 1970."""
    return np.asarray(table[name].cast(pa.int64()).to_numpy(), dtype=np.int64)


def flags(table: pa.Table, name: str) -> npt.NDArray[np.bool_]:
    """A Boolean column as a NumPy array."""
    return np.asarray(table[name].to_numpy(), dtype=np.bool_)


def codes(columns: list[Any]) -> tuple[Ints, Ints]:
    """Numbers the distinct tuples that equally long text columns form, row by row.

    Returns:
        The number of each row's tuple, and for each number the first row that has it.
    """
    joined = pc.binary_join_element_wise(*(pc.fill_null(column, "") for column in columns), "\x1f")
    if isinstance(joined, pa.ChunkedArray):
        joined = joined.combine_chunks()
    number = joined.dictionary_encode().indices.to_numpy().astype(np.int64)
    return number, np.unique(number, return_index=True)[1]


def party(transactions: pa.Table, side: str) -> dict[str, Any]:
    """What the rows say of their `side` ("sender" or "receiver"), an array for each word of PARTY.

    `since` stands for the tenure: the day, counted from 1970, on which the party became a customer. It holds for
    all rows of that party, whatever their time.
    """
    said = {word: transactions[f"{side}_{word}"].combine_chunks() for word in PARTY if word != "since"}
    days = pa.array((times(transactions) // DAY).astype(np.float64))
    return said | {"since": pc.subtract(days, transactions[f"{side}_tenure_days"].combine_chunks())}


def stories(labels: pa.Table) -> Ints:
    """The number of each row's story: its scheme, or for a row of no scheme the row by itself."""
    own = pc.binary_join_element_wise("row", labels["tx_id"], "\x1f")
    scheme = pc.binary_join_element_wise("scheme", labels["scheme_id"], "\x1f")
    return codes([pc.coalesce(scheme, own)])[0]


def by_story(story: Ints) -> list[Ints]:
    """The positions of the rows of each story, in their order."""
    order = np.argsort(story, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(story[order])) + 1) if len(story) else []


def first_rows(story: Ints) -> Ints:
    """For each row the position of the first row of its story."""
    _, first, number = np.unique(story, return_index=True, return_inverse=True)
    return np.asarray(first[number])


def room(story: Ints, time: Ints, most: float) -> Floats:
    """Microseconds from each row to the next one of its story, at most `most`."""
    order = np.lexsort((time, story))
    left = np.full(len(time), most, dtype=np.float64)
    follows = np.diff(story[order]) == 0
    left[order[:-1][follows]] = np.diff(time[order])[follows]
    return np.minimum(left, most)


def both_sides(transactions: pa.Table, of_sender: str, of_receiver: str) -> pa.Array:
    """Two columns one after the other, what senders have and what receivers have, [2 * rows]."""
    return pa.concat_arrays([transactions[name].combine_chunks() for name in (of_sender, of_receiver)])


def held_accounts(transactions: pa.Table, story: Ints) -> tuple[Ints, Ints]:
    """Numbers each account and currency of each story; see `codes`, all [2 * rows], senders first."""
    pairs = [(f"sender_{word}", f"receiver_{word}") for word in ("bank", "account")]
    held = [both_sides(transactions, *pair) for pair in (*pairs, ("currency_paid", "currency_received"))]
    return codes([pa.array(np.tile(story, 2)).cast(pa.string()), *held])


def spans(story: Ints, time: Ints) -> tuple[Ints, Ints]:
    """The first and the last time of each story, by its number."""
    count = int(story.max(initial=-1)) + 1
    start, end = np.full(count, np.iinfo(np.int64).max), np.full(count, np.iinfo(np.int64).min)
    np.minimum.at(start, story, time)
    np.maximum.at(end, story, time)
    return start, end


def amounts(transactions: pa.Table) -> Floats:
    """What is paid and what is received, [2, rows]."""
    return np.stack([numbers(transactions, f"amount_{word}") for word in ("paid", "received")])


def balances(transactions: pa.Table) -> Floats:
    """What the sender and the receiver have just before, [2, rows]; NaN for null."""
    return np.stack([numbers(transactions, f"{side}_balance") for side in ("sender", "receiver")])


def balance_columns(balance: Floats) -> dict[str, Floats]:
    """The columns of `balance` [2, rows], inside the schema's limits."""
    within = np.clip(balance, -MAX_AMOUNT, MAX_AMOUNT)
    return {"sender_balance": within[0], "receiver_balance": within[1]}


def moved_balances(
    transactions: pa.Table, story: Ints, rows: Ints, time: Ints, amount: Floats
) -> dict[str, Floats]:
    """Balances of the rows at `rows` where of each story these alone happen, at other times or with other amounts.

    An account's balance moves by as much as what its story brought it before the payment, less what it took,
    differs from what it was.

    Args:
        time: when those rows happen now, in microseconds, [rows].
        amount: what is paid and received now, [2, rows].

    Returns:
        The columns sender_balance and receiver_balance, [rows].
    """
    account = held_accounts(transactions, story)[0].reshape(2, -1)
    before = _brought(account, times(transactions), amounts(transactions))[:, rows]
    moved = _brought(account[:, rows], time, amount) - before
    return balance_columns(balances(transactions)[:, rows] + moved)


def _brought(account: Ints, time: Ints, amount: Floats) -> Floats:
    """What each row's sender and receiver got before it less what they paid, all [2, n]; a tie goes by position."""
    order = np.lexsort((np.tile(np.arange(len(time)), 2), np.tile(time, 2), account.ravel()))
    change = (amount * [[-1.0], [1.0]]).ravel()[order]
    brought = np.empty_like(change)
    # by account, for a running sum over all of them would lose cents
    brought[order] = pd.Series(change).groupby(account.ravel()[order]).cumsum() - change
    brought = brought.reshape(2, -1)
    brought[1] = np.where(account[0] == account[1], brought[0], brought[1])  # one transfer is one event
    return brought


def aligned(transactions: pa.Table, labels: pa.Table) -> pa.Table:
    """The labels of `transactions`, row for row.

    Raises:
        DataError: a transaction has no label.
    """
    found = pc.index_in(transactions["tx_id"], value_set=labels["tx_id"])
    if found.null_count:
        absent = transactions["tx_id"].filter(pc.is_null(found))[0].as_py()
        raise DataError("transaction without a label", where=absent, mend="join labels before augmenting")
    return labels.take(found)


def derived(
    name: str, transactions: pa.Table, labels: pa.Table, rows: Ints, **changes: Any
) -> tuple[pa.Table, pa.Table]:
    """New rows: copies of the source rows at positions `rows`, with the columns in `changes` replaced.

    A source's copies are numbered from 0. A label is known when its source's was, or from the new row's own
    time if that is later.

    Args:
        changes: by column of TRANSACTIONS, arrays of the length of `rows`; timestamps in microseconds, NaN for a
            null number, and for tenure `sender_since` and `receiver_since` (see `party`).
    """
    copies = transactions.take(pa.array(rows))
    told = labels.take(pa.array(rows))
    marks = [f"{MARK}{name}{n}" for n in occurrence(rows)]
    ids = [source + mark for source, mark in zip(copies["tx_id"].to_pylist(), marks, strict=True)]
    changes = {"tx_id": ids, "timestamp": times(copies), **changes}
    for side in ("sender", "receiver"):
        since = changes.get(f"{side}_since", party(copies, side)["since"])
        days = pa.array((np.asarray(changes["timestamp"]) // DAY).astype(np.float64))
        passed = pc.subtract(days, since if isinstance(since, pa.Array) else pa.array(since, pa.float64()))
        changes[f"{side}_tenure_days"] = pc.max_element_wise(passed, 0.0, skip_nulls=False)
    columns = [_column(changes[f.name], f) if f.name in changes else copies[f.name] for f in TRANSACTIONS]
    new = pa.Table.from_arrays(columns, schema=TRANSACTIONS)
    known = np.maximum(times(told, "known_at"), times(new))
    scheme = pc.binary_join_element_wise(told["scheme_id"], name, MARK)
    told = pa.Table.from_arrays(
        [new["tx_id"], told["is_laundering"], told["typology"], scheme, _column(known, LABELS.field("known_at"))],
        schema=LABELS,
    )
    return new, told


def sources(transactions: pa.Table) -> list[str]:
    """The id of the row from which each synthetic row was made."""
    return [tx_id.rpartition(MARK)[0] for tx_id in transactions["tx_id"].to_pylist()]


def occurrence(rows: Ints) -> Ints:
    """For each position, how often its value came before."""
    order = np.argsort(rows, kind="stable")
    starts = np.flatnonzero(np.diff(rows[order], prepend=-1))
    nth = np.empty(len(rows), dtype=np.int64)
    nth[order] = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    return nth


def _column(values: Any, field: Any) -> Any:
    if field.type == TIMESTAMP:
        return pa.array(np.asarray(values, dtype=np.int64)).cast(TIMESTAMP)
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    return pa.array(values, field.type, from_pandas=True)
