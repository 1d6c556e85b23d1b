"""Commands of the model-risk reviewer: `monitor` and `release`; those on the logs are in `audit_commands`."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from pipelines.bundle_store import database_folder, expectation, keep, load_release, without_password
from pipelines.label_file import LabelFile
from riskdistill.bundle import Bundle
from riskdistill.errors import ConfigError
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.releases import ReleaseLog

monitor_app = typer.Typer(no_args_is_help=True, help="Compare live traffic with the profile; watch and roll back.")
release_app = typer.Typer(no_args_is_help=True, help="Register, promote, roll back; see what serves and why.")

console = Console()
Releases = Annotated[
    str, typer.Option("--releases", help="URL of the release log, e.g. sqlite:///state/releases.db.")
]
Decisions = Annotated[str, typer.Option("--decisions", help="URL of the decision log.")]
Actor = Annotated[str, typer.Option("--actor", help="Who does this; kept in the log.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the log.")]
OutFolder = Annotated[Path, typer.Option("--out", help="Folder for what is made.")]
RatesOption = Annotated[
    Path | None, typer.Option("--rates", help="File of daily rates to the dollar, as the bundle was trained with.")
]


@monitor_app.command()
def drift(
    bundle: Annotated[Path, typer.Option("--bundle", help="Whose reference profile to compare with.")],
    input: Annotated[Path, typer.Option("--input", help="Canonical transactions of the window to look at.")],
    out: OutFolder,
    history: Annotated[Path | None, typer.Option(help="Canonical transactions that came before.")] = None,
    rates: RatesOption = None,
) -> None:
    """Write the drift report of a window of traffic: drift.html, drift.json, and Evidently's page."""
    from pipelines.drift import drift_report

    if history is None:
        print(
            "warning: no --history, so account state starts empty: features of the past will look like drift",
            file=sys.stderr,
        )
    report, page = drift_report(Bundle.load(bundle, teacher=False), input, history, out, rates=rates)
    console.print(f"verdict: {report.verdict}; {len(report.drifting)} of {len(report.features)} features drift")
    console.print(report.recommendation)
    console.print(f"report {page}", soft_wrap=True, highlight=False)


@monitor_app.command()
def watch(
    releases: Releases,
    decisions: Decisions,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 5.0,
    looks: Annotated[int | None, typer.Option(min=1, help="Stop after so many looks.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Say what would be done; do nothing.")] = False,
    hold: Annotated[bool, typer.Option(help="A person holds all action.")] = False,
    labels: Annotated[
        Path | None, typer.Option(help="Parquet or CSV with tx_id, is_laundering; read again when it changes.")
    ] = None,
) -> None:
    """Watch the champion for harm and roll back by itself; Ctrl-C ends it."""
    from monitoring.rollback import RollbackController, RollbackPolicy
    from monitoring.rollback import watch as watch_champion

    controller = RollbackController(
        ReleaseLog(releases, create=False),
        DecisionLog(decisions, create=False),
        RollbackPolicy(dry_run=dry_run, hold=hold, labels=labels is not None),
        expectation,
    )
    known = dict if labels is None else LabelFile(labels)
    stop = threading.Event()
    for number, verdict in enumerate(watch_champion(controller, interval, stop, known), start=1):
        console.print(f"{number:>4}  {verdict.action:<15} {verdict.reason}", highlight=False)
        if looks is not None and number >= looks:
            stop.set()


def table_of(*columns: str) -> Table:
    """A table whose cells are wrapped and never cut short: ids and paths are copied from it."""
    return Table(*(Column(name, overflow="fold") for name in columns))


@release_app.command("list")
def list_releases(releases: Releases) -> None:
    """All releases and their states."""
    table = table_of("release", "state", "bundle", "path")
    for release in ReleaseLog(releases, create=False).list():
        table.add_row(release.release_id, release.state, release.bundle_version, release.bundle_path)
    console.print(table)


@release_app.command()
def register(
    bundle: Annotated[Path, typer.Argument()],
    releases: Releases,
    actor: Actor,
    reason: Reason,
    store: Annotated[
        Path | None, typer.Option(help="Folder of the kept bundles; default: bundles/ beside the SQLite log.")
    ] = None,
) -> None:
    """Keep a copy of a verified bundle that nothing replaces, and enter it into the release log."""
    loaded = Bundle.load(bundle)
    folder = database_folder(releases)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)  # the first registration founds the log
        store = store or folder / "bundles"
    if store is None:
        raise ConfigError(
            "this log is in no file that bundles could be kept beside",
            where=without_password(releases),
            mend="name a folder for them with --store",
        )
    log = ReleaseLog(releases)
    kept = keep(loaded, store)
    release = log.register(kept, loaded.version, actor=actor, reason=reason)
    console.print(f"{release.release_id} registered: bundle {release.bundle_version}")


@release_app.command()
def promote(release: Annotated[str, typer.Argument()], releases: Releases, actor: Actor, reason: Reason) -> None:
    """Make a release the champion; the one before it stays warm."""
    log = ReleaseLog(releases, create=False)
    load_release(log.get(release))
    champion = log.promote(release, actor=actor, reason=reason, evidence={})
    console.print(f"{champion.release_id} is champion: bundle {champion.bundle_version}")


@release_app.command()
def rollback(releases: Releases, actor: Actor, reason: Reason) -> None:
    """Put the previous release back."""
    champion = ReleaseLog(releases, create=False).rollback(actor=actor, reason=reason, evidence={})
    console.print(f"{champion.release_id} is champion again: bundle {champion.bundle_version}")


@release_app.command()
def retire(release: Annotated[str, typer.Argument()], releases: Releases, actor: Actor, reason: Reason) -> None:
    """End a release that does not decide; its bundle stays where it is kept."""
    retired = ReleaseLog(releases, create=False).retire(release, actor=actor, reason=reason, evidence={})
    console.print(f"{retired.release_id} is retired: bundle {retired.bundle_version}")


@release_app.command()
def history(releases: Releases) -> None:
    """Every transition: when, who, what and why."""
    table = table_of("when", "release", "from", "to", "who", "why")
    for step in ReleaseLog(releases, create=False).history():
        when = step.at.strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(when, step.release_id, step.before or "", step.after, step.actor, step.reason)
    console.print(table)
