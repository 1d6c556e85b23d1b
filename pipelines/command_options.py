"""What several commands share: options that mean the same everywhere, and the table that they print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

Releases = Annotated[
    str, typer.Option("--releases", help="URL of the release log, e.g. sqlite:///state/releases.db.")
]
Decisions = Annotated[str, typer.Option("--decisions", help="URL of the decision log.")]
OutFolder = Annotated[Path, typer.Option("--out", help="Folder for what is made.", show_default=False)]
RatesOption = Annotated[
    Path | None, typer.Option("--rates", help="File of daily rates to the dollar, as the bundle was trained with.")
]
Actor = Annotated[str, typer.Option("--actor", help="Who does this; kept in the log.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the log.")]


def table_of(*columns: str, title: str | None = None) -> Table:
    """A table whose cells are wrapped and never cut short: ids and paths are copied from it."""
    return Table(*(Column(name, overflow="fold") for name in columns), title=title)
