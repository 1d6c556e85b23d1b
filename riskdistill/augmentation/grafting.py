"""Synthetic anomalies: real schemes of the training period transplanted onto ordinary accounts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa

from riskdistill.augmentation.accounts import NONE, SIDES, Account, Accounts, parties
from riskdistill.augmentation.amount_jitter import scaled_money
from riskdistill.augmentation.registry import training_period
from riskdistill.augmentation.rows import (
    DAY,
    MARK,
    Floats,
    Ints,
    aligned,
    by_story,
    derived,
    flags,
    occurrence,
    pc,
    stories,
    times,
)
from riskdistill.data.schema import LABELS, TIMESTAMP, TRANSACTIONS
from riskdistill.errors import DataError

NAME: Final = "graft"
FACTOR: Final = (0.8, 1.25)  # bounds of the one factor on all of a scheme's amounts and balances


def synthetic_anomalies(
    transactions: pa.Table,
    labels: pa.Table,
    count: int,
    rng: np.random.Generator,
    until: datetime,
    emphasis: Mapping[str, float] | None = None,
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
        emphasis: by typology, how many times as often as the others its schemes are told again.

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
    laundering, of_it = before.filter(pa.array(bad)), told.filter(pa.array(bad))
    time, schemes = times(laundering), by_story(stories(of_it))
    hosts = _Hosts(laundering, before.filter(pa.array(~bad)))
    first, last = int(times(before).min()), pa.scalar(until, TIMESTAMP).cast(pa.int64()).as_py() - 1
    chance = _chances(of_it, schemes, emphasis or {})
    rows, shifts, factors, places = [], [], [], []
    made = 0
    while made < count:
        scheme = schemes[rng.integers(len(schemes)) if chance is None else rng.choice(len(schemes), p=chance)]
        earliest, latest = -((time[scheme].min() - first) // DAY), (last - time[scheme].max()) // DAY
        rows.append(scheme)
        shifts.append(np.full(len(scheme), DAY * rng.integers(earliest, latest, endpoint=True)))
        factors.append(np.full(len(scheme), rng.uniform(*FACTOR)))
        places.append(hosts.replace(scheme, rng))
        made += len(scheme)
    row = np.concatenate(rows)
    money = scaled_money(laundering, row, np.concatenate(factors))
    parties_of = hosts.accounts.columns(laundering.take(pa.array(row)), np.concatenate(places, axis=1))
    return _graft(laundering, of_it, row, time[row] + np.concatenate(shifts), money | parties_of)


def _chances(told: pa.Table, schemes: list[Ints], emphasis: Mapping[str, float]) -> Floats | None:
    """How likely each scheme is to be the next one, by the typology of its first row; None: all alike."""
    typology = told["typology"].to_pylist()
    weight = np.array([emphasis.get(typology[scheme[0]], 1.0) for scheme in schemes])
    return None if (weight == weight[0]).all() else np.asarray(weight / weight.sum())


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
    """Who stands in for whom: the accounts that no known scheme touches, for those that one does."""

    def __init__(self, laundering: pa.Table, ordinary: pa.Table) -> None:
        self.actors = [parties(laundering, side) for side, _ in SIDES]
        self.home: dict[Account, str] = {}
        for actors, (_, word) in zip(self.actors, SIDES, strict=True):
            for actor, currency in zip(actors, laundering[f"currency_{word}"].to_pylist(), strict=True):
                self.home.setdefault(actor, currency)
        self.accounts = Accounts(ordinary, without=self.home.keys())

    def replace(self, scheme: Ints, rng: np.random.Generator) -> Ints:
        """The place of a host for the sender and the receiver of each row of `scheme`; shape [2, len(scheme)].

        Raises:
            DataError: the period has fewer ordinary accounts than the scheme has parties.
        """
        touched = [[actors[row] for row in scheme.tolist()] for actors in self.actors]
        roles = dict.fromkeys([*touched[0], *touched[1]])
        if len(roles) > len(self.accounts):
            raise DataError(
                f"a scheme of {len(roles)} accounts, but {len(self.accounts)} accounts outside schemes",
                mend="set the share of synthetic anomalies to 0, or give more ordinary traffic",
            )
        host: dict[Account, int] = {}
        taken: set[Account] = set()
        for actor in roles:
            place = self.accounts.other(self.home[actor], taken, rng)
            host[actor] = self.accounts.other(None, taken, rng) if place == NONE else place
            taken.add(self.accounts.name[host[actor]])
        return np.array([[host[actor] for actor in side] for side in touched])
