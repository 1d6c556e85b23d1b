"""Estimated against realised precision in periods after drift, on simulated worlds with a model trained before it.

Trees learn from days 20 to 60 and are calibrated on days 60 to 75, both with true labels; then they alert on the
top of the traffic, in which amounts inflate and payments move to a new format from day 96, and launderers adapt
from day 117. An alert's label comes after a log-normal delay (median 5 days). `monitoring.performance` sees what
a service would store, and estimates each week's precision at its end.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import lightgbm as lgb
import numpy as np
import pyarrow as pa
from feature_data import Measurement
from monitoring_rules import proportion

from monitoring.estimates import Estimate
from monitoring.maturity import DAY
from monitoring.performance import UNKNOWN, Decided, measure_performance
from pipelines.performance import covariates
from riskdistill.features import FeatureEngine
from riskdistill.models.calibration import Calibrator
from riskdistill.simulator import Drift, SimulationConfig, simulate

LEARN, CALIBRATE, DECIDE, DRIFTED, DAYS = 20, 60, 75, 96, 145
ALERTS: Final = 0.025
DRIFTS: Final = (
    Drift(start_day=DRIFTED, amount_factor=1.4, new_format_share=0.2),
    Drift(start_day=117, adaptation=0.6),
)
# The half-life of older alerts was settled on worlds 0 to 2; these are others.
DELAY_DAYS, SPREAD = 5.0, 0.6  # of labels, log-normal


def estimates(quick: bool) -> list[Measurement]:
    """Mean error and coverage over the weeks after drift began, of all worlds."""
    seeds = range(10, 12 if quick else 18)
    weeks = [week for seed in seeds for week in _weeks(seed)]
    realised = np.array([real for real, _, _ in weeks])
    told = {
        name: np.array([getattr(one, name) for _, one, _ in weeks])
        for name in ("combined", "confidence", "weighted")
    }
    within = sum(one.low <= real <= one.high for real, one, _ in weeks)
    low, high = proportion(within, len(weeks))
    shown = f"{len(weeks)} weeks of {len(seeds)} worlds, precision {realised.min():.2f} to {realised.max():.2f}"
    rows = []
    for name, values in told.items():
        error = 100 * np.abs(values - realised)
        mean, spread = float(error.mean()), 1.96 * float(error.std() / np.sqrt(len(error)))
        bar = 3.0 if name == "combined" else None
        detail = f"± {spread:.1f}; largest {error.max():.1f}; {shown}"
        rows.append(Measurement(f"mean error of the estimate, {name}", mean, "points", bar, "lower", detail))
    chance = 100 * np.sqrt(np.mean([real * (1 - real) / alerts for real, _, alerts in weeks]) * 2 / np.pi)
    rows.append(
        Measurement("what chance alone makes of it", float(chance), "points", detail="binomial, these weeks")
    )
    width = 50 * float(np.mean([one.high - one.low for _, one, _ in weeks]))
    detail = f"{within} of {len(weeks)}, 95 % {low:.1%} to {high:.1%}; ± {width:.1f} points on average"
    coverage = 100 * within / len(weeks)
    rows.append(Measurement("realised within the 95 % interval, at least", coverage, "%", 90.0, "higher", detail))
    rows.append(Measurement("realised within the 95 % interval, at most", coverage, "%", 98.0, "lower", detail))
    return rows


def _decided(seed: int) -> tuple[Decided, datetime]:
    """What a service would have stored of one world from day `DECIDE` on, and when it began."""
    config = SimulationConfig(accounts=8_000, days=DAYS, seed=seed, laundering_share=0.02, drifts=DRIFTS)
    world = simulate(config)
    assert world.truth is not None
    context = FeatureEngine().encode(world.transactions, tokens=False).context
    time = world.transactions["timestamp"].cast(pa.int64()).to_numpy()
    day = (time - round(config.start.timestamp() * 1e6)) // DAY
    label = world.truth["is_laundering"].to_numpy()
    learn, fold, live = (day >= LEARN) & (day < CALIBRATE), (day >= CALIBRATE) & (day < DECIDE), day >= DECIDE
    settings = {"objective": "binary", "num_leaves": 31, "learning_rate": 0.05, "verbose": -1, "seed": seed}
    trees = lgb.train(settings | {"num_threads": 1}, lgb.Dataset(context[learn], label[learn]), 150)
    calibrator = Calibrator.fit(trees.predict(context[fold], raw_score=True), label[fold])
    score = calibrator(trees.predict(context[live], raw_score=True))
    review = float(np.quantile(calibrator(trees.predict(context[fold], raw_score=True)), 1 - ALERTS))
    alert, draw = score >= review, np.random.default_rng(seed)
    delay = (np.exp(draw.normal(np.log(DELAY_DAYS), SPREAD, len(score))) * DAY).astype(np.int64)
    rows = Decided(
        time=time[live],
        score=score,
        alert=alert,
        sampled=np.zeros(len(score), np.bool_),
        student=score,
        teacher=np.full(len(score), np.nan),
        covariates=covariates(world.transactions.filter(pa.array(live)), score),
        label=np.where(alert, label[live], UNKNOWN).astype(np.int8),
        known=np.where(alert, time[live] + delay, 0),
        again=np.full(len(score), UNKNOWN, np.int8),
        again_known=np.zeros(len(score), np.int64),
        review=review,
    )
    return rows, config.start


def _weeks(seed: int) -> list[tuple[float, Estimate, int]]:
    """Realised precision, its estimate and the alerts, of each week after drift began."""
    rows, start = _decided(seed)
    report = measure_performance(rows, start + timedelta(days=DAYS), days=7.0)
    later = measure_performance(rows, start + timedelta(days=DAYS + 70), days=7.0)  # all labels are there
    real = {window.end: window for window in later.windows}
    return [
        (real[window.end].precision.value, window.estimated, window.alerts)
        for window in report.windows
        if window.estimated is not None and window.start >= start + timedelta(days=DRIFTED)
    ]
