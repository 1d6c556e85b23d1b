"""The peer: IBM's Graph Feature Preprocessor (snapml), fed the same rows in the same order as a stream would.

Patterns and statistics are those of IBM's AML settings (Blanuša et al., "Graph Feature Preprocessor: Real-time
Subgraph-based Feature Extraction for Financial Crime Detection", ICAIF 2024) and more, with windows of 7 days.
Batches of 128 rows go through `transform`, which first inserts the whole batch into its graph: a row sees up to 127
later ones. That is how its authors measure it, and it flatters it. No row sees further: nothing is fitted before.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from feature_data import Data
from machine import one_core
from numpy.typing import NDArray
from snapml import GraphFeaturePreprocessor  # type: ignore[import-untyped]

from riskdistill.data.currencies import USD_PER_UNIT

BATCH: Final = 128
WINDOW: Final = 7 * 86_400
EDGE: Final = 4  # columns of an edge before its own features: id, source, target, timestamp
PATTERNS: Final = ("fan", "degree", "scatter-gather", "temp-cycle", "lc-cycle")
BINS: Final = list(range(2, 16))
STATISTICS: Final = (
    "fan",
    "degree",
    "ratio",
    "mean",
    "sum",
    "min",
    "max",
    "median",
    "variance",
    "skew",
    "kurtosis",
)
OF_NEIGHBOURS: Final = 3  # the first of STATISTICS are of the vertex; the rest are of each column
SETTINGS: Final[dict[str, Any]] = {
    "num_threads": 1,
    "time_window": WINDOW,
    "vertex_stats": True,
    "vertex_stats_tw": WINDOW,
    "vertex_stats_cols": [EDGE - 1, EDGE],  # timestamp and dollars
    "vertex_stats_feats": list(range(len(STATISTICS))),
    "lc-cycle_len": 10,
    **dict.fromkeys(PATTERNS, True),
    **{f"{pattern}_tw": WINDOW for pattern in PATTERNS},
    **{f"{pattern}_bins": BINS for pattern in PATTERNS},
}
SUMMARY: Final = "all patterns and vertex statistics, windows of 7 days, batches of 128, 1 thread"


@dataclass(frozen=True)
class PeerFeatures:
    """What snapml made of a stream.

    Attributes:
        graph: float32 [n, features]: histograms of patterns, then statistics of the vertices.
        seconds: inside `transform`.
    """

    graph: NDArray[np.float32]
    seconds: float

    @property
    def speed(self) -> float:
        """Transactions per second."""
        return len(self.graph) / self.seconds

    def with_ages(self, now: NDArray[np.float64]) -> NDArray[np.float32]:
        """The features with statistics of time told as ages, which carry over to later months better than dates.

        Args:
            now: seconds [n] of each row, on the clock that snapml was given.
        """
        width = OF_NEIGHBOURS + 2 * (len(STATISTICS) - OF_NEIGHBOURS)
        patterns, statistics = np.split(self.graph, [self.graph.shape[1] - 4 * width], axis=1)
        ages = statistics.reshape(len(self.graph), 4, width).astype(np.float64)  # two vertices, out and in
        empty = ages[:, :, STATISTICS.index("degree")] == 0
        for name in ("mean", "min", "max", "median"):
            at = STATISTICS.index(name)
            ages[:, :, at] = np.where(empty, np.nan, now[:, None] - ages[:, :, at])
        ages = np.delete(ages, STATISTICS.index("sum"), axis=2)  # a sum of dates
        return np.column_stack([patterns, ages.reshape(len(ages), -1)]).astype(np.float32)


class Peer:
    """The peer's features of the data sets, each made once."""

    def __init__(self) -> None:
        self._made: dict[str, PeerFeatures] = {}

    def features(self, data: Data) -> PeerFeatures:
        """Of all rows of a data set."""
        if data.name not in self._made:
            self._made[data.name] = transform(edges(data))
        return self._made[data.name]


def preprocessor() -> GraphFeaturePreprocessor:
    """A new one with an empty graph."""
    made = GraphFeaturePreprocessor()
    made.set_params(SETTINGS)
    return made


def edges(data: Data) -> NDArray[np.float64]:
    """float64 [n, 5]: row, sender, receiver, seconds since the first row, dollars paid.

    Accounts are dense integers in order of first appearance; an account is known by its bank and number there.
    """
    number: dict[tuple[str, str], int] = {}
    names = ("sender_bank", "sender_account", "receiver_bank", "receiver_account", "currency_paid")
    columns = {name: data.transactions[name].to_pylist() for name in names}
    sides = [
        [number.setdefault(key, len(number)) for key in zip(columns[bank], columns[account], strict=True)]
        for bank, account in (names[:2], names[2:4])
    ]
    rates = np.array([USD_PER_UNIT[code] for code in columns["currency_paid"]])
    usd = data.transactions["amount_paid"].to_numpy() * rates
    return np.column_stack([np.arange(len(data)), *sides, data.seconds, usd])


def transform(stream: NDArray[np.float64]) -> PeerFeatures:
    """Run a stream of edges through the peer, on one core."""
    made = preprocessor()
    parts = []
    with one_core():
        started = time.perf_counter()
        for start in range(0, len(stream), BATCH):
            features = made.transform(stream[start : start + BATCH])[:, stream.shape[1] :]
            parts.append(features.astype(np.float32))
        seconds = time.perf_counter() - started
    return PeerFeatures(np.concatenate(parts), seconds)
