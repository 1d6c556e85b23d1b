"""Facts of a party's recent payments, read off the event tokens that the model saw.

The tokens are a party's newest events without a gap, so "14 payments in 3 days" counts all of these days. The
payment that is being scored counts as sent by the sender: money that leaves with it has been sent on.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskdistill.features import Feature, FeatureSpec
from riskdistill.features.record import DAY, HOUR

PARTIES: Final = ("sender", "receiver")
_WITHIN: Final = (HOUR, 2 * HOUR, 6 * HOUR, DAY, 2 * DAY, 7 * DAY)  # how soon money was sent on
_MOST: Final = 0.9  # of what was sent on at all, at least

# (name, unit, meaning) of one party
_FACTS: Final = (
    ("received", "payments", "recent payments received"),
    ("payers", "senders", "who made them"),
    ("received_span", "seconds", "time since the first of them"),
    ("new_received", "payments", "those of them from senders met among them for the first time"),
    ("new_payers", "new senders", "who made these"),
    ("new_span", "seconds", "time since the first of these"),
    ("sent", "payments", "recent payments sent"),
    ("payees", "receivers", "who got them"),
    ("new_payees", "new receivers", "receivers met among them for the first time"),
    ("sent_span", "seconds", "time since the first of them"),
    ("sent_on", "share", "share of the money received that was sent on in time, the newest first"),
    ("sent_on_within", "seconds", "that time: a usual period by which nine tenths of what was sent on had left"),
)
FACTS: Final = tuple(
    Feature(name=f"{party}_past_{name}", group=f"{party} events", unit=unit, meaning=f"{party}: {meaning}")
    for party in PARTIES
    for name, unit, meaning in _FACTS
)


def past_facts(events: NDArray[np.float32], spec: FeatureSpec, party: str) -> dict[str, float]:
    """The `FACTS` of one party of a payment, by name; NaN where there is no such thing.

    Args:
        events: [2 * events_per_party, channels], one row of `Encoded.events`.
        spec: names the channels.
        party: "sender" or "receiver".
    """
    first = PARTIES.index(party) * spec.events_per_party
    tokens = events[first : first + spec.events_per_party]
    columns = dict(zip(spec.token_channels, tokens[tokens[:, 0] != 0].T.astype(float), strict=True))
    facts = _of_party(columns, pays_now=party == "sender")
    return {f"{party}_past_{name}": value for name, value in facts.items()}


def _of_party(columns: dict[str, NDArray[np.float64]], *, pays_now: bool) -> dict[str, float]:
    age, amount = np.expm1(columns["log_age"]), np.expm1(columns["log_usd"])
    peer, received, first = columns["peer"], columns["flow"] > 0, columns["first_contact"] > 0
    sent = ~received
    new_payers = set(peer[received & first])
    new = received & np.array([one in new_payers for one in peer], bool)
    moved = np.where(received, amount, -amount)
    if pays_now:  # what is scored now is paid too; any event tells how much it is
        paid_now = np.expm1(columns["log_usd"] - columns["log_usd_ratio"])[:1]
        share, within = _sent_on(np.append(-paid_now, moved), np.append(np.zeros(len(paid_now)), age))
    else:
        share, within = _sent_on(moved, age)
    return {
        "received": float(received.sum()),
        "payers": float(len(set(peer[received]))),
        "received_span": _oldest(age[received]),
        "new_received": float(new.sum()),
        "new_payers": float(len(new_payers)),
        "new_span": _oldest(age[new]),
        "sent": float(sent.sum()),
        "payees": float(len(set(peer[sent]))),
        "new_payees": float(len(set(peer[sent & first]))),
        "sent_span": _oldest(age[sent]),
        "sent_on": share,
        "sent_on_within": within,
    }


def _oldest(ages: NDArray[np.float64]) -> float:
    return float(ages.max()) if len(ages) else np.nan


def _sent_on(amounts: NDArray[np.float64], ages: NDArray[np.float64]) -> tuple[float, float]:
    """Share of the money received (above 0) that left (below 0) within a time, and that time.

    A payment sent takes from the money that came last before it: what passes through leaves what lay there alone.
    """
    waiting: list[list[float]] = []  # [amount left, age], the newest last
    moved: list[tuple[float, float]] = []  # (amount, how long it had stayed)
    for amount, age in zip(amounts[::-1].tolist(), ages[::-1].tolist(), strict=True):  # the oldest first
        if amount > 0:
            waiting.append([amount, age])
        leaving = -amount
        while leaving > 0 and waiting:
            taken = min(leaving, waiting[-1][0])
            moved.append((taken, waiting[-1][1] - age))
            leaving -= taken
            waiting[-1][0] -= taken
            if waiting[-1][0] <= 0:
                waiting.pop()
    came = amounts[amounts > 0].sum()
    if came <= 0:
        return np.nan, np.nan
    if not moved:
        return 0.0, np.nan
    longest, total = max(stay for _, stay in moved), sum(taken for taken, _ in moved)
    for limit in (*_WITHIN, longest):
        in_time = sum(taken for taken, stay in moved if stay <= limit)
        if in_time >= _MOST * total:
            return float(in_time / came), float(min(limit, longest))
    raise AssertionError("all of it had moved by the longest stay")
