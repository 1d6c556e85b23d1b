"""From canonical tables to rows to learn from and rows to be judged on."""

from riskdistill.dataset.build import (
    HOUR,
    Dataset,
    Period,
    as_known_at,
    build_dataset,
    clock_unit,
    feature_engine,
    fingerprint,
    periods_to_judge,
    split_points,
)

__all__ = [
    "HOUR",
    "Dataset",
    "Period",
    "as_known_at",
    "build_dataset",
    "clock_unit",
    "feature_engine",
    "fingerprint",
    "periods_to_judge",
    "split_points",
]
