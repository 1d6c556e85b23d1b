"""The features of one party, from their meanings."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import mean, stdev
from typing import Final

from slow_account import DAY, HOUR, NAN, RECENT_EVENTS, Account, Event, Values, as_kept, log_ratio

HALF_LIVES: Final = {"1d": DAY, "14d": 14 * DAY}
FEWEST_FOR_DEVIATIONS: Final = 3
LEAST_DEVIATION: Final = 0.05  # added, so that equal amounts leave something to divide by
OTHER: Final = {"in": "out", "out": "in"}


def party(
    account: Account, now: float, flow: str, usd: float, payment_format: str, windows: dict[str, float]
) -> Values:
    """All features of the account that pays (`flow` "out") or receives `usd` dollars."""
    return {
        **_windows(account, now, windows),
        **_decayed(account, now),
        **_history(account, now),
        **_habits(account, now, flow, usd, payment_format),
        **_matches(account, now, flow, usd),
        **_flow(account, now, flow, usd),
        **_neighbours(account, now),
    }


def is_just_below(amount: float) -> bool:
    return any(0.9 * limit <= amount < limit for limit in (1_000, 3_000, 10_000))


def _windows(account: Account, now: float, windows: dict[str, float]) -> Values:
    values: Values = {}
    for name, seconds in windows.items():
        for flow in ("in", "out"):
            events = account.within(now, seconds, flow)
            amounts = [event.usd for event in events]
            statistics = {
                "count": len(events),
                "sum": math.fsum(amounts),
                "mean": mean(amounts) if amounts else NAN,
                "deviation": stdev(amounts) if len(amounts) > 1 else NAN,
                "largest": max(amounts, default=NAN),
                "peers": len({event.peer for event in events}),
                "banks": len({event.peer[0] for event in events}),
                "currencies": len({event.currency for event in events}),
            }
            values |= {f"{flow}_{statistic}_{name}": value for statistic, value in statistics.items()}
    return values


def _decayed(account: Account, now: float) -> Values:
    values: Values = {}
    until = account.time_of(now)
    for name, half_life in HALF_LIVES.items():
        for flow in ("in", "out"):
            left = [(event.usd, 0.5 ** ((until - event.time) / half_life)) for event in account.of(flow)]
            values[f"{flow}_rate_{name}"] = sum(part for _, part in left)
            values[f"{flow}_flow_{name}"] = sum(usd * part for usd, part in left)
    return values


def _history(account: Account, now: float) -> Values:
    values = {"age": NAN, "mean_gap": NAN}
    if account.events:
        values["age"] = _since(account.events[0], now)
        values["mean_gap"] = _since(account.ring()[0], now) / min(len(account.events), RECENT_EVENTS)
    for flow in ("in", "out"):
        events = account.of(flow)
        values[f"{flow}_gap"] = _since(events[-1], now) if events else NAN
        values[f"{flow}_total_count"] = len(events)
        values[f"{flow}_total_sum"] = math.fsum(event.usd for event in events)
    return values


def _habits(account: Account, now: float, flow: str, usd: float, payment_format: str) -> Values:
    same = account.recent(now, flow)
    largest = max((event.usd for event in same), default=0.0)
    everything = same + account.recent(now, OTHER[flow])
    values = {
        "role_z": _deviations(account, flow, usd),
        "other_z": _deviations(account, OTHER[flow], usd),
        "rank": _share(event.usd < as_kept(usd) for event in same),
        "max_ratio": usd / largest if largest else NAN,
        "repeats": sum(abs(event.usd - usd) <= 0.01 * usd for event in same),
        "same_format": _share(event.payment_format == payment_format for event in everything),
        "round_share": _share(event.amount_paid % 100 == 0 for event in same),
        "below_limit_share": _share(is_just_below(event.amount_paid) for event in same),
    }
    for side in ("in", "out"):
        values[f"{side}_first_share"] = _share(event.first_contact for event in account.recent(now, side))
    return values


def nearest(account: Account, now: float, flow: str, usd: float) -> Event | None:
    """The recent event in the other direction than `flow` whose amount is nearest, the newest of equals."""
    others = reversed(account.recent(now, OTHER[flow]))
    return min(others, key=lambda event: abs(log_ratio(event.usd, usd)), default=None)


def _matches(account: Account, now: float, flow: str, usd: float) -> Values:
    event = nearest(account, now, flow, usd)
    values = {
        "match": abs(log_ratio(event.usd, usd)) if event else NAN,
        "match_gap": _since(event, now) if event else NAN,
    }
    for side in ("in", "out"):
        values[f"{side}_matched"] = _share(event.matched for event in account.recent(now, side))
    return values


def _flow(account: Account, now: float, flow: str, usd: float) -> Values:
    came, went = (sum(event.usd for event in account.within(now, 7 * DAY, side)) for side in ("in", "out"))
    opposite = came if flow == "out" else went
    received = account.recent(now, "in")
    money = sum(event.usd for event in received)
    stays, continued = 0.0, {"6h": 0.0, "2d": 0.0}
    for event in received:
        left = _next_sent(account, event)
        stays += event.usd * (left.time - event.time if left else _since(event, now))
        for name, limit in (("6h", 6 * HOUR), ("2d", 2 * DAY)):
            continued[name] += event.usd if left and left.time - event.time <= limit else 0.0
    return {
        "carried": usd / opposite if opposite else NAN,
        "net_7d": (came - went) / (came + went) if came + went else NAN,
        "through_7d": min(came, went) / max(came, went) if came + went else NAN,
        "stay": stays / money if money else NAN,
        **{f"continued_{name}": part / money if money else NAN for name, part in continued.items()},
    }


def _next_sent(account: Account, received: Event) -> Event | None:
    place = next(number for number, event in enumerate(account.events) if event is received)
    return next((event for event in account.events[place:] if event.flow == "out"), None)


def _neighbours(account: Account, now: float) -> Values:
    values: Values = {}
    for flow in ("in", "out"):
        events = account.recent(now, flow)
        values[f"{flow}_peer_senders"] = _mean([event.peer_senders for event in events])
        values[f"{flow}_peer_receivers"] = _mean([event.peer_receivers for event in events])
    return values


def _deviations(account: Account, flow: str, usd: float) -> float:
    logs = [math.log1p(event.usd) for event in account.of(flow)]
    if len(logs) < FEWEST_FOR_DEVIATIONS:
        return NAN
    return (math.log1p(usd) - mean(logs)) / (stdev(logs) + LEAST_DEVIATION)


def _since(event: Event, now: float) -> float:
    return max(0.0, now - event.time)


def _share(flags: Iterable[bool]) -> float:
    return _mean([float(flag) for flag in flags])


def _mean(values: list[float] | list[int]) -> float:
    return sum(values) / len(values) if values else NAN
