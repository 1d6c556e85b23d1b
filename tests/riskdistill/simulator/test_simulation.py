"""A simulated world: canonical, reproducible, and hard to game by a single raw column."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from riskdistill.data.currencies import USD_PER_UNIT
from riskdistill.data.schema import ACCOUNT_FIELDS, LABELS, NORMAL, TRANSACTIONS, UNLISTED
from riskdistill.simulator import PRESETS, Drift, Simulated, SimulationConfig, simulate, write
from riskdistill.simulator.shapes import SHAPES

TINY = PRESETS["tiny"]


@pytest.fixture(scope="module")
def tiny() -> Simulated:
    return simulate(TINY)


@pytest.fixture(scope="module")
def demo() -> Simulated:
    return simulate(PRESETS["demo"])


def test_tables_are_canonical_and_ordered_by_time(tiny: Simulated) -> None:
    assert tiny.transactions.schema == TRANSACTIONS
    assert tiny.labels.schema == LABELS
    tiny.transactions.validate(full=True)
    tiny.labels.validate(full=True)
    times = tiny.transactions["timestamp"].to_pandas()
    assert times.is_monotonic_increasing
    assert times.min() >= TINY.start
    assert times.max() < TINY.start + timedelta(days=TINY.days)


def test_ids_are_unique_and_labels_stand_in_the_same_rows(tiny: Simulated) -> None:
    ids = tiny.transactions["tx_id"].to_pylist()
    assert len(set(ids)) == len(ids)
    assert tiny.labels["tx_id"].to_pylist() == ids


def test_nobody_pays_the_own_account_and_amounts_are_positive_cents(tiny: Simulated) -> None:
    frame = tiny.transactions.to_pandas()
    assert (frame["sender_account"] != frame["receiver_account"]).all()
    for column in ("amount_paid", "amount_received"):
        assert (frame[column] >= 0.01).all()
        assert np.allclose(frame[column], frame[column].round(2), atol=1e-9)


def test_amounts_convert_at_the_published_rates(tiny: Simulated) -> None:
    frame = tiny.transactions.to_pandas()
    rate = frame["currency_paid"].map(USD_PER_UNIT) / frame["currency_received"].map(USD_PER_UNIT)
    crosses = frame["currency_paid"] != frame["currency_received"]
    assert crosses.any()
    assert (frame["amount_paid"] == frame["amount_received"])[~crosses].all()
    assert ((frame["amount_paid"] * rate - frame["amount_received"]).abs() <= 0.0051).all()


def test_labels_become_known_days_later_and_a_scheme_at_once(tiny: Simulated) -> None:
    labels = tiny.labels.to_pandas().assign(timestamp=tiny.transactions["timestamp"].to_pandas())
    assert (labels["known_at"] > labels["timestamp"] + timedelta(days=1)).all()
    assert (labels.groupby("scheme_id")["known_at"].nunique() == 1).all()


def test_laundering_has_its_share_its_typologies_and_a_third_off_shape(demo: Simulated) -> None:
    labels = demo.labels.to_pandas()
    laundering = labels[labels["is_laundering"]]
    assert set(laundering["typology"]) == set(SHAPES)
    assert set(labels[~labels["is_laundering"]]["typology"]) == {NORMAL}
    assert laundering["scheme_id"].notna().all()
    assert labels[~labels["is_laundering"]]["scheme_id"].isna().all()
    assert labels["is_laundering"].mean() == pytest.approx(PRESETS["demo"].laundering_share, rel=0.02)
    assert (laundering["typology"] == UNLISTED).mean() == pytest.approx(1 / 3, abs=0.02)


def test_launderers_keep_ordinary_habits(demo: Simulated) -> None:
    frame = demo.transactions.to_pandas().assign(bad=demo.labels["is_laundering"].to_pandas())
    ordinary = set(frame[~frame["bad"]]["sender_account"])
    assert set(frame[frame["bad"]]["sender_account"]) <= ordinary


def test_no_single_raw_column_gives_laundering_away(demo: Simulated) -> None:
    """Each column as it is, and by its rate of laundering in the first 60 % judged on the rest."""
    bad = demo.labels["is_laundering"].to_numpy().astype(int)
    assert all(demo.transactions[name].null_count == len(bad) for name in ACCOUNT_FIELDS)
    frame = demo.transactions.drop_columns(["tx_id", *ACCOUNT_FIELDS]).to_pandas()
    when = frame.pop("timestamp").dt
    frame = frame.assign(hour=when.hour, weekday=when.weekday, day=when.day, second=when.second)
    found = {}
    for column, values in frame.items():
        if pd.api.types.is_float_dtype(values):
            raw = roc_auc_score(bad, values)
            found[f"{column} as it is"] = max(raw, 1 - raw)
            values = pd.qcut(values, 20, labels=False, duplicates="drop")
        found[column] = roc_auc_score(*_by_rate(values, bad))
    assert max(found.values()) <= 0.70, found


def _by_rate(values: pd.Series, bad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cut = int(0.6 * len(bad))
    prior = bad[:cut].mean()
    seen = pd.Series(bad[:cut]).groupby(values[:cut].to_numpy()).agg(["sum", "count"])
    rate = (seen["sum"] + 20 * prior) / (seen["count"] + 20)
    return bad[cut:], values[cut:].map(rate).fillna(prior).to_numpy()


def test_same_configuration_gives_the_same_bytes(tiny: Simulated, tmp_path: Path) -> None:
    first = write(tiny, tmp_path / "first")
    second = write(simulate(TINY), tmp_path / "second")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_another_seed_gives_another_world(tiny: Simulated) -> None:
    other = simulate(TINY.model_copy(update={"seed": TINY.seed + 1}))
    assert not other.transactions.equals(tiny.transactions)


def test_written_tables_read_back_equal_and_leave_nothing_else(tiny: Simulated, tmp_path: Path) -> None:
    write(tiny, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.parquet", "transactions.parquet"]
    assert pq.read_table(tmp_path / "transactions.parquet").equals(tiny.transactions)
    assert pq.read_table(tmp_path / "labels.parquet").equals(tiny.labels)


def test_drift_changes_nothing_before_its_first_day(tiny: Simulated) -> None:
    drift = Drift(start_day=20, amount_factor=3.0, new_format_share=0.5)
    drifted = simulate(TINY.model_copy(update={"drift": drift}))
    day = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=20)
    before = int((tiny.transactions["timestamp"].to_pandas() < day).sum())
    assert 0 < before < tiny.transactions.num_rows
    assert drifted.transactions.slice(0, before).equals(tiny.transactions.slice(0, before))
    assert drifted.labels.equals(tiny.labels)


def test_drift_inflates_amounts_and_brings_the_new_format(tiny: Simulated) -> None:
    drift = Drift(start_day=0, amount_factor=3.0, new_format_share=0.5)
    drifted = simulate(TINY.model_copy(update={"drift": drift})).transactions.to_pandas()
    ratio = drifted["amount_paid"] / tiny.transactions["amount_paid"].to_pandas()
    assert ratio.median() == pytest.approx(3.0, rel=1e-3)
    assert (drifted["payment_format"] == "wallet").mean() == pytest.approx(0.5, abs=0.05)


def test_no_laundering_when_none_is_asked_for() -> None:
    quiet = simulate(TINY.model_copy(update={"laundering_share": 0.0}))
    assert not any(quiet.labels["is_laundering"].to_pylist())
    assert quiet.labels["scheme_id"].type == pa.string()


def test_a_world_of_one_day_and_one_bank_works() -> None:
    small = simulate(SimulationConfig(accounts=60, days=1, banks=1, laundering_share=0.1))
    assert small.transactions.num_rows > 0


def test_progress_rises_to_one() -> None:
    seen: list[float] = []
    simulate(TINY, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"accounts": 5},
        {"days": 0},
        {"laundering_share": 1.0},
        {"start": datetime(2025, 1, 1)},
        {"start": datetime(2025, 1, 1, 9, tzinfo=UTC)},
        {"accounts": 100, "banks": 50},
        {"drift": {"start_day": -1}},
        {"day": 3},
    ],
)
def test_a_wrong_configuration_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SimulationConfig.model_validate(wrong)
