"""The compiled writing of event tokens: both parties' recent events as a model reads them."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskdistill.features.compiled import inner
from riskdistill.features.party import Floats, Record, holds, slot
from riskdistill.features.record import FIRST_CONTACT, IN

_LOG_COUNT: Final = np.log1p(np.arange(256.0)).astype(np.float32)  # of every count that a byte holds


@inner
def encode_events(rec: Record, other: Record, other_key: int, tx: Record, out: Floats) -> None:
    """Write one party's recent events as tokens, newest first, into `out` [events_per_party, channels]."""
    out[:] = 0.0
    log_now = np.log1p(tx.usd_paid)
    for k in range(min(len(out), rec.size)):
        j = slot(rec, k)
        peer = rec.peer[j]
        log_usd = np.log1p(rec.usd[j])
        out[k, 0] = 1.0 if rec.flow[j] == IN else -1.0
        out[k, 1] = log_usd
        out[k, 2] = log_usd - log_now
        out[k, 3] = np.log1p(np.float32(max(0.0, tx.time - rec.time[j])))
        out[k, 4] = np.log1p(np.float32(rec.time[j] - rec.time[slot(rec, k + 1)])) if k + 1 < rec.size else 0.0
        out[k, 5] = 1.0 if peer == other_key else 0.0
        out[k, 6] = 1.0 if holds(other, peer) else 0.0
        out[k, 7] = 1.0 if rec.marks[j] & FIRST_CONTACT else 0.0
        out[k, 8] = _LOG_COUNT[rec.peer_senders[j]]
        out[k, 9] = _LOG_COUNT[rec.peer_receivers[j]]
        out[k, 10] = rec.format[j]
        out[k, 11] = rec.currency[j]


@inner
def encode_peers(sender: Record, receiver: Record, keys: NDArray[np.uint64], out: Floats) -> None:
    """Write, as the last channel of `out` [2 * events_per_party, channels], which events share a counterparty.

    Each event gets 1 + the place of the first one that has its counterparty, the sender's events first: equal
    numbers are equal counterparties, and no number tells which account it is.

    Args:
        keys: scratch, [2 * events_per_party].
    """
    half = len(out) // 2
    peer = out.shape[1] - 1
    keys[:] = 0  # no account's key, so that no event equals an absent one
    for k in range(min(half, sender.size)):
        keys[k] = sender.peer[slot(sender, k)]
    for k in range(min(half, receiver.size)):
        keys[half + k] = receiver.peer[slot(receiver, k)]
    for k in range(len(out)):
        key, first = keys[k], k
        for j in range(k):  # to the end, so that it compiles to vector code
            first = min(first, j if keys[j] == key else k)
        out[k, peer] = 1.0 + first if key != 0 else 0.0
