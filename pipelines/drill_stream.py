"""The stream that drills are made on: a simulated or given history, three models of different quality, and a
service.

Trees learn from the first part of the history and serve through the rest: a champion, the previous model, and a
teacher that is both together. It is the monitors that are drilled, not the models, so they are small and fitted
in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import lightgbm as lgb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from monitoring.drift import only_shown
from monitoring.drills import Setting, Stream
from monitoring.maturity import DAY
from monitoring.performance import UNKNOWN, Decided
from monitoring.profile import build_profile
from pipelines.performance import covariates
from riskdistill.data.ingest import load_canonical, load_truth
from riskdistill.data.transaction import transactions_from
from riskdistill.errors import DataError
from riskdistill.features import FeatureEngine, FeatureSpec
from riskdistill.models.calibration import Calibrator
from riskdistill.simulator import SimulationConfig, simulate

ALERTS: Final = 0.04  # share of the traffic
SAMPLE: Final = 0.1  # share of what is let pass that is reviewed at random
TWICE: Final = 0.2  # share of the reviewed alerts that somebody else looks at too, a day later
DELAY_DAYS, SPREAD = 3.0, 0.5  # of labels, log-normal
LEARN, FOLD, REFERENCE, PROMOTED, BEGIN = 0.15, 0.4, 0.52, 0.68, 0.71  # of the history, by time
FAULT: Final = 0.8
LATENCY_MS, FAILING = 2.0, 0.02
Scores = NDArray[np.float64]
Model = Callable[[NDArray[np.float32]], Scores]


@dataclass(frozen=True)
class Base:
    """A healthy stream, and what faults are made with.

    Attributes:
        models: champion, previous and teacher, from features to calibrated scores.
        truth: what is laundering, row for row of the stream.
        fault_at: when faults set in, microseconds since 1970.
    """

    stream: Stream
    setting: Setting
    models: dict[str, Model]
    truth: NDArray[np.bool_]
    fault_at: int
    seed: int

    @property
    def after(self) -> NDArray[np.bool_]:
        """The rows after the fault."""
        return self.stream.rows.time > self.fault_at

    def rescored(self, context: NDArray[np.float32], **changes: object) -> Stream:
        """The stream with other features, scored anew where they differ."""
        changed = self.after
        scores = {name: model(context[changed]) for name, model in self.models.items()}
        old = {
            "champion": self.stream.champion,
            "previous": self.stream.previous,
            "teacher": self.stream.rows.teacher,
        }
        new = {name: np.where(changed, 0.0, score) for name, score in old.items()}
        for name, score in scores.items():
            new[name][changed] = score
        return serve(replace(self.stream, context=context), new, self.truth, self.setting, self.seed)


def base(folder: Path | None = None, *, seed: int = 0) -> Base:
    """The healthy stream of canonical tables in `folder`, or of a simulated world of 140 days.

    Raises:
        DataError: the folder cannot be used.
    """
    transactions, label = _history(folder, seed)
    context = FeatureEngine(FeatureSpec()).encode(transactions, tokens=False).context
    time = transactions["timestamp"].cast(pa.int64()).to_numpy()
    first, span = int(time[0]), int(time[-1]) - int(time[0])
    at = {
        part: first + round(span * part) // DAY * DAY - first % DAY
        for part in (LEARN, FOLD, REFERENCE, PROMOTED, BEGIN, FAULT, 1.0)
    }
    learn, fold = (time >= at[LEARN]) & (time < at[FOLD]), (time >= at[FOLD]) & (time < at[REFERENCE])
    models = _models(context, label, learn, fold)
    live = time >= at[REFERENCE]
    reference = live & (time < at[PROMOTED])
    names = tuple(FeatureSpec().names)
    score = models["champion"](context[live])
    before = reference[live]
    review = float(np.quantile(score[before], 1 - ALERTS))
    profile = build_profile(
        context[reference],
        names,
        score[before],
        alert_rate=float((score[before] >= review).mean()),
        bypass_rate=0.0,
        hours=(at[PROMOTED] - at[REFERENCE]) / DAY * 24,
        times=time[reference],
    )
    gap = int(np.diff(time[reference]).max())
    setting = Setting(names, profile, review, gap, at[PROMOTED], at[BEGIN], at[1.0])
    payments = transactions.filter(pa.array(live))
    empty = np.zeros(len(score), np.bool_)
    rows = Decided(
        time=time[live],
        score=score,
        alert=empty,
        sampled=empty,
        student=score,
        teacher=models["teacher"](context[live]),
        covariates=covariates(payments, score),
        label=np.zeros(len(score), np.int8),
        known=np.zeros(len(score), np.int64),
        again=np.zeros(len(score), np.int8),
        again_known=np.zeros(len(score), np.int64),
        review=review,
    )
    scores = {"champion": score, "previous": models["previous"](context[live]), "teacher": rows.teacher}
    bare = Stream(list(transactions_from(payments)), context[live], score, score, empty, empty, score, rows)
    return Base(serve(bare, scores, label[live], setting, seed), setting, models, label[live], at[FAULT], seed)


def serve(
    stream: Stream, scores: dict[str, Scores], truth: NDArray[np.bool_], setting: Setting, seed: int
) -> Stream:
    """What the service and the investigators make of scores: alerts, sample, time, and labels when they come.

    Args:
        scores: of the champion, the previous model, the teacher, and a canary where it decides (NaN elsewhere).
    """
    draw = np.random.default_rng([seed, 1])
    time, rows = stream.rows.time, len(truth)
    student = np.where(time >= setting.promoted, scores["champion"], scores["previous"])
    if (canary := scores.get("canary")) is not None:
        student = np.where(np.isnan(canary), student, canary)
    alert = student >= setting.review
    asked = student >= np.quantile(student, 0.8)
    sampled = ~alert & (draw.random(rows) < SAMPLE)
    delay = (np.exp(draw.normal(np.log(DELAY_DAYS), SPREAD, rows)) * DAY).astype(np.int64)
    shadowed = alert | (scores["champion"] >= setting.review) | (scores["previous"] >= setting.review)
    reviewed = shadowed | sampled  # the other model's alerts are looked at too, or nobody could compare them
    twice = reviewed & shadowed & (draw.random(rows) < TWICE)
    told = replace(
        stream.rows,
        score=student,
        alert=alert,
        sampled=sampled,
        student=student,
        teacher=scores["teacher"],
        label=np.where(reviewed, truth, UNKNOWN).astype(np.int8),
        known=np.where(reviewed, time + delay, 0),
        again=np.where(twice, truth, UNKNOWN).astype(np.int8),
        again_known=np.where(twice, time + delay + DAY, 0),
    )
    return replace(
        stream,
        champion=scores["champion"],
        previous=scores["previous"],
        asked=asked | sampled,
        failed=(asked | sampled) & (draw.random(rows) < FAILING),
        latency=LATENCY_MS * np.exp(draw.normal(0, 0.4, rows)),
        rows=told,
        canary=canary,
    )


def _history(folder: Path | None, seed: int) -> tuple[pa.Table, NDArray[np.bool_]]:
    if folder is None:
        world = simulate(SimulationConfig(accounts=2_500, days=140, seed=seed, laundering_share=0.03))
        return world.transactions, world.truth["is_laundering"].to_numpy()
    transactions, labels = load_canonical(folder)
    truth = load_truth(folder)
    judged = labels if truth is None else truth
    if not judged.num_rows:
        raise DataError("no labels", where=str(folder), mend="give a source with labels")
    return transactions, np.asarray(judged["is_laundering"].to_numpy(), np.bool_)


def _models(
    context: NDArray[np.float32], label: NDArray[np.bool_], learn: NDArray[np.bool_], fold: NDArray[np.bool_]
) -> dict[str, Model]:
    if not label[learn].any() or not label[fold].any():
        raise DataError("no laundering in the part to learn from", where="drill", mend="give a longer history")
    settings = {
        "objective": "binary",
        "num_leaves": 15,
        "learning_rate": 0.1,
        "feature_fraction": 0.5,
        "verbose": -1,
    }
    steady = [column for column, name in enumerate(FeatureSpec().names) if not only_shown(name)]  # scores stay put
    trees = [
        lgb.train(
            settings | {"seed": seed, "num_threads": 1},
            lgb.Dataset(context[learn][:, steady], label[learn]),
            60,
        )
        for seed in (1, 2)
    ]

    def raw(number: int, rows: NDArray[np.float32]) -> Scores:
        return np.asarray(trees[number].predict(rows[:, steady], raw_score=True))

    makers: dict[str, Model] = {
        "champion": lambda rows: raw(0, rows),
        "previous": lambda rows: raw(1, rows),
        "teacher": lambda rows: (raw(0, rows) + raw(1, rows)) / 2,
    }
    return {name: _calibrated(maker, context[fold], label[fold]) for name, maker in makers.items()}


def _calibrated(maker: Model, context: NDArray[np.float32], label: NDArray[np.bool_]) -> Model:
    calibrator = Calibrator.fit(maker(context), label)
    return lambda rows: calibrator(maker(rows))
