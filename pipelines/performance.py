"""The performance report of a decision log: stored decisions and a file of labels in, page and JSON out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from monitoring.labels import Told, first_verdict, luck, second_verdict
from monitoring.performance import UNKNOWN, Decided, PerformanceReport, measure_performance
from monitoring.performance_page import write_performance_report
from monitoring.profile import load_profile
from monitoring.segments import DIMENSIONS, segment_rows
from pipelines.label_file import read_outcomes
from riskdistill.bundle import Bundle
from riskdistill.data.schema import TRANSACTIONS
from riskdistill.errors import EmptyInputError
from riskdistill.storage.decisions import Decision, DecisionLog

COMMON: Final = 12  # kinds of a category that are told apart
_KINDS: Final = ("payment_format", "currency_paid", "sender_bank", "receiver_bank")
_DAY: Final = 86_400_000_000  # microseconds


def performance_report(
    decisions: DecisionLog, labels: Path, bundle: Bundle, out: Path, now: datetime, *, days: float = 7.0
) -> tuple[PerformanceReport, Path]:
    """Measure the decisions of one bundle until `now` and write the report; returns it and its page.

    Raises:
        EmptyInputError: the bundle decided nothing until then.
        DataError: the labels cannot be read.
    """
    report = measure_performance(decided(decisions, labels, bundle), now, days=days)
    return report, write_performance_report(out, report)


def decided(decisions: DecisionLog, labels: Path, bundle: Bundle) -> Decided:
    """The decisions of a bundle with their labels, in order of time.

    Raises:
        EmptyInputError: there are none.
        DataError: the labels cannot be read.
    """
    made = [entry.decision for entry in decisions.read() if entry.decision.bundle_version == bundle.version]
    if not made:
        raise EmptyInputError(
            f"bundle {bundle.version} decided nothing", where="decision log", mend="name the bundle that served"
        )
    made.sort(key=lambda one: one.decided_at)
    outcomes = read_outcomes(labels)
    found = [(one, outcomes.get(one.tx_id)) for one in made]
    told = [_numbers(outcome and first_verdict(one, outcome)) for one, outcome in found]
    again = [_numbers(outcome and second_verdict(one, outcome)) for one, outcome in found]
    score = np.array([one.score for one in made])
    columns = {*_KINDS, *DIMENSIONS.values(), "amount_paid", "timestamp"}
    payments = pa.table(
        {
            name: pa.array([getattr(one.transaction, name) for one in made], TRANSACTIONS.field(name).type)
            for name in columns
        }
    )
    return Decided(
        time=np.array([_microseconds(one.decided_at) for one in made]),
        score=score,
        alert=np.array([one.action != "allow" for one in made]),
        sampled=evenly_sampled(made),
        student=np.array([one.student_score for one in made]),
        teacher=np.array([np.nan if one.teacher_score is None else one.teacher_score for one in made]),
        covariates=covariates(payments, score),
        label=np.array([label for label, _ in told], np.int8),
        known=np.array([known for _, known in told], np.int64),
        again=np.array([label for label, _ in again], np.int8),
        again_known=np.array([known for _, known in again], np.int64),
        review=bundle.thresholds.review,
        segments=segment_rows(payments, load_profile(bundle.profile).segments),
    )


def evenly_sampled(made: Sequence[Decision]) -> NDArray[np.bool_]:
    """bool [n]: the sample below the line, thinned to the smallest of the shares that it was drawn with.

    Near the line more is drawn. Whoever keeps each of those with the ratio of the shares has a sample that is as
    likely everywhere; a hash of the decision's id decides, so that the same log gives the same sample.
    """
    share = np.array([one.sample_share or 0.0 for one in made])
    if not share.any():
        return np.zeros(len(made), np.bool_)
    even = share[share > 0].min()
    drawn = np.array([luck(one) for one in made])
    return np.asarray((share > 0) & (drawn * share < even), np.bool_)


def covariates(payments: pa.Table, score: NDArray[np.float64]) -> NDArray[np.float64]:
    """What may shift between alerts, float64 [n, k]: score, amount, time of the day and week, the common kinds.

    Args:
        payments: columns of canonical transactions.
        score: that decided, [n].
    """
    bounded = np.clip(score, 1e-6, 1 - 1e-6)
    stamps = payments["timestamp"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    day = 2 * np.pi * (stamps % _DAY) / _DAY
    columns = [
        np.log(bounded / (1 - bounded)),
        np.log1p(payments["amount_paid"].to_numpy()),
        np.sin(day),
        np.cos(day),
        (stamps // _DAY % 7 >= 2) & (stamps // _DAY % 7 < 4),  # 1970 began on a Thursday: Saturday and Sunday
    ]
    for name in _KINDS:
        kinds = payments[name].cast(pa.string())
        counts = sorted(pc.value_counts(kinds).to_pylist(), key=lambda one: (-one["counts"], str(one["values"])))
        columns += [pc.equal(kinds, one["values"]).to_numpy() for one in counts[:COMMON]]
    return np.column_stack(columns).astype(np.float64)


def _numbers(verdict: Told | None) -> tuple[int, int]:
    """A verdict and when it became known."""
    if verdict is None:
        return UNKNOWN, 0
    return int(verdict.laundering), _microseconds(verdict.known_at)


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)
