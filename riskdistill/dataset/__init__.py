"""From canonical tables to rows to learn from and rows to be judged on.

    time ─────────────────────────────────────────────────────────────────────────►
    │ train: normal + laundering + synthetic │ gap │ validation │ gap │ test       │
               the model is built here, with labels as known then ──► ▲

Every split is by time and never cuts through one timestamp. Training rows are a mix (85 % normal, 10 % laundering,
5 % synthetic by default); validation and test keep every row. Features of real rows come from one replay of what
really happened; those of synthetic rows from a second replay in which they did happen. What the test is judged by
may be a truth that nobody knew; nothing else sees it, but for which rows are left out (`split.left_out`).
"""

from riskdistill.dataset.build import Dataset, Period, Progress, build_dataset, feature_engine, periods_to_judge
from riskdistill.dataset.cache import RowCache
from riskdistill.dataset.clock import DAY, HOUR, SECOND, clock_unit
from riskdistill.dataset.cross import Side, cross_generator, shared_features
from riskdistill.dataset.identity import fingerprint
from riskdistill.dataset.labels import Tables, as_known_at
from riskdistill.dataset.split import Split, split_points, split_rows

__all__ = [
    "DAY",
    "HOUR",
    "SECOND",
    "Dataset",
    "Period",
    "Progress",
    "RowCache",
    "Side",
    "Split",
    "Tables",
    "as_known_at",
    "build_dataset",
    "clock_unit",
    "cross_generator",
    "feature_engine",
    "fingerprint",
    "periods_to_judge",
    "shared_features",
    "split_points",
    "split_rows",
]
