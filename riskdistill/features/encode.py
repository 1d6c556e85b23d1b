"""The compiled reading half of the streaming step: two records and a transaction become features and tokens.

Nothing here writes to a record, so that features are what was known strictly before. The work is constant: one pass
over each ring, one comparison of the two rings, one of the two upstream sketches, however many payments or
counterparties an account has had.

numba's cache notices changes of this file and of `update`, not of the constants that they import: after changing
`record` or `spec`, delete the `.nbi` files in `__pycache__`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from riskdistill.features.record import (
    HALF_LIVES,
    IN,
    OUT,
    RING,
    UPSTREAM,
    UPSTREAM_SECONDS,
    WINDOWS,
)
from riskdistill.features.spec import PAIR_FEATURES, TRANSACTION_FEATURES

Record = Any  # one element of an array of record.ACCOUNT or record.TRANSACTION; numba infers the rest
Floats = NDArray[np.float32]

N_WINDOWS: Final = len(WINDOWS)
N_DECAYS: Final = len(HALF_LIVES)
HORIZON: Final = WINDOWS[-1]
WEEK: Final = WINDOWS[2]
DAY: Final = 86_400.0
LIMITS: Final = (1_000.0, 3_000.0, 10_000.0)

SENDER_AT: Final = len(TRANSACTION_FEATURES)
WINDOWED: Final = 6 * N_WINDOWS
DECAYED: Final = 4 * N_DECAYS
PARTY: Final = WINDOWED + DECAYED + 25
RECEIVER_AT: Final = SENDER_AT + PARTY
PAIR_AT: Final = RECEIVER_AT + PARTY
SHAPE_AT: Final = PAIR_AT + len(PAIR_FEATURES)


@njit(cache=True)
def _month_day(days: int) -> int:
    """Day of the month of a day count since 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms")."""
    z = days + 719_468
    doe = z - (z // 146_097) * 146_097
    yoe = (doe - doe // 1_460 + doe // 36_524 - doe // 146_096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    return doy - (153 * ((5 * doy + 2) // 153) + 2) // 5 + 1


@njit(cache=True)
def _transaction(tx: Record, out: Floats) -> None:
    """The transaction's own features, `out[0:SENDER_AT]`."""
    days = int(np.floor(tx.time / DAY))
    below = 0.0
    for limit in LIMITS:
        if 0.9 * limit <= tx.amount < limit:
            below = 1.0
    out[0] = tx.usd_paid
    out[1] = tx.usd_received / tx.usd_paid if tx.usd_paid > 0.0 else np.nan
    out[2] = 1.0 if tx.amount % 1.0 == 0.0 else 0.0
    out[3] = 1.0 if tx.amount % 100.0 == 0.0 else 0.0
    out[4] = 1.0 if tx.amount % 1000.0 == 0.0 else 0.0
    out[5] = below
    out[6] = (tx.time - days * DAY) / 3600.0
    out[7] = (days + 3) % 7
    out[8] = _month_day(days)
    out[9] = 1.0 if tx.sender == tx.receiver else 0.0
    out[10] = tx.same_bank
    out[11] = 1.0 if tx.currency_paid != tx.currency_received else 0.0
    out[12] = tx.cross_border
    out[13] = tx.format
    out[14] = tx.currency_paid
    out[15] = tx.currency_received


@njit(cache=True)
def _window(age: float) -> int:
    """Index of the shortest window that holds an event of this age; N_WINDOWS if none does."""
    for w in range(N_WINDOWS):
        if age <= WINDOWS[w]:
            return w
    return N_WINDOWS


@njit(cache=True)
def _previous(rec: Record, j: int) -> Any:
    """Time of the last event before event j with its peer and direction, or -inf where the ring holds none."""
    back = rec.back[j]
    place = rec.head - 1 - j  # 0 for the newest event
    if place < 0:
        place += RING
    if back == 0 or place + back >= rec.size:
        return -np.inf
    return rec.time[j - back if j >= back else j - back + RING]


@njit(cache=True)
def _windows(rec: Record, now: float, out: Floats) -> None:
    """Counts, sums and distinct peers by window and direction, `out[0:WINDOWED]`.

    An event brings a new peer to exactly those windows that hold it and do not hold the event before it with
    the same peer and direction.
    """
    out[:WINDOWED] = 0.0
    for j in range(rec.size):
        w = _window(now - rec.time[j])
        if w == N_WINDOWS:
            continue
        flow = rec.flow[j]
        out[6 * w + flow] += 1.0
        out[6 * w + 2 + flow] += rec.usd[j]
        out[6 * w + 4 + flow] += 1.0
        before = _window(now - _previous(rec, j))
        if before < N_WINDOWS:
            out[6 * before + 4 + flow] -= 1.0
    for k in range(6, WINDOWED):
        out[k] += out[k - 6]


@njit(cache=True)
def _decayed(rec: Record, now: float, out: Floats) -> None:
    """Exponentially decayed counts and sums, `out[0:DECAYED]`."""
    elapsed = max(0.0, now - rec.decayed_at)
    for h in range(N_DECAYS):
        factor = 0.5 ** (elapsed / HALF_LIVES[h])
        for flow in range(2):
            out[4 * h + flow] = rec.decayed_count[flow, h] * factor
            out[4 * h + 2 + flow] = rec.decayed_total[flow, h] * factor


@njit(cache=True)
def _z(rec: Record, flow: int, log_usd: float) -> Any:
    """Deviations of a log amount from the account's life-long mean in one direction; NaN under 3 payments."""
    n = rec.count[flow]
    if n < 3.0:
        return np.nan
    return (log_usd - rec.log_mean[flow]) / (np.sqrt(rec.log_m2[flow] / (n - 1.0)) + 0.05)


@njit(cache=True)
def _history(rec: Record, now: float, out: Floats) -> None:
    """Ages, gaps and life-long totals, `out[0:8]`."""
    known = rec.size > 0
    out[0] = max(0.0, now - rec.first) if known else np.nan
    out[1] = max(0.0, now - rec.last[IN]) if rec.count[IN] > 0.0 else np.nan
    out[2] = max(0.0, now - rec.last[OUT]) if rec.count[OUT] > 0.0 else np.nan
    oldest = rec.time[rec.head] if rec.size == RING else rec.time[0]
    out[3] = max(0.0, now - oldest) / rec.size if known else np.nan
    out[4] = rec.count[IN]
    out[5] = rec.count[OUT]
    out[6] = rec.total[IN]
    out[7] = rec.total[OUT]


@njit(cache=True)
def _habits(rec: Record, tx: Record, role: int, usd: float, out: Floats) -> None:
    """Amount against habits, flow matching and neighbours, `out[0:17]`; `role` is the party's direction."""
    log_usd = np.log1p(usd)
    as_kept = np.float32(usd)  # equal amounts must compare as equal, and the ring keeps single precision
    same = smaller = repeats = formats = 0.0
    largest = moved = 0.0
    seen = np.zeros(2)
    first = np.zeros(2)
    senders = np.zeros(2)
    receivers = np.zeros(2)
    match, match_gap = np.inf, np.nan
    for j in range(rec.size):
        age = max(0.0, tx.time - rec.time[j])
        if age > HORIZON:
            continue
        flow = rec.flow[j]
        event = rec.usd[j]
        seen[flow] += 1.0
        senders[flow] += rec.peer_senders[j]
        receivers[flow] += rec.peer_receivers[j]
        if rec.back[j] == 0:
            first[flow] += 1.0
        if rec.format[j] == tx.format:
            formats += 1.0
        if flow == role:
            same += 1.0
            smaller += 1.0 if event < as_kept else 0.0
            largest = max(largest, event)
            repeats += 1.0 if abs(event - usd) <= 0.01 * usd else 0.0
        else:
            moved += event if age <= WEEK else 0.0
            distance = abs(np.log1p(event) - log_usd)
            if distance < match or (distance == match and age < match_gap):
                match, match_gap = distance, age
    events = seen[IN] + seen[OUT]
    out[0] = _z(rec, role, log_usd)
    out[1] = _z(rec, 1 - role, log_usd)
    out[2] = smaller / same if same > 0.0 else np.nan
    out[3] = usd / largest if largest > 0.0 else np.nan
    out[4] = repeats
    out[5] = formats / events if events > 0.0 else np.nan
    out[6] = first[IN] / seen[IN] if seen[IN] > 0.0 else np.nan
    out[7] = first[OUT] / seen[OUT] if seen[OUT] > 0.0 else np.nan
    out[8] = match if match < np.inf else np.nan
    out[9] = match_gap
    out[10] = usd / moved if moved > 0.0 else np.nan
    for flow in range(2):
        out[13 + 2 * flow] = senders[flow] / seen[flow] if seen[flow] > 0.0 else np.nan
        out[14 + 2 * flow] = receivers[flow] / seen[flow] if seen[flow] > 0.0 else np.nan


@njit(cache=True)
def _party(rec: Record, tx: Record, role: int, usd: float, out: Floats) -> None:
    """All features of one party, `out[0:PARTY]`."""
    _windows(rec, tx.time, out)
    _decayed(rec, tx.time, out[WINDOWED:])
    rest = out[WINDOWED + DECAYED :]
    _history(rec, tx.time, rest)
    _habits(rec, tx, role, usd, rest[8:])
    came, went = out[6 * 2 + 2], out[6 * 2 + 3]  # sums of the 7-day window
    rest[19] = (came - went) / (came + went) if came + went > 0.0 else np.nan
    rest[20] = min(came, went) / max(came, went) if max(came, went) > 0.0 else np.nan


@njit(cache=True)
def _pair(sender: Record, tx: Record, out: Floats) -> None:
    """What the sender's ring holds of the receiver, in both directions, `out[0:6]`."""
    for k in range(0, 6, 3):
        flow = OUT if k == 0 else IN
        newest, count, usd = -np.inf, 0.0, 0.0
        for i in range(sender.size):
            j = (sender.head - sender.size + i) % RING  # in order of arrival: of simultaneous ones the last counts
            if sender.flow[j] == flow and sender.peer[j] == tx.receiver_key:
                count += 1.0
                if sender.time[j] >= newest:
                    newest, usd = sender.time[j], sender.usd[j]
        out[k] = count
        out[k + 1] = max(0.0, tx.time - newest) if count > 0.0 else np.nan
        out[k + 2] = np.log1p(tx.usd_paid) - np.log1p(usd) if count > 0.0 else np.nan


@njit(cache=True)
def _shared(sender: Record, receiver: Record, tx: Record, out: Floats) -> None:
    """Counterparties that the two rings share, by direction and order in time, `out[0:4]`."""
    out[:4] = 0.0
    for i in range(sender.size):
        peer = sender.peer[i]
        if tx.time - sender.time[i] > HORIZON or peer == tx.receiver_key or peer == tx.sender_key:
            continue
        fresh = tx.time - _previous(sender, i) > HORIZON  # once for each account: by the first of its events
        for j in range(receiver.size):
            if receiver.peer[j] != peer or tx.time - receiver.time[j] > HORIZON:
                continue
            if sender.flow[i] == receiver.flow[j]:
                if fresh and tx.time - _previous(receiver, j) > HORIZON:
                    out[0 if sender.flow[i] == IN else 1] += 1.0
            elif sender.flow[i] == OUT:
                out[2] += 1.0 if receiver.time[j] >= sender.time[i] else 0.0
            else:
                out[3] += 1.0 if sender.time[i] >= receiver.time[j] else 0.0


@njit(cache=True)
def _upstream(sender: Record, receiver: Record, tx: Record, out: Floats) -> None:
    """Money that returns to where it came from, and common origins, `out[0:7]`."""
    hops, age, usd = 0, np.nan, np.nan
    from_sender = from_receiver = common = deepest = 0.0
    for i in range(UPSTREAM):
        if receiver.up_hops[i] > 0 and tx.time - receiver.up_time[i] <= UPSTREAM_SECONDS:
            from_receiver += 1.0
        if sender.up_hops[i] == 0 or tx.time - sender.up_time[i] > UPSTREAM_SECONDS:
            continue
        from_sender += 1.0
        deepest = max(deepest, sender.up_hops[i])
        if sender.up_key[i] == tx.receiver_key:
            hops, age, usd = sender.up_hops[i], max(0.0, tx.time - sender.up_time[i]), sender.up_usd[i]
        for j in range(UPSTREAM):
            if receiver.up_hops[j] > 0 and receiver.up_key[j] == sender.up_key[i]:
                common += 1.0 if tx.time - receiver.up_time[j] <= UPSTREAM_SECONDS else 0.0
    out[0] = hops + 1 if hops > 0 else np.nan
    out[1] = age
    out[2] = np.log1p(tx.usd_paid) - np.log1p(usd)
    out[3] = from_sender
    out[4] = from_receiver
    out[5] = common
    out[6] = deepest


@njit(cache=True)
def encode_context(sender: Record, receiver: Record, tx: Record, out: Floats) -> None:
    """Write the context vector of one transaction, as known strictly before it, into `out` [features]."""
    _transaction(tx, out)
    _party(sender, tx, OUT, tx.usd_paid, out[SENDER_AT:RECEIVER_AT])
    _party(receiver, tx, IN, tx.usd_received, out[RECEIVER_AT:PAIR_AT])
    _pair(sender, tx, out[PAIR_AT:SHAPE_AT])
    _shared(sender, receiver, tx, out[SHAPE_AT:])
    _upstream(sender, receiver, tx, out[SHAPE_AT + 4 :])


@njit(cache=True)
def encode_events(rec: Record, other: Record, other_key: int, tx: Record, out: Floats) -> None:
    """Write one party's recent events as tokens, newest first, into `out` [events_per_party, channels]."""
    out[:] = 0.0
    log_now = np.log1p(tx.usd_paid)
    for k in range(min(len(out), rec.size)):
        j = (rec.head - 1 - k) % RING
        older = (j - 1) % RING
        shared = 0.0
        for i in range(other.size):
            if other.peer[i] == rec.peer[j]:
                shared = 1.0
                break
        log_usd = np.log1p(rec.usd[j])
        out[k, 0] = 1.0 if rec.flow[j] == IN else -1.0
        out[k, 1] = log_usd
        out[k, 2] = log_usd - log_now
        out[k, 3] = np.log1p(max(0.0, tx.time - rec.time[j]))
        out[k, 4] = np.log1p(max(0.0, rec.time[j] - rec.time[older])) if k + 1 < rec.size else 0.0
        out[k, 5] = 1.0 if rec.peer[j] == other_key else 0.0
        out[k, 6] = shared
        out[k, 7] = 1.0 if rec.back[j] == 0 else 0.0
        out[k, 8] = np.log1p(rec.peer_senders[j])
        out[k, 9] = np.log1p(rec.peer_receivers[j])
        out[k, 10] = rec.format[j]
        out[k, 11] = rec.currency[j]
