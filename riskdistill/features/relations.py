"""The compiled reading of two accounts together: what they had with each other and whom they have in common.

Bounded like the reading of one account: events of one ring are looked up in the other, whatever the accounts' past.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from riskdistill.features.compiled import inner
from riskdistill.features.party import Floats, Record, bit_of, holds, share, slot
from riskdistill.features.record import (
    BELOW_LIMIT,
    DAY,
    HOUR,
    IN,
    KNOWN,
    LAST_OF_PEER,
    OUT,
    ROUND,
    UPSTREAM_SECONDS,
)
from riskdistill.features.spec import PAIR_FEATURES, TRANSACTION_FEATURES

TRANSACTION_SIZE: Final = len(TRANSACTION_FEATURES)
PAIR_SIZE: Final = len(PAIR_FEATURES)
LIMITS: Final = (1_000.0, 3_000.0, 10_000.0)


@inner
def month_day(days: int) -> int:
    """Day of the month of a day count since 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms")."""
    z = days + 719_468
    doe = z - (z // 146_097) * 146_097
    yoe = (doe - doe // 1_460 + doe // 36_524 - doe // 146_096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    return doy - (153 * ((5 * doy + 2) // 153) + 2) // 5 + 1


@inner
def amount_marks(amount: float) -> int:
    """ROUND and BELOW_LIMIT of an amount in its own currency."""
    marks = ROUND if amount % 100.0 == 0.0 else 0
    for limit in LIMITS:
        if 0.9 * limit <= amount < limit:
            marks |= BELOW_LIMIT
    return marks


@inner
def encode_transaction(tx: Record, out: Floats) -> None:
    """The transaction's own features, `out[0:TRANSACTION_SIZE]`."""
    days = int(np.floor(tx.time / DAY))
    marks = amount_marks(tx.amount)
    out[0] = tx.usd_paid
    out[1] = share(tx.usd_received, tx.usd_paid)
    out[2] = 1.0 if tx.amount % 1.0 == 0.0 else 0.0
    out[3] = 1.0 if marks & ROUND else 0.0
    out[4] = 1.0 if tx.amount % 1000.0 == 0.0 else 0.0
    out[5] = 1.0 if marks & BELOW_LIMIT else 0.0
    out[6] = (tx.time - days * DAY) / HOUR
    out[7] = (days + 3) % 7
    out[8] = month_day(days)
    out[9] = 1.0 if tx.sender_key == tx.receiver_key else 0.0
    out[10] = tx.same_bank
    out[11] = 1.0 if tx.currency_paid != tx.currency_received else 0.0
    out[12] = tx.cross_border
    out[13] = tx.format
    out[14] = tx.currency_paid
    out[15] = tx.currency_received
    out[16] = tx.facts[0]
    out[17] = tx.facts[1]
    out[18] = share(tx.usd_paid, tx.facts[0])
    out[19] = share(tx.usd_received, tx.facts[1])
    for k in range(4):
        out[20 + k] = tx.facts[2 + k]


@inner
def known_slot(rec: Record, peer: int, flow: int) -> int:
    """Where the record remembers a counterparty in one direction, or -1; no early end, as in `holds`."""
    key = peer ^ np.uint64(flow)
    found = 0
    for i in range(KNOWN):
        found += i + 1 if rec.known_key[i] == key else 0
    return found - 1


@inner
def encode_pair(sender: Record, tx: Record, out: Floats) -> None:
    """What the sender remembers of the receiver, in both directions, `out[0:6]`."""
    for k in range(0, 6, 3):
        i = known_slot(sender, tx.receiver_key, OUT if k == 0 else IN)
        out[k] = sender.known_count[i] if i >= 0 else 0.0
        out[k + 1] = max(0.0, tx.time - sender.known_time[i]) if i >= 0 else np.nan
        out[k + 2] = np.log1p(tx.usd_paid) - np.log1p(sender.known_usd[i]) if i >= 0 else np.nan


@inner
def _through(
    sender: Record, payer: Record, receiver: Record, payee: Record, peer: int, flow: int, out: Floats
) -> None:
    """Add the parties' events with one shared counterparty, the sender's in one direction, to `out[0:4]`."""
    for behind in range(payee.reach):
        j = slot(receiver, behind)
        if receiver.peer[j] != peer:
            continue
        if receiver.flow[j] == flow:
            out[flow] += 1.0 if receiver.marks[j] & LAST_OF_PEER else 0.0  # once for each account
            continue
        for back in range(payer.reach):
            i = slot(sender, back)
            if sender.peer[i] != peer or sender.flow[i] != flow:
                continue
            if flow == OUT:
                out[2] += 1.0 if receiver.time[j] >= sender.time[i] else 0.0
            else:
                out[3] += 1.0 if sender.time[i] >= receiver.time[j] else 0.0


@inner
def encode_shared(sender: Record, receiver: Record, tx: Record, payer: Record, payee: Record, out: Floats) -> None:
    """Counterparties that the two rings share, by direction and order in time, `out[0:4]`.

    Args:
        payer, payee: the parties' glances.
    """
    out[:4] = 0.0
    for back in range(payer.reach):
        i = slot(sender, back)
        peer = sender.peer[i]
        if not sender.marks[i] & LAST_OF_PEER or peer == tx.receiver_key or peer == tx.sender_key:
            continue
        if holds(receiver, peer):
            _through(sender, payer, receiver, payee, peer, sender.flow[i], out)


@inner
def count_elsewhere(
    rec: Record, reach: int, flow: int, other: Record, other_key: int, other_reach: int, circle: int
) -> float:
    """Bipartite overlap: counterparties of `rec` in one direction who were just elsewhere with one of `other`'s.

    Of the receiver's other payers, those who had paid somebody before whom the sender pays too; or, of the sender's
    other payees, those whom somebody had paid before who pays the receiver too.

    Args:
        reach, other_reach: events of the two rings within HORIZON.
        circle: hashed set of the counterparties of `other` in its role, for skipping most searches.
    """
    met = 0.0
    for back in range(reach):
        j = slot(rec, back)
        place = rec.elsewhere[j]
        asked = (rec.flow[j] == flow) & ((rec.marks[j] & LAST_OF_PEER) != 0) & (rec.peer[j] != other_key)
        if not (asked & (place != 0) & ((circle & bit_of(place)) != 0)) or not holds(other, place):
            continue
        for behind in range(other_reach):
            i = slot(other, behind)
            if other.peer[i] == place and other.flow[i] == 1 - flow:
                met += 1.0
                break
    return met


@inner
def encode_upstream(sender: Record, receiver: Record, tx: Record, out: Floats) -> None:
    """Money that returns to where it came from, and common origins, `out[0:7]`."""
    hops, age, usd = 0, np.nan, np.nan
    from_sender = from_receiver = common = deepest = 0.0
    bits = np.uint64(0)
    for i in range(receiver.up_size):
        if tx.time - receiver.up_time[i] > UPSTREAM_SECONDS:
            break
        from_receiver += 1.0
        bits |= bit_of(receiver.up_key[i])
    for i in range(sender.up_size):
        if tx.time - sender.up_time[i] > UPSTREAM_SECONDS:
            break
        key = sender.up_key[i]
        from_sender += 1.0
        deepest = max(deepest, sender.up_hops[i])
        if key == tx.receiver_key:
            hops, age, usd = sender.up_hops[i], max(0.0, tx.time - sender.up_time[i]), sender.up_usd[i]
        if bits & bit_of(key):
            for j in range(int(from_receiver)):
                if receiver.up_key[j] == key:
                    common += 1.0
                    break
    out[0] = hops + 1 if hops > 0 else np.nan
    out[1] = age
    out[2] = np.log1p(tx.usd_paid) - np.log1p(usd)
    out[3] = from_sender
    out[4] = from_receiver
    out[5] = common
    out[6] = deepest
