"""Synthetic rows: perturbed and grafted transactions, encoded as they would have been among the real ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from riskdistill.augmentation import perturb, synthetic_anomalies
from riskdistill.config import ExperimentConfig
from riskdistill.data.order import time_order
from riskdistill.data.schema import LABELS
from riskdistill.dataset.cache import RowCache
from riskdistill.dataset.clock import HOUR, clock_unit, microseconds, on_the_clock
from riskdistill.dataset.labels import Bools
from riskdistill.dataset.mix import Labelled
from riskdistill.dataset.replay import Progress, Replay, feature_engine


@dataclass(frozen=True)
class Past:
    """The training period.

    Attributes:
        transactions: all that happened in it.
        labels: row for row, as known when the model is built.
        left_out: bool [n], rows that nothing may be made from.
        until: its end; no row is placed at or after it.
    """

    transactions: pa.Table
    labels: pa.Table
    left_out: Bools
    until: datetime


def synthetic_rows(
    past: Past,
    config: ExperimentConfig,
    count: int,
    rng: np.random.Generator,
    *,
    cache: RowCache | None = None,
    progress: Progress | None = None,
) -> tuple[Labelled, pa.Table]:
    """`count` perturbed and grafted rows, as they would have been encoded among the real ones.

    There are fewer where there is too little to perturb, and more where the last grafted scheme is larger.

    Returns:
        The rows to learn from, and their labels (schema LABELS), row for row.
    """
    if count == 0:
        empty = feature_engine(config.features).encode(past.transactions.slice(0, 0))
        return Labelled(empty, np.zeros(0, np.bool_), np.zeros(0, object)), LABELS.empty_table()
    eligible = pa.array(~past.left_out)
    source = past.transactions.filter(eligible), past.labels.filter(eligible)
    options = [{"name": p.name, "share": p.share, **p.parameters} for p in config.perturbations]
    retold = perturb(*source, options, rng, past.until)
    # grafts make up half of the synthetic share; perturbed copies the rest
    grafted, grafted_labels = synthetic_anomalies(*source, max(1, count // 2), rng, past.until)
    perturbed = retold.transactions.num_rows
    pool = min(perturbed, max(0, count - grafted.num_rows))
    learned = np.ones(perturbed + grafted.num_rows, np.bool_)
    learned[rng.choice(perturbed, perturbed - pool, replace=False)] = False

    # a copy takes the place of what it was made from; all copies happen, so that no scheme is cut
    kept = past.transactions.filter(pc.invert(pc.is_in(past.transactions["tx_id"], value_set=retold.replaced)))
    unit = clock_unit(microseconds(past.transactions))
    made = on_the_clock(pa.concat_tables([retold.transactions, grafted]), unit)
    merged = pa.concat_tables([kept, made])
    order = time_order(merged, coarse=unit >= HOUR)
    place = order - kept.num_rows  # among the made rows; negative for the real ones
    is_learned = (place >= 0) & learned[np.maximum(place, 0)]
    engine = feature_engine(config.features)
    replay = Replay(engine, merged.take(order), is_learned, cache=cache, progress=progress)
    told = pa.concat_tables([retold.labels, grafted_labels]).take(place[is_learned])
    rows = Labelled(
        replay.take(np.flatnonzero(is_learned)),
        told["is_laundering"].to_numpy(),
        told["typology"].to_numpy(zero_copy_only=False),
    )
    return rows, told
