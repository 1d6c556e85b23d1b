"""Champion and challenger on the same mature rows that neither has learned from, measured in the same minute."""

from __future__ import annotations

import time
from typing import Final

import numpy as np

from pipelines.champion import Champion
from pipelines.distillation_evidence import scheme_names
from riskdistill.bundle import Bundle
from riskdistill.config import ExperimentConfig
from riskdistill.dataset import Dataset, Period, Tables
from riskdistill.dataset.split import TEST
from riskdistill.errors import DataError
from riskdistill.evaluation.gates import Contest
from riskdistill.evaluation.ranking import calibration_error
from riskdistill.features import Encoded
from riskdistill.reasons import explain

TIMED: Final = 400  # rows scored alone by both
REASONED: Final = 60  # alerts of both whose reasons are compared


def budget_of(config: ExperimentConfig) -> float:
    """The share of traffic that can be reviewed."""
    return config.serving.review.share or config.evaluation.typology_budget


def later_than(champion: Champion, period: Period) -> Period:
    """The rows that came after all that the champion learned from."""
    return period.take(period.time > champion.learned_until.timestamp() * 1e6)


def unlearned(champion: Champion, tables: Tables, dataset: Dataset) -> Period:
    """The rows of the test period that judge: later than what the champion learned, and of no scheme with a part
    before the period, which one of the two may have learned from.

    Raises:
        DataError: none of them is laundering.
    """
    test = later_than(champion, dataset.test)
    before = tables.labels.slice(0, int(np.argmax(dataset.parts == TEST)))
    learned = set(before["scheme_id"].drop_null().unique().to_pylist())
    seen = test.take(~np.array([name in learned for name in test.scheme], np.bool_))
    if not seen.label.any():
        raise DataError(
            f"none of {len(seen):,} mature payments that nothing was learned from is known to be laundering, "
            "in a scheme of its own",
            where=f"from {dataset.test.start:%Y-%m-%d} to {dataset.test.end:%Y-%m-%d}",
            mend="retrain later, or give the judging part more with retraining.test",
        )
    return seen


def contest(
    champion: Champion, challenger: Bundle, test: Period, seen: Period, config: ExperimentConfig
) -> Contest:
    """Both students' scores, reasons and costs on the rows `seen` of the period `test`."""
    old, new = champion.bundle, challenger
    scores = [bundle.student.score_all(seen.encoded).score for bundle in (old, new)]
    shared, count = _shared_reasons(old, new, seen.encoded, np.argsort(-(scores[0] * scores[1]), kind="stable"))
    return Contest(
        label=seen.label,
        typology=seen.typology,
        scheme=scheme_names(seen),
        champion=scores[0],
        challenger=scores[1],
        known=frozenset(old.typologies[1:]),
        budget=budget_of(config),
        reasons=shared,
        reasoned=count,
        calibration=_calibration(old, new, later_than(champion, test)),
        latency=_alone(old, new, seen.encoded),
        size=(old.student.bytes, new.student.bytes),
    )


def _shared_reasons(old: Bundle, new: Bundle, rows: Encoded, ranked: np.ndarray) -> tuple[float, int]:
    """Of the rows that both rank first, the reasons that both give over those that either gives, and how many."""
    shared, given = 0, 0
    chosen = ranked[:REASONED]
    for row in chosen:
        one = rows.take(np.array([row]))
        told = [{reason.code for reason in explain(bundle, one).reasons} for bundle in (old, new)]
        shared, given = shared + len(told[0] & told[1]), given + len(told[0] | told[1])
    return (shared / given if given else 1.0), len(chosen)


def _calibration(old: Bundle, new: Bundle, period: Period) -> tuple[float, float]:
    """Calibration errors on labels as known."""
    scores = (bundle.student.score_all(period.encoded).score for bundle in (old, new))
    before, after = (calibration_error(period.label, score) for score in scores)
    return before, after


def _alone(old: Bundle, new: Bundle, rows: Encoded) -> tuple[float, float]:
    """Median microseconds for one row, turn and turn about, so that whatever else runs slows both."""
    taken: tuple[list[float], list[float]] = ([], [])
    for row in range(min(TIMED, len(rows))):
        one = rows.take(slice(row, row + 1))
        for bundle, times in zip((old, new), taken, strict=True):
            started = time.perf_counter()
            bundle.student.score(one)
            times.append(1e6 * (time.perf_counter() - started))
    return float(np.median(taken[0])), float(np.median(taken[1]))
