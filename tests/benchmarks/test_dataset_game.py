"""The judge of single columns finds what gives laundering away, whichever way it does, and nothing in noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_game import judged, places
from dataset_sources import simulated
from feature_data import Data, payments
from made_up import labels_of

from riskdistill.errors import UnreadableFileError

ROWS = 20_000


def traffic(share: float = 0.05) -> Data:
    rng = np.random.default_rng(3)
    senders = rng.integers(0, 200, ROWS)
    table = payments("p", senders, (senders + rng.integers(1, 200, ROWS)) % 200)
    return Data("made up", table, labels_of(table, rng.random(ROWS) < share), ROWS * 3 // 5, ROWS * 4 // 5)


def test_noise_tells_nothing() -> None:
    data = traffic()
    assert judged("noise", np.random.default_rng(5).normal(size=ROWS), data).auc < 0.55


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_a_telling_value_is_found_in_either_direction(direction: float) -> None:
    data = traffic()
    assert judged("leak", direction * data.label, data).value == 1.0


def test_what_tells_in_the_middle_of_a_range_is_found_by_share() -> None:
    data = traffic()
    values = np.random.default_rng(5).uniform(-1, 1, ROWS)
    values[data.label] *= 0.02
    told = judged("middle", values, data)
    assert told.value < 0.6
    assert told.share > 0.9


def test_a_rare_value_of_few_is_found_by_share() -> None:
    """A value of half a percent of the rows is no hundredth of its own."""
    data = traffic(share=0.004)
    values = np.random.default_rng(5).integers(0, 3, ROWS).astype(float)
    values[data.label] = 1.5
    assert judged("rare", values, data).share > 0.99


def test_missingness_is_found() -> None:
    data = traffic()
    values = np.random.default_rng(5).normal(size=ROWS)
    values[data.label] = np.nan
    assert judged("missing", values, data).value > 0.99


def test_a_column_that_is_missing_everywhere_tells_nothing() -> None:
    assert judged("none", np.full(ROWS, np.nan), traffic()).auc == 0.5


def test_ids_that_count_laundering_last_are_found() -> None:
    data = traffic()
    order = np.argsort(np.argsort(data.label, kind="stable"))
    ids = pa.array([f"T{number:06d}" for number in order])
    numbered = Data(data.name, data.transactions.set_column(0, "tx_id", ids), data.labels, data.first, data.second)
    assert judged("order of tx_id", places(numbered)["order of tx_id"], numbered).value == 1.0


def test_the_truth_goes_before_the_labels(tmp_path: Path) -> None:
    table = payments("p", np.arange(10), np.arange(10) + 1)
    pq.write_table(table, tmp_path / "transactions.parquet")
    pq.write_table(labels_of(table, np.zeros(10, bool)), tmp_path / "labels.parquet")
    assert not simulated(tmp_path).label.any()
    pq.write_table(labels_of(table, np.ones(10, bool)), tmp_path / "truth.parquet")
    assert simulated(tmp_path).label.all()


def test_a_folder_without_tables_and_labels_of_other_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="riskdistill simulate"):
        simulated(tmp_path)
    table = payments("p", np.arange(10), np.arange(10) + 1)
    pq.write_table(table, tmp_path / "transactions.parquet")
    pq.write_table(labels_of(table, np.zeros(10, bool)).slice(1), tmp_path / "labels.parquet")
    with pytest.raises(UnreadableFileError, match="differ in their rows"):
        simulated(tmp_path)
