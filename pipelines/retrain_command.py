"""The command `retrain`: a challenger for the champion, in shadow or refused."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipelines.bundle_store import bundle_folder
from pipelines.command_options import OutFolder, Releases
from pipelines.experiment_commands import made
from pipelines.instants import instant
from pipelines.progress import Steps
from pipelines.release_commands import Store
from riskdistill.errors import ConfigError, ReleaseError
from riskdistill.storage.releases import ReleaseLog
from riskdistill.tracking import tracker

if TYPE_CHECKING:
    from pipelines.retrain import Retrained

console = Console()


def retrain(
    releases: Releases,
    input: Annotated[
        Path, typer.Option("--input", help="Folder of canonical tables, with labels as known now (see ingest).")
    ],
    out: OutFolder,
    mode: Annotated[
        str | None, typer.Option(help="student, teacher_and_student or full; default: retraining.mode.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="An experiment, in place of the one in the champion's bundle.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change one value of --config; may be repeated.")
    ] = None,
    now: Annotated[
        str | None,
        typer.Option(
            help="Labels are as known then, e.g. 2026-03-01T00:00:00Z; default: at the newest transaction."
        ),
    ] = None,
    actor: Annotated[str, typer.Option(help="Who does this; kept in the log.")] = "riskdistill retrain",
    store: Store = None,
) -> None:
    """Retrain the champion on what became known since; a challenger that passes every gate shadows. Resumes."""
    from pipelines.retrain import Retraining
    from pipelines.retrain import retrain as retrain_job
    from riskdistill.config import load_config

    if overrides and config is None:
        raise ConfigError("there is nothing to change", where="--set", mend="name an experiment with --config")
    known_at = instant(now, "--now")
    settings = None if config is None else load_config(config, overrides or [])
    log = ReleaseLog(releases, create=False)
    asked = Retraining(
        input,
        out,
        bundle_folder(releases, store),
        config=settings,
        mode=mode,
        now=known_at,
        actor=actor,
        command=shlex.join(["riskdistill", *sys.argv[1:]]),
    )
    with Steps() as steps:
        result = retrain_job(log, asked, steps)
    console.print(_gates(result))
    made({"evidence": result.page, "bundle": result.bundle})
    _track(log, result)
    if result.challenger is None:
        names = ", ".join(gate.name if gate.judged else f"{gate.name} (not judged)" for gate in result.failed)
        raise ReleaseError(
            f"the challenger is refused, and nothing is registered: {names}",
            where=str(result.page),
            mend="look at what it learned from, or wait for more cases; the champion stays",
        )
    registered = f"{result.challenger.release_id} is {result.challenger.state}"
    console.print(f"{registered}; riskdistill monitor shadow compares it with the champion", soft_wrap=True)


def _track(log: ReleaseLog, result: Retrained) -> None:
    """Tell MLflow of the run and of the challenger, where the environment names one."""
    tracking = tracker()
    if tracking is None:
        return
    figures = {gate.name.replace("'", ""): gate.figure for gate in result.gates}
    told = {"champion": result.champion.release_id, "passed": not result.failed, "bundle": result.bundle.name}
    tracking.log_run("retrain", parameters=told, metrics=figures, artefacts=list(result.page.parent.iterdir()))
    tracking.follow(log)


def _gates(result: Retrained) -> Table:
    table = Table("gate", "figure", "bar", "", "detail", title=f"challenger of {result.champion.release_id}")
    for gate in result.gates:
        bar = f"{'>=' if gate.better == 'higher' else '<='} {gate.bar:.4g}"
        colour = "green" if gate.passed else "red"
        table.add_row(gate.name, f"{gate.figure:.4g}", bar, f"[{colour}]{gate.verdict}", gate.detail)
    return table
