"""The fixed-size account record: all that the system remembers of an account, and of one transaction.

An account's record has the same size whether it has seen ten payments or ten million: a ring of recent events,
running statistics over its whole life, exponentially decayed flows, and a bounded sketch of whose money has
reached it. That is what makes the cost of a transaction independent of history and of a hub's degree, and what
lets the same bytes live in memory, in a file or in a key-value store.
"""

from __future__ import annotations

from typing import Final

import numpy as np

RECORD_VERSION: Final = 1
RING: Final = 48  # recent events kept for each account
UPSTREAM: Final = 24  # accounts kept in the sketch of whose money arrived here
MAX_HOPS: Final = 5  # longest chain that the sketch follows
UPSTREAM_SECONDS: Final = 14 * 86_400.0  # money that arrived longer ago is forgotten by the sketch

WINDOWS: Final = (3_600.0, 86_400.0, 7 * 86_400.0, 28 * 86_400.0)
WINDOW_NAMES: Final = ("1h", "1d", "7d", "28d")
HALF_LIVES: Final = (86_400.0, 14 * 86_400.0)
HALF_LIFE_NAMES: Final = ("1d", "14d")

IN: Final = 0
OUT: Final = 1

ACCOUNT: Final = np.dtype(
    [
        # ring of recent events; slot `head` is the next to be overwritten
        ("time", np.float64, (RING,)),  # seconds since the epoch, never falling from event to event
        ("peer", np.uint64, (RING,)),  # key of the counterparty
        ("tx", np.uint64, (RING,)),  # key of the transaction id
        ("usd", np.float32, (RING,)),
        ("flow", np.int8, (RING,)),  # IN or OUT
        ("back", np.uint8, (RING,)),  # events back to the last one with its peer and flow; 0 where none was
        ("format", np.uint8, (RING,)),
        ("currency", np.uint8, (RING,)),
        ("peer_senders", np.uint8, (RING,)),  # distinct senders to the peer in 28 days, when it happened
        ("peer_receivers", np.uint8, (RING,)),  # distinct receivers from the peer in 28 days
        # upstream sketch: accounts whose money arrived here, directly or through others
        ("up_key", np.uint64, (UPSTREAM,)),
        ("up_time", np.float64, (UPSTREAM,)),  # when that account sent it
        ("up_usd", np.float32, (UPSTREAM,)),
        ("up_hops", np.uint8, (UPSTREAM,)),  # 0: empty slot
        # the whole life of the account, by direction
        ("first", np.float64),
        ("last", np.float64, (2,)),
        ("count", np.float64, (2,)),
        ("total", np.float64, (2,)),
        ("log_mean", np.float64, (2,)),  # Welford mean and sum of squares of log1p(usd)
        ("log_m2", np.float64, (2,)),
        ("decayed_count", np.float64, (2, len(HALF_LIVES))),
        ("decayed_total", np.float64, (2, len(HALF_LIVES))),
        ("decayed_at", np.float64),
        ("head", np.int32),
        ("size", np.int32),
    ],
    align=True,
)

TRANSACTION: Final = np.dtype(
    [
        ("sender", np.int64),  # row of the account's record
        ("receiver", np.int64),
        ("sender_key", np.uint64),
        ("receiver_key", np.uint64),
        ("tx", np.uint64),
        ("time", np.float64),
        ("usd_paid", np.float64),
        ("usd_received", np.float64),
        ("amount", np.float64),  # as paid, in its own currency: round numbers show there
        ("cross_border", np.float32),  # 1, 0, or NaN where a country is unknown
        ("format", np.uint8),
        ("currency_paid", np.uint8),
        ("currency_received", np.uint8),
        ("same_bank", np.uint8),
    ],
    align=True,
)
