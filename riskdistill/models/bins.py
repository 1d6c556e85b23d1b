"""Where the numbers of the context vector are cut into pieces before a network reads them.

A network sees a number as piecewise-linear steps between fixed edges (Gorishniy et al., "On embeddings for
numerical features in tabular deep learning", 2022). Where the edges lie decides what it can tell apart. Most
features here are zero nearly always and far from it now and then, so that percentiles put all their edges on the
zero; edges taken from the splits of boosted trees (section 3.2.2 there) lie where laundering and normal traffic
differ, and features that no tree asked for get none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskdistill.errors import TrainingError

LARGEST: Final = 1e29  # what lies beyond is no amount or count, but a mark of division by nearly nothing
TAILS: Final = (0.001, 0.999)  # outermost edges, as quantiles: a piece must not reach to a single outlier
_NARROWEST: Final = 1e-6

Thresholds = Mapping[int, NDArray[np.float64]]  # by column, ascending; a threshold stands as often as trees used it


@dataclass(frozen=True)
class Bins:
    """Pieces of the features, side by side.

    Attributes:
        feature: int64 [pieces], the column that each piece belongs to.
        lower: float32 [pieces], where it begins.
        inverse_width: float32 [pieces].
        missing: int64 [flags], columns that may be unknown (NaN), each of which gets a flag.
    """

    feature: NDArray[np.int64]
    lower: NDArray[np.float32]
    inverse_width: NDArray[np.float32]
    missing: NDArray[np.int64]

    @classmethod
    def of_quantiles(cls, context: NDArray[np.float32], pieces: int) -> Bins:
        """The same number of pieces for every feature, between its quantiles; equal quantiles make one edge.

        Args:
            context: float32 [n, features], training rows.
            pieces: of all features together, about.
        """
        each = max(1, pieces // context.shape[1])
        ranks = np.linspace(0, 1, each + 1)
        edges = {
            column: np.unique(np.quantile(known, ranks))
            for column in range(context.shape[1])
            if len(known := _known(context, column))
        }
        return cls._between({column: found for column, found in edges.items() if len(found) > 1}, context)

    @classmethod
    def of_thresholds(cls, context: NDArray[np.float32], thresholds: Thresholds, pieces: int) -> Bins:
        """Pieces between the thresholds of trees; a feature gets as many as the root of how often trees asked it.

        Args:
            context: as for `of_quantiles`.
            thresholds: where the trees cut each column.
            pieces: of all features together, about.

        Raises:
            TrainingError: the trees have not a single split.
        """
        usable = {column: found[np.abs(found) < LARGEST] for column, found in thresholds.items()}
        usable = {column: found for column, found in usable.items() if len(found)}
        if not usable:
            raise TrainingError("the boosted trees split nowhere", mend="give them more rows or smaller leaves")
        roots = {column: len(found) ** 0.5 for column, found in usable.items()}
        each = pieces / sum(roots.values())
        edges = {}
        for column, found in usable.items():
            count = max(1, round(each * roots[column]))
            ranks = ((np.arange(count) + 0.5) / count * len(found)).astype(int)
            inner = np.unique(np.sort(found)[ranks])
            edges[column] = np.concatenate([[_below(context, column, inner[0])], inner])
            edges[column] = np.append(edges[column], _above(context, column, inner[-1]))
        return cls._between(edges, context)

    @classmethod
    def _between(cls, edges: Mapping[int, NDArray[np.float64]], context: NDArray[np.float32]) -> Bins:
        columns = sorted(edges)
        widths = [np.maximum(np.diff(edges[column]), _NARROWEST) for column in columns]
        missing = [column for column in range(context.shape[1]) if np.isnan(context[:, column]).any()]
        return cls(
            feature=np.repeat(np.array(columns, np.int64), [len(width) for width in widths]),
            lower=np.concatenate([edges[column][:-1] for column in columns]).astype(np.float32),
            inverse_width=np.concatenate([1 / width for width in widths]).astype(np.float32),
            missing=np.array(missing, np.int64),
        )


def _known(context: NDArray[np.float32], column: int) -> NDArray[np.float64]:
    values = context[:, column].astype(np.float64)
    return np.asarray(values[np.abs(values) < LARGEST])  # NaN compares as false


def _below(context: NDArray[np.float32], column: int, edge: float) -> float:
    known = _known(context, column)
    lowest = float(np.quantile(known, TAILS[0])) if len(known) else edge
    return min(lowest, edge - 1e-3 * (1 + abs(edge)))


def _above(context: NDArray[np.float32], column: int, edge: float) -> float:
    known = _known(context, column)
    highest = float(np.quantile(known, TAILS[1])) if len(known) else edge
    return max(highest, edge + 1e-3 * (1 + abs(edge)))
