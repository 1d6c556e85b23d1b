"""The compiled writing half of the streaming step, and the loop over both: the only code that changes a record.

A transaction that is stamped earlier than an event already in a record counts, in that record, as happening at the
time of that event: a late arrival is scored on all that has *arrived*, and no gap is ever negative.

An account whose last event is more than `forget` seconds old is as new: it is read as blank and begins again. So it
makes no difference to any feature when, or whether, its record is swept out.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from riskdistill.features.compiled import entry, fetch_ahead, inner
from riskdistill.features.party import (
    DECAYED,
    GLANCE,
    N_DECAYS,
    REST,
    WINDOWED,
    Floats,
    Record,
    Sums,
    bit_of,
    encode_party,
    slot,
)
from riskdistill.features.record import (
    FIRST_CONTACT,
    HALF_LIVES,
    IN,
    KNOWN,
    LAST_OF_BANK,
    LAST_OF_CURRENCY,
    LAST_OF_PEER,
    MATCHED,
    OUT,
    RING,
    UPSTREAM,
    UPSTREAM_SECONDS,
)
from riskdistill.features.relations import (
    PAIR_SIZE,
    TRANSACTION_SIZE,
    amount_marks,
    count_elsewhere,
    encode_pair,
    encode_shared,
    encode_transaction,
    encode_upstream,
    known_slot,
)
from riskdistill.features.tokens import encode_events, encode_peers

ORIGIN: Final = np.dtype(
    [("key", np.uint64), ("time", np.float64), ("usd", np.float32), ("hops", np.uint8)], align=True
)


@inner
def _encode(
    sender: Record,
    receiver: Record,
    tx: Record,
    windows: Sums,
    glances: NDArray[Any],
    out: Floats,
) -> int:
    """Write the context vector of one transaction, as known strictly before it, into `out` [features].

    Returns the chain of nearly equal payments that the transaction continues.
    """
    party = WINDOWED * len(windows) + DECAYED + REST
    pair_at = TRANSACTION_SIZE + 2 * party
    shape = out[pair_at + PAIR_SIZE :]
    payer, payee = glances[0], glances[1]
    encode_transaction(tx, out)
    encode_party(sender, tx, OUT, tx.usd_paid, windows, out[TRANSACTION_SIZE:], payer)
    encode_party(receiver, tx, IN, tx.usd_received, windows, out[TRANSACTION_SIZE + party :], payee)
    encode_pair(sender, tx, out[pair_at:])
    encode_shared(sender, receiver, tx, payer, payee, shape)
    shape[4] = count_elsewhere(receiver, payee.reach, IN, sender, tx.sender_key, payer.reach, payer.circle)
    shape[5] = count_elsewhere(sender, payer.reach, OUT, receiver, tx.receiver_key, payee.reach, payee.circle)
    chain = min(255, payer.chain + 1) if payer.matched else 0
    shape[6] = chain
    encode_upstream(sender, receiver, tx, shape[7:])
    return chain


@inner
def _seen(sender: Record, tx: Record) -> bool:
    """Whether the sender's ring already holds this transaction: the horizon of idempotence."""
    found = 0
    for j in range(RING):  # to the end, so that it compiles to vector code
        found += 1 if sender.tx[j] == tx.tx and sender.flow[j] == OUT else 0
    return found > 0 and sender.size > 0


@inner
def _is_idle(rec: Record, now: float, forget: float) -> bool:
    return bool(rec.size > 0 and now - rec.time[slot(rec, 0)] > forget)


@inner
def _unmark(rec: Record, mark: int, flow: int, values: NDArray[Any], value: int) -> None:
    """Take a mark of being last from the one event that has it for `value` and its direction, if there is one."""
    found = 0
    for j in range(RING):  # to the end, so that it compiles to vector code
        found += j + 1 if (values[j] == value) & (rec.flow[j] == flow) & ((rec.marks[j] & mark) != 0) else 0
    if found:
        rec.marks[min(found, RING) - 1] &= np.uint8(255 ^ mark)


@inner
def _meet(rec: Record, peer: int, flow: int, time: float, usd: float) -> bool:
    """Remember a payment with a counterparty; whether it is the first, as far as the record remembers."""
    i = known_slot(rec, peer, flow)
    first = i < 0
    if first:
        i = 0
        for k in range(KNOWN):
            if rec.known_key[k] == 0:
                i = k
                break
            if rec.known_time[k] < rec.known_time[i]:
                i = k
        rec.known_key[i] = peer ^ np.uint64(flow)
        rec.known_count[i] = 0
    rec.known_time[i] = time
    rec.known_usd[i] = usd
    rec.known_count[i] = min(65_535, rec.known_count[i] + 1)
    return first


@inner
def _push(rec: Record, tx: Record, flow: int, usd: float, marks: int, chain: int, of_peer: Record) -> None:
    """Append one event to a record's ring, to its counterparties and to its running statistics."""
    sends = flow == OUT
    peer, bank = (tx.receiver_key, tx.receiver_bank) if sends else (tx.sender_key, tx.sender_bank)
    currency = tx.currency_paid if sends else tx.currency_received
    time = max(tx.time, rec.time[slot(rec, 0)]) if rec.size > 0 else tx.time
    _unmark(rec, LAST_OF_PEER, flow, rec.peer, peer)
    _unmark(rec, LAST_OF_BANK, flow, rec.bank, bank)
    _unmark(rec, LAST_OF_CURRENCY, flow, rec.currency, currency)
    marks |= LAST_OF_PEER | LAST_OF_BANK | LAST_OF_CURRENCY
    if _meet(rec, peer, flow, time, usd):
        marks |= FIRST_CONTACT
    j = rec.head
    rec.time[j] = time
    rec.peer[j] = peer
    rec.tx[j] = tx.tx
    rec.elsewhere[j] = of_peer.elsewhere
    rec.usd[j] = usd
    rec.bank[j] = bank
    rec.flow[j] = flow
    rec.marks[j] = marks
    rec.chain[j] = chain
    rec.format[j] = tx.format
    rec.currency[j] = currency
    rec.peer_senders[j] = np.uint8(of_peer.degree[IN])
    rec.peer_receivers[j] = np.uint8(of_peer.degree[OUT])
    if rec.size == 0:
        rec.first = time
        rec.decayed_at = time
    rec.head = (j + 1) % RING
    rec.size = min(RING, rec.size + 1)
    _accumulate(rec, flow, usd, time)


@inner
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
        factor = np.exp(-np.log(2.0) * (time - rec.decayed_at) / HALF_LIVES[h])
        for side in range(2):
            rec.decayed_count[side, h] *= factor
            rec.decayed_total[side, h] *= factor
        rec.decayed_count[flow, h] += 1.0
        rec.decayed_total[flow, h] += usd
    rec.decayed_at = time


@inner
def _carry(sender: Record, receiver: Record, tx: Record, max_hops: int, origins: NDArray[Any]) -> None:
    """Merge whose money reached the sender, and the sender itself, into the receiver's upstream sketch.

    Both sketches are newest first, and so is the merged one; of each account its newest money stays.
    """
    taken, bits = 0, np.uint64(0)
    fresh, i, j = True, 0, 0
    while taken < UPSTREAM:
        while i < sender.up_size and (sender.up_hops[i] >= max_hops or sender.up_key[i] == tx.receiver_key):
            i += 1
        brought = sender.up_time[i] if i < sender.up_size else -np.inf
        if tx.time - brought > UPSTREAM_SECONDS:
            brought = -np.inf
        kept = receiver.up_time[j] if j < receiver.up_size else -np.inf
        origin = origins[taken]
        if fresh and tx.time >= max(brought, kept):
            fresh = False
            origin.key, origin.time, origin.usd, origin.hops = tx.sender_key, tx.time, tx.usd_paid, 1
        elif brought >= kept and brought > -np.inf:
            origin.key, origin.time = sender.up_key[i], brought
            origin.usd, origin.hops = sender.up_usd[i], sender.up_hops[i] + 1
            i += 1
        elif kept > -np.inf:
            origin.key, origin.time = receiver.up_key[j], kept
            origin.usd, origin.hops = receiver.up_usd[j], receiver.up_hops[j]
            j += 1
        else:
            break
        again = False
        if bits & bit_of(origin.key):
            for k in range(taken):
                if origins[k].key == origin.key:
                    again = True
                    break
        if not again:
            bits |= bit_of(origin.key)
            taken += 1
    for k in range(taken):
        receiver.up_key[k] = origins[k].key
        receiver.up_time[k] = origins[k].time
        receiver.up_usd[k] = origins[k].usd
        receiver.up_hops[k] = origins[k].hops
    receiver.up_size = taken


@inner
def _apply(
    sender: Record,
    receiver: Record,
    tx: Record,
    glances: NDArray[Any],
    chain: int,
    max_hops: int,
    origins: NDArray[Any],
) -> None:
    """Apply one transaction to both records; `glances` are what `encode_party` left for it."""
    sender.key, receiver.key = tx.sender_key, tx.receiver_key
    if tx.sender != tx.receiver:
        _carry(sender, receiver, tx, max_hops, origins)
    payer, payee = glances[0], glances[1]
    about = amount_marks(tx.amount)
    sent = about | (MATCHED if payer.matched else 0)
    received = about | (MATCHED if payee.matched else 0)
    _push(sender, tx, OUT, tx.usd_paid, sent, chain, payee)
    _push(receiver, tx, IN, tx.usd_received, received, chain, payer)


@entry
def replay(
    records: NDArray[Any],
    transactions: NDArray[Any],
    context: Floats,
    events: Floats,
    slots: NDArray[np.int64],
    windows: Sums,
    limits: Sums,
    apply: bool,
) -> None:
    """Encode, and apply, a run of transactions in order.

    Args:
        records: account records, written; `records[0]` is blank and stays so.
        transactions: [n] of record.TRANSACTION; row 0 of `records` stands for an unknown account where nothing is
            applied.
        context: float32 [n, features], written.
        events: float32 [m, 2 * events_per_party, channels], written.
        slots: int64 [n]; the row of `events` for each transaction, or -1 where no tokens are wanted.
        windows: float64 [w], seconds, ascending.
        limits: as `FeatureSpec.limits`: seconds after which an idle account is as new, hops that money is followed.
        apply: False leaves the records as they are.
    """
    half, forget, max_hops = events.shape[1] // 2, limits[0], int(limits[1])
    glances, origins = np.empty(2, GLANCE), np.empty(UPSTREAM, ORIGIN)
    keys = np.empty(events.shape[1], np.uint64)
    for row in range(len(transactions)):
        tx = transactions[row]
        following = transactions[min(row + 1, len(transactions) - 1)]
        fetch_ahead(records, following.sender)
        fetch_ahead(records, following.receiver)
        new_sender = _is_idle(records[tx.sender], tx.time, forget)
        new_receiver = _is_idle(records[tx.receiver], tx.time, forget)
        sender, receiver = records[0 if new_sender else tx.sender], records[0 if new_receiver else tx.receiver]
        chain = _encode(sender, receiver, tx, windows, glances, context[row])
        place = slots[row]
        if place >= 0:
            encode_events(sender, receiver, tx.receiver_key, tx, events[place, :half])
            encode_events(receiver, sender, tx.sender_key, tx, events[place, half:])
            encode_peers(sender, receiver, keys, events[place])
        if not apply or _seen(sender, tx):
            continue
        if new_sender:
            records[tx.sender] = records[0]
        if new_receiver:
            records[tx.receiver] = records[0]
        _apply(records[tx.sender], records[tx.receiver], tx, glances, chain, max_hops, origins)
