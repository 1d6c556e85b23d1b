"""The fixed-size account record: all that the system remembers of an account, and of one transaction.

An account's record has the same size whether it has seen ten payments or ten million: a ring of recent events,
the counterparties that it dealt with last, a bounded sketch of whose money has reached it, running statistics over
its whole life and exponentially decayed flows. That is what makes the cost of a transaction independent of history
and of a hub's degree, and what lets the same bytes live in memory, in a file or in a key-value store.
"""

from __future__ import annotations

from typing import Final

import numpy as np

RECORD_VERSION: Final = 2
RING: Final = 48  # recent events kept for each account
KNOWN: Final = 40  # counterparties and directions remembered beyond the ring, least recently used forgotten
UPSTREAM: Final = 24  # accounts kept in the sketch of whose money arrived here
HOUR: Final = 3_600.0
DAY: Final = 86_400.0
WEEK: Final = 7 * DAY
HORIZON: Final = 28 * DAY  # older events count in no habit, flow or shape
UPSTREAM_SECONDS: Final = 14 * DAY  # money that arrived longer ago is forgotten by the sketch

HALF_LIVES: Final = (DAY, 14 * DAY)
HALF_LIFE_NAMES: Final = ("1d", "14d")

IN: Final = 0
OUT: Final = 1

# bits of an event's marks
LAST_OF_PEER: Final = 1  # the newest event of the ring with its counterparty and direction
LAST_OF_BANK: Final = 2  # the newest with its counterparty's bank and direction
LAST_OF_CURRENCY: Final = 4  # the newest with its currency and direction
FIRST_CONTACT: Final = 8  # the counterparty was not remembered in this direction when it happened
MATCHED: Final = 16  # its amount nearly equals an earlier one in the other direction
ROUND: Final = 32  # a multiple of 100 in its own currency
BELOW_LIMIT: Final = 64  # just below a reporting limit in its own currency

ACCOUNT: Final = np.dtype(
    [
        ("key", np.uint64),  # of the account; 0: the blank record
        # ring of recent events; slot `head` is the next to be overwritten
        ("time", np.float64, (RING,)),  # seconds since the epoch, never falling from event to event
        ("peer", np.uint64, (RING,)),  # key of the counterparty
        ("tx", np.uint64, (RING,)),  # key of the transaction id
        (
            "elsewhere",
            np.uint64,
            (RING,),
        ),  # the peer's last other counterparty in its role; 0: none
        ("usd", np.float32, (RING,)),
        ("bank", np.uint32, (RING,)),  # key of the counterparty's bank
        ("flow", np.uint8, (RING,)),  # IN or OUT
        ("marks", np.uint8, (RING,)),
        ("chain", np.uint8, (RING,)),  # payments of nearly this amount, one after another, that led here
        ("format", np.uint8, (RING,)),
        ("currency", np.uint8, (RING,)),
        ("peer_senders", np.uint8, (RING,)),  # distinct senders to the peer within HORIZON, when it happened
        ("peer_receivers", np.uint8, (RING,)),  # distinct receivers from the peer within HORIZON
        # counterparties by direction, in no order
        (
            "known_key",
            np.uint64,
            (KNOWN,),
        ),  # key of the counterparty, lowest bit flipped by the direction; 0: empty
        ("known_time", np.float64, (KNOWN,)),  # of the last payment
        ("known_usd", np.float32, (KNOWN,)),
        ("known_count", np.uint16, (KNOWN,)),
        # upstream sketch, newest first: accounts whose money arrived here, directly or through others
        ("up_key", np.uint64, (UPSTREAM,)),
        ("up_time", np.float64, (UPSTREAM,)),  # when that account sent it
        ("up_usd", np.float32, (UPSTREAM,)),
        ("up_hops", np.uint8, (UPSTREAM,)),
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
        ("up_size", np.int32),
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
        # NaN where the source does not know; in the order of spec.PARTY_FACTS: sender's, receiver's
        ("facts", np.float64, (6,)),
        ("sender_bank", np.uint32),
        ("receiver_bank", np.uint32),
        ("cross_border", np.float32),  # 1, 0, or NaN where a country is unknown
        ("format", np.uint8),
        ("currency_paid", np.uint8),
        ("currency_received", np.uint8),
        ("same_bank", np.uint8),
    ],
    align=True,
)
