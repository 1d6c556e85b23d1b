"""Drift of what comes in kinds: banks, channels, countries, currencies, routes, reasons, typologies.

The measure is χ² of the table of reference and window over the kinds that the profile knows, with all others as one
kind more. A kind that the reference never saw is counted apart: a model has learned nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from monitoring.distance import psi

KNOWN: Final = 60  # kinds of a category that the profile keeps, the most frequent ones
FEW: Final = 5.0  # expected rows, below which kinds are put together: the χ² of rare kinds is none
MISSING: Final = "(missing)"

Categories = Mapping[str, Any]  # name -> a text for each row, anything that Arrow takes


class CategoryCounts(BaseModel):
    """Rows of one category by kind; `others` are kinds too rare to keep, each seen in the reference."""

    model_config = ConfigDict(frozen=True)

    name: str
    counts: dict[str, int]
    others: int = 0


class CategoryDrift(BaseModel):
    """How far one category is from its reference."""

    model_config = ConfigDict(frozen=True)

    name: str
    rows: int
    psi: float
    p_value: float
    unseen: float = Field(description="share of rows of kinds that the profile does not know")
    unseen_kinds: tuple[str, ...] = Field(description="the most frequent of them")
    alarm: bool = False


def count_kinds(name: str, values: Any, *, most: int | None = KNOWN) -> CategoryCounts:
    """Count the kinds of one category; null is a kind."""
    found = pc.value_counts(pc.fill_null(_texts(values), MISSING))
    pairs = sorted(
        zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True),
        key=lambda pair: (-pair[1], pair[0]),
    )
    kept = pairs if most is None else pairs[:most]
    return CategoryCounts(name=name, counts=dict(kept), others=sum(number for _, number in pairs[len(kept) :]))


def measure_category(reference: CategoryCounts, values: Any) -> CategoryDrift:
    """Compare the kinds of a window with a reference."""
    now = count_kinds(reference.name, values, most=None).counts
    rows = sum(now.values())
    unseen = {kind: number for kind, number in now.items() if kind not in reference.counts}
    expected = np.array([*reference.counts.values(), reference.others], np.int64)
    actual = np.array([*(now.get(kind, 0) for kind in reference.counts), sum(unseen.values())], np.int64)
    value, _ = psi(expected, actual) if rows and expected.sum() else (0.0, 1.0)
    kinds = tuple(kind for kind, _ in sorted(unseen.items(), key=lambda pair: -pair[1])[:5])
    return CategoryDrift(
        name=reference.name,
        rows=rows,
        psi=value,
        p_value=_chi2(expected, actual),
        unseen=max(0.0, (sum(unseen.values()) / rows if rows else 0.0) - reference.others / max(expected.sum(), 1)),
        unseen_kinds=kinds,
    )


def _chi2(expected: NDArray[np.int64], actual: NDArray[np.int64]) -> float:
    """p-value of one distribution behind both counts; kinds too rare for χ² are one kind."""
    total = expected + actual
    if not expected.sum() or not actual.sum():
        return 1.0
    smaller = min(expected.sum(), actual.sum()) / total.sum()
    rare = total * smaller < FEW
    table = np.stack([np.append(counts[~rare], counts[rare].sum()) for counts in (expected, actual)])
    table = table[:, table.sum(0) > 0]
    return float(stats.chi2_contingency(table).pvalue) if table.shape[1] > 1 else 1.0


def _texts(values: Any) -> Any:
    array = values if isinstance(values, pa.ChunkedArray | pa.Array) else pa.array(list(values), pa.string())
    return array.cast(pa.string())
