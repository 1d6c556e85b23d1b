"""The drift report of a window of traffic against a bundle's frozen profile."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlalchemy import select

from monitoring.drift import DriftReport, LoggedWindow, Traffic, measure_drift
from monitoring.drift_page import write_drift_report
from monitoring.profile import SCORE, load_profile
from pipelines.explain_decision import Sources, engine_before
from pipelines.traffic import kinds_of
from riskdistill.bundle import Bundle
from riskdistill.data.ingest import read_transactions
from riskdistill.data.rates import Rates
from riskdistill.data.transaction import to_table
from riskdistill.errors import EmptyInputError
from riskdistill.features import Encoded, FeatureEngine
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.tables import DECISIONS


@dataclass(frozen=True)
class Window:
    """Traffic as the service saw it.

    Attributes:
        transactions: canonical.
        encoded: as the models see them.
        hours: from the first transaction to the last.
        context: float32 [n, features].
        score: float64 [n], the student's.
        times: int64 [n], microseconds since 1970.
    """

    transactions: pa.Table
    encoded: Encoded
    hours: float
    context: NDArray[np.float32]
    score: NDArray[np.float64]
    times: NDArray[np.int64]


def file_window(bundle: Bundle, window: Path, history: Path | None, rates: Path | None) -> Window:
    """A file of canonical transactions, or a folder that holds one, after a history of such.

    Raises:
        EmptyInputError: the window holds no valid transaction.
    """
    engine = bundle.engine(Rates.read(rates))
    if history is not None:
        engine.advance(read_transactions(history)[0])
    transactions, _ = read_transactions(window)
    if not transactions.num_rows:
        raise EmptyInputError("no valid transaction", where=str(window), mend="give a window with traffic")
    return look(bundle, engine, transactions)


def logged_window(
    bundle: Bundle, log: DecisionLog, start: datetime | None, end: datetime | None, sources: Sources
) -> tuple[Window, LoggedWindow]:
    """What a service decided on from `start` on and before `end`, as account state saw it, and where that is.

    Raises:
        EmptyInputError: it decided nothing then.
        ConfigError, StateError, UnreadableFileError: account state cannot be rebuilt, see `engine_before`.
    """
    entries = list(log.read(start=start, end=end))
    if not entries:
        raise EmptyInputError("nothing was decided then", where="decision log", mend="give a longer period")
    seen = sorted((entry.decision for entry in entries), key=lambda one: one.observed)  # sorting is stable
    engine = engine_before(bundle, seen[0].decision_id, log, sources)
    first, last = entries[0].sequence, entries[-1].sequence
    digest = log.fetch(select(DECISIONS.c.hash).where(DECISIONS.c.sequence == last))[0].hash
    logged = LoggedWindow(start=start, end=end, first_sequence=first, last_sequence=last, hash=digest)
    return look(bundle, engine, to_table(decision.transaction for decision in seen)), logged


def look(bundle: Bundle, engine: FeatureEngine, transactions: pa.Table) -> Window:
    """Encode and score canonical transactions; the engine, which knows what came before, moves on."""
    encoded = engine.encode(transactions)
    span = pc.min_max(transactions["timestamp"]).as_py()
    hours = max((span["max"] - span["min"]).total_seconds() / 3_600, 1 / 60)
    times = transactions["timestamp"].cast(pa.int64()).to_numpy()
    score = bundle.student.score_all(encoded).score
    return Window(transactions, encoded, hours, encoded.context, score, times)


def measure(bundle: Bundle, window: Window, logged: LoggedWindow | None = None) -> DriftReport:
    """The drift of a window, one of a decision log if `logged`, against the bundle's frozen profile."""
    thresholds, profile = bundle.thresholds, load_profile(bundle.profile)
    kinds = kinds_of(
        window.transactions,
        window.encoded,
        window.score,
        thresholds=thresholds,
        student=bundle,
        typologies=bundle.typologies,
        watched=profile.segments,
    )
    reference = bundle.path / "reference.parquet"
    sample = None
    if reference.exists():
        sample = pd.read_parquet(reference, columns=list(profile.names)).to_numpy(np.float32)
    report = measure_drift(
        profile,
        window.context,
        bundle.spec.names,
        window.score,
        alert_rate=float((window.score >= thresholds.review).mean()),
        bypass_rate=float(np.mean([thresholds.bypass(value) is not None for value in window.score])),
        hours=window.hours,
        traffic=Traffic(times=window.times, categories=kinds.categories, segments=kinds.segments, sample=sample),
    )
    return report.model_copy(update={"logged": logged, "bundle": bundle.version})


def write(bundle: Bundle, window: Window, report: DriftReport, out: Path) -> Path:
    """Write the pages of a drift report into `out`; returns the first one to read."""
    current = pd.DataFrame(window.context, columns=list(bundle.spec.names)).assign(**{SCORE: window.score})
    out.mkdir(parents=True, exist_ok=True)
    reference = pd.read_parquet(bundle.path / "reference.parquet")
    return write_drift_report(out, report, reference, current)
