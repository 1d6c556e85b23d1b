"""The compiled writing of event tokens: one party's recent events as a model reads them."""

from __future__ import annotations

from typing import Final

import numpy as np

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
