"""One section of a benchmark as people and machines read it: a table on the screen, figures in a JSON file."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from feature_data import Measurement
from machine import describe, machine
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def table(section: str, rows: list[Measurement], seconds: float, packages: tuple[str, ...]) -> Table:
    """Measured beside its bar; the caption says on what machine, with which `packages`, and how long it took."""
    shown = Table("measured", "", "bar", "", "", title=section, title_justify="left", min_width=150)
    shown.columns[1].justify = shown.columns[2].justify = "right"
    held = {True: "[green]holds", False: "[red]missed", None: ""}
    for row in rows:
        bar = "" if row.bar is None else f"{'>=' if row.better == 'higher' else '<='} {_number(row.bar)}"
        figure = f"{_number(row.measured)} {row.unit}"
        shown.add_row(escape(row.name), figure, bar, held[row.passes], f"[dim]{escape(row.detail)}")
    shown.caption = f"{describe(packages)}; load {machine(())['load']}; {seconds:.0f} s"
    return shown


def run_alone(
    name: str,
    measure: Callable[[], list[Measurement]],
    packages: tuple[str, ...],
    *,
    quick: bool,
    to: Path | None,
) -> None:
    """Measure one section, print its table, and write its figures to the file `to`, if given."""
    started = time.perf_counter()
    rows = measure()
    Console(width=180).print(table(name, rows, time.perf_counter() - started, packages))
    if to is not None:
        sections = {name: [row.as_json() for row in rows]}
        found = {"machine": machine(packages), "quick": quick, "sections": sections}
        to.write_text(json.dumps(found, indent=1))


def section_options(description: str | None, quick: str) -> argparse.ArgumentParser:
    """The options that `run_sections` heeds, for a script to add its own; `quick` tells what is left out."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", type=Path, help="write all figures to this file, section by section")
    options.add_argument("--quick", action="store_true", help=quick)
    options.add_argument("--only", nargs="+", metavar="SECTION", help="sections to run; default: all")
    return options


def run_sections(
    known: dict[str, Callable[[], list[Measurement]]],
    chosen: argparse.Namespace,
    packages: tuple[str, ...],
    **facts: object,
) -> None:
    """Measure the sections that `chosen.only` names (else all), print a table of each, and write `chosen.json`.

    The file is written anew after each section, with `facts` beside the machine, so that a stop loses one at most.
    """
    if unknown := set(chosen.only or ()) - set(known):
        raise SystemExit(f"error: no section {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    console, measured = Console(width=180), {}
    for name in chosen.only or known:
        started = time.perf_counter()
        rows = known[name]()
        console.print(table(name, rows, time.perf_counter() - started, packages))
        measured[name] = [row.as_json() for row in rows]
        if chosen.json:
            found = {"machine": machine(packages), "quick": chosen.quick, **facts, "sections": measured}
            chosen.json.write_text(json.dumps(found, indent=1))


def _number(value: float) -> str:
    if value == int(value) or abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"
