"""A whole simulated world, a week at a time, as canonical tables in bounded memory.

    draft of each week (habits, schemes; drift) ──► put in order ──► ledger ──► tables ──► Parquet
    any number at once, in any order                └── week after week: what was begun before, balances ──┘

Same configuration, same bytes, on any number of workers: each part of each week has its own random stream. A world
with drift equals the same world without up to the day when drift sets in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from riskdistill.simulator import firms, households
from riskdistill.simulator.clock import Window
from riskdistill.simulator.config import SimulationConfig
from riskdistill.simulator.formats import FORMATS
from riskdistill.simulator.laundering import WEEK, Underworld, drifted
from riskdistill.simulator.ledger import Ledger
from riskdistill.simulator.payments import Payments
from riskdistill.simulator.population import populate
from riskdistill.simulator.recording import with_mistakes
from riskdistill.simulator.tables import Simulated, Tables, cents, plain

Progress = Callable[[float], None]  # called with the share of the work done, from 0 to 1
HABITS: Final = households.HABITS + firms.HABITS
ROW_GROUP: Final = 1 << 18
SETTINGS_FILE: Final = "simulation.json"


class World:
    """What stays the same all the time: who lives there, what they do, and who launders.

    Random streams, by the second number of their seed: 0 population, 1 set-up of habits, 2 habits of a week,
    3 to 5 laundering, 6 drift, 7 mistaken labels, 8 balances.
    """

    def __init__(self, config: SimulationConfig) -> None:
        self.config = config
        self.population = populate(config.accounts, config.banks, config.days, self.stream(0))
        self.habits = [habit(self.population, self.stream(1, n)) for n, habit in enumerate(HABITS)]
        self.windows = [self._window(first) for first in range(0, config.days, WEEK)]
        self.underworld = Underworld(config, self.population, self._ordinary(0))
        brought = [drift.new_format for drift in config.drifts if drift.new_format_share > 0]
        self.formats = tuple(dict.fromkeys((*FORMATS, *brought)))

    def stream(self, *path: int) -> np.random.Generator:
        """The random stream of one part of the world."""
        return np.random.default_rng([self.config.seed, *path])

    def draft(self, week: int) -> Payments:
        """All payments that begin in a week, in the order of time, as if everybody could afford them."""
        ordinary = self._ordinary(week)
        laundering = self.underworld.schemes(self.windows[week], week, ordinary)
        ordinary = with_mistakes(ordinary, self.config, self.stream(7, week))
        payments = Payments.concat([ordinary, laundering])
        for n, drift in enumerate(self.config.drifts):
            payments = drifted(payments, drift, self.formats, self.stream(6, n, week))
        return payments.take(np.argsort(payments.time, kind="stable"))

    def inflation(self, day: int) -> float:
        """How much larger than at the start amounts are on `day`."""
        factors = [drift.amount_factor for drift in self.config.drifts if drift.start_day <= day]
        return float(np.prod(factors)) if factors else 1.0

    def _window(self, first: int) -> Window:
        begun = [drift.season_shift_days for drift in self.config.drifts if drift.start_day <= first]
        return Window(self.config.start, first, min(WEEK, self.config.days - first), sum(begun))

    def _ordinary(self, week: int) -> Payments:
        window = self.windows[week]
        return Payments.concat(habit(window, self.stream(2, n, week)) for n, habit in enumerate(self.habits))


def simulate(config: SimulationConfig, *, workers: int = 1, progress: Progress | None = None) -> Simulated:
    """The world that `config` describes, in memory; arguments as for `stream`."""
    return plain(list(stream(config, workers=workers, progress=progress)))


def stream(config: SimulationConfig, *, workers: int = 1, progress: Progress | None = None) -> Iterator[Simulated]:
    """The world that `config` describes, week after week, with dictionaries in the place of repeated texts.

    Args:
        workers: threads that draft weeks ahead; with 1 everything happens in the caller's.
    """
    report = progress or (lambda done: None)
    world = World(config)
    ledger = Ledger(world.population, world.stream(8))
    tables = Tables(world.population, world.formats, config.start)
    begun = world.draft(0).take(slice(0, 0))
    report(0.0)
    for window, draft in zip(world.windows, _drafts(world, workers), strict=True):
        inflation = world.inflation(window.first)
        number = window.first // WEEK
        transfers = ledger.transfers(window, inflation, world.stream(8, number))
        here, begun = _split(Payments.concat([begun, draft, transfers]), window.end, config.days)
        paid, received = cents(here, world.population)
        happens, balances = ledger.post(here, paid, received, inflation)
        rows = np.flatnonzero(happens)
        yield tables.of(here.take(rows), paid[rows], received[rows], balances[:, rows])
        report(window.end / config.days)


def write(parts: Iterable[Simulated], folder: Path, config: SimulationConfig) -> dict[str, Path]:
    """Write transactions.parquet, labels.parquet, truth.parquet and the settings into `folder`.

    The files appear when all are whole, the settings last; a reader never sees half a file.

    Args:
        parts: of one world, in order; one is held in memory at a time.

    Returns:
        The path of each by its name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = ("transactions", "labels", "truth")
    paths = {name: folder / f"{name}.parquet" for name in names}
    unfinished = {name: path.with_suffix(".unfinished") for name, path in paths.items()}
    writers = {name: _Writer(path) for name, path in unfinished.items()}
    try:
        with ThreadPoolExecutor(1) as pool:  # one thread compresses while the next part is made
            pending: Future[None] | None = None
            for part in parts:
                if pending is not None:
                    pending.result()
                pending = pool.submit(_add, writers, part)
            if pending is not None:
                pending.result()
        for writer in writers.values():
            writer.close()
        for name, path in paths.items():
            os.replace(unfinished[name], path)
    finally:
        for name, writer in writers.items():
            writer.close()
            unfinished[name].unlink(missing_ok=True)
    settings = folder / f"{SETTINGS_FILE}.unfinished"
    settings.write_text(config.model_dump_json(indent=1) + "\n", encoding="utf-8")
    os.replace(settings, folder / SETTINGS_FILE)
    return {**paths, "settings": folder / SETTINGS_FILE}


def _add(writers: dict[str, _Writer], part: Simulated) -> None:
    for name, writer in writers.items():
        writer.add(getattr(part, name))


class _Writer:
    """A Parquet file in row groups of one size, whatever the size of the tables that it is given."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None
        self._waiting: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        """Write `table`, or keep it until a row group is full."""
        if self._file is None:
            # without Arrow's own schema a reader gets text, and not the dictionaries of one part
            self._file = pq.ParquetWriter(
                self._path,
                table.schema,
                compression="zstd",
                compression_level=1,
                store_schema=False,
                use_dictionary=[field.name for field in table.schema if pa.types.is_dictionary(field.type)],
            )
        self._waiting.append(table)
        if sum(waiting.num_rows for waiting in self._waiting) >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._file.write_table(pa.concat_tables(self._waiting).unify_dictionaries(), row_group_size=ROW_GROUP)
            self._waiting.clear()

    def close(self) -> None:
        """Write what is kept, and end the file."""
        if self._file is not None:
            self._flush()
            self._file.close()
            self._file = None


def _drafts(world: World, workers: int) -> Iterator[Payments]:
    """The draft of each week in turn, up to `workers` of them made ahead."""
    weeks = range(len(world.windows))
    if workers == 1:
        yield from map(world.draft, weeks)
        return
    with ThreadPoolExecutor(workers) as pool:
        ahead = [pool.submit(world.draft, week) for week in weeks[:workers]]
        for week in weeks:
            draft = ahead.pop(0).result()
            if week + workers < len(weeks):
                ahead.append(pool.submit(world.draft, week + workers))
            yield draft


def _split(payments: Payments, end: int, days: int) -> tuple[Payments, Payments]:
    """Those before day `end`, in the order of time, and those of the later days of the world."""
    order = np.argsort(payments.time, kind="stable")
    first, last = np.searchsorted(payments.time[order], (end, days))
    return payments.take(order[:first]), payments.take(order[first:last])
