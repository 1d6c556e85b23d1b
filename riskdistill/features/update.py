"""The compiled writing half of the streaming step, and the loop over both: the only code that changes a record.

A transaction that is stamped earlier than an event already in a record counts, in that record, as happening at the
time of that event: a late arrival is scored on all that has *arrived*, and no gap is ever negative.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from riskdistill.features.encode import (
    N_DECAYS,
    N_WINDOWS,
    RECEIVER_AT,
    SENDER_AT,
    Floats,
    Record,
    encode_context,
    encode_events,
)
from riskdistill.features.record import HALF_LIVES, IN, MAX_HOPS, OUT, RING, UPSTREAM, UPSTREAM_SECONDS


@njit(cache=True)
def seen(sender: Record, tx: Record) -> bool:
    """Whether the sender's ring already holds this transaction: the horizon of idempotence."""
    for j in range(sender.size):  # noqa: SIM110 - numba compiles no generator expressions
        if sender.tx[j] == tx.tx and sender.flow[j] == OUT:
            return True
    return False


@njit(cache=True)
def _push(rec: Record, tx: Record, flow: int, usd: float, peer: int, degrees: Floats) -> None:
    """Append one event to a record's ring and to its running statistics."""
    j = rec.head
    # the newest event is at j - 1, at the ring's seam too: negative indices wrap
    time = max(tx.time, rec.time[j - 1]) if rec.size > 0 else tx.time
    back = 0
    for k in range(1, rec.size + 1):
        i = j - k if j >= k else j - k + RING
        if rec.peer[i] == peer and rec.flow[i] == flow:
            back = k
            break
    rec.time[j] = time
    rec.back[j] = back
    rec.peer[j] = peer
    rec.tx[j] = tx.tx
    rec.usd[j] = usd
    rec.flow[j] = flow
    rec.format[j] = tx.format
    rec.currency[j] = tx.currency_paid
    rec.peer_senders[j] = np.uint8(min(255.0, degrees[0]))
    rec.peer_receivers[j] = np.uint8(min(255.0, degrees[1]))
    if rec.size == 0:
        rec.first = time
        rec.decayed_at = time
    rec.head = (j + 1) % RING
    rec.size = min(RING, rec.size + 1)
    _accumulate(rec, flow, usd, time)


@njit(cache=True)
def _accumulate(rec: Record, flow: int, usd: float, time: float) -> None:
    """Update the running statistics of a record; `time` never falls."""
    rec.last[flow] = time
    rec.count[flow] += 1.0
    rec.total[flow] += usd
    log_usd = np.log1p(usd)
    delta = log_usd - rec.log_mean[flow]
    rec.log_mean[flow] += delta / rec.count[flow]
    rec.log_m2[flow] += delta * (log_usd - rec.log_mean[flow])
    for h in range(N_DECAYS):
        factor = 0.5 ** ((time - rec.decayed_at) / HALF_LIVES[h])
        for side in range(2):
            rec.decayed_count[side, h] *= factor
            rec.decayed_total[side, h] *= factor
        rec.decayed_count[flow, h] += 1.0
        rec.decayed_total[flow, h] += usd
    rec.decayed_at = time


@njit(cache=True)
def _remember(rec: Record, key: int, time: float, usd: float, hops: int) -> None:
    """Put an account in the upstream sketch: over its own slot, an empty one, or else the oldest."""
    slot, oldest = 0, np.inf
    for i in range(UPSTREAM):
        if rec.up_hops[i] > 0 and rec.up_key[i] == key:
            if time < rec.up_time[i]:
                return
            slot = i
            break
        age = rec.up_time[i] if rec.up_hops[i] > 0 else -np.inf
        if age < oldest:
            slot, oldest = i, age
    rec.up_key[slot] = key
    rec.up_time[slot] = time
    rec.up_usd[slot] = usd
    rec.up_hops[slot] = hops


@njit(cache=True)
def update(sender: Record, receiver: Record, tx: Record, context: Floats) -> None:
    """Apply one transaction to both records; `context` is what `encode_context` wrote for it."""
    degrees = 6 * (N_WINDOWS - 1) + 4  # distinct peers of the longest window
    of_sender = context[SENDER_AT + degrees : SENDER_AT + degrees + 2]
    of_receiver = context[RECEIVER_AT + degrees : RECEIVER_AT + degrees + 2]
    if tx.sender != tx.receiver:
        for i in range(UPSTREAM):
            if sender.up_hops[i] == 0 or sender.up_hops[i] >= MAX_HOPS or sender.up_key[i] == tx.receiver_key:
                continue
            if tx.time - sender.up_time[i] <= UPSTREAM_SECONDS:
                _remember(receiver, sender.up_key[i], sender.up_time[i], sender.up_usd[i], sender.up_hops[i] + 1)
        _remember(receiver, tx.sender_key, tx.time, tx.usd_paid, 1)
    _push(sender, tx, OUT, tx.usd_paid, tx.receiver_key, of_receiver)
    _push(receiver, tx, IN, tx.usd_received, tx.sender_key, of_sender)


@njit(cache=True)
def replay(
    records: NDArray[Any],
    transactions: NDArray[Any],
    context: Floats,
    events: Floats,
    slots: NDArray[np.int64],
) -> None:
    """Encode and apply a run of transactions in order.

    Args:
        records: account records, written.
        transactions: [n] of record.TRANSACTION.
        context: float32 [n, features], written.
        events: float32 [m, 2 * events_per_party, channels], written.
        slots: int64 [n]; the row of `events` for each transaction, or -1 where no tokens are wanted.
    """
    half = events.shape[1] // 2
    for row in range(len(transactions)):
        tx = transactions[row]
        sender, receiver = records[tx.sender], records[tx.receiver]
        encode_context(sender, receiver, tx, context[row])
        slot = slots[row]
        if slot >= 0:
            encode_events(sender, receiver, tx.receiver_key, tx, events[slot, :half])
            encode_events(receiver, sender, tx.sender_key, tx, events[slot, half:])
        if not seen(sender, tx):
            update(sender, receiver, tx, context[row])
