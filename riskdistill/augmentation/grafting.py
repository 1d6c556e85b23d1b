"""Synthetic anomalies: real schemes of the training period transplanted onto ordinary accounts."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from riskdistill.augmentation.amount_jitter import scaled_money
from riskdistill.augmentation.registry import training_period
from riskdistill.augmentation.rows import (
    DAY,
    MARK,
    PARTY,
    Ints,
    aligned,
    codes,
    derived,
    flags,
    occurrence,
    party,
    pc,
    stories,
    times,
)
from riskdistill.data.schema import LABELS, TIMESTAMP, TRANSACTIONS
from riskdistill.errors import DataError

NAME: Final = "graft"
FACTOR: Final = (0.8, 1.25)  # bounds of the one factor on all of a scheme's amounts and balances


def synthetic_anomalies(
    transactions: pa.Table, labels: pa.Table, count: int, rng: np.random.Generator, until: datetime
) -> tuple[pa.Table, pa.Table]:
    """Laundering rows that tell real schemes again among other, ordinary accounts.

    A grafted scheme keeps its shape, typology, relative times and hours of the day; it is shifted by whole
    days inside the training period, and all its amounts and balances are multiplied by one factor, so that money
    in is still money out. Its accounts are replaced one to one by accounts that no known scheme touches, of the
    same currency where there are any left. Laundering of no known scheme is grafted row by row.

    Args:
        transactions, labels: canonical; every transaction has a label; what is known to be laundering is.
        count: rows wanted; schemes are grafted whole until there are as many, so the last may overshoot.
        until: end of the training period, with a time zone; no row is placed at or after it.

    Returns:
        The new rows in order of time, and their labels row for row.

    Raises:
        ConfigError: `until` has no time zone.
        DataError: no laundering before `until`, too few ordinary accounts, or a transaction without a label.
    """
    before = training_period(transactions, until)
    told = aligned(before, labels)
    bad = flags(told, "is_laundering")
    if count <= 0:
        return TRANSACTIONS.empty_table(), LABELS.empty_table()
    if not bad.any():
        raise DataError(
            "no laundering to graft before the end of training",
            where=str(until),
            mend="set the share of synthetic anomalies to 0, or train on a longer period",
        )
    hosts = _Hosts(before, bad)
    time, story = times(before), stories(told)
    first, last = int(time.min()), pa.scalar(until, TIMESTAMP).cast(pa.int64()).as_py() - 1
    order = np.flatnonzero(bad)[np.argsort(story[bad], kind="stable")]
    schemes = np.split(order, np.flatnonzero(np.diff(story[order])) + 1)
    rows, shifts, factors, parties = [], [], [], []
    made = 0
    while made < count:
        scheme = schemes[rng.integers(len(schemes))]
        earliest, latest = -((time[scheme].min() - first) // DAY), (last - time[scheme].max()) // DAY
        rows.append(scheme)
        shifts.append(np.full(len(scheme), DAY * rng.integers(earliest, latest, endpoint=True)))
        factors.append(np.full(len(scheme), rng.uniform(*FACTOR)))
        parties.append(hosts.replace(scheme, rng))
        made += len(scheme)
    row = np.concatenate(rows)
    new_time = time[row] + np.concatenate(shifts)
    money = scaled_money(before, row, np.concatenate(factors))
    return _graft(before, told, row, new_time, money | hosts.columns(np.concatenate(parties, axis=1)))


def _graft(
    before: pa.Table, told: pa.Table, row: Ints, time: Ints, changes: dict[str, Any]
) -> tuple[pa.Table, pa.Table]:
    """The new rows in order of time; each graft of a scheme is a scheme of its own."""
    new, new_labels = derived(NAME, before, told, row, timestamp=time, **changes)
    origin = pc.coalesce(told["scheme_id"], told["tx_id"]).take(row).to_pylist()
    schemes = [f"{scheme}{MARK}{NAME}{n}" for scheme, n in zip(origin, occurrence(row), strict=True)]
    place = LABELS.get_field_index("scheme_id")
    new_labels = new_labels.set_column(place, LABELS.field(place), pa.array(schemes, pa.string()))
    by_time = np.argsort(time, kind="stable")
    return new.take(by_time), new_labels.take(by_time)


class _Hosts:
    """The accounts of a training period, and which of them a scheme can be moved to.

    An account is a position in the senders followed by the receivers, that of its first row.
    """

    def __init__(self, before: pa.Table, bad: npt.NDArray[np.bool_]) -> None:
        sides = party(before, "sender"), party(before, "receiver")
        self.words = {word: pa.concat_arrays([side[word] for side in sides]) for word in PARTY}
        currencies = [before[name].combine_chunks() for name in ("currency_paid", "currency_received")]
        currency, _ = codes([pa.concat_arrays(currencies)])
        number, first = codes([self.words["bank"], self.words["account"]])
        self.rows = before.num_rows
        self.party = first[number]
        self.currency = currency[first]
        self.number = number
        touched = np.zeros(len(first), dtype=np.bool_)
        touched[number[np.tile(bad, 2)]] = True
        self.ordinary = first[~touched]
        self.by_currency = {code: first[~touched & (self.currency == code)] for code in np.unique(self.currency)}

    def replace(self, scheme: Ints, rng: np.random.Generator) -> Ints:
        """A host for the sender and the receiver of each row of `scheme`; shape [2, len(scheme)].

        Raises:
            DataError: the period has fewer ordinary accounts than the scheme has parties.
        """
        actors = self.number[np.stack([scheme, scheme + self.rows])]
        parties, role = np.unique(actors, return_inverse=True)
        if len(parties) > len(self.ordinary):
            raise DataError(
                f"a scheme of {len(parties)} accounts, but {len(self.ordinary)} accounts outside schemes",
                mend="set the share of synthetic anomalies to 0, or give more ordinary traffic",
            )
        chosen: list[int] = []
        for actor in parties:
            home = _draw(self.by_currency[self.currency[actor]], chosen, rng)
            host = home if home is not None else _draw(self.ordinary, chosen, rng)
            assert host is not None  # there are more ordinary accounts than parties
            chosen.append(host)
        return np.asarray(chosen)[role.reshape(actors.shape)]

    def columns(self, hosts: Ints) -> dict[str, Any]:
        """The party columns of rows whose senders and receivers are `hosts` [2, n]."""
        sides = zip(("sender", "receiver"), hosts, strict=True)
        return {f"{side}_{w}": self.words[w].take(pa.array(at)) for side, at in sides for w in PARTY}


def _draw(pool: Ints, taken: list[int], rng: np.random.Generator) -> int | None:
    """One of `pool` that is not `taken`, or None where all are."""
    free = pool if len(pool) > 50 * len(taken) else np.setdiff1d(pool, taken)
    while len(free):
        host = int(free[rng.integers(len(free))])
        if host not in taken:
            return host
    return None
