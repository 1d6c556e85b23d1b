"""All perturbations by name, and the one call that applies a configured list of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import ValidationError

from riskdistill.augmentation.amount_jitter import AmountJitter
from riskdistill.augmentation.benign_noise import BenignNoise
from riskdistill.augmentation.channel_change import ChannelChange
from riskdistill.augmentation.counterparty_substitution import CounterpartySubstitution
from riskdistill.augmentation.currency_change import CurrencyChange
from riskdistill.augmentation.delay import Delay
from riskdistill.augmentation.dropped_events import DroppedEvents
from riskdistill.augmentation.frequency_burst import FrequencyBurst
from riskdistill.augmentation.intermediary import Intermediary
from riskdistill.augmentation.merge import Merge
from riskdistill.augmentation.perturbation import Perturbation
from riskdistill.augmentation.reorder import Reorder
from riskdistill.augmentation.rows import ROOM_FOR_MARK, Ints, aligned, flags, pc, sources, times
from riskdistill.augmentation.split import Split
from riskdistill.augmentation.time_shift import TimeShift
from riskdistill.data.schema import LABELS, MAX_ID_LENGTH, TIMESTAMP, TRANSACTIONS
from riskdistill.errors import ConfigError

PERTURBATIONS: Final[dict[str, type[Perturbation]]] = {
    "amount_jitter": AmountJitter,
    "frequency_burst": FrequencyBurst,
    "delay": Delay,
    "split": Split,
    "intermediary": Intermediary,
    "merge": Merge,
    "time_shift": TimeShift,
    "reorder": Reorder,
    "counterparty_substitution": CounterpartySubstitution,
    "currency_change": CurrencyChange,
    "channel_change": ChannelChange,
    "dropped_events": DroppedEvents,
    "benign_noise": BenignNoise,
}


@dataclass(frozen=True)
class Perturbed:
    """What perturbations made of a training period.

    Attributes:
        transactions: the new rows in order of time.
        labels: their labels, row for row.
        replaced: ids of the real rows that the new ones stand for, or that were dropped: they must not happen in
            the replay in which the new rows do. Noise replaces nothing.
    """

    transactions: pa.Table
    labels: pa.Table
    replaced: pa.Array


def perturb(
    transactions: pa.Table,
    labels: pa.Table,
    config: Sequence[Mapping[str, Any]],
    rng: np.random.Generator,
    until: datetime,
) -> Perturbed:
    """Synthetic rows from the rows before `until`, by each configured perturbation in turn.

    A story is chosen as a whole: a scheme, or an ordinary payment by itself (see `Perturbation.stories`). Whatever
    would leave the period is left out, again as a whole, and so happens as it did; a row whose id leaves no room
    for a mark is passed over.

    Args:
        transactions, labels: canonical; every transaction has a label.
        config: for each perturbation its `name`, the `share` of stories to tell anew, and its bounds.
        until: end of the training period, with a time zone; no row is placed at or after it.

    Raises:
        ConfigError: an unknown or repeated name, bounds out of range, or `until` without a time zone.
        DataError: a transaction has no label.
    """
    chosen = parse(config)
    before = training_period(transactions, until)
    told = aligned(before, labels)
    bad = flags(told, "is_laundering")
    ordinary = before.filter(pa.array(~bad))
    parts = [(TRANSACTIONS.empty_table(), LABELS.empty_table())]
    replaced = np.zeros(before.num_rows, np.bool_)
    for perturbation in chosen:
        story = perturbation.stories(before, told)
        rows = np.flatnonzero(_chosen(story, bad, perturbation, rng))
        given = pa.array(rows)
        new, new_labels = perturbation.apply(before.take(given), told.take(given), rng, ordinary)
        of_new = story[pc.index_in(pa.array(sources(new), pa.string()), value_set=before["tx_id"]).to_numpy()]
        kept = ~np.isin(of_new, of_new[_outside(new, before, until)])
        parts.append((new.filter(pa.array(kept)), new_labels.filter(pa.array(kept))))
        if "story" not in perturbation.conserves:
            replaced[rows] |= np.isin(story[rows], of_new[kept])
    new = pa.concat_tables([part for part, _ in parts])
    order = pc.sort_indices(new["timestamp"])
    new_labels = pa.concat_tables([part for _, part in parts])
    ids = before["tx_id"].combine_chunks().filter(pa.array(replaced))
    return Perturbed(new.take(order), new_labels.take(order), ids)


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


def _chosen(
    story: Ints, bad: npt.NDArray[np.bool_], perturbation: Perturbation, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """A mask of the rows of the stories that this perturbation tells anew."""
    eligible = {"laundering": bad, "ordinary": ~bad, "all": np.ones_like(bad)}[perturbation.among]
    candidates = np.unique(story[eligible])
    told = rng.permutation(candidates)[: round(perturbation.share * len(candidates))]
    return np.asarray(eligible & np.isin(story, told))


def _outside(new: pa.Table, before: pa.Table, until: datetime) -> npt.NDArray[np.bool_]:
    """A mask of the new rows that lie before the period's first row or not before its end."""
    time, end = times(new), pa.scalar(until, TIMESTAMP).cast(pa.int64()).as_py()
    return np.asarray((time >= end) | (time < times(before)[:1].min(initial=end)))
