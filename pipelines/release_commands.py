"""Commands that drive releases: who serves, who may come next, and on whose word. The log keeps each of them."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.bundle_store import bundle_folder, keep, without_password
from pipelines.command_options import Actor, DecisionsIfAny, OutFolder, Reason, Releases, table_of
from riskdistill import releasing
from riskdistill.bundle import Bundle
from riskdistill.errors import ConfigError, UnavailableError
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.releases import ReleaseLog, State
from riskdistill.storage.shadows import ShadowLog, ShadowScore
from riskdistill.tracking import Tracker, follow

release_app = typer.Typer(
    no_args_is_help=True, help="Register, shadow, promote, roll back; see what serves and why."
)

console = Console()
ReleaseId = Annotated[str, typer.Argument(help="Id of a release, as `release list` shows it.")]
Store = Annotated[
    Path | None,
    typer.Option("--store", help="Folder of kept bundles; default: bundles/ beside the SQLite log."),
]
Approvals = Annotated[
    int,
    typer.Option(
        min=0,
        envvar="RISKDISTILL_RELEASE_APPROVALS",
        help="How many others must have approved; four eyes: 1.",
    ),
]


@release_app.command("list")
def list_releases(releases: Releases) -> None:
    """All releases and their states."""
    table = table_of("release", "state", "bundle", "path")
    for release in ReleaseLog(releases, create=False).list():
        table.add_row(
            release.release_id, _state(release.state, release.share), release.bundle_version, release.bundle_path
        )
    console.print(table)


@release_app.command()
def show(release: ReleaseId, releases: Releases) -> None:
    """One release as it stands, with every entry about it and the figures behind them, as JSON."""
    console.print_json(releasing.story(ReleaseLog(releases, create=False), release).model_dump_json())


@release_app.command()
def report(
    release: ReleaseId,
    releases: Releases,
    out: OutFolder,
    decisions: DecisionsIfAny = None,
    hours: Annotated[float, typer.Option(min=0.01, help="Width of a window of shadow scores.")] = 24.0,
) -> None:
    """Write release.html and release.json: who let it decide, on which figures, what came of it, its model card.

    With --decisions also what it decided, how soon the service followed, and the windows of its shadow.
    """
    from monitoring.release_page import write_release_report
    from monitoring.release_report import release_report

    log = ReleaseLog(releases, create=False)
    bundle = releasing.load_release(log.get(release))
    decided = None if decisions is None else DecisionLog(decisions, create=False)
    scores = [] if decisions is None else _shadow_scores(log, release, decisions)
    told = release_report(log, release, bundle, decided, scores, timedelta(hours=hours))
    console.print(f"report {write_release_report(out, told)}", soft_wrap=True, highlight=False)


def _shadow_scores(log: ReleaseLog, release: str, decisions: str) -> list[ShadowScore]:
    """The scores of a release that shadowed; a note where there are none to be had."""
    staged = (State.SHADOW, State.CANARY)
    if not any(step.release_id == release and step.after in staged for step in log.history()):
        return []
    try:
        return list(ShadowLog(decisions, create=False).read(release))
    except (ConfigError, UnavailableError) as error:
        print(f"note: no shadow scores: {error}", file=sys.stderr)
        return []


@release_app.command()
def register(
    bundle: Annotated[Path, typer.Argument(help="Directory of a bundle, as `run` leaves it.")],
    releases: Releases,
    actor: Actor,
    reason: Reason,
    store: Store = None,
) -> None:
    """Keep a copy of a verified bundle that nothing replaces, and enter it into the release log."""
    loaded = Bundle.load(bundle)
    store = bundle_folder(releases, store)
    log = ReleaseLog(releases)
    kept = keep(loaded, store)
    release = log.register(kept, loaded.version, actor=actor, reason=reason)
    console.print(f"{release.release_id} registered: bundle {release.bundle_version}")
    follow(log)


@release_app.command()
def approve(release: ReleaseId, releases: Releases, actor: Actor, reason: Reason) -> None:
    """Say that a release may decide; whoever promotes it must be another person."""
    found = releasing.approve(ReleaseLog(releases, create=False), release, actor=actor, reason=reason)
    console.print(f"{found.release_id} is approved by {', '.join(found.approved_by)}; it stays {found.state}")


@release_app.command()
def shadow(release: ReleaseId, releases: Releases, actor: Actor, reason: Reason) -> None:
    """Let a release score beside the champion; it decides nothing. A canary goes back to this."""
    log = ReleaseLog(releases, create=False)
    staged = releasing.shadow(log, release, actor=actor, reason=reason)
    console.print(f"{staged.release_id} shadows: bundle {staged.bundle_version}")
    follow(log)


@release_app.command()
def canary(
    release: ReleaseId,
    releases: Releases,
    actor: Actor,
    reason: Reason,
    share: Annotated[float, typer.Option(help="Share of the sending accounts that it decides for, e.g. 0.05.")],
    approvals: Approvals = 0,
) -> None:
    """Let a release decide for a share of the accounts, always the same ones; a larger share keeps them."""
    log = ReleaseLog(releases, create=False)
    staged = releasing.canary(log, release, share=share, actor=actor, reason=reason, approvals=approvals)
    console.print(f"{staged.release_id} decides for {share:.1%} of the accounts: bundle {staged.bundle_version}")
    follow(log)


@release_app.command()
def promote(release: ReleaseId, releases: Releases, actor: Actor, reason: Reason, approvals: Approvals = 0) -> None:
    """Make a release the champion; the one before it stays warm."""
    log = ReleaseLog(releases, create=False)
    champion = releasing.promote(log, release, actor=actor, reason=reason, approvals=approvals)
    console.print(f"{champion.release_id} is champion: bundle {champion.bundle_version}")
    follow(log)


@release_app.command()
def rollback(
    releases: Releases,
    actor: Actor,
    reason: Reason,
    canary: Annotated[bool, typer.Option(help="Withdraw the canary; the champion stays.")] = False,
) -> None:
    """Put the previous release back, or with --canary withdraw the canary. Needs nobody's approval."""
    log = ReleaseLog(releases, create=False)
    found = releasing.roll_back(log, actor=actor, reason=reason, canary=canary)
    became = "withdrawn" if canary else "champion again"
    console.print(f"{found.release_id} is {became}: bundle {found.bundle_version}")
    follow(log)


@release_app.command()
def retire(release: ReleaseId, releases: Releases, actor: Actor, reason: Reason) -> None:
    """End a release that does not decide; its bundle stays where it is kept."""
    log = ReleaseLog(releases, create=False)
    retired = releasing.retire(log, release, actor=actor, reason=reason)
    console.print(f"{retired.release_id} is retired: bundle {retired.bundle_version}")
    follow(log)


@release_app.command()
def track(
    releases: Releases,
    mlflow: Annotated[
        str, typer.Option(envvar="RISKDISTILL_MLFLOW", help="E.g. sqlite:///runs/mlflow.db, or a server's URL.")
    ],
) -> None:
    """Let MLflow follow the release log: kept bundles, and the aliases champion, challenger and previous."""
    if not Tracker(mlflow).follow(ReleaseLog(releases, create=False)):
        raise UnavailableError("MLflow was not told", where=without_password(mlflow), mend="see the warning above")
    console.print("MLflow follows the release log")


@release_app.command()
def history(releases: Releases) -> None:
    """Every transition: when, who, what and why."""
    table = table_of("when (UTC)", "release", "from", "to", "who", "why")
    for step in ReleaseLog(releases, create=False).history():
        when = step.at.strftime("%Y-%m-%d %H:%M:%S")
        after = step.said or _state(step.after, step.share)
        table.add_row(when, step.release_id, step.before or "", after, step.actor, step.reason)
    console.print(table)


def _state(state: State, share: float) -> str:
    return f"{state} {share:.1%}" if share else str(state)
