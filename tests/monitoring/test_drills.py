"""Drills: the first alarm after a fault, whose it was, how long it took, and what a rollback put right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from traffic_log import decide

from monitoring.alarms import HOUR
from monitoring.drills import DrillResult, Setting, Stream, run_drill
from monitoring.maturity import DAY
from monitoring.performance import Decided
from monitoring.profile import build_profile

NAMES = ("amount", "other")
DAYS, PER_DAY, REVIEW = 44, 60, 0.5
PROMOTED, BEGIN, FAULT = 28 * DAY, 32 * DAY, 36 * DAY
FIRST = 1_767_225_600_000_000  # 2026-01-01
ROWS = DAYS * PER_DAY


def healthy(seed: int = 0) -> tuple[Stream, Setting]:
    """Two equal models; one payment in twenty is laundering, and both alert on it."""
    draw = np.random.default_rng(seed)
    time = FIRST + np.sort(draw.integers(0, DAYS * DAY, ROWS))
    laundering = draw.random(ROWS) < 0.05
    score = np.where(laundering, 0.9, draw.uniform(0, 0.3, ROWS))
    context = np.exp(draw.normal(size=(ROWS, 2))).astype(np.float32)
    reference = time < FIRST + PROMOTED
    profile = build_profile(
        context[reference],
        NAMES,
        score[reference],
        alert_rate=0.05,
        bypass_rate=0.0,
        hours=28 * 24.0,
        times=time[reference],
    )
    payment = decide(0.1).transaction
    payments = [
        payment.model_copy(update={"tx_id": f"p{n}", "sender_account": f"a{n}", "receiver_account": f"b{n}"})
        for n in range(ROWS)
    ]
    no = np.zeros(ROWS, np.bool_)
    rows = Decided(
        time=time,
        score=score,
        alert=laundering,
        sampled=no,
        student=score,
        teacher=score,
        covariates=score[:, None],
        label=laundering.astype(np.int8),
        known=time + DAY,
        again=laundering.astype(np.int8),
        again_known=np.where(draw.random(ROWS) < 0.5, time + 2 * DAY, 0),
        review=REVIEW,
    )
    latency = draw.uniform(1, 2, ROWS)
    stream = Stream(payments, context, score, score, no, no, latency, rows)
    gap = int(np.diff(time[reference]).max())
    return stream, Setting(NAMES, profile, REVIEW, gap, FIRST + PROMOTED, FIRST + BEGIN, FIRST + DAYS * DAY)


@pytest.fixture(scope="module")
def world() -> tuple[Stream, Setting]:
    return healthy()


def after(stream: Stream) -> NDArray[np.bool_]:
    return stream.rows.time > FIRST + FAULT


def dense(stream: Stream) -> Stream:
    """After the fault eight days' payments come within one."""
    time, fault = stream.rows.time, FIRST + FAULT
    return replace(
        stream, rows=replace(stream.rows, time=np.where(time > fault, fault + (time - fault) // 8, time))
    )


def drill(stream: Stream, setting: Setting, *right: str) -> DrillResult:
    return run_drill("a scenario", "a fault", right, stream, FIRST + FAULT, setting)


def test_a_stream_without_a_fault_raises_no_alarm(world: tuple[Stream, Setting]) -> None:
    result = drill(*world)
    assert (result.detected, result.passed, result.false_alarms) == (None, True, ())
    assert result.restored == "nothing is broken"
    assert result.exposure == int(after(world[0]).sum())


def test_a_release_that_is_slow_is_rolled_back_and_the_time_to_restore_is_measured(
    world: tuple[Stream, Setting],
) -> None:
    """It is promoted with its fault, and eight days' payments come within one."""
    stream, setting = world
    slow = replace(dense(stream), latency=np.where(after(stream), 10.0, stream.latency))
    result = drill(slow, replace(setting, promoted=FIRST + FAULT), "controller: slow")
    assert result.passed
    assert result.restored == "the previous model"
    assert result.restore_seconds is not None
    assert result.restore_seconds < 2
    assert result.delay_hours is not None
    assert result.delay_hours <= 24
    assert 0 < result.exposure <= 8 * PER_DAY


def test_what_becomes_slow_long_after_the_promotion_is_left_to_a_person(world: tuple[Stream, Setting]) -> None:
    stream, setting = world
    slow = replace(stream, latency=np.where(after(stream), 10.0, stream.latency))
    result = drill(slow, setting, "controller: slow")
    assert result.passed
    assert result.delay_hours is not None
    assert result.delay_hours <= 24
    assert result.restore_seconds is None


def with_canary(stream: Stream, flood: float) -> Stream:
    """A canary decides for half of the accounts after the fault, and alerts on so much of what is normal, too."""
    mine = after(stream) & (np.arange(ROWS) % 2 == 0)
    normal = stream.champion < REVIEW
    score = np.where(normal & (np.random.default_rng(1).random(ROWS) < flood), 0.9, stream.champion)
    alert = np.where(mine, score >= REVIEW, stream.rows.alert)
    return replace(stream, canary=np.where(mine, score, np.nan), rows=replace(stream.rows, alert=alert))


def test_a_bad_canary_is_ended_and_the_champion_decides_for_its_accounts_again(
    world: tuple[Stream, Setting],
) -> None:
    stream, setting = world
    result = drill(with_canary(dense(stream), 0.3), setting, "canary: more_alerts")
    assert result.passed
    assert result.restored == "the champion"
    assert result.restore_seconds is not None
    assert result.delay_hours is not None
    assert result.delay_hours <= 24


def test_a_healthy_canary_raises_no_alarm(world: tuple[Stream, Setting]) -> None:
    stream, setting = world
    assert drill(with_canary(stream, 0.0), setting).passed


def test_where_the_champion_must_stay_a_rollback_does_not_pass_and_an_alarm_does(
    world: tuple[Stream, Setting],
) -> None:
    """All is slow for a day after a promotion, and the same long after one."""
    stream, setting = world
    slow = replace(stream, latency=np.where(after(stream), 10.0, stream.latency))
    told = ("an outage", "all is slow", ("controller: slow",), slow, FIRST + FAULT)
    result = run_drill(*told, setting, stays=True)
    assert result.passed
    assert result.restored == "a person: mend what all models share"
    time, promoted = stream.rows.time, FIRST + FAULT
    dense = replace(stream.rows, time=np.where(after(stream), promoted + (time - promoted) // 8, time))
    early = (*told[:3], replace(slow, rows=dense), told[4])
    assert not run_drill(*early, replace(setting, promoted=promoted), stays=True).passed


def test_a_teacher_that_raises_what_both_students_let_pass_is_seen_in_what_is_decided(
    world: tuple[Stream, Setting],
) -> None:
    """Long after a promotion, so it is left to a person; eight days' payments come within one."""
    stream, setting = world
    raised, time = after(stream) & (np.arange(ROWS) % 2 == 0), stream.rows.time
    rows = replace(
        stream.rows,
        time=np.where(after(stream), FIRST + FAULT + (time - FIRST - FAULT) // 8, time),
        score=np.where(raised, 0.99, stream.rows.score),
        alert=stream.rows.alert | raised,
    )
    result = drill(replace(stream, rows=rows), setting, "controller: more_final_alerts")
    assert result.passed
    assert result.restore_seconds is None


def test_a_broken_feature_is_named_by_drift_and_left_to_a_person(world: tuple[Stream, Setting]) -> None:
    stream, setting = world
    context = stream.context.copy()
    context[after(stream), 1] = np.nan
    result = drill(replace(stream, context=context), setting, "drift: other")
    assert result.passed
    assert result.restore_seconds is None
    assert "a person" in result.restored


def test_labels_that_a_second_look_contradicts_are_found_as_such(world: tuple[Stream, Setting]) -> None:
    stream, setting = world
    wrong = stream.rows.known > FIRST + FAULT
    poisoned = replace(stream.rows, label=np.where(wrong, 0, stream.rows.label).astype(np.int8))
    result = drill(replace(stream, rows=poisoned), setting, "labels")
    assert result.passed
    assert "second looks contradict" in result.detected.detail if result.detected else False


def test_a_stop_of_the_traffic_is_a_silence(world: tuple[Stream, Setting]) -> None:
    stream, setting = world
    result = drill(stream.take(~after(stream)), setting, "volume")
    assert result.passed
    assert result.exposure == 0
    assert result.delay_hours is not None
    assert result.delay_hours * HOUR <= 3 * setting.gap + 2 * HOUR


def test_a_fault_that_nothing_finds_and_an_alarm_without_a_fault_do_not_pass(
    world: tuple[Stream, Setting],
) -> None:
    stream, setting = world
    assert not drill(stream, setting, "drift").passed
    assert not drill(stream.take(~after(stream)), setting).passed


def test_the_wrong_detector_does_not_pass(world: tuple[Stream, Setting]) -> None:
    stream, setting = world
    result = drill(stream.take(~after(stream)), setting, "drift")
    assert result.detected is not None
    assert not result.passed


def test_an_alarm_before_the_fault_is_a_false_one(world: tuple[Stream, Setting]) -> None:
    stream, setting = world
    early = stream.rows.time > FIRST + BEGIN
    result = drill(replace(stream, latency=np.where(early, 10.0, stream.latency)), setting, "controller: slow")
    assert [alarm.detector for alarm in result.false_alarms][:1] == ["controller: slow"]
