"""Made training rows among the real ones: perturbed copies and grafted schemes, as traffic that could have been.

A copy takes the place of what it was made from, so that nothing happens twice. All copies and grafts happen, so
that no scheme is cut, but only as many of them are learned from as the mix has room for. Nothing is made from, or
placed in, anything but the training period.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from riskdistill.augmentation import perturb, synthetic_anomalies
from riskdistill.augmentation.rows import Floats
from riskdistill.config import ExperimentConfig
from riskdistill.data.order import time_order
from riskdistill.dataset.clock import HOUR, clock_unit, microseconds, on_the_clock
from riskdistill.dataset.labels import Bools, Tables


@dataclass(frozen=True)
class Retelling:
    """The training period's traffic with made rows in it.

    Attributes:
        transactions: canonical, in order of time; what the second replay takes.
        learned: bool [n], the made rows that are learned from.
        labels: canonical, of the rows that are learned from, in their order.
    """

    transactions: pa.Table
    learned: Bools
    labels: pa.Table


def retell(
    traffic: pa.Table,
    stories: Tables,
    config: ExperimentConfig,
    count: int,
    until: datetime,
    rng: np.random.Generator,
) -> Retelling:
    """Tell some of the training period's stories anew.

    Args:
        traffic: canonical, all that happened in the training period.
        stories: those of its rows that may be learned from, and what is known of them.
        count: rows that are learned from. There are fewer where there is too little to perturb, and more where the
            last grafted scheme is larger.
        until: end of the training period.
    """
    transactions, labels, _ = stories
    if count == 0:
        return Retelling(transactions.slice(0, 0), np.zeros(0, np.bool_), labels.slice(0, 0))
    options = [{"name": p.name, "share": p.share, **p.parameters} for p in config.perturbations]
    perturbed = perturb(transactions, labels, options, rng, until)
    # grafts make up half of the synthetic share; perturbed copies the rest
    emphasis = config.mix.emphasis
    grafted, grafted_labels = synthetic_anomalies(transactions, labels, max(1, count // 2), rng, until, emphasis)
    copies = perturbed.transactions.num_rows
    pool = min(copies, max(0, count - grafted.num_rows))
    learned = np.ones(copies + grafted.num_rows, np.bool_)
    learned[rng.choice(copies, copies - pool, replace=False, p=_left_out(perturbed.labels, emphasis))] = False

    kept = traffic.filter(pc.invert(pc.is_in(traffic["tx_id"], value_set=perturbed.replaced)))
    unit = clock_unit(microseconds(traffic))
    # stamped as the source stamps: a finer stamp would tell made rows from real ones
    made = on_the_clock(pa.concat_tables([perturbed.transactions, grafted]), unit)
    merged = pa.concat_tables([kept, made])
    order = time_order(merged, coarse=unit >= HOUR)
    place = order - kept.num_rows  # among the made rows; negative for the real ones
    is_learned = (place >= 0) & learned[np.maximum(place, 0)]
    told = pa.concat_tables([perturbed.labels, grafted_labels]).take(place[is_learned])
    return Retelling(merged.take(order), is_learned, told)


def _left_out(labels: pa.Table, emphasis: Mapping[str, float]) -> Floats | None:
    """How likely each copy is to be left out next: the less, the more its typology is emphasised; None: alike."""
    weight = np.array([1 / emphasis.get(name, 1.0) for name in labels["typology"].to_pylist()])
    return None if not emphasis or not len(weight) else np.asarray(weight / weight.sum())
