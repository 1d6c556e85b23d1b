"""The dataset of an experiment: the first step of `riskdistill run`, and a job of its own.

OUT/canonical/          transactions, labels and quarantine, where the source was not canonical yet
OUT/dataset/            card.md and card.json, split.parquet (the part of every transaction)
OUT/dataset/rows/       encoded rows, memory-mapped; deleting the folder is safe
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from monitoring.pages import write_whole
from pipelines.progress import Steps
from riskdistill.config import ExperimentConfig, SourceConfig
from riskdistill.data.ingest import ingest, load_canonical, load_truth
from riskdistill.dataset import Dataset, RowCache, Tables, build_dataset
from riskdistill.dataset.card import DatasetCard, describe
from riskdistill.dataset.split import TEST, VALIDATION


@dataclass(frozen=True)
class Prepared:
    """A dataset, its card and its folder, where card, split and encoded rows are.

    Attributes:
        validation, test: the canonical transactions of those periods, row for row.
    """

    dataset: Dataset
    card: DatasetCard
    folder: Path
    validation: pa.Table
    test: pa.Table


def prepare(
    config: ExperimentConfig, source: Path, out: Path, steps: Steps, *, command: str, rows: Path | None = None
) -> Prepared:
    """Read the source, build the dataset, and write its card and split.

    Args:
        source: what the configured reader reads; without a format, a folder of canonical tables.
        out: folder of everything that is made.
        command: how a person makes the same again, for the card.
        rows: folder of encoded rows, which several experiments may share; by default one in `out`.

    Raises:
        DataError: the source cannot be used, or not split as configured.
    """
    return prepare_tables(config, read(config.source, source, out, steps), out, steps, command=command, rows=rows)


def prepare_tables(
    config: ExperimentConfig,
    tables: Tables,
    out: Path,
    steps: Steps,
    *,
    command: str,
    rows: Path | None = None,
    known_at: datetime | None = None,
) -> Prepared:
    """As `prepare`, of tables that have been read.

    Args:
        known_at: as for `build_dataset`.

    Raises:
        DataError: the tables cannot be split as configured.
    """
    folder = out / "dataset"
    cache = RowCache(rows or folder / "rows")
    step = steps.step("dataset", tables.transactions.num_rows)
    dataset = build_dataset(
        tables.transactions,
        tables.labels,
        config,
        truth=tables.truth,
        known_at=known_at,
        cache=cache,
        progress=step.advance,
    )
    known = f"; {cache.hits} of {cache.hits + cache.misses} replays known" if cache.hits else ""
    step.done(f"{len(dataset.train.draw):,} rows to learn from, {len(dataset.test):,} to be judged on{known}")
    for note in cache.notes:
        steps.console.print(f"note: {note}", highlight=False)
    card = describe(dataset, tables, config, command)
    write_whole(folder / "card.json", card.model_dump_json(indent=1) + "\n")
    write_whole(folder / "card.md", card.markdown())
    _write_split(tables.transactions, dataset, folder / "split.parquet")
    validation, test = (tables.transactions.filter(pa.array(dataset.parts == part)) for part in (VALIDATION, TEST))
    return Prepared(dataset, card, folder, validation, test)


def read(config: SourceConfig, source: Path, out: Path, steps: Steps) -> Tables:
    """The tables at `source`, which are ingested into `out` first where they are in some format."""
    if config.format is None:
        return Tables(*load_canonical(source), load_truth(source))
    step = steps.step("ingest")
    summary = ingest(
        source,
        out / "canonical",
        format=config.format,
        mapping=config.mapping,
        until=config.until,
        progress=step.at,
    )
    step.at(summary.rows_read, summary.rows_read)
    step.done(f"{summary.accepted:,} accepted, {summary.quarantined:,} in quarantine")
    return Tables(*load_canonical(out / "canonical"), load_truth(out / "canonical"))


def _write_split(transactions: pa.Table, dataset: Dataset, path: Path) -> None:
    """tx_id and part of every transaction, whole or not at all."""
    draft = path.with_suffix(".unfinished")
    parts = pa.array(dataset.parts, pa.string()).dictionary_encode()
    pq.write_table(pa.table({"tx_id": transactions["tx_id"], "part": parts}), draft, compression="zstd")
    draft.replace(path)
