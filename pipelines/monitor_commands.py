"""Commands of the model-risk reviewer: `monitor` and `audit`; `release` is in `release_commands`."""

from __future__ import annotations

import json
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from monitoring.pages import write_whole
from pipelines.bundle_store import expectation, without_password
from pipelines.label_file import LabelFile
from riskdistill.bundle import Bundle
from riskdistill.errors import AuditError, DataError, NotFoundError
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.releases import ReleaseLog
from riskdistill.storage.shadows import ShadowLog

monitor_app = typer.Typer(no_args_is_help=True, help="Compare live traffic with the profile; watch and roll back.")
audit_app = typer.Typer(no_args_is_help=True, help="Verify the decision and release logs; write the audit record.")

console = Console()
Releases = Annotated[
    str, typer.Option("--releases", help="URL of the release log, e.g. sqlite:///state/releases.db.")
]
Decisions = Annotated[str, typer.Option("--decisions", help="URL of the decision log.")]
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


@monitor_app.command()
def shadow(
    releases: Releases,
    decisions: Decisions,
    release: Annotated[str | None, typer.Option(help="Id of a challenger; default: the one of now.")] = None,
    hours: Annotated[float, typer.Option(min=0.01, help="Width of a window.")] = 24.0,
    json_to: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file too.")] = None,
) -> None:
    """Compare the challenger with the champion on the same live transactions, window by window."""
    from monitoring.shadow import compare

    log = ReleaseLog(releases, create=False)
    challenger = log.get(release) if release else log.challenger()
    if challenger is None:
        raise NotFoundError("no release is challenger", where="release log", mend="riskdistill release shadow ID")
    windows = compare(ShadowLog(decisions, create=False).read(challenger.release_id), timedelta(hours=hours))
    columns = (
        "from (UTC)",
        "transactions",
        "canary",
        "agree",
        "overlap",
        "alerts",
        "shift",
        "distance",
        "µs alone",
    )
    table = Table(
        *(Column(name, overflow="fold") for name in columns),
        title=f"champion and {challenger.release_id} ({challenger.state})",
    )
    for window in windows:
        overlap = "" if window.overlap is None else f"{window.overlap:.1%}"
        timed = window.champion_us is not None and window.challenger_us is not None
        table.add_row(
            f"{window.start:%Y-%m-%d %H:%M}",
            f"{window.transactions:,}",
            f"{window.by_challenger:,}",
            f"{window.agreement:.1%}",
            overlap,
            f"{window.champion_alerts:.2%} / {window.challenger_alerts:.2%}",
            f"{window.shift:+.4f}",
            f"{window.distance:.3f}",
            f"{window.champion_us:.0f} / {window.challenger_us:.0f}" if timed else "",
        )
    console.print(table)
    if json_to is not None:
        told = [window.model_dump(mode="json") for window in windows]
        write_whole(json_to, json.dumps({"release": challenger.release_id, "windows": told}, indent=1) + "\n")


@audit_app.command()
def verify(
    decisions: Annotated[str | None, typer.Option("--decisions", help="URL of the decision log.")] = None,
    releases: Annotated[str | None, typer.Option("--releases", help="URL of the release log.")] = None,
) -> None:
    """Check the hash chains; names the first broken link."""
    if decisions is None and releases is None:
        raise DataError("no log named", where="audit verify", mend="give --decisions, --releases or both")
    logs = (("decision", decisions, DecisionLog), ("release", releases, ReleaseLog))
    faults = []
    for name, url, kind in logs:
        if url is None:
            continue
        try:
            result = kind(url, create=False).verify()
            console.print(f"{name} log intact: {result.entries:,} entries, head {result.head}", highlight=False)
        except AuditError as error:
            faults.append(f"{name} log: {error}")
    if faults:
        raise AuditError("; ".join(faults))


@audit_app.command()
def record(decisions: Decisions, releases: Releases, out: OutFolder) -> None:
    """Write audit.html and audit.json: both chains, all transitions with evidence, decisions by bundle."""
    from monitoring.audit import write_audit_record

    out.mkdir(parents=True, exist_ok=True)
    logs = ReleaseLog(releases, create=False), DecisionLog(decisions, create=False)
    console.print(f"record {write_audit_record(out, *logs)}", soft_wrap=True, highlight=False)


@audit_app.command()
def show(decision_id: Annotated[str, typer.Argument()], decisions: Decisions) -> None:
    """One decision as it is stored."""
    decision = DecisionLog(decisions, create=False).get(decision_id)
    if decision is None:
        raise NotFoundError(
            f"no decision {decision_id}", where=without_password(decisions), mend="copy the id from the answer"
        )
    console.print_json(json.dumps(decision.model_dump(mode="json")))
