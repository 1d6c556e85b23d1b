"""The heat map of drift: the PSI of every column in every part of the window, so that one sees what moved when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from monitoring.profile import DAY, Histogram

MOST: Final = 21  # parts of a window
FEWEST: Final = 50  # rows of a part, below which its PSI is noise


class HeatMap(BaseModel):
    """PSI by column and part of the window."""

    model_config = ConfigDict(frozen=True)

    names: tuple[str, ...]
    starts: tuple[datetime, ...] = Field(description="of the parts, which are of one length")
    rows: tuple[int, ...]
    psi: tuple[tuple[float | None, ...], ...] = Field(description="one row a column; None: too few rows")


def heat_map(
    histograms: Sequence[Histogram], bins: Sequence[NDArray[np.uint8]], times: NDArray[np.int64]
) -> HeatMap | None:
    """Days, or longer parts where there are more than `MOST`; hours in windows of a day. None for shorter ones.

    Args:
        histograms: the columns' references.
        bins: the bin of each row, of each column.
        times: of the rows, microseconds since 1970.
    """
    span = int(times.max() - times.min()) + 1
    length = DAY if span > DAY else DAY // 24
    length *= -(-span // (length * MOST))
    first = int(times.min()) // length * length if length <= DAY else int(times.min()) // DAY * DAY
    part = (times - first) // length
    parts = int(part.max()) + 1
    if parts < 2:
        return None
    rows = np.bincount(part, minlength=parts)
    found = np.stack(
        [_psi(reference, column, part, parts) for reference, column in zip(histograms, bins, strict=True)]
    )
    return HeatMap(
        names=tuple(reference.name for reference in histograms),
        starts=tuple(datetime.fromtimestamp((first + place * length) / 1e6, UTC) for place in range(parts)),
        rows=tuple(rows.tolist()),
        psi=tuple(
            tuple(
                round(float(value), 4) if enough else None
                for value, enough in zip(row, rows >= FEWEST, strict=True)
            )
            for row in found
        ),
    )


def _psi(reference: Histogram, bins: NDArray[np.uint8], part: NDArray[np.int64], parts: int) -> NDArray[np.float64]:
    """As `distance.psi`, for all parts at once."""
    expected = np.asarray(reference.counts)
    width = len(expected)
    actual = np.bincount(part * width + bins, minlength=parts * width).reshape(parts, width)
    used = (expected + actual) > 0
    kinds = used.sum(1, keepdims=True)
    q = (expected + 0.5) / (expected.sum() + 0.5 * kinds)
    p = (actual + 0.5) / (actual.sum(1, keepdims=True) + 0.5 * kinds)
    return np.asarray(((p - q) * np.log(p / q) * used).sum(1))
