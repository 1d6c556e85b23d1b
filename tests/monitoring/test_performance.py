"""Performance with late labels: only mature windows are judged, samples are weighted, estimates can be trusted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from monitoring.alarms import worse
from monitoring.estimates import Alerts, Past, estimate, importance
from monitoring.label_check import second_looks
from monitoring.maturity import DAY, maturity
from monitoring.performance import UNKNOWN, Decided, PerformanceReport, measure_performance, share
from monitoring.performance_page import write_performance_report
from riskdistill.errors import EmptyInputError

START = datetime(2026, 1, 1, tzinfo=UTC)
FIRST = round(START.timestamp() * 1e6)
REVIEW, DAYS = 0.2, 70
END = FIRST + DAYS * DAY


def stream(
    rows: int = 20_000, *, over: float = 1.0, sample: float = 0.2, seed: int = 0
) -> tuple[Decided, NDArray[np.bool_]]:
    """Decisions whose scores are right, or `over` times too high in their odds; labels of alerts and sample."""
    draw = np.random.default_rng(seed)
    chance = draw.beta(0.3, 4, rows)
    laundering = draw.random(rows) < chance
    odds = np.clip(over * chance / (1 - chance), 1e-6, 1e6)
    score = odds / (1 + odds)
    alert = score >= REVIEW
    sampled = ~alert & (draw.random(rows) < sample)
    time = FIRST + np.sort(draw.integers(1, DAYS * DAY, rows))
    known = time + (draw.exponential(3.0, rows) * DAY).astype(np.int64) + 1
    seen = alert | sampled
    decided = Decided(
        time=time,
        score=score,
        alert=alert,
        sampled=sampled,
        student=score,
        teacher=np.where(seen, chance, np.nan),
        covariates=np.log(odds)[:, None],
        label=np.where(seen, laundering, UNKNOWN).astype(np.int8),
        known=np.where(seen, known, 0),
        again=np.full(rows, UNKNOWN, np.int8),
        again_known=np.zeros(rows, np.int64),
        review=REVIEW,
    )
    return decided, laundering


def measured(decided: Decided, day: float = DAYS) -> PerformanceReport:
    return measure_performance(decided, START + timedelta(days=day))


def test_young_windows_are_estimated_and_old_ones_judged() -> None:
    report = measured(stream()[0])
    assert report.maturity_days == pytest.approx(3 * np.log(10), rel=0.1)
    assert [window.mature for window in report.windows] == [True] * 9 + [False]
    young = report.windows[-1]
    assert young.precision is None
    assert young.estimated is not None
    assert young.labelled < young.alerts


def test_nothing_that_became_known_later_is_used() -> None:
    decided, _ = stream()
    now = FIRST + 35 * DAY
    blind = replace(decided, label=np.where(decided.known > now, 1, decided.label).astype(np.int8))
    assert measured(blind, 35) == measured(decided, 35)


def test_recall_from_the_sample_is_near_the_truth_and_without_it_only_a_bound() -> None:
    decided, laundering = stream(40_000)
    window = measured(decided).windows[3]
    inside = (decided.time > FIRST + 21 * DAY) & (decided.time <= FIRST + 28 * DAY)
    truth = laundering[inside & decided.alert].sum() / laundering[inside].sum()
    assert window.recall is not None
    assert window.recall_from == "sample"
    assert window.recall.low <= truth <= window.recall.high
    bound = measured(stream(sample=0.0)[0]).windows[3]
    assert bound.recall_from == "known"
    assert bound.recall is not None
    assert bound.recall.value == 1.0


def test_segments_are_judged_on_mature_windows_alone_and_each_on_its_own_rows() -> None:
    decided, _ = stream()
    odd = np.arange(len(decided.time)) % 2 == 1
    spoiled = np.where(odd & decided.alert & (decided.label == 1), 0, decided.label).astype(np.int8)
    report = measured(
        replace(decided, label=spoiled, segments={"class=a": ~odd, "class=b": odd, "class=c": odd & ~odd})
    )
    told = {one.name: one for one in report.segments}
    assert told.keys() == {"class=a", "class=b"}, "one without decisions says nothing"
    mature = sum(window.decisions for window in report.windows if window.mature)
    assert sum(one.decisions for one in report.segments) == mature < len(decided.time)
    good, bad = told["class=a"].precision, told["class=b"].precision
    assert good is not None
    assert bad is not None
    assert bad.value == 0 < good.low
    young = measured(replace(decided, segments={"class=a": odd}), 5)
    assert young.segments == (), "no window is mature yet"


def lenient() -> Decided:
    """As `stream`, with a lower line: many alerts, a fifth of them laundering."""
    decided, laundering = stream()
    draw = np.random.default_rng(1)
    alert = decided.score >= 0.05
    sampled = ~alert & (draw.random(len(alert)) < 0.2)
    seen = alert | sampled
    known = decided.time + (draw.exponential(3.0, len(alert)) * DAY).astype(np.int64) + 1
    return replace(
        decided,
        alert=alert,
        sampled=sampled,
        label=np.where(seen, laundering, UNKNOWN).astype(np.int8),
        known=np.where(seen, known, 0),
        review=0.05,
    )


def scheming_below_the_line() -> Decided:
    """Four fifths of last week's alerts score just below the line; labels tell of those that are sampled."""
    decided, _ = stream()
    draw = np.random.default_rng(0)
    hidden = (decided.time > END - 7 * DAY) & decided.alert & (draw.random(len(decided.time)) < 0.8)
    seen = ~hidden | (draw.random(len(hidden)) < 0.2)
    score = np.where(hidden, 0.95 * REVIEW, decided.score)
    return replace(
        decided,
        score=score,
        alert=decided.alert & ~hidden,
        sampled=(decided.sampled | hidden) & seen,
        covariates=np.log(score / (1 - score))[:, None],
        label=np.where(seen, decided.label, UNKNOWN).astype(np.int8),
        known=np.where(seen, decided.known, 0),
    )


def test_recall_of_a_young_window_is_estimated_where_there_is_a_sample() -> None:
    decided, laundering = stream()
    report = measured(decided)
    assert [window.estimated_recall is None for window in report.windows] == [True] * 9 + [False]
    told, last = report.windows[-1].estimated_recall, decided.time > END - 7 * DAY
    assert told is not None
    assert told.low < decided.alert[last & laundering].mean() < told.high
    assert measured(stream(sample=0.0)[0]).windows[-1].estimated_recall is None


def marginal_at_last(decided: Decided) -> Decided:
    """Without the decisions of the last week whose score is clearly above the line."""
    marginal = (decided.time <= END - 7 * DAY) | (decided.score <= 0.07)
    of_row = ("time", "score", "alert", "sampled", "student", "teacher", "covariates", "label", "known")
    rows = {name: getattr(decided, name)[marginal] for name in (*of_row, "again", "again_known")}
    return replace(decided, **rows)


def test_a_week_whose_estimates_are_below_what_mature_weeks_had_alarms_before_its_labels_come() -> None:
    """Of the alerts of the last week only those just above the line are left."""
    decided = lenient()
    assert worse(decided, END) is None
    assert worse(stream()[0], END) is None
    found = worse(marginal_at_last(decided), END)
    assert found is not None
    assert found.detector == "performance: estimated precision"
    assert "mature weeks had at least" in found.detail
    missed = worse(scheming_below_the_line(), END)
    assert missed is not None
    assert missed.detector == "performance: estimated recall"


def test_after_a_silent_week_an_older_one_is_not_estimated_again() -> None:
    """A day after it ended the last week is not mature; of a week without decisions nothing is estimated."""
    decided = marginal_at_last(lenient())
    assert worse(decided, END) is not None
    rows = replace(decided, known=np.where(decided.time > END - 7 * DAY, 0, decided.known))
    assert worse(rows, END + 7 * DAY) is None


def test_scores_that_are_too_high_are_corrected_by_older_labels() -> None:
    report = measured(stream(over=3.0)[0])
    told = report.windows[-2].estimated
    real = report.windows[-2].precision
    assert told is not None
    assert real is not None
    assert told.low <= real.value <= told.high
    assert abs(told.combined - real.value) < 0.06
    assert report.mean_error is not None
    assert report.mean_error < 0.05


def test_a_fall_of_precision_is_told_although_estimates_follow_it() -> None:
    decided, _ = stream(40_000)
    fallen = decided.time > FIRST + 42 * DAY
    kept = np.random.default_rng(1).random(len(fallen)) < 0.3
    label = np.where(fallen & (decided.label == 1) & ~kept, 0, decided.label).astype(np.int8)
    falls = [window.fall for window in measured(replace(decided, label=label)).windows]
    assert all(fall is None or fall < 3 for fall in falls[:6])
    assert falls[6] is not None
    assert falls[6] > 4
    assert falls[-1] is None, "it is not mature"


def test_student_and_teacher_that_agree_on_the_sample_are_told_so_without_labels() -> None:
    decided, _ = stream()
    bare = replace(decided, known=np.zeros_like(decided.known))
    same, other = measured(bare).windows[4], measured(replace(bare, teacher=1 - bare.teacher)).windows[4]
    assert same.disagreement is not None
    assert other.disagreement is not None
    assert same.disagreement.low == same.disagreement.value == 0
    assert other.disagreement.low > 0.8
    assert same.estimated is None, "no label has come"


def test_a_log_without_decisions_is_refused() -> None:
    with pytest.raises(EmptyInputError):
        measured(stream(100)[0], -1)


def test_the_page_shows_realised_beside_estimated(tmp_path: Path) -> None:
    report = measured(stream(6_000)[0])
    page = write_performance_report(tmp_path, report)
    assert PerformanceReport.model_validate_json((tmp_path / "performance.json").read_text()) == report
    html = page.read_text()
    assert "not mature" in html
    assert "<svg" in html
    assert "<script" not in html


def test_labels_that_are_awaited_put_maturity_off() -> None:
    time, delay = np.zeros(200, np.int64), np.arange(1, 201)
    known = np.where(delay <= 100, delay, 0)  # half of them wait still, at the age of 100
    assert maturity(time, known, 100, 0.9) == 90
    assert maturity(time[:5], known[:5], 100, 0.9) is None


def test_importance_gives_weight_to_what_looks_like_the_new() -> None:
    draw = np.random.default_rng(0)
    older, new = draw.normal(0, 1, (4_000, 2)), draw.normal((1, 0), 1, (2_000, 2))
    weight = importance(older, new)
    assert weight.mean() == pytest.approx(1)
    assert weight @ older[:, 0] / len(older) == pytest.approx(1, abs=0.15)
    assert importance(older, older).std() < 0.01


def test_too_few_labels_give_no_estimate() -> None:
    few = Alerts(np.full(10, 0.5), np.zeros((10, 1)), np.zeros(10))
    assert estimate(few, np.zeros(10, np.bool_), few) is None


def width(past: list[Past]) -> tuple[float, float]:
    """Half of the interval of one estimate, and the deviation that chance alone gives."""
    draw = np.random.default_rng(0)
    score = draw.beta(2, 3, 2_000)
    alerts = Alerts(score, score[:, None], np.zeros(len(score)))
    found = estimate(alerts, draw.random(len(score)) < score, alerts, past)
    assert found is not None
    told, chance = found
    return (told.high - told.low) / 2, chance


def test_an_interval_narrows_as_estimates_come_true_and_widens_where_they_were_off() -> None:
    first, chance = width([])
    right, _ = width([Past(0.4, 0.4, chance)] * 10)
    wrong, _ = width([Past(0.4, 0.5, chance)] * 10)
    assert 1.96 * chance < right < first
    assert wrong > 0.1


def test_second_looks_that_contradict_more_than_usual_are_told() -> None:
    first, looked = np.ones(400, np.int8), np.arange(1, 401) * DAY // 10  # ten a day
    second = np.where(np.arange(400) < 350, 1, 0).astype(np.int8)
    before, after = (second_looks(first, second, looked, day * DAY) for day in (35, 38))
    assert before is not None
    assert after is not None
    assert (before.looks, before.contradicted, before.p_value) == (70, 0, 1.0)
    assert (after.looks, after.contradicted) == (70, 30)
    assert after.p_value < 1e-9
    assert second_looks(first, second, np.zeros_like(looked), 38 * DAY) is None


@given(st.integers(0, 500), st.integers(0, 500))
def test_a_share_lies_within_its_interval(successes: int, others: int) -> None:
    told = share(successes, successes + others)
    if told is None:
        assert successes + others == 0
    else:
        assert 0 <= told.low <= told.value <= told.high <= 1
