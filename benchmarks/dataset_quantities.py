"""What can be told of payments, accounts and schemes in any source: the distributions that generators differ in.

A scheme counts where its shape is named: AMLworld lists no schemes of other laundering. Payments from an account to
itself, a third of AMLworld's normal rows here, count nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskdistill.data.columns import Column, pc
from riskdistill.data.currencies import USD_PER_UNIT
from riskdistill.data.schema import UNLISTED
from riskdistill.dataset import clock_unit
from riskdistill.features.record import DAY, HOUR

PERIOD: Final = 28 * DAY  # counterparties are counted within it, so that sources of any length compare
MONTH: Final = 28 * DAY  # a source shorter than this has no days of the month
MICROSECONDS: Final = 1e6
ACCOUNTS: Final = 2**32  # more than any source has
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Scale = Literal["dollars", "multiples", "share", "seconds", "count", "hour", "day"]


@dataclass(frozen=True)
class Source:
    """Payments of one source between different accounts, in order of time, [n] each.

    Attributes:
        name: for people.
        natural: normal payments are those of whole accounts; otherwise they were chosen, and only what a normal
            payment says by itself counts.
        unit: seconds of its clock.
        begin: time of the first payment, in seconds since 1970; `seconds` count from there.
        sender, receiver: numbers of accounts.
        scheme: number, of laundering in a named shape; -1 elsewhere.
    """

    name: str
    natural: bool
    unit: float
    begin: float
    seconds: Floats
    dollars: Floats
    sender: Ints
    receiver: Ints
    laundering: NDArray[np.bool_]
    scheme: Ints

    @property
    def span(self) -> float:
        """Seconds from the first payment to the last normal one."""
        return float(self.seconds[~self.laundering].max())

    @property
    def usual(self) -> float:
        """Dollars of the median normal payment."""
        return float(np.median(self.dollars[~self.laundering]))

    def on_clock(self, unit: float) -> Source:
        """As it would be stamped by a clock of `unit` seconds."""
        if unit <= self.unit:
            return self
        stamps = self.begin + self.seconds
        floored = stamps - stamps % unit
        return replace(self, unit=unit, begin=float(floored[0]), seconds=floored - floored[0])

    def only(self, rows: NDArray[np.bool_]) -> Source:
        """The chosen rows, bool [n]."""
        names = ("seconds", "dollars", "sender", "receiver", "laundering", "scheme")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


def source(name: str, transactions: pa.Table, labels: pa.Table, *, natural: bool = True) -> Source:
    """A source from canonical tables, row for row."""
    stamps = transactions["timestamp"].cast("int64").to_numpy()
    banks = {side: transactions[f"{side}_bank"] for side in ("sender", "receiver")}
    named = [_joined(banks[side], transactions[f"{side}_account"]) for side in banks]
    accounts = pa.chunked_array([chunk for one in named for chunk in one.chunks]).combine_chunks()
    numbers = accounts.dictionary_encode().indices.to_numpy().astype(np.int64)
    listed = pc.and_(labels["is_laundering"], pc.not_equal(labels["typology"], UNLISTED))
    schemes = pc.if_else(listed, labels["scheme_id"], pa.scalar(None, pa.string()))
    codes = schemes.combine_chunks().dictionary_encode().indices.fill_null(-1)
    seconds = stamps / MICROSECONDS
    made = Source(
        name=name,
        natural=natural,
        unit=clock_unit(stamps) / MICROSECONDS,
        begin=float(seconds[0]),
        seconds=seconds - seconds[0],
        dollars=transactions["amount_paid"].to_numpy() * _rates(transactions["currency_paid"]),
        sender=numbers[: len(stamps)],
        receiver=numbers[len(stamps) :],
        laundering=np.asarray(labels["is_laundering"].to_numpy(), np.bool_),
        scheme=np.asarray(codes.to_numpy(), np.int64),
    )
    return made.only(made.sender != made.receiver)


@dataclass(frozen=True)
class Quantity:
    """One distribution.

    Attributes:
        title: of whom, and what.
        of: whose it is.
        scale: what its numbers are, and so how they are shown.
        measure: its values in a source, in any order; none where the source does not tell.
    """

    title: str
    of: Literal["laundering", "normal", "schemes"]
    scale: Scale
    measure: Callable[[Source], Floats]


def distance(left: Floats, right: Floats) -> float:
    """Kolmogorov and Smirnov's: the largest difference between two cumulative distributions.

    >>> distance(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    0.5
    """
    points = np.unique(np.concatenate([left, right]))
    shares = [np.searchsorted(np.sort(values), points, side="right") / len(values) for values in (left, right)]
    return float(np.abs(shares[0] - shares[1]).max())


def amounts(source: Source) -> Floats:
    """Dollars."""
    return source.dollars


def hours(source: Source) -> Floats:
    """Hour of the day, UTC; none of a clock that is coarser."""
    if source.unit > HOUR:
        return np.empty(0)
    return np.floor((source.begin + source.seconds) % DAY / HOUR)


def month_days(source: Source) -> Floats:
    """Day of the month, UTC."""
    stamps = ((source.begin + source.seconds) * 1e3).astype("datetime64[ms]")
    days = stamps.astype("datetime64[D]") - stamps.astype("datetime64[M]").astype("datetime64[D]")
    return days.astype(np.float64) + 1


def gaps(owner: Ints, seconds: Floats) -> Floats:
    """Seconds between consecutive payments of one owner; an owner below 0 owns nothing."""
    order = np.lexsort((seconds, owner))
    owner, seconds = owner[order], seconds[order]
    same = (owner[1:] == owner[:-1]) & (owner[1:] >= 0)
    return np.diff(seconds)[same]


def counterparties(party: Ints, other: Ints) -> Floats:
    """Distinct others of each party."""
    return _counts(np.unique(_pairs(party, other)) // ACCOUNTS)


def per_period(source: Source, *, of_senders: bool) -> Floats:
    """Distinct counterparties of an account within a period, whole periods only."""
    period = np.floor(source.seconds / PERIOD).astype(np.int64)
    whole = period < int((source.seconds[-1] + DAY) // PERIOD)
    kept, period = source.only(whole), period[whole]
    party, other = (kept.sender, kept.receiver) if of_senders else (kept.receiver, kept.sender)
    return counterparties(_numbered(period, party), other)


def scheme_payments(source: Source) -> Floats:
    """Payments of each scheme."""
    return _counts(source.scheme)


def scheme_accounts(source: Source) -> Floats:
    """Distinct accounts of each scheme."""
    both = np.concatenate([source.sender, source.receiver])
    return counterparties(np.tile(source.scheme, 2), both)


def scheme_durations(source: Source) -> Floats:
    """Seconds from the first to the last payment of each scheme."""
    first = np.full(source.scheme.max(initial=-1) + 1, np.inf)
    last = np.full(len(first), -np.inf)
    np.minimum.at(first, source.scheme, source.seconds)
    np.maximum.at(last, source.scheme, source.seconds)
    return (last - first)[np.isfinite(first)]


def sent_on(source: Source) -> Floats:
    """Dollars sent over dollars received, of each account that does both within a scheme."""
    pays, paid = (_pairs(source.scheme, side) for side in (source.sender, source.receiver))
    both, place = np.unique(np.concatenate([pays, paid]), return_inverse=True)
    out = np.bincount(place[: len(pays)], weights=source.dollars, minlength=len(both))
    received = np.bincount(place[len(pays) :], weights=source.dollars, minlength=len(both))
    relays = (out > 0) & (received > 0)
    return out[relays] / received[relays]


def _of(kind: str, measure: Callable[[Source], Floats]) -> Callable[[Source], Floats]:
    """`measure` on the rows of one kind."""

    def measured(source: Source) -> Floats:
        rows = {"laundering": source.laundering, "normal": ~source.laundering, "schemes": source.scheme >= 0}[kind]
        return measure(source.only(rows)) if rows.any() else np.empty(0)

    return measured


def _relative(kind: str) -> Callable[[Source], Floats]:
    return lambda source: _of(kind, amounts)(source) / source.usual


def _whole_accounts(measure: Callable[[Source], Floats]) -> Callable[[Source], Floats]:
    normal = _of("normal", measure)
    return lambda source: normal(source) if source.natural else np.empty(0)


def _whole_months(kind: str) -> Callable[[Source], Floats]:
    measure = _of(kind, month_days)
    return lambda source: measure(source) if source.span >= MONTH else np.empty(0)


def _in_schemes(measure: Callable[[Source], Floats]) -> Callable[[Source], Floats]:
    return _of("schemes", measure)


QUANTITIES: Final = (
    Quantity("amounts", "laundering", "dollars", _of("laundering", amounts)),
    Quantity("amounts / median normal amount", "laundering", "multiples", _relative("laundering")),
    Quantity("hour of the day", "laundering", "hour", _of("laundering", hours)),
    Quantity("day of the month", "laundering", "day", _whole_months("laundering")),
    Quantity("amounts", "normal", "dollars", _of("normal", amounts)),
    Quantity("amounts / median normal amount", "normal", "multiples", _relative("normal")),
    Quantity("hour of the day", "normal", "hour", _of("normal", hours)),
    Quantity("day of the month", "normal", "day", _whole_months("normal")),
    Quantity(
        "gap between payments that an account sends",
        "normal",
        "seconds",
        _whole_accounts(lambda source: gaps(source.sender, source.seconds)),
    ),
    Quantity(
        "payees of an account in 28 days",
        "normal",
        "count",
        _whole_accounts(lambda source: per_period(source, of_senders=True)),
    ),
    Quantity(
        "payers of an account in 28 days",
        "normal",
        "count",
        _whole_accounts(lambda source: per_period(source, of_senders=False)),
    ),
    Quantity("payments of a scheme", "schemes", "count", _in_schemes(scheme_payments)),
    Quantity("accounts of a scheme", "schemes", "count", _in_schemes(scheme_accounts)),
    Quantity("duration of a scheme", "schemes", "seconds", _in_schemes(scheme_durations)),
    Quantity(
        "gap between payments of a scheme",
        "schemes",
        "seconds",
        _in_schemes(lambda source: gaps(source.scheme, source.seconds)),
    ),
    Quantity(
        "payees of an account in a scheme",
        "schemes",
        "count",
        _in_schemes(lambda source: counterparties(_numbered(source.scheme, source.sender), source.receiver)),
    ),
    Quantity(
        "payers of an account in a scheme",
        "schemes",
        "count",
        _in_schemes(lambda source: counterparties(_numbered(source.scheme, source.receiver), source.sender)),
    ),
    Quantity("sent on / received in a scheme", "schemes", "share", _in_schemes(sent_on)),
)


def _joined(bank: Column, account: Column) -> Column:
    return pc.binary_join_element_wise(bank, account, pa.scalar("\x1f"))


def _rates(currency: Any) -> Floats:
    """Dollars per unit, [n]."""
    spelled = currency.combine_chunks().dictionary_encode()
    rates = np.array([USD_PER_UNIT[code] for code in spelled.dictionary.to_pylist()])
    return np.asarray(rates[spelled.indices.to_numpy()], np.float64)


def _pairs(first: Ints, second: Ints) -> Ints:
    """One number for each pair, the same for the same pair in every call."""
    return first * ACCOUNTS + second


def _numbered(first: Ints, second: Ints) -> Ints:
    """The pairs counted from 0."""
    return np.unique(_pairs(first, second), return_inverse=True)[1].astype(np.int64)


def _counts(values: Ints) -> Floats:
    """How often each value is there."""
    return np.unique(values, return_counts=True)[1].astype(np.float64)
