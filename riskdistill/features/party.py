"""The compiled reading of one account: its record and a transaction become the features of one party.

Nothing here writes to a record, so that features are what was known strictly before. The work is constant: one pass
over the ring, newest event first, however many payments or counterparties the account has had.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from riskdistill.features.compiled import inner
from riskdistill.features.record import (
    BELOW_LIMIT,
    DAY,
    FIRST_CONTACT,
    HALF_LIVES,
    HORIZON,
    HOUR,
    IN,
    LAST_OF_BANK,
    LAST_OF_CURRENCY,
    LAST_OF_PEER,
    MATCHED,
    OUT,
    RING,
    ROUND,
    WEEK,
)

Record = Any  # one element of an array of record.ACCOUNT, record.TRANSACTION or GLANCE; numba infers the rest
Floats = NDArray[np.float32]
Sums = NDArray[np.float64]

N_DECAYS: Final = len(HALF_LIVES)
WINDOWED: Final = 16  # features of one window
DECAYED: Final = 4 * N_DECAYS
REST: Final = 32
MATCH: Final = float(np.log(1.1))  # amounts this near, as logarithms, nearly equal each other

# What the pass over a party's ring gathers; the first five fields are for the other party and for the update.
GLANCE: Final = np.dtype(
    [
        ("elsewhere", np.uint64),  # the last other counterparty in the party's role; 0: there is none
        ("circle", np.uint64),  # hashed set of the counterparties in that role
        ("degree", np.float64, (2,)),  # distinct counterparties within HORIZON, by direction
        ("matched", np.uint8),  # whether an amount in the other direction is near
        ("chain", np.uint8),  # of the event that has that amount
        # of the payments in the party's role
        ("same", np.float64),
        ("smaller", np.float64),
        ("largest", np.float64),
        ("repeats", np.float64),
        ("round", np.float64),
        ("below", np.float64),
        ("formats", np.float64),  # events with the transaction's format
        # the nearest amount in the other direction
        ("ratio", np.float64),
        ("gap", np.float64),
        # money received and the payment that left next
        ("leaving", np.float64),  # when it left, seen from the event at hand
        ("came", np.float64),  # dollars
        ("stay", np.float64),  # dollars times seconds
        ("soon", np.float64),  # dollars
        ("later", np.float64),
    ],
    align=True,
)

# rows of the sums over events, each by direction; the first nine make a window
COUNT, SUM, SHIFT, SHIFTED, SQUARES, LARGEST, PEERS, BANKS, CURRENCIES = range(9)
SEEN, WEEK_SUM, FIRST, NEAR, SENDERS, RECEIVERS = range(9, 15)
N_SUMS: Final = 15


@inner
def share(part: float, whole: float) -> float:
    """`part` of `whole`, NaN of nothing."""
    return part / whole if whole > 0.0 else np.nan


@inner
def slot(rec: Record, back: int) -> int:
    """Where the ring keeps the event that came `back` events before the newest."""
    j = rec.head - 1 - back
    return int(j) if j >= 0 else int(j) + RING


@inner
def bit_of(key: int) -> Any:
    """An account's one bit in a hashed set of 64."""
    return np.uint64(1) << (key & np.uint64(63))


@inner
def _window(sums: Sums, out: Floats) -> None:
    """The features of the window that `sums` has just filled, `out[0:WINDOWED]`."""
    for flow in range(2):
        n = sums[COUNT, flow]
        out[flow] = n
        out[2 + flow] = sums[SUM, flow]
        out[4 + flow] = share(sums[SUM, flow], n)
        spread = sums[SQUARES, flow] - sums[SHIFTED, flow] * share(sums[SHIFTED, flow], n)
        out[6 + flow] = np.sqrt(max(0.0, spread) / (n - 1.0)) if n > 1.0 else np.nan
        out[8 + flow] = sums[LARGEST, flow] if n > 0.0 else np.nan
        out[10 + flow] = sums[PEERS, flow]
        out[12 + flow] = sums[BANKS, flow]
        out[14 + flow] = sums[CURRENCIES, flow]


@inner
def _count(rec: Record, j: int, sums: Sums) -> None:
    """Add event `j` to the sums of the windows that hold it.

    Of each counterparty the newest event is marked, so that the marks within a window are its distinct ones.
    Squares are of distances to the first amount seen, so that large equal amounts have no spread (Chan, Golub and
    LeVeque 1983, "Algorithms for computing the sample variance").
    """
    flow, usd, marks = rec.flow[j], np.float64(rec.usd[j]), rec.marks[j]
    if sums[COUNT, flow] == 0.0:
        sums[SHIFT, flow] = usd
    apart = usd - sums[SHIFT, flow]
    sums[COUNT, flow] += 1.0
    sums[SUM, flow] += usd
    sums[SHIFTED, flow] += apart
    sums[SQUARES, flow] += apart * apart
    sums[LARGEST, flow] = max(sums[LARGEST, flow], usd)
    sums[PEERS, flow] += 1.0 if marks & LAST_OF_PEER else 0.0
    sums[BANKS, flow] += 1.0 if marks & LAST_OF_BANK else 0.0
    sums[CURRENCIES, flow] += 1.0 if marks & LAST_OF_CURRENCY else 0.0


@inner
def _compare(rec: Record, j: int, tx: Record, usd: float, seen: Record) -> None:
    """Compare the transaction with event `j`, which is in the party's role."""
    event, marks = np.float64(rec.usd[j]), rec.marks[j]
    seen.circle |= bit_of(rec.peer[j])
    if seen.elsewhere == 0 and rec.peer[j] != (tx.receiver_key if rec.flow[j] == OUT else tx.sender_key):
        seen.elsewhere = rec.peer[j]
    seen.same += 1.0
    # equal amounts must compare as equal, and the ring keeps single precision
    seen.smaller += 1.0 if rec.usd[j] < np.float32(usd) else 0.0
    seen.largest = max(seen.largest, event)
    seen.repeats += 1.0 if abs(event - usd) <= 0.01 * usd else 0.0
    seen.round += 1.0 if marks & ROUND else 0.0
    seen.below += 1.0 if marks & BELOW_LIMIT else 0.0


@inner
def _match(rec: Record, j: int, age: float, usd: float, seen: Record) -> None:
    """Take event `j`, which is in the other direction, if its amount is the nearest so far."""
    event = np.float64(rec.usd[j])
    ratio = (1.0 + max(event, usd)) / (1.0 + min(event, usd))
    if ratio < seen.ratio:
        seen.ratio, seen.gap, seen.chain = ratio, age, rec.chain[j]


@inner
def _follow(rec: Record, j: int, age: float, seen: Record) -> None:
    """Follow money: how long what came with event `j` stayed until the next payment left."""
    if rec.flow[j] == OUT:
        seen.leaving = rec.time[j]
        return
    event, left = np.float64(rec.usd[j]), seen.leaving == seen.leaving  # not NaN
    stayed = seen.leaving - rec.time[j] if left else age
    seen.came += event
    seen.stay += event * stayed
    seen.soon += event if left and stayed <= 6.0 * HOUR else 0.0
    seen.later += event if left and stayed <= 2.0 * DAY else 0.0


@inner
def _recent(rec: Record, j: int, age: float, tx: Record, role: int, usd: float, sums: Sums, seen: Record) -> None:
    """Gather what counts of event `j`, which is within HORIZON."""
    flow, marks = rec.flow[j], rec.marks[j]
    sums[SEEN, flow] += 1.0
    sums[WEEK_SUM, flow] += rec.usd[j] if age <= WEEK else 0.0
    sums[FIRST, flow] += 1.0 if marks & FIRST_CONTACT else 0.0
    sums[NEAR, flow] += 1.0 if marks & MATCHED else 0.0
    sums[SENDERS, flow] += rec.peer_senders[j]
    sums[RECEIVERS, flow] += rec.peer_receivers[j]
    seen.degree[flow] += 1.0 if marks & LAST_OF_PEER else 0.0
    seen.formats += 1.0 if rec.format[j] == tx.format else 0.0
    if flow == role:
        _compare(rec, j, tx, usd, seen)
    else:
        _match(rec, j, age, usd, seen)
    _follow(rec, j, age, seen)


@inner
def _ring(
    rec: Record, tx: Record, role: int, usd: float, windows: Sums, sums: Sums, out: Floats, seen: Record
) -> None:
    """One pass over the ring, newest event first: the windows are written to `out`, the rest is gathered."""
    w, last_window = 0, len(windows)
    for back in range(rec.size):
        j = slot(rec, back)
        age = max(0.0, tx.time - rec.time[j])
        while w < last_window and age > windows[w]:
            _window(sums, out[WINDOWED * w :])
            w += 1
        if w < last_window:
            _count(rec, j, sums)
        elif age > HORIZON:
            break
        if age <= HORIZON:
            _recent(rec, j, age, tx, role, usd, sums, seen)
    while w < last_window:
        _window(sums, out[WINDOWED * w :])
        w += 1
    seen.matched = 1 if np.log(seen.ratio) <= MATCH else 0


@inner
def _habits(role: int, usd: float, sums: Sums, seen: Record, out: Floats) -> None:
    """What the pass gathered, `out[10:32]` of the features beside the windows."""
    out[10] = share(seen.smaller, seen.same)
    out[11] = share(usd, seen.largest)
    out[12] = seen.repeats
    out[13] = share(seen.formats, sums[SEEN, IN] + sums[SEEN, OUT])
    out[14] = share(seen.round, seen.same)
    out[15] = share(seen.below, seen.same)
    out[18] = np.log(seen.ratio) if seen.ratio < np.inf else np.nan
    out[19] = seen.gap
    out[20] = share(usd, sums[WEEK_SUM, 1 - role])
    received, sent = sums[WEEK_SUM, IN], sums[WEEK_SUM, OUT]
    out[21] = share(received - sent, received + sent)
    out[22] = share(min(received, sent), max(received, sent))
    out[23] = share(seen.stay, seen.came)
    out[24] = share(seen.soon, seen.came)
    out[25] = share(seen.later, seen.came)
    for flow in range(2):
        out[16 + flow] = share(sums[FIRST, flow], sums[SEEN, flow])
        out[26 + flow] = share(sums[NEAR, flow], sums[SEEN, flow])
        out[28 + 2 * flow] = share(sums[SENDERS, flow], sums[SEEN, flow])
        out[29 + 2 * flow] = share(sums[RECEIVERS, flow], sums[SEEN, flow])


@inner
def _clear(seen: Record) -> None:
    seen.elsewhere = seen.circle = 0
    seen.degree[:] = 0.0
    seen.matched = seen.chain = 0
    seen.same = seen.smaller = seen.largest = seen.repeats = seen.round = seen.below = seen.formats = 0.0
    seen.ratio, seen.gap, seen.leaving = np.inf, np.nan, np.nan
    seen.came = seen.stay = seen.soon = seen.later = 0.0


@inner
def _decayed(rec: Record, now: float, out: Floats) -> None:
    """Exponentially decayed counts and sums, `out[0:DECAYED]`."""
    elapsed = max(0.0, now - rec.decayed_at)
    for h in range(N_DECAYS):
        factor = np.exp(-np.log(2.0) * elapsed / HALF_LIVES[h])
        for flow in range(2):
            out[4 * h + flow] = rec.decayed_count[flow, h] * factor
            out[4 * h + 2 + flow] = rec.decayed_total[flow, h] * factor


@inner
def _history(rec: Record, now: float, out: Floats) -> None:
    """Ages, gaps and life-long totals, `out[0:8]`."""
    known = rec.size > 0
    out[0] = max(0.0, now - rec.first) if known else np.nan
    out[1] = max(0.0, now - rec.last[IN]) if rec.count[IN] > 0.0 else np.nan
    out[2] = max(0.0, now - rec.last[OUT]) if rec.count[OUT] > 0.0 else np.nan
    out[3] = max(0.0, now - rec.time[slot(rec, rec.size - 1)]) / rec.size if known else np.nan
    out[4] = rec.count[IN]
    out[5] = rec.count[OUT]
    out[6] = rec.total[IN]
    out[7] = rec.total[OUT]


@inner
def _deviations(rec: Record, flow: int, log_usd: float) -> float:
    """Deviations of a log amount from the account's life-long mean in one direction; NaN under 3 payments."""
    n = rec.count[flow]
    if n < 3.0:
        return np.nan
    return float((log_usd - rec.log_mean[flow]) / (np.sqrt(rec.log_m2[flow] / (n - 1.0)) + 0.05))


@inner
def encode_party(
    rec: Record, tx: Record, role: int, usd: float, windows: Sums, sums: Sums, out: Floats, glance: Record
) -> None:
    """Write all features of one party into `out` [WINDOWED * len(windows) + DECAYED + REST].

    Args:
        rec: the party's record, or a blank one.
        tx: the transaction that is scored.
        role: OUT for the sender, IN for the receiver.
        usd: what the party pays or receives.
        windows: seconds, ascending.
        sums: float64 [N_SUMS, 2], working space.
        out: written.
        glance: one GLANCE, written.
    """
    at = WINDOWED * len(windows)
    rest = out[at + DECAYED :]
    sums[:] = 0.0
    _clear(glance)
    _ring(rec, tx, role, usd, windows, sums, out, glance)
    _habits(role, usd, sums, glance, rest)
    _decayed(rec, tx.time, out[at:])
    _history(rec, tx.time, rest)
    log_usd = np.log1p(usd)
    rest[8] = _deviations(rec, role, log_usd)
    rest[9] = _deviations(rec, 1 - role, log_usd)
