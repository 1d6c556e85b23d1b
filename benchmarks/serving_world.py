"""What the sections of the serving benchmark share: a bundle of networks of the usual size, and traffic for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from http_load import post

from riskdistill.bundle import Bundle, BundleParts, KnownRates, Thresholds, write_bundle
from riskdistill.config import ModelConfig, StudentConfig
from riskdistill.data.canonical import canonical_table
from riskdistill.data.rates import Rates
from riskdistill.data.schema import EARLIEST
from riskdistill.features import FeatureEngine, FeatureSpec
from riskdistill.models.bins import Bins
from riskdistill.models.calibration import Calibrator
from riskdistill.models.event_transformer import untrained
from riskdistill.models.onnx_export import export_onnx
from riskdistill.models.onnx_model import OnnxScorer
from riskdistill.simulator import PRESETS, simulate

BEGIN: Final = EARLIEST  # so that much traffic ends before today: a later stamp would be refused
WORLD: Final = PRESETS["tiny"].model_copy(update={"accounts": 1_000, "days": 30, "seed": 3, "start": BEGIN})
ROUTED: Final = 0.02  # of the traffic goes to the teacher, and as much is reviewed
_PAST: Final = 0.5  # of the transactions: history; the others are sent


@dataclass(frozen=True)
class World:
    """Everything lies below `folder` and is used again if it lies there already."""

    folder: Path

    def bundle(self, routed: float = 0.0) -> Path:
        """A bundle whose networks have the usual size and learned nothing: what they cost is the same.

        Args:
            routed: share of the traffic that its student sends on to its teacher.
        """
        path = self.folder / f"bundle-{routed:g}"
        if not path.exists():
            write_untrained(path, self.transactions, routed)
        return path

    @cached_property
    def history(self) -> Path:
        """Parquet file of what came before the traffic."""
        path = self.folder / "history.parquet"
        pq.write_table(self.transactions.slice(0, int(len(self.transactions) * _PAST)), path)
        return path

    def bodies(self, rows: int) -> list[dict[str, Any]]:
        """So many transactions as JSON objects, in order, each with an id of its own."""
        return list(islice(self.traffic(rows), rows))

    def singles(self, rows: int, key: str) -> list[bytes]:
        """Requests that score one transaction each."""
        return [post("/v1/score", json.dumps(body).encode(), key) for body in islice(self.traffic(rows), rows)]

    def batches(self, requests: int, size: int, key: str) -> list[bytes]:
        """Requests that score `size` transactions each."""
        traffic = self.traffic(requests * size)
        bodies = ({"transactions": list(islice(traffic, size))} for _ in range(requests))
        return [post("/v1/score/batch", json.dumps(body).encode(), key) for body in bodies]

    def traffic(self, payments: int = 0) -> Iterator[dict[str, Any]]:
        """The same payments round after round, each time under other ids and on the following days.

        Args:
            payments: how many there will be; the days of very many are so much shorter that all are before today.
        """
        later = self.transactions.slice(int(len(self.transactions) * _PAST))
        rows: list[dict[str, Any]] = later.to_pylist()
        first, last = (rows[at]["timestamp"] for at in (0, -1))
        span = last - first
        pace = min(1.0, (datetime.now(UTC) - first) / (span * (payments / len(rows) + 1)))
        for turn in count():
            for row in rows:
                yield {
                    name: value
                    for name, value in {
                        **row,
                        "tx_id": f"{row['tx_id']}-{turn}",
                        "timestamp": (first + pace * (row["timestamp"] - first + turn * span)).isoformat(),
                    }.items()
                    if value is not None
                }

    @cached_property
    def transactions(self) -> pa.Table:
        """Canonical ones of a simulated world."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "transactions.parquet"
        if not path.exists():
            pq.write_table(canonical_table(simulate(WORLD).transactions), path)
        return pq.read_table(path)


def write_untrained(path: Path, transactions: pa.Table, routed: float) -> Bundle:
    """A bundle of networks at their defaults' size, with thresholds at quantiles of the student's own scores."""
    spec = FeatureSpec()
    rows = FeatureEngine(spec).encode(transactions)
    scorers, parts = {}, path.parent / f".{path.name}.parts"
    parts.mkdir(exist_ok=True)
    for role, size in (("student", StudentConfig()), ("teacher", ModelConfig())):
        bins = Bins.of_quantiles(rows.context, size.pieces)
        facts = {"typologies": ("normal", "fan_in"), "dataset_fingerprint": "0" * 16, "seed": 7}
        network = untrained(size, bins, spec, rows.events, **facts)
        export_onnx(network, parts / f"{role}.onnx", rows.take(slice(0, 64)))
        scorers[role] = OnnxScorer(parts / f"{role}.onnx", Calibrator())
    score = scorers["student"].score_all(rows.take(slice(len(rows) // 2, None))).score
    review = float(np.quantile(score, 1 - ROUTED))
    bypass = float(np.quantile(score, 1 - routed)) if routed else 1.0
    known = np.where(np.isnan(rows.context).all(axis=0), np.float32(0), rows.context)
    lower, typical, upper = np.nanquantile(known, (0.25, 0.5, 0.75), axis=0).astype(np.float32)
    until = transactions["timestamp"][-1].as_py()
    told = BundleParts(
        name="serving",
        created_at=until,
        dataset_fingerprint="0" * 16,
        spec=spec,
        rates=KnownRates.of(Rates.fixed(), until),
        typologies=("normal", "fan_in"),
        parameters={},
        thresholds=Thresholds(
            review=review, hold=max(review, bypass), uncertain_low=1.0, uncertain_high=1.0, high_risk=bypass
        ),
        calibrators={role: Calibrator() for role in scorers},
        typical=typical,
        spread=upper - lower,
        profile={},
        reference=None,
        model_card="# Untrained, for the benchmark of the service",
    )
    return write_bundle(path, told, [parts / f"{role}.onnx" for role in scorers])
