"""Simulated worlds in which a model goes on alerting while things drift: what a service would have stored.

Trees learn from days 20 to 60 and are calibrated on days 60 to 75, both with true labels; then they alert on the
top of the traffic. One kind of drift sets in on day 96 and another one beside it on day 131. An alert's label comes
after a log-normal delay (median 5 days).
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Final, NamedTuple

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from monitoring.maturity import DAY
from monitoring.performance import UNKNOWN, Decided
from pipelines.performance import covariates
from riskdistill.features import FeatureEngine
from riskdistill.models.calibration import Calibrator
from riskdistill.simulator import Drift, SimulationConfig, simulate

LEARN, CALIBRATE, DECIDE, FIRST, SECOND, DAYS = 20, 60, 75, 96, 131, 166
KINDS: Final[dict[str, tuple[Drift, ...]]] = {
    "inflation and a new format, then adaptation": (
        Drift(start_day=FIRST, amount_factor=1.4, new_format_share=0.2),
        Drift(start_day=SECOND, adaptation=0.6),
    ),
    "a new typology (micro), then another format": (
        Drift(start_day=FIRST, new_typology="micro"),
        Drift(start_day=SECOND, new_format_share=0.4),
    ),
    "adaptation, then a new typology (loan_back)": (
        Drift(start_day=FIRST, adaptation=0.6),
        Drift(start_day=SECOND, new_typology="loan_back"),
    ),
    "seasons a quarter early, then deflation": (
        Drift(start_day=FIRST, season_shift_days=91),
        Drift(start_day=SECOND, amount_factor=0.6),
    ),
}
ALERTS: Final = 0.025
DELAY_DAYS, SPREAD = 5.0, 0.6  # of labels, log-normal
TREES: Final = {
    "objective": "binary",
    "num_leaves": 31,
    "learning_rate": 0.1,
    "feature_fraction": 0.3,
    "verbose": -1,
}
ROUNDS: Final = 80


class Place(NamedTuple):
    """Which world: the kind of its drifts, and its seed."""

    kind: str
    seed: int

    @property
    def config(self) -> SimulationConfig:
        return SimulationConfig(
            accounts=8_000, days=DAYS, seed=self.seed, laundering_share=0.02, drifts=KINDS[self.kind]
        )


def decided(place: Place, cache: Path) -> Decided:
    """What is decided in a world from day `DECIDE` on, made once for each cache: a file's name says of what."""
    made_of = f"{place.config.model_dump_json()} {TREES} {ROUNDS} {ALERTS} {DELAY_DAYS} {SPREAD}"
    file = cache / f"{xxhash.xxh64_hexdigest(made_of.encode())}.npz"
    if not file.exists():
        rows = _decided(place)
        part = file.with_suffix(".part")
        with part.open("wb") as out:
            np.savez_compressed(out, **{one.name: np.asarray(getattr(rows, one.name)) for one in fields(rows)})
        part.replace(file)
    with np.load(file) as stored:
        return Decided(**{**stored, "review": float(stored["review"])})


def _decided(place: Place) -> Decided:
    config, draw = place.config, np.random.default_rng(place.seed)
    world = simulate(config)
    assert world.truth is not None
    time = world.transactions["timestamp"].cast(pa.int64()).to_numpy()
    day = (time - round(config.start.timestamp() * 1e6)) // DAY
    label, live = world.truth["is_laundering"].to_numpy(), day >= DECIDE
    context = FeatureEngine().encode(world.transactions, tokens=False).context
    score, review = _scores(context, label, day, place.seed)
    alert = score >= review
    delay = (np.exp(draw.normal(np.log(DELAY_DAYS), SPREAD, len(score))) * DAY).astype(np.int64)
    return Decided(
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


def _scores(
    context: NDArray[np.float32], label: NDArray[np.bool_], day: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.float64], float]:
    """Calibrated, of what came from day `DECIDE` on; and the score from which there is an alert."""
    learn, fold = (day >= LEARN) & (day < CALIBRATE), (day >= CALIBRATE) & (day < DECIDE)
    settings = TREES | {"seed": seed, "num_threads": 1}
    trees = lgb.train(settings, lgb.Dataset(context[learn], label[learn]), ROUNDS)
    before = trees.predict(context[fold], raw_score=True)
    calibrator = Calibrator.fit(before, label[fold])
    review = float(np.quantile(calibrator(before), 1 - ALERTS))
    return calibrator(trees.predict(context[day >= DECIDE], raw_score=True)), review
