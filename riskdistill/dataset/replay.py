"""One replay of a table by an empty feature engine, from the cache where there is one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from riskdistill.config import FeaturesConfig
from riskdistill.data.rates import Rates
from riskdistill.dataset.cache import RowCache
from riskdistill.dataset.clock import Ints
from riskdistill.dataset.labels import Bools
from riskdistill.features import Encoded, FeatureEngine, FeatureSpec

Progress = Callable[[int], None]  # rows encoded since the last call


def feature_engine(features: FeaturesConfig) -> FeatureEngine:
    """A new, empty feature engine as an experiment's configuration describes it.

    Raises:
        DataError: the file of rates is absent or damaged.
    """
    spec = FeatureSpec(**features.model_dump(exclude={"rates"}))
    return FeatureEngine(spec, Rates.read(features.rates))


class Replay:
    """A table as encoded by an empty engine.

    Args:
        tokens: bool [n], rows whose event tokens are kept.
        cache: keeps the rows on the disk, and finds them if they were encoded before; None: in memory.

    Attributes:
        context: float32 [n, features].
    """

    def __init__(
        self,
        engine: FeatureEngine,
        transactions: pa.Table,
        tokens: Bools,
        *,
        cache: RowCache | None = None,
        progress: Progress | None = None,
    ) -> None:
        if cache is None:
            self._encoded = engine.encode(transactions, tokens=tokens, progress=progress)
        else:
            self._encoded = cache.encode(engine, transactions, tokens=tokens, progress=progress)
        self.context = self._encoded.context
        self._slot = np.cumsum(tokens) - 1

    def take(self, rows: Ints) -> Encoded:
        """Rows that have tokens, by rising number; a view where they follow one another."""
        return Encoded(self.context[span(rows)], self._encoded.events[span(self._slot[rows])])


def span(rows: Ints) -> Ints | slice:
    """Rising `rows` as a slice where none is left out between the first and the last, so that nothing is copied."""
    whole = len(rows) > 0 and rows[-1] - rows[0] + 1 == len(rows)
    return slice(int(rows[0]), int(rows[-1]) + 1) if whole else rows
