"""What several commands share: options that mean the same everywhere, the table that they print, and counts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

Releases = Annotated[
    str, typer.Option("--releases", help="URL of the release log, e.g. sqlite:///state/releases.db.")
]
Decisions = Annotated[str, typer.Option("--decisions", help="URL of the decision log.")]
DecisionsIfAny = Annotated[str | None, typer.Option("--decisions", help="URL of the decision log.")]
OutFolder = Annotated[Path, typer.Option("--out", help="Folder for what is made.", show_default=False)]
RatesOption = Annotated[
    Path | None, typer.Option("--rates", help="File of daily rates to the dollar, as the bundle was trained with.")
]
PeriodStart = Annotated[
    str | None, typer.Option("--from", help="Decided then or later, e.g. 2026-03-01T00:00:00Z; default: all.")
]
PeriodEnd = Annotated[str | None, typer.Option("--to", help="Decided before; default: all.")]
PseudonymKey = Annotated[
    Path | None,
    typer.Option("--pseudonym-key", help="Secret file of the pseudonym key, for the history's accounts."),
]
Actor = Annotated[str, typer.Option("--actor", help="Who does this; kept in the log.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the log.")]


def counted(count: int, one: str, many: str) -> str:
    """`count` and what was counted: `1 entry`, `2 entries`."""
    return f"{count:,} {one if count == 1 else many}"


def table_of(*columns: str, title: str | None = None) -> Table:
    """A table whose cells are wrapped and never cut short: ids and paths are copied from it."""
    return Table(*(Column(name, overflow="fold") for name in columns), title=title)
