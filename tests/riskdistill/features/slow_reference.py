"""The features once more, from their meanings: plain Python over lists of past events, by name, without any ring
arithmetic, running sums or compiled code. Slow on purpose; what it says is what `FeatureSpec` promises.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from riskdistill.data.currencies import CURRENCY_CODES, USD_PER_UNIT

RING, HOUR, DAY = 48, 3_600.0, 86_400.0
WINDOWS = {"1h": HOUR, "1d": DAY, "7d": 7 * DAY, "28d": 28 * DAY}
HALF_LIVES = {"1d": DAY, "14d": 14 * DAY}
HORIZON = 28 * DAY
NAN = math.nan
Key = tuple[str, str]
Values = dict[str, float]


@dataclass(frozen=True)
class Event:
    time: float  # a late arrival counts as happening at the time of the newest event before it
    flow: str  # "in" or "out"
    peer: Key
    usd: float
    payment_format: str
    peer_senders: float
    peer_receivers: float


@dataclass
class Account:
    events: list[Event] = field(default_factory=list)
    origins: dict[Key, tuple[float, float, int]] = field(default_factory=dict)  # time, dollars, hops

    def recent(self) -> list[Event]:
        return self.events[-RING:]

    def of(self, flow: str) -> list[Event]:
        return [event for event in self.events if event.flow == flow]

    def within(self, now: float, seconds: float, flow: str) -> list[Event]:
        return [event for event in self.recent() if event.flow == flow and now - event.time <= seconds]


class Reference:
    """Observes canonical rows one by one."""

    def __init__(self) -> None:
        self.accounts: dict[Key, Account] = {}

    def observe(self, row: dict[str, Any]) -> Values:
        keys = [(row[f"{side}_bank"], row[f"{side}_account"]) for side in ("sender", "receiver")]
        sender, receiver = (self.accounts.setdefault(key, Account()) for key in keys)
        now = row["timestamp"].timestamp()
        paid = row["amount_paid"] * USD_PER_UNIT[row["currency_paid"]]
        received = row["amount_received"] * USD_PER_UNIT[row["currency_received"]]
        values = _transaction(row, paid, received, keys[0] == keys[1])
        for name, account, flow, usd in (("sender", sender, "out", paid), ("receiver", receiver, "in", received)):
            parts = (
                _activity(account, now),
                _past(account, now),
                _habits(account, now, flow, usd, row["payment_format"]),
            )
            values |= {f"{name}_{key}": value for part in parts for key, value in part.items()}
        values |= _pair(sender, keys[1], now, paid)
        values |= _shape(sender, receiver, keys, now)
        values |= _upstream(sender, receiver, keys[1], now, paid)
        self._apply(row, keys, now, (paid, received), values)
        return values

    def _apply(
        self, row: dict[str, Any], keys: list[Key], now: float, usd: tuple[float, float], values: Values
    ) -> None:
        sender, receiver = (self.accounts[key] for key in keys)
        if keys[0] != keys[1]:
            passed = {
                key: (time, amount, hops + 1)
                for key, (time, amount, hops) in sender.origins.items()
                if hops < 5 and key != keys[1] and now - time <= 14 * DAY
            }
            for key, origin in (passed | {keys[0]: (now, usd[0], 1)}).items():
                if key not in receiver.origins or origin[0] >= receiver.origins[key][0]:
                    receiver.origins[key] = origin
        sides = ((sender, "out", keys[1], usd[0], "receiver"), (receiver, "in", keys[0], usd[1], "sender"))
        for account, flow, peer, amount, other in sides:
            seen = max([now, *(event.time for event in account.events)])
            degrees = values[f"{other}_in_peers_28d"], values[f"{other}_out_peers_28d"]
            account.events.append(Event(seen, flow, peer, amount, row["payment_format"], *degrees))


def _transaction(row: dict[str, Any], paid: float, received: float, to_itself: bool) -> Values:
    amount, when = row["amount_paid"], row["timestamp"]
    countries = row["sender_country"], row["receiver_country"]
    return {
        "amount_usd": paid,
        "received_ratio": received / paid if paid else NAN,
        **{f"round_{unit}": float(math.fmod(amount, unit) == 0) for unit in (1, 100, 1000)},
        "below_limit": float(any(0.9 * limit <= amount < limit for limit in (1_000, 3_000, 10_000))),
        "hour": when.hour + when.minute / 60 + (when.second + when.microsecond / 1e6) / 3_600,
        "weekday": when.weekday(),
        "month_day": when.day,
        "self_transfer": float(to_itself),
        "same_bank": float(row["sender_bank"] == row["receiver_bank"]),
        "cross_currency": float(row["currency_paid"] != row["currency_received"]),
        "cross_border": NAN if None in countries else float(countries[0] != countries[1]),
        "currency_paid": 1 + CURRENCY_CODES.index(row["currency_paid"]),
        "currency_received": 1 + CURRENCY_CODES.index(row["currency_received"]),
    }


def _activity(account: Account, now: float) -> Values:
    values: Values = {}
    for flow in ("in", "out"):
        for name, seconds in WINDOWS.items():
            events = account.within(now, seconds, flow)
            values[f"{flow}_count_{name}"] = len(events)
            values[f"{flow}_sum_{name}"] = sum(event.usd for event in events)
            values[f"{flow}_peers_{name}"] = len({event.peer for event in events})
        for name, half_life in HALF_LIVES.items():
            newest = max((event.time for event in account.events), default=now)
            decays = [0.5 ** ((max(now, newest) - event.time) / half_life) for event in account.of(flow)]
            values[f"{flow}_rate_{name}"] = sum(decays)
            values[f"{flow}_flow_{name}"] = sum(
                event.usd * decay for event, decay in zip(account.of(flow), decays, strict=True)
            )
    return values


def _past(account: Account, now: float) -> Values:
    values = {"age": NAN, "mean_gap": NAN}
    if account.events:
        values["age"] = max(0.0, now - account.events[0].time)
        values["mean_gap"] = max(0.0, now - account.recent()[0].time) / len(account.recent())
    for flow in ("in", "out"):
        events = account.of(flow)
        values[f"{flow}_gap"] = max(0.0, now - max(event.time for event in events)) if events else NAN
        values[f"{flow}_total_count"] = len(events)
        values[f"{flow}_total_sum"] = sum(event.usd for event in events)
    return values


def _deviations(account: Account, flow: str, usd: float) -> float:
    logs = [math.log1p(event.usd) for event in account.of(flow)]
    return NAN if len(logs) < 3 else float((math.log1p(usd) - np.mean(logs)) / (np.std(logs, ddof=1) + 0.05))


def _habits(account: Account, now: float, flow: str, usd: float, payment_format: str) -> Values:
    other = "out" if flow == "in" else "in"
    recent = {side: account.within(now, HORIZON, side) for side in ("in", "out")}
    same, opposite = recent[flow], recent[other]
    everything = recent["in"] + recent["out"]
    week = {side: sum(event.usd for event in account.within(now, 7 * DAY, side)) for side in ("in", "out")}
    nearest = min(
        ((abs(math.log1p(event.usd) - math.log1p(usd)), max(0.0, now - event.time)) for event in opposite),
        default=(NAN, NAN),
    )
    values = {
        "role_z": _deviations(account, flow, usd),
        "other_z": _deviations(account, other, usd),
        "rank": _share(event.usd < usd for event in same),
        "max_ratio": usd / max(event.usd for event in same) if any(event.usd for event in same) else NAN,
        "repeats": sum(abs(event.usd - usd) <= 0.01 * usd for event in same),
        "same_format": _share(event.payment_format == payment_format for event in everything),
        "match": nearest[0],
        "match_gap": nearest[1],
        "carried": usd / week[other] if week[other] else NAN,
        "net_7d": (week["in"] - week["out"]) / sum(week.values()) if sum(week.values()) else NAN,
        "through_7d": min(week.values()) / max(week.values()) if max(week.values()) else NAN,
    }
    for side, events in recent.items():
        values[f"{side}_first_share"] = _share(_is_first(account, event) for event in events)
        values[f"{side}_peer_senders"] = _mean([event.peer_senders for event in events])
        values[f"{side}_peer_receivers"] = _mean([event.peer_receivers for event in events])
    return values


def _is_first(account: Account, event: Event) -> bool:
    """Whether none of the events that the ring held when it came was from or to that counterparty."""
    place = next(index for index, one in enumerate(account.events) if one is event)
    earlier = account.events[max(0, place - RING) : place]
    return not any(one.peer == event.peer and one.flow == event.flow for one in earlier)


def _pair(sender: Account, receiver: Key, now: float, usd: float) -> Values:
    values = {}
    for name, flow in (("pair", "out"), ("reverse", "in")):
        events = [event for event in sender.recent() if event.flow == flow and event.peer == receiver]
        last = max(events, key=lambda event: (event.time, events.index(event)), default=None)
        values[f"{name}_count"] = float(len(events))
        values[f"{name}_gap"] = max(0.0, now - last.time) if last else NAN
        values[f"{name}_ratio"] = math.log1p(usd) - math.log1p(last.usd) if last else NAN
    return values


def _shape(sender: Account, receiver: Account, keys: list[Key], now: float) -> Values:
    def others(account: Account, flow: str) -> list[Event]:
        return [event for event in account.within(now, HORIZON, flow) if event.peer not in keys]

    def common(flow: str) -> int:
        return len({e.peer for e in others(sender, flow)} & {e.peer for e in others(receiver, flow)})

    def through(first: Account, then: Account) -> int:
        return sum(
            out.peer == into.peer and into.time >= out.time
            for out in others(first, "out")
            for into in others(then, "in")
        )

    return {
        "common_senders": common("in"),
        "common_receivers": common("out"),
        "relays": through(sender, receiver),
        "returns": through(receiver, sender),
    }


def _upstream(sender: Account, receiver: Account, receiver_key: Key, now: float, usd: float) -> Values:
    reached = [
        {key: origin for key, origin in account.origins.items() if now - origin[0] <= 14 * DAY}
        for account in (sender, receiver)
    ]
    time, back, hops = reached[0].get(receiver_key, (NAN, NAN, NAN))
    return {
        "cycle_hops": hops + 1,
        "cycle_gap": max(0.0, now - time) if hops == hops else NAN,
        "cycle_ratio": math.log1p(usd) - math.log1p(back),
        "upstream_sender": len(reached[0]),
        "upstream_receiver": len(reached[1]),
        "upstream_common": len(reached[0].keys() & reached[1].keys()),
        "upstream_depth": max((origin[2] for origin in reached[0].values()), default=0),
    }


def _share(flags: Any) -> float:
    return _mean([float(flag) for flag in flags])


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else NAN
