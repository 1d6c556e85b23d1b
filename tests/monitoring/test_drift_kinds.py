"""Drift beside single columns: kinds, segments, all features together, and when in the window it set in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from monitoring.categories import count_kinds, measure_category
from monitoring.distance import gaps
from monitoring.domain import measure_domain
from monitoring.drift import ALL_TOGETHER, DriftReport, Traffic, measure_drift
from monitoring.profile import DAY, ReferenceProfile, Segment, build_profile

NAMES = ["amount", "other"]
ROWS = 8_000


def traffic(
    seed: int, rows: int = ROWS, days: int = 28
) -> tuple[NDArray[np.float32], NDArray[np.int64], list[str]]:
    draw = np.random.default_rng(seed)
    context = np.exp(draw.normal(size=(rows, 2))).astype(np.float32)
    times = np.sort(draw.integers(0, days * DAY, rows))
    return context, times, draw.choice(["wire", "card", "cash"], rows, p=[0.5, 0.3, 0.2]).tolist()


@pytest.fixture(scope="module")
def profile() -> ReferenceProfile:
    context, times, channel = traffic(0)
    return build_profile(
        context,
        NAMES,
        np.linspace(0, 1, ROWS),
        alert_rate=0.02,
        bypass_rate=0.1,
        times=times,
        categories={"channel": channel},
        segments={"channel=wire": Segment(rows=4_000, alert_rate=0.02)},
    )


def drift(profile: ReferenceProfile, context: NDArray[np.float32], **known: Any) -> DriftReport:
    score = np.random.default_rng(9).random(len(context))
    return measure_drift(profile, context, NAMES, score, traffic=Traffic(**known))


def test_a_steady_reference_gives_low_floors_and_a_restless_one_high_floors(profile: ReferenceProfile) -> None:
    assert drift(profile, traffic(1)[0]).features[0].floor == profile_floor(profile) == 0.1
    context, times, _ = traffic(0)
    context[times > 14 * DAY] *= 3
    restless = build_profile(context, NAMES, np.linspace(0, 1, ROWS), alert_rate=0, bypass_rate=0, times=times)
    assert drift(restless, traffic(1)[0]).features[0].floor == 0.3


def profile_floor(profile: ReferenceProfile) -> float:
    usual = profile.features[0].usual_week
    assert usual is not None
    assert usual < 0.02
    return max(0.1, 4 * usual)


def test_kinds_never_seen_alarm_and_are_named(profile: ReferenceProfile) -> None:
    channel = [*traffic(1)[2][400:], *["crypto"] * 400]
    report = drift(profile, traffic(1)[0], categories={"channel": channel})
    assert report.drifting == ("channel",)
    assert report.categories[0].unseen_kinds == ("crypto",)
    assert report.categories[0].unseen == pytest.approx(0.05)
    usual = drift(profile, traffic(2)[0], categories={"channel": traffic(2)[2]})
    assert usual.verdict == "stable"


def test_rare_kinds_are_one_and_no_alarm() -> None:
    reference = count_kinds("bank", [f"bank{n}" for n in range(500)])
    assert (len(reference.counts), reference.others) == (60, 440)
    found = measure_category(reference, [f"bank{n}" for n in range(499, -1, -1)])
    assert found.p_value > 0.5
    assert found.unseen == pytest.approx(0)


def test_a_missing_kind_is_a_kind() -> None:
    assert count_kinds("country", ["DE", None]).counts == {"(missing)": 1, "DE": 1}


def test_a_segment_that_floods_is_an_alarm_of_its_own(profile: ReferenceProfile) -> None:
    segments = {"channel=wire": Segment(rows=4_000, alert_rate=0.08)}
    assert drift(profile, traffic(1)[0], segments=segments).drifting == ("alert_rate of channel=wire",)
    gone = drift(profile, traffic(1)[0], segments={})
    assert gone.drifting == ("share of channel=wire",)


def test_features_that_go_together_otherwise_show_only_in_all_together(profile: ReferenceProfile) -> None:
    context = traffic(1)[0]
    tied = np.column_stack([context[:, 0], context[:, 0]])
    found = measure_domain(traffic(0)[0], tied)
    apart = measure_domain(traffic(0)[0], context)
    assert found is not None
    assert apart is not None
    assert apart.auc == pytest.approx(0.5, abs=0.06)
    assert measure_domain(context[:50], context) is None
    report = drift(profile, context * [4, 1], sample=traffic(0)[0])
    assert report.drifting[0] == "amount"
    assert report.domain is not None
    assert report.domain.auc > 0.75
    assert ALL_TOGETHER not in drift(profile, context, sample=traffic(0)[0]).drifting


def test_the_heat_map_shows_the_day_on_which_it_set_in(profile: ReferenceProfile) -> None:
    context, times, _ = traffic(1, days=10)
    context[times >= 6 * DAY, 0] *= 10
    heat = drift(profile, context, times=times).heat
    assert heat is not None
    assert len(heat.starts) == len(heat.rows) == 10
    amount = [value or 0 for value in heat.psi[heat.names.index("amount")]]
    assert max(amount[:6]) < 0.2 < 1 < min(amount[6:])


def test_a_long_window_has_longer_parts_and_a_thin_one_holes(profile: ReferenceProfile) -> None:
    context, times, _ = traffic(1, rows=800, days=100)
    heat = drift(profile, context, times=times).heat
    assert heat is not None
    assert len(heat.starts) == 20
    assert all(value is None for value in heat.psi[0])


def test_gaps_are_zero_for_equal_counts_and_one_for_counts_apart() -> None:
    low, high = np.array([10, 0, 0]), np.array([0, 10, 0])
    assert gaps(low, low) == (0.0, 0.0)
    assert gaps(low, high)[0] == 1.0
