"""The features of two accounts together, from their meanings."""

from __future__ import annotations

from slow_account import MOST_CHAINED, NAN, NEAR, Account, Event, Key, Values, log_ratio
from slow_party import nearest


def pair(sender: Account, receiver_key: Key, now: float, usd: float) -> Values:
    values: Values = {}
    for name, flow in (("pair", "out"), ("reverse", "in")):
        known = sender.acquaintance(receiver_key, flow)
        values[f"{name}_count"] = known.count if known else 0
        values[f"{name}_gap"] = max(0.0, now - known.time) if known else NAN
        values[f"{name}_ratio"] = log_ratio(usd, known.usd) if known else NAN
    return values


def shape(sender: Account, receiver: Account, keys: tuple[Key, Key], now: float, usd: float) -> Values:
    def others(account: Account, flow: str) -> list[Event]:
        return [event for event in account.recent(now, flow) if event.peer not in keys]

    def common(flow: str) -> int:
        return len(
            {event.peer for event in others(sender, flow)} & {event.peer for event in others(receiver, flow)}
        )

    def through(first: Account, then: Account) -> int:
        return sum(
            into.peer == out.peer and into.time >= out.time
            for out in others(first, "out")
            for into in others(then, "in")
        )

    return {
        "common_senders": common("in"),
        "common_receivers": common("out"),
        "relays": through(sender, receiver),
        "returns": through(receiver, sender),
        "copayers": _elsewhere(receiver, "in", now, keys[0], sender.peers(now, "out")),
        "copayees": _elsewhere(sender, "out", now, keys[1], receiver.peers(now, "in")),
        "chain": chain(sender, now, usd),
        **_upstream(sender, receiver, keys[1], now, usd),
    }


def chain(sender: Account, now: float, usd: float) -> int:
    """Payments of nearly one amount, each out of the one before, that a payment of `usd` dollars continues."""
    before = nearest(sender, now, "out", usd)
    return min(MOST_CHAINED, before.chain + 1) if before and is_near(before.usd, usd) else 0


def is_near(usd: float, other: float) -> bool:
    return abs(log_ratio(usd, other)) <= NEAR


def _elsewhere(account: Account, flow: str, now: float, not_this: Key, places: set[Key]) -> int:
    """Recent counterparties but one who, at their last payment, had last dealt with one of `places`."""
    last = {event.peer: event for event in account.recent(now, flow) if event.peer != not_this}
    return sum(event.elsewhere in places for event in last.values())


def _upstream(sender: Account, receiver: Account, receiver_key: Key, now: float, usd: float) -> Values:
    to_sender, to_receiver = sender.recent_origins(now), receiver.recent_origins(now)
    back = to_sender.get(receiver_key)
    return {
        "cycle_hops": back.hops + 1 if back else NAN,  # the payment at hand is the last hop
        "cycle_gap": max(0.0, now - back.time) if back else NAN,
        "cycle_ratio": log_ratio(usd, back.usd) if back else NAN,
        "upstream_sender": len(to_sender),
        "upstream_receiver": len(to_receiver),
        "upstream_common": len(to_sender.keys() & to_receiver.keys()),
        "upstream_depth": max((origin.hops for origin in to_sender.values()), default=0),
    }
