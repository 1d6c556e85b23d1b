"""The command line: `riskdistill --help` lists the commands by whose job they are.

Commands are thin: they read options, call a job, and say what was made and where. Heavy libraries are imported by
the command that needs them, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipelines.audit_commands import audit_app
from pipelines.command_options import OutFolder, RatesOption
from pipelines.experiment_commands import SCIENTIST, experiment_app, made
from pipelines.instants import instant
from pipelines.key_commands import keys_app
from pipelines.label_commands import labels_app
from pipelines.monitor_commands import monitor_app
from pipelines.progress import Steps
from pipelines.release_commands import release_app
from pipelines.retrain_command import retrain
from riskdistill import __version__
from riskdistill.errors import RiskDistillError, UnavailableError

# Threads that spin while they wait starve each other as soon as anything else runs on the machine. Read by OpenMP
# when PyTorch and LightGBM are loaded, so it must be set before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

START, ENGINEER = "Start here", "Score transactions (engineer)"
REVIEWER = "Review models in service (model-risk reviewer)"

app = typer.Typer(
    name="riskdistill",
    help="Distil a large financial-crime model into one that scores every payment, with evidence.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.add_typer(experiment_app)
app.add_typer(labels_app, name="labels", rich_help_panel=SCIENTIST)
app.add_typer(keys_app, name="keys", rich_help_panel=ENGINEER)
app.add_typer(monitor_app, name="monitor", rich_help_panel=REVIEWER)
app.command(rich_help_panel=REVIEWER)(retrain)
app.add_typer(release_app, name="release", rich_help_panel=REVIEWER)
app.add_typer(audit_app, name="audit", rich_help_panel=REVIEWER)

console = Console()
STOPPED = 130  # exit code after Ctrl-C
AGAIN_LATER = os.EX_TEMPFAIL  # 75: what is missing now may be there later, so the same command may succeed
BundleOption = Annotated[Path, typer.Option("--bundle", help="Directory of a bundle.", show_default=False)]
HistoryOption = Annotated[
    Path | None, typer.Option("--history", help="Canonical transactions that came before, for account state.")
]


def _print_version(wanted: bool) -> None:
    if wanted:
        console.print(f"riskdistill {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and stop.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Options of all commands; `main` looks for --debug itself."""


@app.command(rich_help_panel=START)
def demo(
    out: Annotated[Path, typer.Option(help="Folder for what is made; emptied first.")] = Path("demo-out"),
    keep_serving: Annotated[bool, typer.Option(help="Leave the API up and print a curl line.")] = False,
    port: Annotated[int, typer.Option(help="Port of the API on loopback; 0 takes a free one.")] = 0,
) -> None:
    """The whole story on simulated traffic: train, serve, drift, a bad release, its rollback."""
    from pipelines.demo import run_demo

    run_demo(out, console=console, keep_serving=keep_serving, port=port)


@app.command(rich_help_panel=SCIENTIST)
def simulate(
    out: OutFolder,
    preset: Annotated[str, typer.Option(help="tiny, demo, benchmark or large.")] = "demo",
    workers: Annotated[int, typer.Option(min=1, help="Threads; the result is the same with any number.")] = 2,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change one value, e.g. seed=3; may be repeated.")
    ] = None,
) -> None:
    """Make traffic with laundering in it: transactions, labels as a bank gets them, and the truth beside."""
    from pipelines.jobs import simulation_config
    from riskdistill.simulator import stream, write

    config = simulation_config(preset, overrides or [])
    with Steps() as steps:
        step = steps.step("simulate", 1.0)
        paths = write(stream(config, workers=workers, progress=step.at), out, config)
        step.done(f"{config.days} days of {config.accounts:,} accounts")
    made(paths)


@app.command(rich_help_panel=SCIENTIST)
def ingest(
    source: Annotated[Path, typer.Argument(help="A file, or the folder that holds it.")],
    out: OutFolder,
    format: Annotated[str, typer.Option(help="Name of the reader, e.g. amlworld; a wrong name lists them.")],
    mapping: Annotated[Path | None, typer.Option(help="YAML that names the columns (format mapping).")] = None,
    until: Annotated[
        str | None, typer.Option(help="Leave out what comes at or after, e.g. 2022-09-10T00:00:00Z.")
    ] = None,
) -> None:
    """Read a source into canonical tables and report on its quality; bad rows go to quarantine, with reasons."""
    from riskdistill.data.ingest import ingest as ingest_source

    with Steps() as steps:
        step = steps.step("ingest")
        summary = ingest_source(
            source, out, format=format, mapping=mapping, until=instant(until, "--until"), progress=step.at
        )
        step.at(summary.rows_read, summary.rows_read)
        step.done(f"{summary.accepted:,} accepted")
    table = Table("rows", "count", title=f"{source} as {format}")
    for name in ("rows_read", "accepted", "quarantined", "set_up", "beyond_until", "positives"):
        table.add_row(name.replace("_", " "), f"{getattr(summary, name):,}")
    for reason, count in summary.quarantined_by_reason.items():
        table.add_row(f"  quarantined: {reason}", f"{count:,}")
    console.print(table)
    made({"transactions": out / "transactions.parquet", "quality": out / "quality.html"})


@app.command(rich_help_panel=SCIENTIST)
def quarantine(
    folder: Annotated[Path, typer.Argument(help="Folder of canonical tables (see ingest).")],
    out: Annotated[Path, typer.Option("--out", help="Where to write them: .csv.", show_default=False)],
) -> None:
    """Write the rows in quarantine as CSV, each with its reason, to be corrected (see reingest)."""
    from riskdistill.data.reingest import export_quarantine

    rows = export_quarantine(folder, out)
    console.print(f"{rows:,} rows to correct")
    made({"rows": out})


@app.command(rich_help_panel=SCIENTIST)
def reingest(
    folder: Annotated[Path, typer.Argument(help="Folder of canonical tables (see ingest).")],
    fixed: Annotated[Path, typer.Option("--fixed", help="What `quarantine` wrote, corrected.", show_default=False)],
) -> None:
    """Read corrected rows out of quarantine into the tables; the same file twice adds nothing."""
    from riskdistill.data.reingest import reingest as read_again

    done = read_again(folder, fixed)
    table = Table("rows", "count", title=f"{fixed} into {folder}")
    for name in ("accepted", "beyond_until", "still_wrong", "unchanged", "passed_over"):
        table.add_row(name.replace("_", " "), f"{getattr(done, name):,}")
    table.add_row("left in quarantine", f"{done.summary.quarantined:,}")
    console.print(table)


@app.command(rich_help_panel=SCIENTIST)
def features(
    out: Annotated[Path | None, typer.Option("--out", help="Write all of them: .md or .json.")] = None,
) -> None:
    """What the feature engine computes: groups on the screen, every feature with its meaning in a file."""
    from pipelines.features import write_specification
    from riskdistill.features import FeatureSpec

    spec = FeatureSpec()
    table = Table("group", "features", "for example", title=f"{len(spec.context)} features")
    for group, columns in spec.groups.items():
        table.add_row(group, str(len(columns)), f"{spec.names[columns[0]]}: {spec.context[columns[0]].meaning}")
    console.print(table)
    if out is not None:
        made({"features": write_specification(out)})


@app.command(rich_help_panel=SCIENTIST)
def encode(
    file: Annotated[Path, typer.Argument(help="Canonical transactions, CSV or Parquet.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write features: .parquet.")] = Path(
        "features.parquet"
    ),
    history: HistoryOption = None,
    rates: RatesOption = None,
) -> None:
    """Write the features of every transaction, each from what came strictly before it, in order of time."""
    from pipelines.features import encode_file
    from pipelines.inputs import quarantine_beside

    with Steps() as steps:
        rejected = encode_file(file, out, history, steps, rates=rates)
    made({"features": out, **({"quarantine": quarantine_beside(out)} if rejected else {})})


@app.command(rich_help_panel=ENGINEER)
def score(
    file: Annotated[Path, typer.Argument(help="Canonical transactions, CSV or Parquet.")],
    bundle: BundleOption,
    out: Annotated[Path, typer.Option("--out", help="Where to write scores: .csv or .parquet.")] = Path(
        "scores.csv"
    ),
    history: HistoryOption = None,
    rates: RatesOption = None,
) -> None:
    """Score a file offline, exactly as the service would; the scores are in order of time."""
    from pipelines.inputs import quarantine_beside
    from pipelines.jobs import score_file

    with Steps() as steps:
        scores, rejected = score_file(file, bundle, history, out, steps, rates=rates)
    table = Table("action", "transactions", title=f"{len(scores):,} scored, {rejected:,} in quarantine")
    for action, count in scores["action"].value_counts().items():
        table.add_row(str(action), f"{count:,}")
    console.print(table)
    made({"scores": out, **({"quarantine": quarantine_beside(out)} if rejected else {})})


@app.command(rich_help_panel=ENGINEER)
def serve(
    bundle: Annotated[Path | None, typer.Option(help="Serve this bundle, always.")] = None,
    releases: Annotated[
        str | None, typer.Option(help="Follow the champion of the release log at this URL.")
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="Folder of the decision log and the pseudonym key.")
    ] = None,
    history: Annotated[Path | None, typer.Option(help="Canonical transactions that came before.")] = None,
    rates: RatesOption = None,
    provider: Annotated[str | None, typer.Option(help="What computes the networks: cpu, cuda or tensorrt.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; loopback by default.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 8000 by default.")] = None,
    bypass: Annotated[
        Path | None, typer.Option(help="YAML file of the teacher bypass: policies, budget, which teacher.")
    ] = None,
    keys: Annotated[Path | None, typer.Option(help="File of hashed API keys (see riskdistill keys).")] = None,
    api_keys_file: Annotated[
        Path | None, typer.Option(help="Plain API keys, one a line, mode 0600; or RISKDISTILL_API_KEYS.")
    ] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM certificate chain: serve HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM key of that certificate, mode 0600.")] = None,
    proxy: Annotated[
        str | None, typer.Option(help="Addresses of proxies whose X-Forwarded-* headers count, with commas.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that serve; several need RISKDISTILL_STATE=redis://…")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="What is told on standard error: text or json.")] = None,
) -> None:
    """Run the scoring API until it is told to stop. Every option is also a RISKDISTILL_ variable."""
    from api.server import serve as serve_api
    from api.settings import load_settings

    serve_api(
        load_settings(
            bundle=bundle,
            releases=releases,
            state_dir=state_dir,
            history=history,
            rates=rates,
            provider=provider,
            host=host,
            port=port,
            bypass=bypass,
            keys=keys,
            api_keys_file=api_keys_file,
            tls_certificate=tls_certificate,
            tls_key=tls_key,
            proxy=proxy,
            workers=workers,
            log_format=log_format,
        )
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0; 1 for an error; 2 for wrong usage; 75 where a part is not there now (a database, say); 130 when stopped.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        app(arguments, prog_name="riskdistill")
    except SystemExit as outcome:
        if outcome.code == STOPPED:
            print("stopped; the same command goes on where it was", file=sys.stderr)
        return outcome.code if isinstance(outcome.code, int) else int(outcome.code is not None)
    except (RiskDistillError, OSError) as error:
        if "--debug" in arguments:
            raise
        for line in str(error).splitlines():  # a configuration tells all its mistakes, one a line
            print(f"error: {line}", file=sys.stderr)
        return AGAIN_LATER if isinstance(error, UnavailableError) else 1
    except Exception as error:
        if "--debug" in arguments:
            raise
        print(
            f"error: unexpected {type(error).__name__}: {error} (mend: report what --debug shows)", file=sys.stderr
        )
        return 1
    return 0
