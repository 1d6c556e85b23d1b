"""Event tokens of both parties, from the meanings of their channels."""

from __future__ import annotations

import math

from slow_account import Account, Key, Values, log_ratio

from riskdistill.data.currencies import CURRENCY_CODES
from riskdistill.features.rows import format_bucket


def tokens(
    sender: Account, receiver: Account, keys: tuple[Key, Key], now: float, usd_paid: float, most: int
) -> tuple[list[Values], list[Values]]:
    """The last `most` events of the sender and of the receiver of a payment of `usd_paid` dollars at `now`."""
    sides = (
        _of_party(sender, receiver, keys[1], now, usd_paid, most),
        _of_party(receiver, sender, keys[0], now, usd_paid, most),
    )
    places: dict[Key, int] = {}
    for side, account in enumerate((sender, receiver)):
        for back, (event, told) in enumerate(zip(account.ring()[::-1], sides[side], strict=False)):
            told["peer"] = places.setdefault(event.peer, 1 + side * most + back)
    return sides


def _of_party(
    account: Account, other: Account, other_key: Key, now: float, usd_paid: float, most: int
) -> list[Values]:
    """The last `most` events of the account, newest first, each by channel but `peer`."""
    ring = account.ring()
    befores = [*ring[:1], *ring[:-1]]  # before the oldest nothing is known
    return [
        {
            "flow": 1 if event.flow == "in" else -1,
            "log_usd": math.log1p(event.usd),
            "log_usd_ratio": log_ratio(event.usd, usd_paid),
            "log_age": math.log1p(max(0.0, now - event.time)),
            "log_gap": math.log1p(event.time - before.time),
            "is_other_party": float(event.peer == other_key),
            "shared_peer": float(any(event.peer == one.peer for one in other.ring())),
            "first_contact": float(event.first_contact),
            "log_peer_senders": math.log1p(event.peer_senders),
            "log_peer_receivers": math.log1p(event.peer_receivers),
            "format": format_bucket(event.payment_format),
            "currency": 1 + CURRENCY_CODES.index(event.currency),
        }
        for event, before in list(zip(ring, befores, strict=True))[::-1][:most]
    ]
