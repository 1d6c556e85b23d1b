"""What every job that reads a file of transactions does with it: the past into account state, bad rows aside."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.progress import Steps
from riskdistill.data.ingest import read_transactions
from riskdistill.errors import EmptyInputError
from riskdistill.features import FeatureEngine


def quarantine_beside(path: Path) -> Path:
    """Where the rows that are not valid go when what is made of the others goes to `path`."""
    return path.with_suffix(".quarantine.parquet")


def replay_history(engine: FeatureEngine, history: Path | None, steps: Steps) -> None:
    """Replay a file of canonical transactions, if there is one, into account state."""
    if history is not None:
        past, _ = read_transactions(history)
        step = steps.step("history", past.num_rows)
        engine.advance(past, progress=step.advance)
        step.done()


def valid_transactions(file: Path, out: Path) -> tuple[pa.Table, int]:
    """The valid rows of a file of canonical transactions, in order of time, and how many are not.

    Those go to `quarantine_beside(out)`, with reasons; where there are none, an older file there is removed.

    Raises:
        EmptyInputError: no row is valid.
    """
    transactions, rejected = read_transactions(file)
    out.parent.mkdir(parents=True, exist_ok=True)
    quarantine = quarantine_beside(out)
    quarantine.unlink(missing_ok=True)
    if rejected.num_rows:
        pq.write_table(rejected, quarantine)
    if not transactions.num_rows:
        raise EmptyInputError(
            f"none of {rejected.num_rows} rows is valid; the first: {rejected['reason'][0]}",
            where=str(file),
            mend=f"see {quarantine} for every row's reason",
        )
    return transactions, int(rejected.num_rows)
