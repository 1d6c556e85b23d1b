"""Simulated traffic as the dataset benchmarks read it: a folder that `riskdistill simulate --out` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow.parquet as pq
from feature_data import Data

from riskdistill.config import SplitConfig
from riskdistill.data.canonical import canonical_table
from riskdistill.data.schema import LABELS
from riskdistill.dataset import split_points
from riskdistill.errors import UnreadableFileError

SIMULATED: Final = "simulated"  # what our simulator's data set is called
LEARNED_ROWS: Final = 400_000  # trees take minutes to learn from so many
MEND: Final = "make the folder with: riskdistill simulate --out FOLDER"


def simulated(folder: Path) -> Data:
    """The traffic in `folder`, split 60/20/20 by time; its labels are the truth where the folder tells it.

    Raises:
        UnreadableFileError: the folder lacks a table, or the labels are not those of the transactions.
    """
    truth = folder / "truth.parquet"
    labels_path = truth if truth.is_file() else folder / "labels.parquet"
    try:
        transactions = canonical_table(pq.read_table(folder / "transactions.parquet"))
        labels = pq.read_table(labels_path, columns=LABELS.names)
    except OSError as error:
        raise UnreadableFileError(str(error), where=str(folder), mend=MEND) from error
    if not labels["tx_id"].equals(transactions["tx_id"]):
        raise UnreadableFileError("labels and transactions differ in their rows", where=str(labels_path), mend=MEND)
    times = transactions["timestamp"].cast("int64").to_numpy()
    return Data(SIMULATED, transactions, labels, *split_points(times, SplitConfig()))
