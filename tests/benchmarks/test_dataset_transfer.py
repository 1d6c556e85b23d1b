"""Two sources are brought to what they share without a look at labels, and shares undo what currencies do."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from dataset_transfer import aligned, shares
from feature_data import Data, payments
from hypothesis import given
from hypothesis import strategies as st
from made_up import labels_of

from riskdistill.data.schema import TIMESTAMP, TRANSACTIONS
from riskdistill.dataset import clock_unit

DAY = 86_400_000_000
ROWS = 400


def traffic(name: str, *, by_day: bool = False, **columns: object) -> Data:
    rng = np.random.default_rng(1)
    senders = rng.integers(0, 50, ROWS)
    table = payments(name, senders, senders + rng.integers(1, 50, ROWS))
    times = 1_767_225_600_000_000 + np.arange(ROWS) * DAY // 40 + (0 if by_day else 1_000_000)
    columns["timestamp"] = pa.array(times - times % DAY if by_day else times).cast(TIMESTAMP)
    for column, values in columns.items():
        at = TRANSACTIONS.get_field_index(column)
        table = table.set_column(at, TRANSACTIONS.field(at), values)
    return Data(name, table, labels_of(table, rng.random(ROWS) < 0.2), ROWS * 3 // 5, ROWS * 4 // 5)


def times(data: Data) -> np.ndarray:
    return data.transactions["timestamp"].cast(pa.int64()).to_numpy()


def test_the_source_takes_the_clock_of_the_target_and_labels_follow_their_rows() -> None:
    source, target = traffic("s"), traffic("t", by_day=True)
    ours, theirs = aligned(source, target)
    assert clock_unit(times(ours)) == DAY
    assert (np.diff(times(ours)) >= 0).all()
    assert ours.labels["tx_id"].equals(ours.transactions["tx_id"])
    assert not ours.transactions["tx_id"].equals(source.transactions["tx_id"])  # put in the order of content
    before = dict(zip(source.labels["tx_id"].to_pylist(), source.label.tolist(), strict=True))
    assert dict(zip(ours.labels["tx_id"].to_pylist(), ours.label.tolist(), strict=True)) == before
    assert theirs.transactions.equals(target.transactions)


def test_a_fine_clock_keeps_the_order_of_the_source() -> None:
    source = traffic("s")
    assert aligned(source, traffic("t"))[0].transactions.equals(source.transactions)


def test_what_one_of_them_does_not_tell_is_taken_from_the_other() -> None:
    known = pa.array(np.arange(ROWS, dtype=np.float64))
    source = traffic("s", sender_balance=known, sender_tenure_days=known)
    target = traffic("t", receiver_balance=known, sender_tenure_days=known)
    for data in aligned(source, target):
        table = data.transactions
        assert table["sender_balance"].null_count == table["receiver_balance"].null_count == ROWS
        assert table["sender_tenure_days"].null_count == 0


@given(
    values=st.lists(st.integers(-1000, 1000), min_size=1, max_size=50),
    factor=st.sampled_from([0.25, 2.0, 1024.0]),
)
def test_shares_do_not_change_with_the_unit(values: list[int], factor: float) -> None:
    columns = np.array(values, np.float32)[:, None]
    told = shares(columns, columns)
    np.testing.assert_array_equal(shares(columns * np.float32(factor), columns * np.float32(factor)), told)
    assert ((told > 0) & (told < 1)).all()


def test_shares_keep_what_is_missing_missing() -> None:
    columns = np.array([[1, np.nan], [np.nan, 3]], np.float32)
    reference = np.array([[0, np.nan], [1, np.nan], [2, np.nan], [np.nan, np.nan]], np.float32)
    np.testing.assert_allclose(shares(columns, reference), [[0.5, np.nan], [np.nan, np.nan]])
