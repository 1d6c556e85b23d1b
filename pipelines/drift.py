"""The drift report of a window of traffic against a bundle's frozen profile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from monitoring.drift import DriftReport, measure_drift
from monitoring.profile import SCORE, load_profile
from monitoring.report import write_drift_report
from riskdistill.bundle import Bundle
from riskdistill.data.ingest import read_transactions
from riskdistill.errors import EmptyInputError


def drift_report(bundle: Bundle, window: Path, history: Path | None, out: Path) -> tuple[DriftReport, Path]:
    """Replay a history, then measure a window of canonical transactions; returns the report and its page.

    Raises:
        EmptyInputError: the window holds no valid transaction.
    """
    engine = bundle.engine()
    if history is not None:
        engine.replay(read_transactions(history)[0], tokens=False)
    transactions, _ = read_transactions(window)
    if not transactions.num_rows:
        raise EmptyInputError("no valid transaction", where=str(window), mend="give a window with traffic")
    encoded = engine.replay(transactions)
    return write_drift(bundle, transactions, encoded.context, bundle.student.score_all(encoded).score, out)


def write_drift(
    bundle: Bundle,
    transactions: pa.Table,
    context: np.typing.NDArray[np.float32],
    score: np.typing.NDArray[np.float64],
    out: Path,
) -> tuple[DriftReport, Path]:
    """Measure the drift of encoded and scored transactions and write its pages into `out`."""
    span = pc.min_max(transactions["timestamp"]).as_py()
    report = measure_drift(
        load_profile(bundle.profile),
        context,
        bundle.spec.names,
        score,
        alert_rate=float((score >= bundle.thresholds.review).mean()),
        bypass_rate=float(np.mean([bundle.thresholds.bypass(value) is not None for value in score])),
        hours=max((span["max"] - span["min"]).total_seconds() / 3_600, 1 / 60),
    )
    current = pd.DataFrame(context, columns=list(bundle.spec.names)).assign(**{SCORE: score})
    out.mkdir(parents=True, exist_ok=True)
    reference = pd.read_parquet(bundle.path / "reference.parquet")
    return report, write_drift_report(out, report, reference, current)
