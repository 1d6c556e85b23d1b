"""A simulated world: canonical, reproducible, with drift on schedule and labels as a bank gets them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from riskdistill.data.currencies import USD_PER_UNIT
from riskdistill.data.schema import LABELS, NORMAL, TRANSACTIONS, UNLISTED
from riskdistill.simulator import PRESETS, Drift, Recording, Simulated, SimulationConfig, simulate, stream, write
from riskdistill.simulator.methods import SHAPES

TINY = PRESETS["tiny"]
DRIFT_DAY = 18  # within a week
PERFECT = Recording(large=1, small=1, coverage=1, mistaken=0, misnamed=0)


@pytest.fixture(scope="module")
def tiny() -> Simulated:
    return simulate(TINY)


@pytest.fixture(scope="module")
def demo() -> Simulated:
    return simulate(PRESETS["demo"])


def changed(config: SimulationConfig = TINY, **values: object) -> SimulationConfig:
    return SimulationConfig.model_validate({**config.model_dump(), **values})


def test_tables_are_canonical_and_ordered_by_time(tiny: Simulated) -> None:
    assert tiny.transactions.schema == TRANSACTIONS
    assert tiny.labels.schema == tiny.truth.schema == LABELS
    for table in (tiny.transactions, tiny.labels, tiny.truth):
        table.validate(full=True)
    times = tiny.transactions["timestamp"].to_pandas()
    assert times.is_monotonic_increasing
    assert times.min() >= TINY.start
    assert times.max() < TINY.start + timedelta(days=TINY.days)


def test_ids_are_unique_and_labels_and_truth_stand_in_the_same_rows(tiny: Simulated) -> None:
    ids = tiny.transactions["tx_id"].to_pylist()
    assert len(set(ids)) == len(ids)
    assert tiny.labels["tx_id"].to_pylist() == ids
    assert tiny.truth["tx_id"].to_pylist() == ids


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
    assert ((frame["amount_paid"] * rate - frame["amount_received"]).abs() <= 0.0101).all()


def test_accounts_open_close_and_grow_older(demo: Simulated) -> None:
    frame = demo.transactions.to_pandas()
    day = (frame["timestamp"] - PRESETS["demo"].start).dt.days
    first = frame.groupby("sender_account")["sender_tenure_days"].first()
    assert (first == 0).any()
    opened = (day - frame["sender_tenure_days"]).groupby(frame["sender_account"])
    assert (opened.nunique() == 1).all()
    changes = frame.groupby("sender_account")["sender_contact_changes"]
    assert changes.is_monotonic_increasing.all()
    assert (changes.nunique() > 1).any()


def test_an_account_keeps_its_class_and_counters_of_a_bank_have_none(demo: Simulated) -> None:
    frame = demo.transactions.to_pandas()
    classes = frame.groupby("sender_account")["sender_class"]
    assert (classes.nunique() <= 1).all()
    assert set(frame["sender_class"].dropna()) == {"person", "company", "merchant", "platform", "charity"}
    assert (frame["sender_class"].isna() == frame["sender_balance"].isna()).all()


def test_truth_has_its_share_its_typologies_and_a_third_off_shape(demo: Simulated) -> None:
    truth = demo.truth.to_pandas()
    laundering = truth[truth["is_laundering"]]
    assert set(laundering["typology"]) == set(SHAPES)
    assert set(truth[~truth["is_laundering"]]["typology"]) == {NORMAL}
    assert laundering["scheme_id"].notna().all()
    assert truth[~truth["is_laundering"]]["scheme_id"].isna().all()
    assert truth["is_laundering"].mean() == pytest.approx(PRESETS["demo"].laundering_share, rel=0.2)
    assert (laundering["typology"] == UNLISTED).mean() == pytest.approx(1 / 3, abs=0.06)
    assert (truth["known_at"] == demo.transactions["timestamp"].to_pandas()).all()


def test_labels_are_late_incomplete_and_partly_wrong(demo: Simulated) -> None:
    truth, labels = demo.truth.to_pandas(), demo.labels.to_pandas()
    delay = labels["known_at"] - demo.transactions["timestamp"].to_pandas()
    on_record, true = labels["is_laundering"], truth["is_laundering"]
    assert (delay[on_record] > timedelta(days=1)).all()
    assert (delay[~on_record].abs() < timedelta(seconds=1)).all()
    assert 0.4 < (on_record & true).sum() / true.sum() < 0.9
    assert 0.01 < (on_record & ~true).sum() / on_record.sum() < 0.12
    named_alike = (labels["typology"] == truth["typology"])[on_record & true]
    assert 0.75 < named_alike.mean() < 1
    found = labels[on_record & true].groupby("scheme_id")["known_at"].nunique()
    assert (found == 1).all()
    assert (labels["scheme_id"][on_record & true] == truth["scheme_id"][on_record & true]).all()


def test_a_bank_that_finds_everything_records_the_truth() -> None:
    all_found = simulate(changed(recording=PERFECT.model_dump()))
    columns = ["is_laundering", "typology", "scheme_id"]
    assert all_found.labels.select(columns).equals(all_found.truth.select(columns))


def test_launderers_keep_ordinary_habits(demo: Simulated) -> None:
    frame = demo.transactions.to_pandas().assign(bad=demo.truth["is_laundering"].to_pandas())
    ordinary = set(frame[~frame["bad"]]["sender_account"])
    launderers = set(frame[frame["bad"]]["sender_account"])
    assert len(launderers & ordinary) > 0.97 * len(launderers)  # all but some who close or wake in between


def test_no_single_raw_column_gives_laundering_away(demo: Simulated) -> None:
    """Each column as it is, and by its rate of laundering in the first 60 % judged on the rest."""
    bad = demo.truth["is_laundering"].to_numpy().astype(int)
    frame = demo.transactions.drop_columns(["tx_id"]).to_pandas()
    when = frame.pop("timestamp").dt
    frame = frame.assign(hour=when.hour, weekday=when.weekday, day=when.day, second=when.second)
    found = {}
    for column, values in frame.items():
        if pd.api.types.is_float_dtype(values):
            values = values.fillna(values.min() - 1)
            raw = roc_auc_score(bad, values)
            found[f"{column} as it is"] = max(raw, 1 - raw)
            values = pd.qcut(values, 20, labels=False, duplicates="drop")
        found[column] = roc_auc_score(*_by_rate(values, bad))
    assert max(found.values()) <= 0.70, found


def _by_rate(values: Any, bad: Any) -> tuple[Any, Any]:
    cut = int(0.6 * len(bad))
    prior = bad[:cut].mean()
    seen = pd.Series(bad[:cut]).groupby(values[:cut].to_numpy()).agg(["sum", "count"])
    rate = (seen["sum"] + 20 * prior) / (seen["count"] + 20)
    return bad[cut:], values[cut:].map(rate).fillna(prior).to_numpy()


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_same_configuration_gives_the_same_bytes_on_any_number_of_workers(workers: int, tmp_path: Path) -> None:
    first = write(stream(TINY), tmp_path / "first", TINY)
    second = write(stream(TINY, workers=workers), tmp_path / "second", TINY)
    assert [path.read_bytes() for path in first.values()] == [path.read_bytes() for path in second.values()]


def test_another_seed_gives_another_world(tiny: Simulated) -> None:
    assert not simulate(changed(seed=TINY.seed + 1)).transactions.equals(tiny.transactions)


def test_written_tables_read_back_equal_and_leave_nothing_else(tiny: Simulated, tmp_path: Path) -> None:
    paths = write(stream(TINY), tmp_path, TINY)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths.values())
    assert pq.read_table(paths["transactions"]).equals(tiny.transactions)
    assert pq.read_table(paths["labels"]).equals(tiny.labels)
    assert pq.read_table(paths["truth"]).equals(tiny.truth)
    assert SimulationConfig.model_validate_json(paths["settings"].read_text()) == TINY


def test_a_world_that_fails_half_way_leaves_the_earlier_files_as_they_were(tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in write(stream(TINY), tmp_path, TINY).values()}

    def broken() -> Any:
        yield next(stream(TINY))
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write(broken(), tmp_path, TINY)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_longer_world_begins_like_the_shorter_one_while_accounts_are_the_same() -> None:
    """Windows do not depend on later ones: the tables come week by week."""
    parts = list(stream(TINY))
    assert len(parts) == -(-TINY.days // 7)
    assert sum(part.transactions.num_rows for part in parts) == simulate(TINY).transactions.num_rows


@pytest.mark.parametrize(
    "drift",
    [
        {"amount_factor": 3.0, "new_format_share": 0.5},
        {"season_shift_days": 120},
        {"new_typology": "micro"},
        {"adaptation": 1.0},
    ],
)
def test_drift_changes_nothing_before_its_first_day(tiny: Simulated, drift: dict[str, Any]) -> None:
    drifted = simulate(changed(drifts=({"start_day": DRIFT_DAY, **drift},)))
    day = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=DRIFT_DAY)
    before = int((tiny.transactions["timestamp"].to_pandas() < day).sum())
    assert 0 < before < tiny.transactions.num_rows
    assert drifted.transactions.slice(0, before).equals(tiny.transactions.slice(0, before))
    assert drifted.truth.slice(0, before).equals(tiny.truth.slice(0, before))
    assert not drifted.transactions.equals(tiny.transactions)


def test_drift_inflates_amounts_and_brings_the_new_format(tiny: Simulated) -> None:
    drift = Drift(start_day=0, amount_factor=3.0, new_format_share=0.5)
    drifted = simulate(changed(drifts=(drift.model_dump(),))).transactions.to_pandas()
    ratio = drifted["amount_paid"].median() / tiny.transactions["amount_paid"].to_pandas().median()
    assert ratio == pytest.approx(3.0, rel=0.15)
    assert (drifted["payment_format"] == "wallet").mean() == pytest.approx(0.5, abs=0.05)


def test_a_new_typology_comes_with_its_drift_and_never_before() -> None:
    drift = Drift(start_day=60, new_typology="micro")
    world = simulate(changed(PRESETS["demo"], drifts=(drift.model_dump(),)))
    frame = world.truth.to_pandas().assign(time=world.transactions["timestamp"].to_pandas())
    micro = frame[frame["typology"] == "micro"]
    assert len(micro) > 50
    assert micro["time"].min() >= PRESETS["demo"].start + timedelta(days=60)


def test_adversaries_who_adapt_pay_less_at_a_time_and_take_longer(demo: Simulated) -> None:
    later = simulate(changed(PRESETS["demo"], drifts=({"start_day": 0, "adaptation": 1.0},)))

    def schemes(world: Simulated) -> pd.DataFrame:
        frame = world.truth.to_pandas()
        frame = frame.assign(time=world.transactions["timestamp"].to_pandas())
        frame["amount"] = world.transactions["amount_paid"].to_pandas()
        frame = frame[frame["is_laundering"]]
        spans = frame.groupby("scheme_id")["time"].agg(lambda time: time.max() - time.min())
        return pd.DataFrame({"span": spans, "amount": frame.groupby("scheme_id")["amount"].median()})

    before, after = schemes(demo), schemes(later)
    assert after["amount"].median() < 0.7 * before["amount"].median()
    assert after["span"].median() > 1.5 * before["span"].median()


def test_no_laundering_when_none_is_asked_for() -> None:
    quiet = simulate(changed(laundering_share=0.0))
    assert not any(quiet.truth["is_laundering"].to_pylist())
    assert not any(quiet.labels["is_laundering"].to_pylist())


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
        {"drifts": [{"start_day": -1}]},
        {"drifts": [{"start_day": 9}, {"start_day": 9}]},
        {"drifts": [{"start_day": 9, "new_typology": "cycle"}]},
        {"recording": {"large": 1.5}},
        {"day": 3},
    ],
)
def test_a_wrong_configuration_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SimulationConfig.model_validate(wrong)
