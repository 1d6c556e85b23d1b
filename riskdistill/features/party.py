"""The compiled reading of one account: its record and a transaction become the features of one party.

Nothing here writes to a record, so that features are what was known strictly before. The work is constant: one pass
over the ring, newest event first, however many payments or counterparties the account has had. Money comes and goes
in no order that a processor could guess, so directions are chosen by value (`x if goes else 0.0`), not by branches.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from riskdistill.features.compiled import inner
from riskdistill.features.record import (
    BELOW_LIMIT,
    DAY,
    HALF_LIVES,
    HORIZON,
    HOUR,
    IN,
    LAST_OF_BANK,
    LAST_OF_CURRENCY,
    LAST_OF_PEER,
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
LARGEST: Final = 1e30
MATCH: Final = float(np.log(1.1))  # amounts this near, as logarithms, nearly equal each other

# What the reading of one party leaves for the other party's features and for the update.
GLANCE: Final = np.dtype(
    [
        ("elsewhere", np.uint64),  # the last other counterparty in the party's role; 0: there is none
        ("circle", np.uint64),  # hashed set of the counterparties in that role
        ("reach", np.int64),  # events within HORIZON
        ("degree", np.float64, (2,)),  # distinct counterparties within HORIZON, by direction
        ("matched", np.uint8),  # whether an amount in the other direction is near
        ("chain", np.uint8),  # of the event that has that amount
    ],
    align=True,
)

# Counts of a window in one integer, 12 bits each: events, and those that are the last of a peer, bank, currency
_TALLY: Final = np.array(
    [1 + ((marks & 1) << 12) + ((marks & 2) << 23) + ((marks & 4) << 34) for marks in range(8)], np.int64
)
_LAST_OF_ANY: Final = LAST_OF_PEER | LAST_OF_BANK | LAST_OF_CURRENCY


@inner
def share(part: float, whole: float) -> float:
    """`part` of `whole`, NaN of nothing; at most what single precision holds with room."""
    return min(part / whole, LARGEST) if whole > 0.0 else np.nan


@inner
def slot(rec: Record, back: int) -> int:
    """Where the ring keeps the event that came `back` events before the newest."""
    j = rec.head - 1 - back
    return int(j) if j >= 0 else int(j) + RING


@inner
def holds(rec: Record, key: int) -> bool:
    """Whether any event of the ring is with this counterparty; no early end, so that it compiles to vector code."""
    found = 0
    for j in range(RING):
        found += 1 if rec.peer[j] == key else 0
    return found > 0


@inner
def bit_of(key: int) -> Any:
    """An account's one bit in a hashed set of 64."""
    return np.uint64(1) << (key & np.uint64(63))


@inner
def _direction(tally: int, first: float, apart: float, squares: float, largest: float, out: Floats) -> None:
    """One direction of a window, every other place of `out` [WINDOWED - 1].

    Args:
        tally: counts as in `_TALLY`.
        first: the newest amount; `apart` and `squares` are sums of the distances of the others to it and of their
            squares, so that large equal amounts have no spread (Chan, Golub and LeVeque 1983, "Algorithms for
            computing the sample variance").
    """
    n = np.float64(tally & 0xFFF)
    total = n * first + apart if tally else 0.0
    out[0] = n
    out[2] = total
    out[4] = share(total, n)
    out[6] = np.sqrt(max(0.0, squares - apart * apart / n) / (n - 1.0)) if n > 1.0 else np.nan
    out[8] = largest if tally else np.nan
    out[10] = (tally >> 12) & 0xFFF
    out[12] = (tally >> 24) & 0xFFF
    out[14] = (tally >> 36) & 0xFFF


@inner
def _windows(rec: Record, now: float, windows: Sums, out: Floats) -> int:
    """The features of all windows, `out[0:WINDOWED * len(windows)]`; returns how many events are within HORIZON.

    One pass, newest event first: a window is written when the first event older than it comes. Of each counterparty
    the newest event is marked, so that the marks within a window are its distinct ones.
    """
    w, last_window, reach = 0, len(windows), 0
    came = went = 0
    first_in = apart_in = squares_in = largest_in = 0.0
    first_out = apart_out = squares_out = largest_out = 0.0
    for back in range(rec.size):
        j = slot(rec, back)
        age = now - rec.time[j]
        while w < last_window and age > windows[w]:
            _direction(came, first_in, apart_in, squares_in, largest_in, out[WINDOWED * w :])
            _direction(went, first_out, apart_out, squares_out, largest_out, out[WINDOWED * w + 1 :])
            w += 1
        if age <= HORIZON:
            reach = back + 1
        elif w == last_window:
            break
        usd, tally, out_ = np.float64(rec.usd[j]), _TALLY[rec.marks[j] & _LAST_OF_ANY], rec.flow[j] == OUT
        first_in = usd if (came == 0) & (not out_) else first_in
        first_out = usd if (went == 0) & out_ else first_out
        from_in, from_out = 0.0 if out_ else usd - first_in, usd - first_out if out_ else 0.0
        came += 0 if out_ else tally
        went += tally if out_ else 0
        apart_in += from_in
        apart_out += from_out
        squares_in += from_in * from_in
        squares_out += from_out * from_out
        largest_in = max(largest_in, 0.0 if out_ else usd)
        largest_out = max(largest_out, usd if out_ else 0.0)
    while w < last_window:
        _direction(came, first_in, apart_in, squares_in, largest_in, out[WINDOWED * w :])
        _direction(went, first_out, apart_out, squares_out, largest_out, out[WINDOWED * w + 1 :])
        w += 1
    return reach


@inner
def _neighbours(rec: Record, reach: int, out: Floats, glance: Record) -> None:
    """First contacts, matched amounts, and the degrees of counterparties, `out[16:18]` and `out[26:32]`."""
    events = first = matched = senders = receivers = degree = 0  # of payments sent
    all_first = all_matched = all_senders = all_receivers = all_degree = 0
    for back in range(reach):
        j = slot(rec, back)
        sent, marks = int(rec.flow[j]), int(rec.marks[j])
        is_first, is_matched, is_last = (marks >> 3) & 1, (marks >> 4) & 1, marks & LAST_OF_PEER
        events += sent
        first += is_first * sent
        matched += is_matched * sent
        degree += is_last * sent
        senders += rec.peer_senders[j] * sent
        receivers += rec.peer_receivers[j] * sent
        all_first += is_first
        all_matched += is_matched
        all_degree += is_last
        all_senders += rec.peer_senders[j]
        all_receivers += rec.peer_receivers[j]
    received = reach - events
    glance.degree[IN] = all_degree - degree
    glance.degree[OUT] = degree
    out[16] = share(all_first - first, received)
    out[17] = share(first, events)
    out[26] = share(all_matched - matched, received)
    out[27] = share(matched, events)
    out[28] = share(all_senders - senders, received)
    out[29] = share(all_receivers - receivers, received)
    out[30] = share(senders, events)
    out[31] = share(receivers, events)


@inner
def _habits(rec: Record, reach: int, tx: Record, role: int, usd: float, out: Floats, glance: Record) -> None:
    """The transaction against the party's recent events in its role, `out[10:16]`."""
    other = tx.receiver_key if role == OUT else tx.sender_key
    as_kept = np.float32(usd)  # equal amounts must compare as equal, and the ring keeps single precision
    same = smaller = repeats = formats = rounds = below = 0
    largest = np.float32(0.0)
    elsewhere = circle = np.uint64(0)
    for back in range(reach):
        j = slot(rec, back)
        formats += 1 if rec.format[j] == tx.format else 0
        event, peer, marks, mine = rec.usd[j], rec.peer[j], rec.marks[j], rec.flow[j] == role
        circle |= bit_of(peer) if mine else np.uint64(0)
        elsewhere = peer if mine & (elsewhere == 0) & (peer != other) else elsewhere
        same += 1 if mine else 0
        smaller += 1 if mine & (event < as_kept) else 0
        largest = max(largest, event if mine else np.float32(0.0))
        repeats += 1 if mine & (abs(np.float64(event) - usd) <= 0.01 * usd) else 0
        rounds += 1 if mine & ((marks & ROUND) != 0) else 0
        below += 1 if mine & ((marks & BELOW_LIMIT) != 0) else 0
    glance.elsewhere = elsewhere
    glance.circle = circle
    out[10] = share(smaller, same)
    out[11] = share(usd, np.float64(largest))
    out[12] = repeats
    out[13] = share(formats, reach)
    out[14] = share(rounds, same)
    out[15] = share(below, same)


@inner
def _flow(rec: Record, reach: int, now: float, role: int, usd: float, out: Floats, glance: Record) -> None:
    """Money that passes through: the nearest amount in the other direction, how long money stays, `out[18:26]`."""
    nearest, nearest_gap, chain = np.inf, np.nan, np.uint8(0)
    leaving = np.nan  # when the next payment left, seen from the event at hand
    received = sent = came = stay = soon = later = 0.0
    for back in range(reach):
        j = slot(rec, back)
        age, event, goes = max(0.0, now - rec.time[j]), np.float64(rec.usd[j]), rec.flow[j] == OUT
        ratio = (1.0 + max(event, usd)) / (1.0 + min(event, usd))
        if (rec.flow[j] != role) & (ratio < nearest):
            nearest, nearest_gap, chain = ratio, age, rec.chain[j]
        leaving = rec.time[j] if goes else leaving
        stayed = leaving - rec.time[j]  # NaN, and in no comparison, while nothing has left
        inflow, this_week = 0.0 if goes else event, event if age <= WEEK else 0.0
        sent += this_week if goes else 0.0
        received += 0.0 if goes else this_week
        came += inflow
        stay += inflow * (stayed if stayed == stayed else age)
        soon += inflow if stayed <= 6.0 * HOUR else 0.0
        later += inflow if stayed <= 2.0 * DAY else 0.0
    match = np.log(nearest) if nearest < np.inf else np.nan
    glance.matched = 1 if match <= MATCH else 0
    glance.chain = chain
    out[18] = match
    out[19] = nearest_gap
    out[20] = share(usd, received if role == OUT else sent)
    out[21] = share(received - sent, received + sent)
    out[22] = share(min(received, sent), max(received, sent))
    out[23] = share(stay, came)
    out[24] = share(soon, came)
    out[25] = share(later, came)


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
    rec: Record, tx: Record, role: int, usd: float, windows: Sums, out: Floats, glance: Record
) -> None:
    """Write all features of one party into `out` [WINDOWED * len(windows) + DECAYED + REST].

    Args:
        rec: the party's record, or the blank one.
        tx: the transaction that is scored.
        role: OUT for the sender, IN for the receiver.
        usd: what the party pays or receives.
        windows: seconds, ascending.
        out: written.
        glance: one GLANCE, written.
    """
    at = WINDOWED * len(windows)
    rest = out[at + DECAYED :]
    reach = _windows(rec, tx.time, windows, out)
    glance.reach = reach
    _decayed(rec, tx.time, out[at:])
    _history(rec, tx.time, rest)
    log_usd = np.log1p(usd)
    rest[8] = _deviations(rec, role, log_usd)
    rest[9] = _deviations(rec, 1 - role, log_usd)
    _habits(rec, reach, tx, role, usd, rest, glance)
    _neighbours(rec, reach, rest, glance)
    _flow(rec, reach, tx.time, role, usd, rest, glance)
