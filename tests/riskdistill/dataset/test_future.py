"""Nothing that comes later reaches the training rows: another future leaves them as they were, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import tiny

from riskdistill.config import ExperimentConfig
from riskdistill.data.schema import LABELS, NORMAL, TRANSACTIONS
from riskdistill.dataset import Dataset, build_dataset, split_points
from riskdistill.dataset.clock import microseconds

Tables = tuple[pa.Table, pa.Table]


def configured(**sections: Any) -> ExperimentConfig:
    return ExperimentConfig.model_validate({**tiny.CONFIG.model_dump(), **sections})


def replaced(table: pa.Table, schema: pa.Schema, **columns: Any) -> pa.Table:
    return pa.Table.from_arrays(
        [pa.array(columns[f.name], f.type) if f.name in columns else table[f.name] for f in schema], schema=schema
    )


def require_equal_training(one: Dataset, other: Dataset) -> None:
    np.testing.assert_array_equal(one.train_context, other.train_context)
    np.testing.assert_array_equal(one.train_label, other.train_label)
    np.testing.assert_array_equal(one.train.encoded.context, other.train.encoded.context)
    np.testing.assert_array_equal(one.train.encoded.events, other.train.encoded.events)
    np.testing.assert_array_equal(one.train.label, other.train.label)
    np.testing.assert_array_equal(one.train.typology, other.train.typology)
    np.testing.assert_array_equal(one.train.draw, other.train.draw)
    assert (one.typologies, one.train_span) == (other.typologies, other.train_span)


def another_future(transactions: pa.Table, since: int, seed: int) -> pa.Table:
    """Other amounts, formats and receivers from row `since` on, at the same times."""
    rng = np.random.default_rng(seed)
    rows = np.arange(transactions.num_rows)
    rows[since:] = rng.permutation(rows[since:])
    amounts = transactions["amount_paid"].to_numpy().copy()
    amounts[since:] *= rng.uniform(0.1, 9.0, len(rows) - since)
    receivers = {name: transactions[name].take(rows) for name in ("receiver_account", "receiver_bank")}
    changes = {"amount_paid": amounts, "payment_format": transactions["payment_format"].take(rows)}
    columns = {name: column.to_pylist() for name, column in receivers.items()}
    changes["payment_format"] = changes["payment_format"].to_pylist()
    return replaced(transactions, TRANSACTIONS, **changes, **columns)


@pytest.mark.parametrize("split", [{}, {"purge_days": 3.0}], ids=["no gap", "a gap"])
def test_other_payments_after_training_change_no_training_row(tiny_tables: Tables, split: dict[str, Any]) -> None:
    transactions, labels = tiny_tables
    config = configured(split=split, mix={**tiny.CONFIG.mix.model_dump(), "hard_negatives": 0.3})
    first, _ = split_points(microseconds(transactions), config.split)
    before = build_dataset(transactions, labels, config)
    purged = first - len(before.train_label)
    assert (purged > 0) == bool(split)
    after = build_dataset(another_future(transactions, first - purged, seed=1), labels, config)
    assert not np.array_equal(before.test.encoded.context, after.test.encoded.context)
    require_equal_training(before, after)


def test_what_is_found_out_after_the_model_is_built_changes_no_training_row(tiny_tables: Tables) -> None:
    """Labels of every period, those of the training period among them, as long as they come later."""
    transactions, labels = tiny_tables
    before = build_dataset(transactions, labels, tiny.CONFIG)
    later = pc.greater(labels["known_at"], pa.scalar(before.built_at, LABELS.field("known_at").type)).to_numpy()
    first, _ = split_points(microseconds(transactions), tiny.CONFIG.split)
    bad = labels["is_laundering"].to_numpy()
    assert (later & bad)[:first].any()
    flips = np.random.default_rng(2).random(len(bad)) < 0.5
    flipped = np.where(later & flips, ~bad, bad)
    typology = np.where(flipped, np.where(bad, labels["typology"].to_numpy(zero_copy_only=False), "new"), NORMAL)
    after = build_dataset(
        transactions, replaced(labels, LABELS, is_laundering=flipped, typology=typology.tolist()), tiny.CONFIG
    )
    assert not np.array_equal(before.test.label, after.test.label)
    require_equal_training(before, after)
    waited = min(len(before.validation), len(after.validation))
    np.testing.assert_array_equal(before.validation.label[:waited], after.validation.label[:waited])


def test_the_truth_judges_and_teaches_nothing(tiny_tables: Tables) -> None:
    transactions, labels = tiny_tables
    rng = np.random.default_rng(3)
    found = labels["is_laundering"].to_numpy()
    bad = found | (rng.random(len(found)) < 0.02)
    names = np.where(bad & ~found, "hidden", labels["typology"].to_numpy(zero_copy_only=False))
    truth = replaced(labels, LABELS, is_laundering=bad, typology=names.tolist())
    recorded = build_dataset(transactions, labels, tiny.CONFIG)
    judged = build_dataset(transactions, labels, tiny.CONFIG, truth=truth)
    require_equal_training(recorded, judged)
    np.testing.assert_array_equal(recorded.validation.label, judged.validation.label)
    np.testing.assert_array_equal(judged.test.label, bad[-len(judged.test) :])
    assert "hidden" in judged.test.typology
    assert judged.test.label.sum() > recorded.test.label.sum()
    assert judged.fingerprint != recorded.fingerprint


def test_labels_are_as_of_the_date_that_is_asked_for(tiny_tables: Tables) -> None:
    transactions, labels = tiny_tables
    usual = build_dataset(transactions, labels, tiny.CONFIG)
    as_of = usual.validation.start + 0.9 * (usual.built_at - usual.validation.start)
    early = build_dataset(transactions, labels, configured(split={"as_of": as_of}))
    known = labels["is_laundering"].to_numpy() & (
        microseconds(labels, "known_at") <= round(as_of.timestamp() * 1e6)
    )
    np.testing.assert_array_equal(early.train_label, known[: len(early.train_label)])
    assert early.train_label.sum() < usual.train_label.sum()
    assert early.validation.end < as_of
    assert early.built_at == as_of
    np.testing.assert_array_equal(early.test.label, usual.test.label)
