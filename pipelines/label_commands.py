"""Commands on labels: what investigators found, as a table to train on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
from rich.console import Console

from pipelines.command_options import counted
from pipelines.instants import instant
from riskdistill.data.ingest import read_transactions
from riskdistill.data.readers.canonical import LABELS_FILE, read_labels
from riskdistill.data.schema import LABELS
from riskdistill.storage.cases import CaseLog

labels_app = typer.Typer(no_args_is_help=True, help="Labels from the cases of a scoring service.")
console = Console()


@labels_app.command()
def export(
    cases: Annotated[str, typer.Option("--cases", help="URL of the database of cases: the decision log's.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write labels: .parquet.")] = Path("labels.parquet"),
    input: Annotated[
        Path | None,
        typer.Option(
            "--input",
            help="Folder of canonical transactions to label, each of them, as retrain wants it: by the cases, by "
            "labels.parquet there, and as normal where nobody looked.",
        ),
    ] = None,
    as_known_at: Annotated[
        str | None, typer.Option(help="What was known then, e.g. 2026-03-01T00:00:00Z; default: now.")
    ] = None,
) -> None:
    """Write canonical labels of the transactions that cases have settled, as known at a moment."""
    moment = (instant(as_known_at, "--as-known-at") or datetime.now(UTC)).astimezone(UTC)
    table = CaseLog(cases, create=False).labels(moment)
    if input is not None:
        from riskdistill.dataset.labels import completed  # PyTorch comes with it

        recorded = input / LABELS_FILE
        known = read_labels(recorded) if recorded.is_file() else LABELS.empty_table()
        table = completed(read_transactions(input)[0], table, known, moment)
    draft = out.with_suffix(".unfinished")
    pq.write_table(table, draft)
    draft.replace(out)
    laundering = pc.sum(table["is_laundering"]).as_py() or 0
    labels = counted(table.num_rows, "label", "labels")
    known = f"as known at {moment:%Y-%m-%dT%H:%M:%SZ}"
    console.print(f"{labels}, {laundering:,} of them laundering, {known}", soft_wrap=True, highlight=False)
    console.print(f"labels {out}", soft_wrap=True, highlight=False)


@labels_app.callback()
def _group() -> None:
    """Keeps `labels export` two words although it is the only one."""
