"""The drift verdict on simulated traffic: stable where nothing changed, drift where amounts and formats did."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow.compute as pc
import pytest
from numpy.typing import NDArray

from monitoring.drift import DriftReport, measure_drift, only_shown
from monitoring.profile import ReferenceProfile, build_profile
from riskdistill.features import FeatureEngine, FeatureSpec
from riskdistill.simulator import Drift, SimulationConfig, simulate

SPEC = FeatureSpec()
WARM, KNOWN, DAYS = 75, 105, 119  # days: state fills up until WARM, the reference ends at KNOWN
CHANGED = Drift(start_day=KNOWN, amount_factor=1.6, new_format_share=0.2)

World = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float64]]  # day, features and score of each row


def world(*drifts: Drift) -> World:
    config = SimulationConfig(accounts=600, days=DAYS, seed=1, drifts=drifts)
    transactions = simulate(config).transactions
    since = pc.subtract(transactions["timestamp"], config.start).to_numpy()
    context = FeatureEngine(SPEC).encode(transactions, tokens=False).context
    return since // np.timedelta64(timedelta(days=1)), context, np.random.default_rng(0).beta(0.5, 20, len(context))


@pytest.fixture(scope="module")
def healthy() -> World:
    return world()


@pytest.fixture(scope="module")
def changed() -> World:
    return world(CHANGED)


@pytest.fixture(scope="module")
def profile(healthy: World) -> ReferenceProfile:
    day, context, score = healthy
    rows = (day >= WARM) & (day < KNOWN)
    hours = 24.0 * (KNOWN - WARM)
    return build_profile(context[rows], SPEC.names, score[rows], alert_rate=0.01, bypass_rate=0.05, hours=hours)


def windows(profile: ReferenceProfile, traffic: World, length: int) -> list[DriftReport]:
    """The reports of the windows of `length` days after the reference."""
    day, context, score = traffic
    chosen = [(day >= start) & (day < start + length) for start in range(KNOWN, DAYS - length + 1, length)]
    return [measure_drift(profile, context[rows], SPEC.names, score[rows], hours=24.0 * length) for rows in chosen]


@pytest.mark.parametrize("length", [1, 2, 7, 14])
def test_healthy_later_days_are_stable(profile: ReferenceProfile, healthy: World, length: int) -> None:
    assert [report.drifting for report in windows(profile, healthy, length)] == [()] * (14 // length)


@pytest.mark.parametrize("length", [1, 2, 7, 14])
def test_inflated_amounts_and_a_new_format_are_drift(
    profile: ReferenceProfile, changed: World, length: int
) -> None:
    for report in windows(profile, changed, length):
        assert report.verdict == "drift"
        assert "payment_format" in report.drifting


def test_in_a_week_inflated_amounts_alone_are_drift(profile: ReferenceProfile) -> None:
    inflated = world(CHANGED.model_copy(update={"new_format_share": 0.0, "amount_factor": 2.5}))
    assert [report.verdict for report in windows(profile, inflated, 7)] == ["drift", "drift"]


def test_what_grows_by_construction_is_measured_and_never_alarms(profile: ReferenceProfile, healthy: World) -> None:
    report = windows(profile, healthy, 7)[0]
    shown = {column.name: column for column in report.features if column.only_shown}
    assert {"month_day", "weekday", "hour", "sender_age", "receiver_in_total_sum"} < set(shown)
    assert "amount_usd" not in shown
    assert shown["sender_age"].psi > 1
    assert not any(column.alarm for column in shown.values())


def test_names_of_features_that_are_only_shown() -> None:
    assert only_shown("sender_out_total_count")
    assert only_shown("pair_count")
    assert not only_shown("sender_out_count_7d")
    assert not only_shown("sender_out_gap")
