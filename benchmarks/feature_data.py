"""What the sections of the feature benchmark share: the data sets, made-up tables, and the rows that they print."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskdistill.config import load_config
from riskdistill.data.canonical import canonical_table
from riskdistill.data.ingest import ingest, load_canonical
from riskdistill.data.schema import TIMESTAMP
from riskdistill.dataset import split_points
from riskdistill.errors import UnreadableFileError

ROOT: Final = Path(__file__).resolve().parents[1]
SETS: Final = {"amlgentex": "amlgentex-5k", "amlworld": "amlworld-hard", "amlsim": "amlsim-10k"}
_BEGIN: Final = 1_767_225_600  # 2026-01-01, seconds


@dataclass(frozen=True)
class Measurement:
    """One line of the table.

    Attributes:
        name: what was measured, and on what.
        measured: in `unit`.
        bar: what it is held to; None where the figure stands for comparison only.
        better: which side of the bar is good.
        detail: spread, settings, what it is beside.
    """

    name: str
    measured: float
    unit: str
    bar: float | None = None
    better: Literal["higher", "lower"] = "higher"
    detail: str = ""

    @property
    def passes(self) -> bool | None:
        """Whether the bar is reached; None without a bar."""
        if self.bar is None:
            return None
        return bool(self.measured >= self.bar if self.better == "higher" else self.measured <= self.bar)

    def as_json(self) -> dict[str, Any]:
        """All attributes, and whether it passes."""
        return {**asdict(self), "passes": self.passes}


@dataclass(frozen=True)
class Data:
    """One data set in canonical order.

    Attributes:
        transactions, labels: canonical, row for row.
        first, second: the rows where validation and test begin.
    """

    name: str
    transactions: pa.Table
    labels: pa.Table
    first: int
    second: int

    def __len__(self) -> int:
        return int(self.transactions.num_rows)

    @cached_property
    def label(self) -> NDArray[np.bool_]:
        """bool [n], as they are: every label known."""
        return np.asarray(self.labels["is_laundering"].to_numpy(), np.bool_)

    @cached_property
    def seconds(self) -> NDArray[np.float64]:
        """float64 [n], since the first transaction."""
        times = self.transactions["timestamp"].cast(pa.int64()).to_numpy()
        return np.asarray((times - times[0]) / 1e6, np.float64)

    def latest(self, rows: int) -> Data:
        """The same with at most `rows` rows before validation, the latest of them."""
        begin = max(0, self.first - rows)
        tables = self.transactions.slice(begin), self.labels.slice(begin)
        return Data(self.name, *tables, self.first - begin, self.second - begin)


class Library:
    """The data sets, each ingested once as its file in configs/ says.

    Args:
        data: folder of the sources.
        cache: folder of the canonical tables; what lies there already is used.
    """

    def __init__(self, data: Path, cache: Path) -> None:
        self._data, self._cache = data, cache
        self._loaded: dict[str, Data] = {}

    def __getitem__(self, name: str) -> Data:
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def __iter__(self) -> Iterator[Data]:
        return (self[name] for name in SETS)

    def _load(self, name: str) -> Data:
        config = load_config(ROOT / "configs" / f"{name}.yaml")
        transactions, labels = self._tables(name, self._cache / name, config.source.until)
        times = transactions["timestamp"].cast(pa.int64()).to_numpy()
        return Data(name, transactions, labels, *split_points(times, config.split))

    def whole(self, name: str) -> tuple[pa.Table, pa.Table]:
        """Transactions and labels with the rows that the configuration leaves out for their time."""
        return self._tables(name, self._cache / f"{name}-whole", None)

    def _tables(self, name: str, folder: Path, until: datetime | None) -> tuple[pa.Table, pa.Table]:
        try:
            return load_canonical(folder)
        except UnreadableFileError:  # there is none yet, or it is of another schema
            config = load_config(ROOT / "configs" / f"{name}.yaml")
            assert config.source.format is not None
            ingest(self._data / SETS[name], folder, format=config.source.format, until=until)
            return load_canonical(folder)


def payments(
    name: str, senders: NDArray[np.int64], receivers: NDArray[np.int64], *, after: float = 0.0
) -> pa.Table:
    """Canonical payments, a tenth of a second apart, between accounts that are given by number, [n] each.

    Args:
        name: begins the transaction ids, which must not repeat.
        after: seconds from the beginning of 2026 to the first one.
    """
    rows = len(senders)
    amounts = np.round(10.0 + np.arange(rows) % 997 * 1.37, 2)
    stamps = ((_BEGIN + after + 0.1 * np.arange(rows)) * 1e6).astype(np.int64)
    constant = {"currency_paid": "EUR", "currency_received": "EUR", "payment_format": "Wire"}
    columns: dict[str, Any] = {
        "tx_id": pa.array([f"{name}-{row}" for row in range(rows)]),
        "timestamp": pa.array(stamps).cast(TIMESTAMP),
        "amount_paid": amounts,
        "amount_received": amounts,
        **{key: pa.repeat(value, rows) for key, value in constant.items()},
    }
    for side, numbers in (("sender", senders), ("receiver", receivers)):
        columns[f"{side}_account"] = pa.array(numbers).cast(pa.string())
        columns[f"{side}_bank"] = pa.array(numbers % 50).cast(pa.string())
    return canonical_table(pa.table(columns))
