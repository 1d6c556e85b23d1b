"""What the engine computes, as data: every feature with its group, unit and meaning, in the order of the vector.

The order here *is* the order in which the kernels write; a test compares the two by name. A bundle carries this
specification, and a scorer refuses a bundle whose fingerprint is not the one that it computes.

"Recent" is within 28 days and among the party's last 48 events. Windows count whole what the ring of 48 holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, computed_field

from riskdistill.features.record import DAY, HALF_LIFE_NAMES, HOUR, RECORD_VERSION, RING, WEEK


class Feature(BaseModel):
    """One number of the context vector. NaN means "there is no such thing yet"."""

    model_config = ConfigDict(frozen=True)

    name: str
    group: str
    unit: str
    meaning: str


def _features(group: str, rows: tuple[tuple[str, str, str], ...]) -> tuple[Feature, ...]:
    return tuple(Feature(name=name, group=group, unit=unit, meaning=meaning) for name, unit, meaning in rows)


TRANSACTION_FEATURES: Final = (
    *_features(
        "amount",
        (
            ("amount_usd", "USD", "amount paid, at the rate of its day"),
            ("received_ratio", "ratio", "dollars received per dollar paid"),
            ("round_1", "flag", "amount is a whole number"),
            ("round_100", "flag", "amount is a multiple of 100"),
            ("round_1000", "flag", "amount is a multiple of 1,000"),
            ("below_limit", "flag", "within 10 % below 1,000, 3,000 or 10,000"),
        ),
    ),
    *_features(
        "calendar",
        (
            ("hour", "hours", "hour of the day, UTC"),
            ("weekday", "days", "day of the week, Monday is 0"),
            ("month_day", "days", "day of the month, UTC"),
        ),
    ),
    *_features(
        "channel",
        (
            ("self_transfer", "flag", "sender and receiver are one account"),
            ("same_bank", "flag", "both accounts are at one bank"),
            ("cross_currency", "flag", "paid and received currencies differ"),
            ("cross_border", "flag", "countries differ, where known"),
            ("payment_format", "bucket", "hash bucket of the payment format"),
            ("currency_paid", "index", "index of the currency paid"),
            ("currency_received", "index", "index of the currency received"),
        ),
    ),
    *_features(
        "balance",
        (
            ("sender_balance", "USD", "sender's balance before the payment, where known"),
            ("receiver_balance", "USD", "receiver's balance before the payment, where known"),
            ("sender_balance_share", "ratio", "amount paid over the sender's balance, where that is above 0"),
            (
                "receiver_balance_share",
                "ratio",
                "amount received over the receiver's, where that is above 0",
            ),
        ),
    ),
    *_features(
        "customer",
        (
            ("sender_tenure", "days", "since the sender became a customer, where known"),
            ("receiver_tenure", "days", "since the receiver became a customer, where known"),
            ("sender_contact_changes", "changes", "of the sender's contact data so far, where known"),
            ("receiver_contact_changes", "changes", "of the receiver's contact data so far, where known"),
        ),
    ),
)

# of one party in one window; each is written for payments received, then for payments sent
_WINDOWED: Final = (
    ("count", "payments", "payments {verb} in the last {w}"),
    ("sum", "USD", "{verb} in the last {w}"),
    ("mean", "USD", "mean payment {verb} in the last {w}"),
    ("deviation", "USD", "standard deviation of the payments {verb} in the last {w}, of two or more"),
    ("largest", "USD", "largest payment {verb} in the last {w}"),
    ("peers", "accounts", "distinct counterparties of the payments {verb} in the last {w}"),
    ("banks", "banks", "distinct banks of those counterparties in the last {w}"),
    ("currencies", "currencies", "distinct currencies of the payments {verb} in the last {w}"),
)
_DIRECTIONS: Final = (("in", "received"), ("out", "sent"))

# (name, group, unit, meaning) of what is known of one party beside the windows
_PARTY: Final = (
    ("age", "history", "seconds", "time since the account was first seen"),
    ("in_gap", "history", "seconds", "time since the last payment received"),
    ("out_gap", "history", "seconds", "time since the last payment sent"),
    ("mean_gap", "history", "seconds", "mean time between the last 48 events, the last gap reaching to now"),
    ("in_total_count", "history", "payments", "payments received ever"),
    ("out_total_count", "history", "payments", "payments sent ever"),
    ("in_total_sum", "history", "USD", "received ever"),
    ("out_total_sum", "history", "USD", "sent ever"),
    (
        "role_z",
        "habit",
        "deviations",
        "log amount against the account's mean, over deviation + 0.05; this direction, of 3 or more",
    ),
    (
        "other_z",
        "habit",
        "deviations",
        "log amount against the account's mean, over deviation + 0.05; other direction, of 3 or more",
    ),
    ("rank", "habit", "share", "share of recent amounts in this direction that are smaller"),
    ("max_ratio", "habit", "ratio", "amount over the largest recent one in this direction"),
    ("repeats", "habit", "payments", "recent payments in this direction within 1 % of the amount"),
    ("same_format", "habit", "share", "share of recent events with this payment format"),
    (
        "round_share",
        "habit",
        "share",
        "share of recent amounts in this direction that were paid in multiples of 100",
    ),
    (
        "below_limit_share",
        "habit",
        "share",
        "share of recent amounts in this direction that were paid just below a limit",
    ),
    ("in_first_share", "habit", "share", "share of recent payments received that were a first contact"),
    ("out_first_share", "habit", "share", "share of recent payments sent that were a first contact"),
    (
        "match",
        "flow",
        "log ratio",
        "distance to the nearest recent amount in the other direction, of equally near ones the newest",
    ),
    ("match_gap", "flow", "seconds", "age of that nearest amount"),
    ("carried", "flow", "ratio", "amount over what moved in the other direction in 7 days"),
    ("net_7d", "flow", "share", "(in - out) / (in + out) over 7 days"),
    ("through_7d", "flow", "share", "smaller over larger of in and out over 7 days"),
    ("stay", "flow", "seconds", "time from money received to the next payment sent, or to now, weighted by amount"),
    ("continued_6h", "flow", "share", "share of the money received after which a payment left within 6 hours"),
    ("continued_2d", "flow", "share", "share of the money received after which a payment left within 2 days"),
    (
        "in_matched",
        "flow",
        "share",
        "share of recent payments received within 10 % (1 USD added) of an amount sent before",
    ),
    (
        "out_matched",
        "flow",
        "share",
        "share of recent payments sent within 10 % (1 USD added) of an amount received before",
    ),
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

PAIR_FEATURES: Final = _features(
    "pair",
    (
        (
            "pair_count",
            "payments",
            "payments from sender to receiver before, as far as remembered; 0 at first contact",
        ),
        ("pair_gap", "seconds", "time since the last of them"),
        ("pair_ratio", "log ratio", "amount against the last of them"),
        ("reverse_count", "payments", "payments from receiver to sender before, as far as remembered"),
        ("reverse_gap", "seconds", "time since the last of them"),
        ("reverse_ratio", "log ratio", "amount against the last of them"),
    ),
)

SHAPE_FEATURES: Final = _features(
    "shape",
    (
        ("common_senders", "accounts", "accounts that recently paid both parties"),
        ("common_receivers", "accounts", "accounts that both parties recently paid"),
        (
            "relays",
            "payment pairs",
            "sender's payments to accounts, each with one on to the receiver that is no earlier",
        ),
        (
            "returns",
            "payment pairs",
            "receiver's payments to accounts, each with one on to the sender that is no earlier",
        ),
        ("copayers", "accounts", "other payers of the receiver whose payment before went to a payee of the sender"),
        ("copayees", "accounts", "other payees of the sender whose payer before was a payer of the receiver"),
        (
            "chain",
            "payments",
            "payments of amounts within 10 % (1 USD added), each out of the last, that this one continues",
        ),
        ("cycle_hops", "hops", "hops of money now returning to the receiver, this payment counted"),
        ("cycle_gap", "seconds", "time since that money left the receiver"),
        ("cycle_ratio", "log ratio", "amount against that money"),
        ("upstream_sender", "accounts", "accounts whose money reached the sender in 14 days"),
        ("upstream_receiver", "accounts", "accounts whose money reached the receiver in 14 days"),
        ("upstream_common", "accounts", "accounts whose money reached both"),
        ("upstream_depth", "hops", "longest chain of the last 14 days that ends at the sender"),
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
    "peer",  # 1 + place of the first token, the sender's first, with the same counterparty; 0 no event
)
FORMAT_BUCKETS: Final = 32


def window_name(seconds: float) -> str:
    """How a window is called in a feature's name.

    >>> [window_name(seconds) for seconds in (86_400.0, 5_400.0, 36 * 3_600.0)]
    ['1d', '90m', '36h']
    """
    for unit, name in ((DAY, "d"), (HOUR, "h"), (60.0, "m")):
        if seconds % unit == 0:
            return f"{seconds / unit:.0f}{name}"
    return f"{seconds:.12g}s"


def _party(side: str, windows: tuple[float, ...]) -> list[Feature]:
    activity = [
        (f"{direction}_{name}_{w}", unit, meaning.format(w=w, verb=verb))
        for w in map(window_name, windows)
        for name, unit, meaning in _WINDOWED
        for direction, verb in _DIRECTIONS
    ] + [(f"{name}_{h}", unit, meaning.format(h=h)) for h in HALF_LIFE_NAMES for name, unit, meaning in _DECAYED]
    rows = [(name, "activity", unit, meaning) for name, unit, meaning in activity] + list(_PARTY)
    return [
        Feature(name=f"{side}_{name}", group=f"{side} {group}", unit=unit, meaning=f"{side}: {meaning}")
        for name, group, unit, meaning in rows
    ]


def _ascending(windows: tuple[float, ...]) -> tuple[float, ...]:
    if any(later <= earlier for earlier, later in pairwise(windows)):
        raise ValueError("each window must be longer than the one before")
    return windows


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Windows = Annotated[tuple[Seconds, ...], Field(min_length=1, max_length=8), AfterValidator(_ascending)]
ForgetAfter = Annotated[float, Field(ge=28.0, allow_inf_nan=False)]  # days; the features look back as far
Hops = Annotated[int, Field(ge=1, le=255)]
WINDOWS: Final = (HOUR, DAY, WEEK, 4 * WEEK)
FORGET_AFTER_DAYS: Final = 1_000.0
MAX_HOPS: Final = 5


class FeatureSpec(BaseModel):
    """The context vector's features and the shape of the event tokens.

    Attributes:
        events_per_party: tokens of recent events, of the sender and of the receiver each.
        windows: seconds, ascending; which windows activity is counted in.
        forget_after_days: an account without an event for longer than this is as new, whenever it is swept out.
        max_hops: how far money is followed; a cycle of one payment more is found.

    To change one make a new one: `model_copy` would keep what was computed of the old.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    events_per_party: int = Field(default=24, ge=1, le=RING)
    windows: Windows = WINDOWS
    forget_after_days: ForgetAfter = FORGET_AFTER_DAYS
    max_hops: Hops = MAX_HOPS

    @classmethod
    def told(cls, dump: Mapping[str, Any]) -> FeatureSpec:
        """The specification that was dumped; compare its `fingerprint` with the one that was stored.

        Raises:
            ValidationError: a setting is missing or no such thing.
        """
        return cls.model_validate({name: dump.get(name) for name in cls.model_fields})

    @computed_field  # type: ignore[prop-decorator]
    @property
    def record_version(self) -> int:
        """Of the account record that the features are computed from."""
        return RECORD_VERSION

    @computed_field  # type: ignore[prop-decorator]
    @property
    def token_channels(self) -> tuple[str, ...]:
        """What is told of each recent event."""
        return TOKEN_CHANNELS

    @property
    def limits(self) -> tuple[float, float]:
        """What the kernels need beside the windows: seconds until an account is as new, and hops."""
        return self.forget_after_days * DAY, float(self.max_hops)

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def context(self) -> tuple[Feature, ...]:
        """All features, in the order of the context vector."""
        parties = (*_party("sender", self.windows), *_party("receiver", self.windows))
        return (*TRANSACTION_FEATURES, *parties, *PAIR_FEATURES, *SHAPE_FEATURES)

    @cached_property
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

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change whenever an encoded row would."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]
