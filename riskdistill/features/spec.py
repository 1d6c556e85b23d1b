"""What the engine computes, as data: every feature with its group, unit and meaning, in the order of the vector.

The order here *is* the order in which `encode` writes; a test compares the two. A bundle carries this
specification, and a scorer refuses a bundle whose fingerprint is not the one that it computes.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from riskdistill.features.record import HALF_LIFE_NAMES, RECORD_VERSION, RING, WINDOW_NAMES


class Feature(BaseModel):
    """One number of the context vector. NaN means "there is no such thing yet"."""

    model_config = ConfigDict(frozen=True)

    name: str
    group: str
    unit: str
    meaning: str


TRANSACTION_FEATURES: Final = (
    Feature(name="amount_usd", group="amount", unit="USD", meaning="amount paid at the fixed rate"),
    Feature(name="received_ratio", group="amount", unit="ratio", meaning="dollars received per dollar paid"),
    Feature(name="round_1", group="amount", unit="flag", meaning="amount is a whole number"),
    Feature(name="round_100", group="amount", unit="flag", meaning="amount is a multiple of 100"),
    Feature(name="round_1000", group="amount", unit="flag", meaning="amount is a multiple of 1,000"),
    Feature(name="below_limit", group="amount", unit="flag", meaning="within 10 % below 1,000, 3,000 or 10,000"),
    Feature(name="hour", group="calendar", unit="hours", meaning="hour of the day, UTC"),
    Feature(name="weekday", group="calendar", unit="days", meaning="day of the week, Monday is 0"),
    Feature(name="month_day", group="calendar", unit="days", meaning="day of the month, UTC"),
    Feature(name="self_transfer", group="channel", unit="flag", meaning="sender and receiver are one account"),
    Feature(name="same_bank", group="channel", unit="flag", meaning="both accounts are at one bank"),
    Feature(name="cross_currency", group="channel", unit="flag", meaning="paid and received currencies differ"),
    Feature(name="cross_border", group="channel", unit="flag", meaning="countries differ, where known"),
    Feature(name="payment_format", group="channel", unit="bucket", meaning="hash bucket of the payment format"),
    Feature(name="currency_paid", group="channel", unit="index", meaning="index of the currency paid"),
    Feature(name="currency_received", group="channel", unit="index", meaning="index of the currency received"),
)

_WINDOWED: Final = (
    ("in_count", "payments", "payments received in the last {w}"),
    ("out_count", "payments", "payments sent in the last {w}"),
    ("in_sum", "USD", "received in the last {w}"),
    ("out_sum", "USD", "sent in the last {w}"),
    ("in_peers", "accounts", "distinct senders in the last {w}"),
    ("out_peers", "accounts", "distinct receivers in the last {w}"),
)

# (name, group, unit, meaning) of what is known of one party beside the windows
_PARTY: Final = (
    ("age", "history", "seconds", "time since the account was first seen"),
    ("in_gap", "history", "seconds", "time since the last payment received"),
    ("out_gap", "history", "seconds", "time since the last payment sent"),
    ("mean_gap", "history", "seconds", "mean time between the recent events"),
    ("in_total_count", "history", "payments", "payments received ever"),
    ("out_total_count", "history", "payments", "payments sent ever"),
    ("in_total_sum", "history", "USD", "received ever"),
    ("out_total_sum", "history", "USD", "sent ever"),
    ("role_z", "habit", "deviations", "log amount against the account's own, in this direction"),
    ("other_z", "habit", "deviations", "log amount against the account's own, in the other direction"),
    ("rank", "habit", "share", "share of recent amounts in this direction that are smaller"),
    ("max_ratio", "habit", "ratio", "amount over the largest recent one in this direction"),
    ("repeats", "habit", "payments", "recent payments in this direction within 1 % of the amount"),
    ("same_format", "habit", "share", "share of recent events with this payment format"),
    ("in_first_share", "habit", "share", "share of recent senders seen for the first time"),
    ("out_first_share", "habit", "share", "share of recent receivers seen for the first time"),
    ("match", "flow", "log ratio", "distance to the nearest recent amount in the other direction"),
    ("match_gap", "flow", "seconds", "age of that nearest amount"),
    ("carried", "flow", "ratio", "amount over what moved in the other direction in 7 days"),
    ("net_7d", "flow", "share", "(in - out) / (in + out) over 7 days"),
    ("through_7d", "flow", "share", "smaller over larger of in and out over 7 days"),
    ("in_peer_senders", "neighbours", "accounts", "mean count of senders of those who paid this account"),
    ("in_peer_receivers", "neighbours", "accounts", "mean count of receivers of those who paid this account"),
    ("out_peer_senders", "neighbours", "accounts", "mean count of senders of those paid by this account"),
    ("out_peer_receivers", "neighbours", "accounts", "mean count of receivers of those paid by this account"),
)

_DECAYED: Final = (
    ("in_rate", "payments", "payments received, decayed with half-life {h}"),
    ("out_rate", "payments", "payments sent, decayed with half-life {h}"),
    ("in_flow", "USD", "received, decayed with half-life {h}"),
    ("out_flow", "USD", "sent, decayed with half-life {h}"),
)

PAIR_FEATURES: Final = (
    Feature(name="pair_count", group="pair", unit="payments", meaning="recent payments from sender to receiver"),
    Feature(name="pair_gap", group="pair", unit="seconds", meaning="time since the last of them"),
    Feature(name="pair_ratio", group="pair", unit="log ratio", meaning="amount against the last of them"),
    Feature(name="reverse_count", group="pair", unit="payments", meaning="recent payments from receiver to sender"),
    Feature(name="reverse_gap", group="pair", unit="seconds", meaning="time since the last of them"),
    Feature(name="reverse_ratio", group="pair", unit="log ratio", meaning="amount against the last of them"),
)

SHAPE_FEATURES: Final = (
    Feature(name="common_senders", group="shape", unit="accounts", meaning="accounts that paid both parties"),
    Feature(name="common_receivers", group="shape", unit="accounts", meaning="accounts that both parties paid"),
    Feature(
        name="relays",
        group="shape",
        unit="payment pairs",
        meaning="payments by the sender to accounts, each with a later one from there to the receiver",
    ),
    Feature(
        name="returns",
        group="shape",
        unit="payment pairs",
        meaning="payments by the receiver to accounts, each with a later one from there to the sender",
    ),
    Feature(
        name="cycle_hops",
        group="shape",
        unit="hops",
        meaning="hops from receiver to sender of money now returning",
    ),
    Feature(name="cycle_gap", group="shape", unit="seconds", meaning="time since that money left the receiver"),
    Feature(name="cycle_ratio", group="shape", unit="log ratio", meaning="amount against that money"),
    Feature(
        name="upstream_sender",
        group="shape",
        unit="accounts",
        meaning="accounts whose money reached the sender",
    ),
    Feature(
        name="upstream_receiver",
        group="shape",
        unit="accounts",
        meaning="accounts whose money reached the receiver",
    ),
    Feature(name="upstream_common", group="shape", unit="accounts", meaning="accounts whose money reached both"),
    Feature(
        name="upstream_depth",
        group="shape",
        unit="hops",
        meaning="longest recent chain that ends at the sender",
    ),
)

TOKEN_CHANNELS: Final = (
    "flow",  # 1 received, -1 sent, 0 no event
    "log_usd",
    "log_usd_ratio",  # event over the transaction being scored
    "log_age",
    "log_gap",  # to the event before it
    "is_other_party",
    "shared_peer",  # the other party has dealt with that counterparty too
    "first_contact",
    "log_peer_senders",
    "log_peer_receivers",
    "format",
    "currency",
)
FORMAT_BUCKETS: Final = 32


def _party(side: str) -> list[Feature]:
    windowed = [
        Feature(
            name=f"{side}_{name}_{w}",
            group=f"{side} activity",
            unit=unit,
            meaning=f"{side}: {meaning.format(w=w)}",
        )
        for w in WINDOW_NAMES
        for name, unit, meaning in _WINDOWED
    ]
    decayed = [
        Feature(
            name=f"{side}_{name}_{h}",
            group=f"{side} activity",
            unit=unit,
            meaning=f"{side}: {meaning.format(h=h)}",
        )
        for h in HALF_LIFE_NAMES
        for name, unit, meaning in _DECAYED
    ]
    rest = [
        Feature(name=f"{side}_{name}", group=f"{side} {group}", unit=unit, meaning=f"{side}: {meaning}")
        for name, group, unit, meaning in _PARTY
    ]
    return windowed + decayed + rest


class FeatureSpec(BaseModel):
    """The context vector's features and the shape of the event tokens."""

    model_config = ConfigDict(frozen=True)

    record_version: int = RECORD_VERSION
    events_per_party: int = Field(default=24, ge=1, le=RING)
    context: tuple[Feature, ...] = (
        *TRANSACTION_FEATURES,
        *_party("sender"),
        *_party("receiver"),
        *PAIR_FEATURES,
        *SHAPE_FEATURES,
    )
    token_channels: tuple[str, ...] = TOKEN_CHANNELS

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names in the order of the context vector."""
        return tuple(feature.name for feature in self.context)

    @cached_property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """Columns of the context vector by group."""
        columns: dict[str, list[int]] = {}
        for column, feature in enumerate(self.context):
            columns.setdefault(feature.group, []).append(column)
        return {group: tuple(members) for group, members in columns.items()}

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change whenever an encoded row would."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]
