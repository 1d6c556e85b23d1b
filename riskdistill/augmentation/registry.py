"""All perturbations by name, and the one call that applies a configured list of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import ValidationError

from riskdistill.augmentation.amount_jitter import AmountJitter
from riskdistill.augmentation.delay import Delay
from riskdistill.augmentation.frequency_burst import FrequencyBurst
from riskdistill.augmentation.intermediary import Intermediary
from riskdistill.augmentation.perturbation import Perturbation
from riskdistill.augmentation.rows import ROOM_FOR_MARK, aligned, flags, pc, sources, stories
from riskdistill.augmentation.split import Split
from riskdistill.data.schema import LABELS, MAX_ID_LENGTH, TIMESTAMP, TRANSACTIONS
from riskdistill.errors import ConfigError

PERTURBATIONS: Final[dict[str, type[Perturbation]]] = {
    "amount_jitter": AmountJitter,
    "frequency_burst": FrequencyBurst,
    "delay": Delay,
    "split": Split,
    "intermediary": Intermediary,
}


def perturb(
    transactions: pa.Table,
    labels: pa.Table,
    config: Sequence[Mapping[str, Any]],
    rng: np.random.Generator,
    until: datetime,
) -> tuple[pa.Table, pa.Table]:
    """Synthetic rows from the rows before `until`, by each configured perturbation in turn.

    A scheme is chosen as a whole, an ordinary payment by itself. Whatever would reach `until` is left out,
    again as a whole; so is a row whose id leaves no room for a mark.

    Args:
        transactions, labels: canonical; every transaction has a label.
        config: for each perturbation its `name`, the `share` of stories to tell anew, and its bounds.
        until: end of the training period, with a time zone; no row is placed at or after it.

    Returns:
        The new rows in order of time, and their labels row for row.

    Raises:
        ConfigError: an unknown or repeated name, bounds out of range, or `until` without a time zone.
        DataError: a transaction has no label.
    """
    chosen = parse(config)
    before = training_period(transactions, until)
    told = aligned(before, labels)
    parts = [(TRANSACTIONS.empty_table(), LABELS.empty_table())]
    for perturbation in chosen:
        rows = pa.array(np.flatnonzero(_chosen(told, perturbation, rng)))
        source, source_labels = before.take(rows), told.take(rows)
        new, new_labels = perturbation.apply(source, source_labels, rng)
        kept = _wholly_before(new, source, stories(source_labels), until)
        parts.append((new.filter(kept), new_labels.filter(kept)))
    new = pa.concat_tables([part for part, _ in parts])
    order = pc.sort_indices(new["timestamp"])
    return new.take(order), pa.concat_tables([part for _, part in parts]).take(order)


def parse(config: Sequence[Mapping[str, Any]]) -> list[Perturbation]:
    """The perturbations that `config` names, each at most once.

    Raises:
        ConfigError: an unknown or repeated name, or bounds out of range.
    """
    names = Counter(entry.get("name") for entry in config)
    for name, times_named in names.items():
        if name not in PERTURBATIONS:
            known = ", ".join(PERTURBATIONS)
            raise ConfigError(f"unknown perturbation {name!r}", mend=f"choose among {known}")
        if times_named > 1:
            raise ConfigError(f"perturbation {name!r} is named {times_named} times", mend="name it once")
    try:
        return [PERTURBATIONS[entry["name"]].model_validate(dict(entry)) for entry in config]
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in (error.title, *first["loc"]))
        raise ConfigError(str(first["msg"]), where=place, mend="see the perturbation's bounds") from error


def training_period(transactions: pa.Table, until: datetime) -> pa.Table:
    """The transactions strictly before `until`, in order of time, whose ids leave room for a mark.

    Raises:
        ConfigError: `until` has no time zone.
    """
    if until.tzinfo is None:
        raise ConfigError(f"end of the training period {until} has no time zone", mend="give it in UTC")
    before = pc.less(transactions["timestamp"], pa.scalar(until, TIMESTAMP))
    short = pc.less_equal(pc.utf8_length(transactions["tx_id"]), MAX_ID_LENGTH - ROOM_FOR_MARK)
    kept = transactions.filter(pc.and_(before, short))
    return kept.take(np.argsort(kept["timestamp"].to_numpy(), kind="stable"))


def _chosen(labels: pa.Table, perturbation: Perturbation, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """A mask of the rows of the stories that this perturbation tells anew."""
    bad = flags(labels, "is_laundering")
    eligible = {"laundering": bad, "ordinary": ~bad, "all": np.ones_like(bad)}[perturbation.among]
    story = stories(labels)
    candidates = np.unique(story[eligible])
    told = rng.permutation(candidates)[: round(perturbation.share * len(candidates))]
    return eligible & np.isin(story, told)


def _wholly_before(new: pa.Table, source: pa.Table, story: npt.NDArray[np.int64], until: datetime) -> Any:
    """A mask of the new rows whose whole story lies before `until`."""
    origin = pc.index_in(pa.array(sources(new), pa.string()), value_set=source["tx_id"])
    of_new = story[origin.to_numpy()]
    late = pc.greater_equal(new["timestamp"], pa.scalar(until, TIMESTAMP)).to_numpy()
    return pa.array(~np.isin(of_new, of_new[late]))
