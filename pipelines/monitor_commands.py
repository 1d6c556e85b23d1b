"""Commands of the model-risk reviewer: `monitor`; `release_commands` and `audit_commands` have the others."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from monitoring.pages import write_whole
from pipelines.bundle_store import expectation
from pipelines.command_options import (
    Actor,
    Decisions,
    DecisionsIfAny,
    OutFolder,
    PeriodEnd,
    PeriodStart,
    PseudonymKey,
    RatesOption,
    Reason,
    Releases,
    table_of,
)
from pipelines.instants import instant
from pipelines.label_file import LabelFile
from pipelines.progress import Steps
from riskdistill.bundle import Bundle
from riskdistill.errors import ConfigError, NotFoundError
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.releases import ReleaseLog
from riskdistill.storage.shadows import ShadowLog
from riskdistill.tracking import DEADLINE, follow_aside

if TYPE_CHECKING:
    from monitoring.shadow import ShadowWindow

monitor_app = typer.Typer(no_args_is_help=True, help="Compare live traffic with the profile; watch and roll back.")

console = Console()


@monitor_app.command()
def drift(
    bundle: Annotated[Path, typer.Option("--bundle", help="Whose reference profile to compare with.")],
    out: OutFolder,
    input: Annotated[
        Path | None, typer.Option("--input", help="Canonical transactions of the window to look at.")
    ] = None,
    decisions: DecisionsIfAny = None,
    start: PeriodStart = None,
    end: PeriodEnd = None,
    history: Annotated[
        Path | None, typer.Option(help="Canonical transactions before the window, or that the service started on.")
    ] = None,
    pseudonym_key: PseudonymKey = None,
    rates: RatesOption = None,
) -> None:
    """Write the drift report of a window of traffic: drift.html, drift.json, and Evidently's page.

    The window is a file (--input), or what a service decided on (--decisions, --from, --to).
    """
    from pipelines.drift import file_window, logged_window, measure, write
    from pipelines.explain_decision import Sources

    if (input is None) == (decisions is None) or (input is not None and (start or end)):
        raise ConfigError(
            "a window is a file or a period of a log",
            where="monitor drift",
            mend="give --input, or --decisions with --from and --to",
        )
    if history is None:
        print(
            "warning: no --history, so account state starts empty: features of the past will look like drift",
            file=sys.stderr,
        )
    model, logged = Bundle.load(bundle, teacher=False), None
    if input is not None:
        window = file_window(model, input, history, rates)
    else:
        log, sources = DecisionLog(str(decisions), create=False), Sources(None, history, pseudonym_key, rates)
        window, logged = logged_window(model, log, instant(start, "--from"), instant(end, "--to"), sources)
    report = measure(model, window, logged)
    page = write(model, window, report, out)
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
    minimum: Annotated[int, typer.Option(min=1, help="Transactions compared before any action.")] = 200,
    cool_down: Annotated[float, typer.Option(min=0, help="Minutes of rest after a rollback.")] = 10,
    labels: Annotated[
        Path | None,
        typer.Option(help="Parquet or CSV with tx_id, is_laundering and, where it is known, known_at; read again."),
    ] = None,
    drift_report: Annotated[
        Path | None,
        typer.Option("--drift", help="drift.json that a job writes with `monitor drift --decisions`; read again."),
    ] = None,
    drift_acts: Annotated[
        bool, typer.Option(help="Drift that --drift tells of rolls back; otherwise it alarms.")
    ] = False,
    webhook: Annotated[
        str | None, typer.Option(help="URL to tell of alarms and rollbacks; RISKDISTILL_WEBHOOK_SECRET signs.")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Serve Prometheus metrics there, on loopback; 0: any.")
    ] = None,
) -> None:
    """Watch champion and canary for harm, and act; alarm on silence, drift, and with labels on what they say.

    Ctrl-C ends it.
    """
    from monitoring.canary import CanaryWatch
    from monitoring.evidence import RollbackPolicy
    from monitoring.notices import Notices
    from monitoring.rollback import RollbackController
    from monitoring.rollback import watch as watch_champion
    from monitoring.watch_metrics import WatchMetrics
    from monitoring.webhook import SECRET, Webhook
    from pipelines.drift_file import DriftFile
    from pipelines.live_alarms import LiveAlarms

    if drift_acts and drift_report is None:
        raise ConfigError("no drift report could act", where="monitor watch", mend="name one with --drift")
    log, decided = ReleaseLog(releases, create=False), DecisionLog(decisions, create=False)
    policy = RollbackPolicy(
        dry_run=dry_run,
        minimum=minimum,
        cool_down=timedelta(minutes=cool_down),
        labels=labels is not None,
        drift_acts=drift_acts,
    )
    drifting = (lambda: None) if drift_report is None else DriftFile(drift_report)
    alarms = LiveAlarms(log, decided, labels, drift=drifting)
    known = dict if labels is None else LabelFile(labels)
    canary = CanaryWatch(log, decided, policy, expectation, known)
    controller = RollbackController(log, alarms, policy, expectation, drift=drifting)
    stop, notices, of_canary, metrics, hook = threading.Event(), Notices(), Notices(), WatchMetrics(), None
    with ExitStack() as stack:
        if webhook is not None:
            hook = Webhook(webhook, os.environ.get(SECRET, ""), metrics.undelivered.inc)
            stack.callback(hook.close)
        if metrics_port is not None:
            port = stack.enter_context(metrics.served(metrics_port))
            console.print(f"metrics at http://127.0.0.1:{port}/metrics", highlight=False)
        for number, verdict in enumerate(watch_champion(controller, interval, stop, known), start=1):
            console.print(f"{number:>4}  {verdict.action:<15} {verdict.reason}", highlight=False)
            beside = alarms.standing(verdict.release_id)
            for alarm in beside:
                console.print(f"      {'alarm':<15} {alarm.detector}: {alarm.detail}", highlight=False)
            told = notices.of(verdict, beside)
            if (found := canary.look()) is not None:
                told += of_canary.of(found)
                if found.release_id is not None:
                    console.print(f"      {found.action:<15} {found.reason}", highlight=False)
            metrics.looked(verdict, told, alarm=notices.alarm or of_canary.alarm)
            if hook is not None:
                for notice in told:
                    hook.tell(notice)
            if any(notice.kind == "rolled_back" for notice in told):
                stack.callback(follow_aside(log).join, DEADLINE)  # waited for at the end, not at the next look
            if looks is not None and number >= looks:
                stop.set()


@monitor_app.command()
def hold(releases: Releases, actor: Actor, reason: Reason) -> None:
    """Keep every watch of these releases from acting, until `monitor resume`; they go on to look and to alarm."""
    ReleaseLog(releases, create=False).hold(actor=actor, reason=reason)
    console.print("held: no watch acts until `riskdistill monitor resume`")


@monitor_app.command()
def resume(releases: Releases, actor: Actor, reason: Reason) -> None:
    """End the hold: a watch acts at its next look on whatever harm is shown then."""
    ReleaseLog(releases, create=False).resume(actor=actor, reason=reason)
    console.print("resumed: watches act again")


@monitor_app.command()
def performance(
    decisions: Decisions,
    labels: Annotated[
        Path, typer.Option(help="Parquet or CSV with tx_id, is_laundering and, where it is known, known_at.")
    ],
    bundle: Annotated[Path, typer.Option("--bundle", help="Whose decisions to judge.")],
    out: OutFolder,
    as_of: Annotated[
        str | None, typer.Option(help="Labels that became known later are not used; default: now.")
    ] = None,
    days: Annotated[float, typer.Option(min=0.01, help="Length of a window.")] = 7.0,
) -> None:
    """Write performance.html and .json: realised where labels have had their time, estimated elsewhere."""
    from pipelines.performance import performance_report

    now = instant(as_of, "--as-of") or datetime.now(UTC)
    log = DecisionLog(decisions, create=False)
    report, page = performance_report(log, labels, Bundle.load(bundle, teacher=False), out, now, days=days)
    table = table_of("window", "alerts", "labelled", "precision", "estimated")
    for window in report.windows:
        real, told = window.precision, window.estimated
        table.add_row(
            f"{window.start:%F} to {window.end:%F}",
            f"{window.alerts:,}",
            f"{window.labelled:,}",
            "not mature" if not window.mature else "no label" if real is None else f"{real.value:.1%}",
            "too few labels" if told is None else f"{told.combined:.1%} ({told.low:.0%} to {told.high:.0%})",
        )
    console.print(table)
    console.print(f"report {page}", soft_wrap=True, highlight=False)


@monitor_app.command("drill")
def run_drills(
    scenario: Annotated[str, typer.Argument(help="Name of a scenario, or all.")],
    out: OutFolder,
    source: Annotated[
        Path | None,
        typer.Option("--input", help="Folder of labelled canonical tables; a simulated world by default."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the world and of the faults.")] = 0,
) -> None:
    """Inject faults into a healthy stream, and report what found them: drills.html, drills.json.

    Exits with 1 if a fault was not found first by a detector that is right for it.
    """
    from pipelines.drill import drill, write_drills

    with Steps() as steps:
        results = list(drill(scenario, steps, source=source, seed=seed))
    table = table_of("scenario", "right", "found by", "after", "payments", "false alarms")
    for result in results:
        table.add_row(
            result.scenario,
            "yes" if result.passed else "no",
            "nothing" if result.detected is None else result.detected.detector,
            "" if result.delay_hours is None else f"{result.delay_hours:.0f} h",
            f"{result.exposure:,}",
            str(len(result.false_alarms)),
        )
    console.print(table)
    console.print(f"report {write_drills(out, results)}", soft_wrap=True, highlight=False)
    if not all(result.passed for result in results):
        raise typer.Exit(1)


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
    title = f"champion / {challenger.release_id} ({challenger.state})"
    if windows:
        console.print(_compared(windows, title))
    else:
        console.print(f"{title}: nothing compared yet; each payment from now on will be", highlight=False)
    if json_to is not None:
        told = [window.model_dump(mode="json") for window in windows]
        write_whole(json_to, json.dumps({"release": challenger.release_id, "windows": told}, indent=1) + "\n")


def _compared(windows: Iterable[ShadowWindow], title: str) -> Table:
    """One row a window, on 80 columns: no lines, and only moments and pairs may go on in the next one."""
    table = table_of(
        "from (UTC)", "scored", "canary", "agree", "overlap", "alerts", "shift", "KS", "µs", title=title
    )
    table.box, table.show_edge, table.padding = box.SIMPLE_HEAD, False, 0
    for column in table.columns:
        column.no_wrap = column.header not in ("from (UTC)", "alerts", "µs")
    for window in windows:
        timed = window.champion_us is not None and window.challenger_us is not None
        table.add_row(
            f"{window.start:%Y-%m-%d %H:%M}",
            f"{window.transactions:,}",
            f"{window.by_challenger:,}",
            f"{window.agreement:.1%}",
            "" if window.overlap is None else f"{window.overlap:.1%}",
            f"{window.champion_alerts:.2%} / {window.challenger_alerts:.2%}",
            f"{window.shift:+.4f}",
            f"{window.distance:.3f}",
            f"{window.champion_us:.0f} / {window.challenger_us:.0f}" if timed else "",
        )
    return table
