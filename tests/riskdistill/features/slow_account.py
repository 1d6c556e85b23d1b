"""An account's past as plain lists: what the engine's bounded record stands for, and each bound by its name."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

HOUR: Final = 3_600.0
DAY: Final = 86_400.0
RECENT_DAYS: Final = 28
RECENT_EVENTS: Final = 48  # all that is asked of single events is asked of so many
REMEMBERED: Final = 40  # counterparties, each in one direction
MOST_COUNTED: Final = 65_535  # payments with a remembered counterparty
ORIGINS: Final = 24  # accounts whose money arrived
MOST_HOPS: Final = 5
MOST_CHAINED: Final = 255
ORIGIN_DAYS: Final = 14
NEAR: Final = math.log(1.1)  # log amounts this near are "within 10 %"

NAN: Final = math.nan
Key = tuple[str, str]  # bank and account
Values = dict[str, float]


@dataclass(frozen=True)
class Event:
    """A payment as one of its two accounts remembers it."""

    time: float  # a late arrival counts as happening at the time of the newest event before it
    tx_id: str
    flow: str  # "in" or "out"
    peer: Key
    usd: float
    amount_paid: float  # by the sender, in its own currency, also where this account was the receiver
    currency: str
    payment_format: str
    matched: bool  # within 10 % of an amount in the other direction before
    chain: int
    peer_senders: int
    peer_receivers: int
    elsewhere: Key | None  # whom the payer had paid last, or who had paid the payee last, this account not counted
    first_contact: bool = False  # the counterparty was not remembered in this direction


@dataclass
class Acquaintance:
    """What is remembered of a counterparty in one direction."""

    peer: Key
    flow: str
    time: float
    usd: float
    count: int


@dataclass(frozen=True)
class Origin:
    """An account whose money arrived, directly or through others."""

    key: Key
    time: float  # when it was sent, as stamped
    usd: float
    hops: int


@dataclass
class Account:
    events: list[Event] = field(default_factory=list)
    acquaintances: list[Acquaintance] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)  # newest first

    def ring(self) -> list[Event]:
        return self.events[-RECENT_EVENTS:]

    def of(self, flow: str) -> list[Event]:
        """Of the whole life of the account."""
        return [event for event in self.events if event.flow == flow]

    def within(self, now: float, seconds: float, flow: str) -> list[Event]:
        return [event for event in self.ring() if event.flow == flow and now - event.time <= seconds]

    def recent(self, now: float, flow: str) -> list[Event]:
        return self.within(now, RECENT_DAYS * DAY, flow)

    def peers(self, now: float, flow: str) -> set[Key]:
        return {event.peer for event in self.recent(now, flow)}

    def last_peer_but(self, key: Key, now: float, flow: str) -> Key | None:
        peers = [event.peer for event in self.recent(now, flow) if event.peer != key]
        return peers[-1] if peers else None

    def acquaintance(self, peer: Key, flow: str) -> Acquaintance | None:
        return next((one for one in self.acquaintances if (one.peer, one.flow) == (peer, flow)), None)

    def recent_origins(self, now: float) -> dict[Key, Origin]:
        return {origin.key: origin for origin in self.origins if now - origin.time <= ORIGIN_DAYS * DAY}

    def time_of(self, now: float) -> float:
        """When a payment stamped `now` counts as happening."""
        return max([now, *(event.time for event in self.events)])

    def remember(self, event: Event) -> None:
        """Add an event. A counterparty who is not remembered takes the place of the one longest unused."""
        known = self.acquaintance(event.peer, event.flow)
        self.events.append(replace(event, first_contact=known is None))
        if known is None:
            known = Acquaintance(event.peer, event.flow, event.time, event.usd, 0)
            if len(self.acquaintances) < REMEMBERED:
                self.acquaintances.append(known)
            else:
                times = [one.time for one in self.acquaintances]
                self.acquaintances[times.index(min(times))] = known
        known.time, known.usd, known.count = event.time, event.usd, min(MOST_COUNTED, known.count + 1)

    def receive_from(self, sender: Account, sender_key: Key, key: Key, now: float, usd: float) -> None:
        """Learn whose money arrives: the sender's, and what reached the sender and is no older than 14 days.

        Of several arrivals of one account's money the newest stays; at one time the most direct one, then the one
        that has just come.
        """
        passed = [
            Origin(origin.key, origin.time, origin.usd, origin.hops + 1)
            for origin in sender.recent_origins(now).values()
            if origin.hops < MOST_HOPS and origin.key != key
        ]
        arrived = [Origin(sender_key, now, as_kept(usd), 1), *passed, *self.origins]
        newest: dict[Key, Origin] = {}
        for origin in sorted(arrived, key=lambda origin: -origin.time):  # keeps the order of equal times
            newest.setdefault(origin.key, origin)
        self.origins = list(newest.values())[:ORIGINS]


def as_kept(usd: float) -> float:
    """Single events are kept in single precision."""
    return float(np.float32(usd))


def log_ratio(usd: float, other: float) -> float:
    return math.log1p(usd) - math.log1p(other)
