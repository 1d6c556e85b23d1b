"""A whole simulated world as canonical tables.

Same configuration, same bytes. Each part of the world has its own random stream, and drift is applied last,
so that a world with drift equals the same world without up to the day when drift sets in.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from riskdistill.data.currencies import CURRENCY_CODES
from riskdistill.data.schema import ACCOUNT_FIELDS, LABELS, NORMAL, TIMESTAMP, TRANSACTIONS
from riskdistill.simulator import firms, households
from riskdistill.simulator.arrays import Floats, Ints
from riskdistill.simulator.clock import Clock
from riskdistill.simulator.config import Drift, SimulationConfig
from riskdistill.simulator.formats import FORMATS
from riskdistill.simulator.laundering import launder
from riskdistill.simulator.payments import ORDINARY, Payments
from riskdistill.simulator.population import COUNTRIES, RATE, Population, populate

HABITS: Final = households.HABITS + firms.HABITS
Column = Any  # an Arrow array
SECONDS_A_DAY: Final = 86_400
SHORTEST_INQUIRY: Final = 2.0  # days from a payment, or a scheme's last one, to a label


@dataclass(frozen=True)
class Simulated:
    """Canonical tables in the order of time; row i of `labels` belongs to row i of `transactions`."""

    transactions: pa.Table
    labels: pa.Table


def simulate(config: SimulationConfig, progress: Callable[[float], None] | None = None) -> Simulated:
    """Simulate the world that `config` describes.

    Args:
        progress: called with the share of the work done, from 0 to 1.
    """
    report = progress or (lambda done: None)
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(config.seed).spawn(4 + len(HABITS))]
    population_rng, laundering_rng, label_rng, drift_rng, *habit_rngs = streams
    clock = Clock(config.start, config.days)
    population = populate(config.accounts, config.banks, population_rng)
    parts: list[Payments] = []
    for habit, rng in zip(HABITS, habit_rngs, strict=True):
        report(len(parts) / (len(HABITS) + 2))
        parts.append(habit(population, clock, rng))
    ordinary = _within(Payments.concat(parts), config.days)
    laundering, typologies = launder(population, ordinary, clock, config.laundering_share, laundering_rng)
    payments = Payments.concat([ordinary, laundering])
    payments = payments.take(np.argsort(payments.time, kind="stable"))
    report((len(HABITS) + 1) / (len(HABITS) + 2))
    formats: tuple[str, ...] = FORMATS
    if config.drift is not None:
        payments, formats = _drifted(payments, config.drift, drift_rng)
    simulated = Simulated(
        transactions=_transactions(payments, population, formats, config.start),
        labels=_labels(payments, typologies, config.start, label_rng),
    )
    report(1.0)
    return simulated


def write(simulated: Simulated, folder: Path) -> tuple[Path, Path]:
    """Write transactions.parquet and labels.parquet into `folder`; a reader never sees half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "transactions.parquet", folder / "labels.parquet"
    for path, table in zip(paths, (simulated.transactions, simulated.labels), strict=True):
        unfinished = path.with_suffix(".unfinished")
        pq.write_table(table, unfinished, compression="zstd")
        os.replace(unfinished, path)
    return paths


def _within(payments: Payments, days: int) -> Payments:
    """The payments inside the simulated period; replies to late payments may fall beyond it."""
    return payments.take((payments.time >= 0) & (payments.time < days))


def _drifted(payments: Payments, drift: Drift, rng: np.random.Generator) -> tuple[Payments, tuple[str, ...]]:
    """The payments with `drift` from its first day on, and the names of the formats."""
    after = payments.time >= drift.start_day
    moves = after & (rng.random(len(payments)) < drift.new_format_share)
    changed = Payments(
        time=payments.time,
        sender=payments.sender,
        receiver=payments.receiver,
        value=np.where(after, payments.value * drift.amount_factor, payments.value),
        format=np.where(moves, len(FORMATS), payments.format),
        scheme=payments.scheme,
    )
    return changed, (*FORMATS, drift.new_format)


def _transactions(
    payments: Payments, population: Population, formats: tuple[str, ...], start: datetime
) -> pa.Table:
    """The canonical transactions of `payments`, which are in the order of time."""
    payer, payee = payments.sender, payments.receiver
    paid_in, received_in = population.currency[payer], population.currency[payee]
    paid = np.round(payments.value / RATE[paid_in], 2).clip(0.01)
    received = np.where(
        paid_in == received_in, paid, np.round(paid * RATE[paid_in] / RATE[received_in], 2).clip(0.01)
    )
    countries = [code for code, *_ in COUNTRIES]
    columns = [
        _ids(len(payments)),
        _timestamps(payments.time, start),
        pa.array(population.name[payer]),
        _named(population.bank_names, population.bank[payer]),
        pa.array(population.name[payee]),
        _named(population.bank_names, population.bank[payee]),
        pa.array(paid),
        _named(CURRENCY_CODES, paid_in),
        pa.array(received),
        _named(CURRENCY_CODES, received_in),
        _named(formats, payments.format),
        _named(countries, population.country[payer]),
        _named(countries, population.country[payee]),
        *(pa.nulls(len(payments), pa.float64()) for _ in ACCOUNT_FIELDS),  # this world tells none
    ]
    return pa.Table.from_arrays(columns, schema=TRANSACTIONS)


def _labels(payments: Payments, typologies: tuple[str, ...], start: datetime, rng: np.random.Generator) -> pa.Table:
    """What a bank learns of each payment: of a scheme's payments together, some days after its last one."""
    schemes = len(typologies)
    laundering = payments.scheme != ORDINARY
    last = np.zeros(schemes)
    np.maximum.at(last, payments.scheme[laundering], payments.time[laundering])
    closed = last + SHORTEST_INQUIRY + rng.gamma(2.0, 3.0, schemes)
    known = payments.time + SHORTEST_INQUIRY + rng.gamma(2.0, 3.0, len(payments))
    known[laundering] = closed[payments.scheme[laundering]]
    scheme = np.where(laundering, payments.scheme, schemes)
    names = np.array([*(f"S{i:06d}" for i in range(schemes)), ""])
    columns = [
        _ids(len(payments)),
        pa.array(laundering),
        _named((*typologies, NORMAL), scheme),
        pa.array(names[scheme], pa.string(), mask=~laundering),
        _timestamps(known, start),
    ]
    return pa.Table.from_arrays(columns, schema=LABELS)


def _ids(n: int) -> Column:
    return pa.array([f"T{i:010d}" for i in range(n)], pa.string())


def _timestamps(time: Floats, start: datetime) -> Column:
    """Days since `start` as canonical timestamps in whole seconds."""
    seconds = np.floor(time * SECONDS_A_DAY).astype(np.int64) + int(start.timestamp())
    return pa.array(seconds * 1_000_000, pa.int64()).cast(TIMESTAMP)


def _named(names: tuple[str, ...] | list[str], codes: Ints) -> Column:
    return pa.array(np.array(names)[codes], pa.string())
