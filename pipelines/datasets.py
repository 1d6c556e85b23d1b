"""The dataset step: source to `Dataset`, with its card, its parts and its cache in a folder. Alone, or in a run.

OUT/canonical/            the tables, where the source was read by a reader
OUT/dataset/
  card.json  card.md      what is in it and what it cannot show
  config.yaml             the whole configuration, with which the card's command builds it again
  train.parquet  validation.parquet  test.parquet
  unused.parquet          rows of no part, with the reason
  synthetic.parquet       labels of the synthetic rows of the mix
  cache/                  encoded rows, at most 16 GiB; may be removed at any time
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from monitoring.pages import write_whole
from pipelines.progress import Steps
from riskdistill.config import ExperimentConfig
from riskdistill.data.ingest import ingest, load_canonical, load_truth
from riskdistill.dataset import Dataset, DatasetCard, RowCache, Tables, build_dataset, describe
from riskdistill.dataset.card_page import markdown
from riskdistill.dataset.split import TEST, TRAIN, VALIDATION

FOLDER: Final = "dataset"  # in the folder of all that is made


def make_dataset(
    config: ExperimentConfig, source: Path, out: Path, steps: Steps, *, cache: Path | None = None
) -> tuple[Dataset, DatasetCard]:
    """Read the source, build its dataset, and write what is told of it.

    Args:
        config: the experiment.
        source: what the configured reader reads; without a format, a folder of canonical tables.
        out: folder of everything that is made.
        steps: where progress is shown.
        cache: folder of encoded rows, which several experiments may share; None: inside `out`.

    Raises:
        DataError: the source cannot be used, or has too little for this split.
    """
    tables = read_source(config, source, out, steps)
    folder = out / FOLDER
    kept = RowCache(cache or folder / "cache")
    step = steps.step("dataset", tables.transactions.num_rows)
    transactions, labels, truth = tables
    dataset = build_dataset(transactions, labels, config, truth=truth, cache=kept, progress=step.advance)
    command = ("riskdistill", "dataset", str(folder / "config.yaml"), "--input", str(source), "--out", str(out))
    card = describe(dataset, tables, config, shlex.join(command))
    _write(folder, dataset, card, config)
    found = "" if kept.made else ", from the cache"
    step.done(f"{len(dataset.train.draw):,} rows to learn from, {len(dataset.test):,} to be judged on{found}")
    for note in kept.notes:
        steps.console.print(note, soft_wrap=True, highlight=False)
    return dataset, card


def read_source(config: ExperimentConfig, source: Path, out: Path, steps: Steps) -> Tables:
    """The canonical tables of what the configured reader reads; they stay in `out`.

    Raises:
        DataError: the source cannot be used as a whole.
    """
    if config.source.format is None:
        return Tables(*load_canonical(source), load_truth(source))
    step = steps.step("ingest")
    canonical = out / "canonical"
    summary = ingest(
        source,
        canonical,
        format=config.source.format,
        mapping=config.source.mapping,
        until=config.source.until,
        progress=step.at,
    )
    step.at(summary.rows_read, summary.rows_read)
    step.done(f"{summary.accepted:,} accepted, {summary.quarantined:,} in quarantine")
    return Tables(*load_canonical(canonical), load_truth(canonical))


def _write(folder: Path, dataset: Dataset, card: DatasetCard, config: ExperimentConfig) -> None:
    """All files of the folder, each whole; the card last: where it lies, the rest is its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").unlink(missing_ok=True)
    for name, table in _tables(dataset):
        draft = folder / f".{name}.draft"
        pq.write_table(table, draft, compression="zstd")
        os.replace(draft, folder / f"{name}.parquet")
    write_whole(folder / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    write_whole(folder / "card.md", markdown(card))
    write_whole(folder / "card.json", card.model_dump_json(indent=2) + "\n")


def _tables(dataset: Dataset) -> Iterator[tuple[str, pa.Table]]:
    rows = dataset.rows
    part = rows["part"].cast(pa.string())
    for name in (TRAIN, VALIDATION, TEST):
        columns = rows.drop_columns("part") if name == TRAIN else rows.drop_columns(["part", "drawn"])
        yield name, columns.filter(pc.equal(part, name))
    used = pc.is_in(part, pa.array([TRAIN, VALIDATION, TEST]))
    unused = pa.table({"tx_id": rows["tx_id"], "reason": part})
    yield "unused", unused.filter(pc.invert(used))
    yield "synthetic", dataset.synthetic
