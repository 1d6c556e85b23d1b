"""What the sections of the serving benchmark share: a bundle with networks of the usual size, and traffic for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from http_load import post

from pipelines.progress import Steps
from pipelines.run import run
from riskdistill.config import ExperimentConfig
from riskdistill.simulator import PRESETS, simulate, write

WORLD: Final = PRESETS["tiny"].model_copy(update={"accounts": 1_000, "days": 45, "seed": 3})
# the usual sizes, hardly trained: what a network costs does not depend on what it learned
EXPERIMENT: Final = {
    "name": "serving",
    "source": {"format": "canonical"},
    "mix": {"max_rows": 4_000},
    "training": {"epochs": 1},
    "student_training": {"epochs": 1},
    "boosted_trees": {"candidates": [{"rounds": 300}]},
}
_PAST: Final = 0.5  # of the transactions: history; the others are sent


@dataclass(frozen=True)
class World:
    """Everything lies below `folder` and is used again if it lies there already."""

    folder: Path
    quick: bool

    @cached_property
    def bundle(self) -> Path:
        """A bundle's directory."""
        made = self.folder / "run" / "bundle"
        if not made.exists():
            with Steps() as steps:
                run(ExperimentConfig.model_validate(EXPERIMENT), self._simulated, self.folder / "run", steps)
        return made

    @cached_property
    def history(self) -> Path:
        """Parquet file of what came before the traffic."""
        path = self.folder / "history.parquet"
        table = pq.read_table(self._canonical)
        pq.write_table(table.slice(0, int(len(table) * _PAST)), path)
        return path

    def bodies(self, rows: int) -> list[dict[str, Any]]:
        """So many transactions as JSON objects, in order, each with an id of its own."""
        return list(islice(self._traffic(), rows))

    def singles(self, rows: int, key: str) -> list[bytes]:
        """Requests that score one transaction each."""
        return [post("/v1/score", json.dumps(body).encode(), key) for body in islice(self._traffic(), rows)]

    def batches(self, requests: int, size: int, key: str) -> list[bytes]:
        """Requests that score `size` transactions each."""
        traffic = self._traffic()
        bodies = ({"transactions": list(islice(traffic, size))} for _ in range(requests))
        return [post("/v1/score/batch", json.dumps(body).encode(), key) for body in bodies]

    def _traffic(self) -> Iterator[dict[str, Any]]:
        """The same payments round after round, each time under other ids and on the following days."""
        table = pq.read_table(self._canonical)
        later = table.slice(int(len(table) * _PAST))
        span = later["timestamp"][-1].as_py() - later["timestamp"][0].as_py()
        rows: list[dict[str, Any]] = later.to_pylist()
        for turn in count():
            for row in rows:
                yield {
                    name: value
                    for name, value in {
                        **row,
                        "tx_id": f"{row['tx_id']}-{turn}",
                        "timestamp": (row["timestamp"] + turn * span).isoformat(),
                    }.items()
                    if value is not None
                }

    @property
    def _simulated(self) -> Path:
        folder = self.folder / "simulated"
        if not folder.exists():
            write([simulate(WORLD)], folder, WORLD)
        return folder

    @property
    def _canonical(self) -> Path:
        self.bundle  # noqa: B018 - its run ingests
        return self.folder / "run" / "canonical" / "transactions.parquet"


def replayed(path: Path) -> pa.Table:
    """A canonical table."""
    return pq.read_table(path)
