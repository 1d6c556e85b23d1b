"""Features as files: of transactions, for models of any make; of the specification, for people and programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from monitoring.pages import write_whole
from pipelines.inputs import replay_history, valid_transactions
from pipelines.progress import Steps
from riskdistill.data.rates import Rates
from riskdistill.errors import ConfigError
from riskdistill.features import FeatureEngine, FeatureSpec
from riskdistill.features.catalogue import markdown


def encode_file(file: Path, out: Path, history: Path | None, steps: Steps, *, rates: Path | None = None) -> int:
    """Write the features of a file of canonical transactions as Parquet, one row each, in order of time.

    The columns are `tx_id` and the features by name. Rows that are not valid go to `quarantine_beside(out)`.

    Args:
        history: canonical transactions that came before.
        rates: file of daily rates to the dollar.

    Returns:
        How many rows were not valid.

    Raises:
        ConfigError: `out` does not end in .parquet.
        EmptyInputError: no row is valid.
    """
    if out.suffix != ".parquet":
        raise ConfigError("features are written as Parquet", where=str(out), mend="end the name in .parquet")
    engine = FeatureEngine(rates=Rates.read(rates))
    replay_history(engine, history, steps)
    transactions, rejected = valid_transactions(file, out)
    step = steps.step("features", transactions.num_rows)
    _write(engine, transactions, out, step.advance)
    step.done()
    return rejected


def _write(engine: FeatureEngine, transactions: pa.Table, out: Path, progress: Callable[[int], None]) -> None:
    names = engine.spec.names
    schema = pa.schema([("tx_id", pa.string()), *((name, pa.float32()) for name in names)])
    draft, done = out.with_name(f".{out.name}.draft"), 0
    try:
        with pq.ParquetWriter(draft, schema) as writer:
            for encoded in engine.replay(transactions, tokens=False, progress=progress):
                ids = transactions["tx_id"].slice(done, len(encoded)).combine_chunks()
                writer.write_table(pa.table([ids, *encoded.context.T], schema=schema))
                done += len(encoded)
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)


def write_specification(out: Path) -> Path:
    """Write the specification as a page (.md) or as data (.json).

    Raises:
        ConfigError: another ending.
    """
    spec = FeatureSpec()
    if out.suffix == ".md":
        return write_whole(out, markdown(spec))
    if out.suffix == ".json":
        return write_whole(out, spec.model_dump_json(indent=1) + "\n")
    raise ConfigError(
        f"cannot write features as {out.suffix or 'a file without an ending'}",
        where=str(out),
        mend="end the name in .md or .json",
    )
