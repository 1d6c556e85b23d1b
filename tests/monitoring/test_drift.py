"""Drift: alarms on changes that matter, silent on noise at any size of window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from monitoring.drift import DriftPolicy, DriftReport, measure_drift, psi
from monitoring.profile import ReferenceProfile, build_profile
from riskdistill.errors import ConfigError, EmptyInputError, MissingColumnError

NAMES = [f"f{i}" for i in range(20)]


def traffic(rows: int, seed: int) -> NDArray[np.float32]:
    """Continuous, zero-inflated and discrete columns by turns."""
    draw = np.random.default_rng(seed)
    context = np.exp(draw.normal(size=(rows, len(NAMES))))
    context[:, ::3] *= draw.random((rows, len(NAMES[::3]))) < 0.05
    context[:, 1::3] = draw.poisson(0.4, size=(rows, len(NAMES[1::3])))
    return context.astype(np.float32)


def scores(rows: int, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).beta(0.5, 20, rows)


@pytest.fixture(scope="module")
def profile() -> ReferenceProfile:
    return build_profile(traffic(20_000, 0), NAMES, scores(20_000, 0), alert_rate=0.02, bypass_rate=0.05, hours=24)


def drift(profile: ReferenceProfile, context: NDArray[np.float32], **rates: Any) -> DriftReport:
    return measure_drift(profile, context, NAMES, scores(len(context), 1), **rates)


@pytest.mark.parametrize("rows", [50, 200, 2_000])
def test_windows_like_the_reference_raise_no_alarm(profile: ReferenceProfile, rows: int) -> None:
    reports = [drift(profile, traffic(rows, seed)) for seed in range(1, 41)]
    assert sum(report.verdict == "drift" for report in reports) <= 1


@pytest.mark.parametrize("factor", [2.0, 3.0])
def test_a_scale_error_in_lognormal_amounts_is_an_alarm_on_that_feature_only(
    profile: ReferenceProfile, factor: float
) -> None:
    context = traffic(2_000, 1)
    context[:, 2] *= factor
    report = drift(profile, context)
    assert report.verdict == "drift"
    assert report.drifting == ("f2",)
    assert "no reason to roll back" in report.recommendation


def test_columns_in_another_order_give_the_same_report(profile: ReferenceProfile) -> None:
    context, score = traffic(500, 1), scores(500, 1)
    straight = measure_drift(profile, context, NAMES, score)
    assert measure_drift(profile, context[:, ::-1], NAMES[::-1], score) == straight


def test_values_that_go_missing_are_an_alarm_and_counted(profile: ReferenceProfile) -> None:
    context = traffic(1_000, 1)
    context[:100, 5] = np.nan
    report = drift(profile, context)
    assert report.drifting == ("f5",)
    assert (report.features[5].missing, report.features[5].expected_missing) == (0.1, 0.0)


def test_a_shift_of_the_score_is_an_alarm(profile: ReferenceProfile) -> None:
    report = measure_drift(profile, traffic(500, 1), NAMES, scores(500, 1) ** 0.5)
    assert report.score.alarm
    assert report.drifting == ("score",)


def test_rates_and_volume_alarm_beyond_their_factor_and_only_then(profile: ReferenceProfile) -> None:
    context = traffic(5_000, 1)
    usual = drift(profile, context, alert_rate=0.024, bypass_rate=0.05, hours=6)
    assert [rate.name for rate in usual.rates] == ["alert_rate", "bypass_rate", "rows_per_hour"]
    assert usual.verdict == "stable"
    odd = drift(profile, context, alert_rate=0.08, bypass_rate=0.0, hours=24)
    assert odd.drifting == ("alert_rate", "bypass_rate", "rows_per_hour")


def test_the_report_survives_json(profile: ReferenceProfile) -> None:
    report = drift(profile, traffic(200, 1), alert_rate=0.02)
    assert DriftReport.model_validate_json(report.model_dump_json()) == report


def test_a_stricter_policy_alarms_on_less(profile: ReferenceProfile) -> None:
    context = traffic(5_000, 1)
    context[:, 2] *= 1.15
    assert drift(profile, context).verdict == "stable"
    strict = DriftPolicy(material_psi=0.0)
    assert measure_drift(profile, context, NAMES, scores(5_000, 1), policy=strict).drifting == ("f2",)


def test_an_unknown_feature_and_an_empty_window_are_refused(profile: ReferenceProfile) -> None:
    with pytest.raises(MissingColumnError, match="missing f19; unknown other"):
        measure_drift(profile, traffic(9, 1), [*NAMES[:-1], "other"], scores(9, 1))
    with pytest.raises(EmptyInputError):
        drift(profile, traffic(0, 1))


@pytest.mark.parametrize("wrong", [{"alert_rate": 2.0}, {"bypass_rate": np.nan}, {"hours": 0.0}])
def test_rates_that_are_no_rates_are_refused(profile: ReferenceProfile, wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        drift(profile, traffic(9, 1), **wrong)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=12).filter(
        lambda bins: all(map(sum, zip(*bins, strict=True)))
    )
)
def test_psi_is_finite_symmetric_and_zero_for_equal_counts(bins: list[tuple[int, int]]) -> None:
    expected, actual = (np.array(side) for side in zip(*bins, strict=True))
    value, p_value = psi(expected, actual)
    assert value >= 0
    assert 0 <= p_value <= 1
    assert psi(actual, expected)[0] == pytest.approx(value)
    assert psi(expected, expected) == (0.0, 1.0)
