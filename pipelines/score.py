"""Scores a file offline exactly as the service would score its transactions one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa

from pipelines.progress import Step
from riskdistill.bundle import ACTIONS, Bundle
from riskdistill.errors import ConfigError
from riskdistill.features import FeatureEngine

ROWS_AT_A_TIME: Final = 4_096
COLUMNS: Final = ("tx_id", "score", "band", "action", "route", "student_score", "bundle_version")
ENDINGS: Final = (".csv", ".parquet")


def score_table(
    bundle: Bundle, engine: FeatureEngine, transactions: pa.Table, step: Step | None = None
) -> pd.DataFrame:
    """Score canonical transactions in the table's order; the engine moves on with them.

    Returns:
        One row each, with the columns `COLUMNS`. Where the thresholds send a transaction on to the teacher and the
        bundle has one, the teacher's score decides.
    """
    parts = []
    for number, encoded in enumerate(engine.replay(transactions, batch_rows=ROWS_AT_A_TIME)):
        rows = transactions.slice(number * ROWS_AT_A_TIME, ROWS_AT_A_TIME)
        student = bundle.student.score(encoded).score
        score, route = student.copy(), np.full(len(student), "student", object)
        bypassed = np.array([bundle.thresholds.bypass(value) is not None for value in student], bool)
        if bypassed.any():
            route[bypassed] = "student_degraded" if bundle.teacher is None else "teacher"
            if bundle.teacher is not None:
                score[bypassed] = bundle.teacher.score(encoded.take(bypassed)).score
        bands = [bundle.thresholds.band(value) for value in score]
        actions = [ACTIONS[band] for band in bands]
        columns = (rows["tx_id"].to_pylist(), score, bands, actions, route, student, bundle.version)
        parts.append(pd.DataFrame(dict(zip(COLUMNS, columns, strict=True))))
        if step is not None:
            step.advance(rows.num_rows)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))


def check_ending(path: Path) -> None:
    """Raise ConfigError if the ending of `path` names no format that scores are written in."""
    if path.suffix not in ENDINGS:
        raise ConfigError(
            f"cannot write scores as {path.suffix or 'a file without an ending'}",
            where=str(path),
            mend=f"end the name in {' or '.join(ENDINGS)}",
        )


def write_scores(scores: pd.DataFrame, path: Path) -> Path:
    """Write scores as CSV or Parquet, by the ending of `path`, atomically; numbers keep all their digits.

    Raises:
        ConfigError: another ending.
    """
    check_ending(path)
    temporary = path.with_name(f".{path.name}.draft")
    if path.suffix == ".csv":
        scores.to_csv(temporary, index=False)
    else:
        scores.to_parquet(temporary, index=False)
    temporary.replace(path)
    return path
