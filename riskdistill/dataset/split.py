"""Where the periods lie: by time, never through one timestamp, and with gaps that only move the features on.

    │ train │ purge_days │ validation │ waiting for labels │ purge_days │ test │

Gaps take rows from the end of the earlier period, so that the rows that a model is judged on are the same with a
gap and without. A gap is not the default: labels are as known at the time of building in any case, so that no later
case is seen, and published figures have none. It tells what schemes that lie across a cut are worth: they are known
in part to who continues them, and in service too. (Gaps: Lopez de Prado, "Advances in financial machine learning",
2018, chapter 7.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskdistill.config import SplitConfig
from riskdistill.dataset.clock import DAY, Ints, microseconds, moment
from riskdistill.dataset.labels import Bools, Tables, of_typologies
from riskdistill.errors import DataError

MATURE: Final = 0.9  # share of the labels that have arrived after the time that validation waits for them
TRAIN, VALIDATION, TEST = "train", "validation", "test"
PURGED, IMMATURE, LEFT_OUT = "purged", "immature", "left_out"  # rows of no part, by reason


@dataclass(frozen=True)
class Split:
    """The periods among rows sorted by time; rows of none of them only move the feature engine on.

    Attributes:
        train, validation, test: rows of each part; training begins with the first row.
        trained_until: microseconds since 1970; all of training lies before, and the next row is then.
        purged: rows of the two gaps.
        built_at: microseconds since 1970; labels of training and validation are as known then.
    """

    train: slice
    validation: slice
    test: slice
    trained_until: int
    purged: tuple[slice, slice]
    built_at: int

    def parts(self) -> Iterator[tuple[str, slice]]:
        """Each part by name."""
        yield from ((TRAIN, self.train), (VALIDATION, self.validation), (TEST, self.test))

    def named(self, left_out: Bools) -> NDArray[np.object_]:
        """object [n]: the part of each row, or the reason why it is in none."""
        names = np.full(self.test.stop, IMMATURE, object)
        for name, rows in (*self.parts(), *((PURGED, gap) for gap in self.purged)):
            names[rows] = name
        names[left_out] = LEFT_OUT
        return names


def split_points(times: Ints, split: SplitConfig) -> tuple[int, int]:
    """First row of validation and of test in rows sorted by time; rows of one timestamp stay together.

    Raises:
        DataError: a part would be empty.
    """
    rows = len(times)
    shares = split.train, split.train + split.validation
    cuts = [min(rows - 1, round(rows * share)) for share in shares]
    first, second = (int(np.searchsorted(times, times[cut])) if rows else 0 for cut in cuts)
    if not 0 < first < second < rows:
        raise DataError(
            f"{rows} rows do not split into three periods by time (cuts at rows {first} and {second})",
            mend="give a longer history",
        )
    return first, second


def split_rows(times: Ints, labels: pa.Table, split: SplitConfig, known_at: datetime | None = None) -> Split:
    """The periods of rows sorted by time.

    The end of the validation period is left out as long as labels take to arrive: laundering that nobody could have
    found yet would be learned from as normal. At least half of the period stays.

    Args:
        times: [n], microseconds since 1970, rising.
        labels: canonical, row for row.
        split: shares, gap, and the date that labels are known at.
        known_at: stands for that date, and may lie anywhere after the training.

    Raises:
        DataError: a part would be empty, or `as_of` does not lie between the end of training and the test.
    """
    first, second = split_points(times, split)
    purge = round(split.purge_days * DAY)
    as_of = known_at or split.as_of
    built_at = int(times[second]) if as_of is None else round(as_of.timestamp() * 1e6)
    if not times[first] < built_at or (known_at is None and built_at > times[second]):
        raise DataError(
            f"labels as of {moment(built_at)}, but training ends before {moment(times[first])} and the test begins "
            f"at {moment(times[second])}",
            where="split.as_of",
            mend="choose a time between them, or leave it out for the latter",
        )
    trained = int(np.searchsorted(times, times[first] - purge))
    purged = int(np.searchsorted(times, times[second] - purge))
    usable = min(purged, int(np.searchsorted(times, built_at)))
    if trained == 0 or usable <= first:
        lost = "validate on" if trained else "learn from"
        raise DataError(
            f"a gap of {split.purge_days:g} days leaves no rows to {lost}",
            where="split.purge_days",
            mend="make it shorter, or give a longer history",
        )
    return Split(
        train=slice(0, trained),
        validation=slice(first, _mature(times, labels, (first, usable), built_at)),
        test=slice(second, len(times)),
        trained_until=int(times[trained]),
        purged=(slice(trained, first), slice(purged, second)),
        built_at=built_at,
    )


def left_out(tables: Tables, split: Split, typologies: tuple[str, ...]) -> Bools:
    """bool [n]: rows of training and validation that are taken out, for the typologies that only the test has.

    Such rows still move the feature engine on, so that the test's features are the same with and without them. A
    row is taken out if it is of such a typology in truth (found or not: it must not be learned as normal) or as
    recorded, and with it every row of its scheme.

    Raises:
        DataError: the test period has none of one of them.
    """
    taken = np.zeros(tables.transactions.num_rows, np.bool_)
    if not typologies:
        return taken
    judged = tables.judged_by.slice(split.test.start)
    there = set(judged.filter(judged["is_laundering"])["typology"].unique().to_pylist())
    for name in typologies:
        if name not in there:
            raise DataError(
                f"no {name!r} in the test period, so nothing could be measured on it",
                where="split.leave_out",
                mend=f"choose among {', '.join(sorted(there))}" if there else "give a longer history",
            )
    for labels in (tables.labels, tables.judged_by):
        taken |= of_typologies(labels, typologies)
    taken[split.test] = False
    return taken


def _mature(times: Ints, labels: pa.Table, usable: tuple[int, int], built_at: int) -> int:
    """The row of validation from which labels are too young."""
    first, last = usable
    known_at = microseconds(labels, "known_at")[:last]
    found = labels["is_laundering"].to_numpy()[:last] & (known_at <= built_at)
    delays = (known_at - times[:last])[found]
    waiting = int(np.quantile(delays, MATURE)) if len(delays) else 0
    end = int(np.searchsorted(times, built_at - waiting))
    return min(last, max(end, first + (last - first + 1) // 2))
