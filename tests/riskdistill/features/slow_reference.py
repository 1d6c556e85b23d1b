"""The features once more, from their meanings: plain Python over lists of past events, by name, without any ring
arithmetic, running sums or compiled code. Slow on purpose; what it says is what `FeatureSpec` promises.
"""

from __future__ import annotations

import math
from typing import Any

from slow_account import DAY, NAN, Account, Event, Key, Values, as_kept
from slow_party import OTHER, is_just_below, nearest, party
from slow_relations import is_near, pair, shape
from slow_tokens import tokens

from riskdistill.data.currencies import CURRENCY_CODES
from riskdistill.data.rates import Rates
from riskdistill.features import FeatureSpec
from riskdistill.features.rows import format_bucket
from riskdistill.features.spec import window_name

Row = dict[str, Any]


class Reference:
    """Observes canonical rows one by one."""

    def __init__(self, spec: FeatureSpec, rates: Rates) -> None:
        self.rates, self.forget = rates, spec.forget_after_days * DAY
        self.windows = {window_name(seconds): seconds for seconds in spec.windows}
        self.accounts: dict[Key, Account] = {}

    def observe(self, row: Row) -> Values:
        """The features of a row as known before it; then the row is known."""
        now = row["timestamp"].timestamp()
        keys = _keys(row)
        sender, receiver = self._account(keys[0], now), self._account(keys[1], now)
        if keys[0] == keys[1]:
            receiver = sender
        paid, received = (row[f"amount_{side}"] * self._rate(row, side) for side in ("paid", "received"))
        values = transaction(row, paid, received, self._rate(row, "paid"), self._rate(row, "received"))
        for name, account, flow, usd in (("sender", sender, "out", paid), ("receiver", receiver, "in", received)):
            features = party(account, now, flow, usd, row["payment_format"], self.windows)
            values |= {f"{name}_{feature}": value for feature, value in features.items()}
        values |= pair(sender, keys[1], now, paid) | shape(sender, receiver, keys, now, paid)
        if not any(event.tx_id == row["tx_id"] and event.flow == "out" for event in sender.ring()):
            self.accounts |= {keys[0]: sender, keys[1]: receiver}
            self._apply(row, (paid, received), values["chain"])
        return values

    def tokens(self, row: Row, most: int) -> tuple[list[Values], list[Values]]:
        """The sender's and the receiver's last events as known before a row."""
        now, keys = row["timestamp"].timestamp(), _keys(row)
        paid = row["amount_paid"] * self._rate(row, "paid")
        sender, receiver = (self._account(key, now) for key in keys)
        return tokens(sender, receiver, keys, now, paid, most)

    def _account(self, key: Key, now: float) -> Account:
        account = self.accounts.get(key, Account())
        idle = account.events and now - account.events[-1].time > self.forget
        return Account() if idle else account

    def _rate(self, row: Row, side: str) -> float:
        return self.rates.at(row[f"currency_{side}"], row["timestamp"].timestamp())

    def _apply(self, row: Row, usd: tuple[float, float], chain: float) -> None:
        now, keys = row["timestamp"].timestamp(), _keys(row)
        sender, receiver = (self.accounts[key] for key in keys)
        sent = _event(row, "out", keys[1], sender, receiver, now, usd[0], int(chain))
        came = _event(row, "in", keys[0], receiver, sender, now, usd[1], int(chain))
        if sender is not receiver:
            receiver.receive_from(sender, keys[0], keys[1], now, usd[0])
        sender.remember(sent)
        receiver.remember(came)


def _keys(row: Row) -> tuple[Key, Key]:
    return (
        (row["sender_bank"], row["sender_account"]),
        (row["receiver_bank"], row["receiver_account"]),
    )


def _event(
    row: Row, flow: str, peer: Key, account: Account, other: Account, now: float, usd: float, chain: int
) -> Event:
    """The payment as `account` will remember it; both accounts are as they were before it."""
    match = nearest(account, now, flow, usd)
    return Event(
        time=account.time_of(now),
        tx_id=row["tx_id"],
        flow=flow,
        peer=peer,
        usd=as_kept(usd),
        amount_paid=row["amount_paid"],
        currency=row["currency_paid" if flow == "out" else "currency_received"],
        payment_format=row["payment_format"],
        matched=match is not None and is_near(match.usd, usd),
        chain=chain,
        peer_senders=len(other.peers(now, "in")),
        peer_receivers=len(other.peers(now, "out")),
        elsewhere=other.last_peer_but(_keys(row)[0 if flow == "out" else 1], now, OTHER[flow]),
    )


def transaction(row: Row, paid: float, received: float, rate_paid: float, rate_received: float) -> Values:
    """The features of the payment itself."""
    amount, when = row["amount_paid"], row["timestamp"]
    countries = row["sender_country"], row["receiver_country"]
    values = {
        "amount_usd": paid,
        "received_ratio": received / paid if paid else NAN,
        **{f"round_{unit}": float(math.fmod(amount, unit) == 0) for unit in (1, 100, 1000)},
        "below_limit": float(is_just_below(amount)),
        "hour": when.hour + when.minute / 60 + (when.second + when.microsecond / 1e6) / 3_600,
        "weekday": when.weekday(),
        "month_day": when.day,
        "self_transfer": float(_keys(row)[0] == _keys(row)[1]),
        "same_bank": float(row["sender_bank"] == row["receiver_bank"]),
        "cross_currency": float(row["currency_paid"] != row["currency_received"]),
        "cross_border": NAN if None in countries else float(countries[0] != countries[1]),
        "payment_format": format_bucket(row["payment_format"]),
        "currency_paid": 1 + CURRENCY_CODES.index(row["currency_paid"]),
        "currency_received": 1 + CURRENCY_CODES.index(row["currency_received"]),
    }
    for side, usd, rate in (("sender", paid, rate_paid), ("receiver", received, rate_received)):
        balance = row[f"{side}_balance"]
        values[f"{side}_balance"] = NAN if balance is None else balance * rate
        values[f"{side}_balance_share"] = NAN if balance is None or balance <= 0 else usd / (balance * rate)
        for fact, column in (("tenure", "tenure_days"), ("contact_changes", "contact_changes")):
            known = row[f"{side}_{column}"]
            values[f"{side}_{fact}"] = NAN if known is None else known
    return values
