"""Commands of the data scientist's experiments: `dataset`, `run`, `search`, `study`, `evaluate`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipelines.command_options import OutFolder, RatesOption
from pipelines.progress import Steps
from riskdistill.tracking import tracker

if TYPE_CHECKING:
    from pipelines.run import RunResult

SCIENTIST = "Train on case data (data scientist)"

experiment_app = typer.Typer()

console = Console()
ConfigArgument = Annotated[Path, typer.Argument(help="An experiment, e.g. configs/amlgentex.yaml.")]
SourceOption = Annotated[
    Path, typer.Option("--input", help="What the configured reader reads.", show_default=False)
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change one value, e.g. training.epochs=3; may be repeated.")
]
RowsOption = Annotated[
    Path | None, typer.Option("--rows", help="Folder of encoded rows to share; by default one in --out.")
]


@experiment_app.command(rich_help_panel=SCIENTIST)
def dataset(
    config: ConfigArgument,
    input: SourceOption,
    out: OutFolder,
    overrides: SetOption = None,
    rows: RowsOption = None,
) -> None:
    """Build the dataset of an experiment alone: its card, its split, and encoded rows that `run` will find."""
    from pipelines.datasets import prepare
    from riskdistill.config import load_config

    settings = load_config(config, overrides or [])
    command = command_line("dataset", config, input, out, overrides)
    with Steps() as steps:
        prepared = prepare(settings, input, out, steps, command=command, rows=rows)
    made({name: prepared.folder / name for name in ("card.md", "card.json", "split.parquet")})


@experiment_app.command(rich_help_panel=SCIENTIST)
def run(
    config: ConfigArgument,
    input: SourceOption,
    out: OutFolder,
    overrides: SetOption = None,
    rows: RowsOption = None,
) -> None:
    """Train teacher and student, judge them on later data, write report and bundle. Resumes if stopped."""
    from pipelines.run import run as run_job
    from riskdistill.config import load_config

    settings = load_config(config, overrides or [])
    command = command_line("run", config, input, out, overrides)
    with Steps() as steps:
        result = run_job(settings, input, out, steps, command=command, rows=rows)
    _track(result, command)
    console.print(report_table(result.report))
    card = out / "dataset" / "card.md"
    made(
        {
            "dataset": card,
            "report": result.page,
            "distillation": result.distillation,
            "metrics": result.metrics,
            "bundle": result.bundle.path,
        }
    )


@experiment_app.command(rich_help_panel=SCIENTIST)
def search(
    config: ConfigArgument,
    input: SourceOption,
    out: OutFolder,
    trials: Annotated[int | None, typer.Option(help="Sizes to try in all; as --set search.trials=.")] = None,
    latency_us: Annotated[
        float | None, typer.Option(help="Microseconds that one row may take; as --set search.latency_us=.")
    ] = None,
    overrides: SetOption = None,
    rows: RowsOption = None,
) -> None:
    """Search the student's size: as exact as possible within a latency, measured here. Resumes if stopped."""
    from pipelines.search import search as search_job
    from riskdistill.config import load_config
    from riskdistill.student.search import front_table

    asked = {"trials": trials, "latency_us": latency_us}
    changes = [
        *(overrides or []),
        *(f"search.{name}={value}" for name, value in asked.items() if value is not None),
    ]
    settings = load_config(config, changes)
    command = command_line("search", config, input, out, changes)
    with Steps() as steps:
        result = search_job(settings, input, out, steps, command=command, rows=rows)
    console.print(front_table(result.front))
    made({"front": result.figures, "configuration": result.snippet})


@experiment_app.command(rich_help_panel=SCIENTIST)
def study(
    config: ConfigArgument,
    input: SourceOption,
    out: OutFolder,
    seeds: Annotated[int, typer.Option(min=1, help="Students of each kind; 3 or more show what chance does.")] = 3,
    overrides: SetOption = None,
    rows: RowsOption = None,
) -> None:
    """Ask what each term, schedule and size of the student is worth: many students, hours. Resumes if stopped."""
    from pipelines.recipes import ruled_out
    from pipelines.study import study as study_job
    from riskdistill.config import load_config

    settings = load_config(config, overrides or [])
    for recipe in ruled_out(settings):
        console.print(f"not compared: {recipe}", soft_wrap=True, highlight=False, markup=False)
    command = f"{command_line('study', config, input, out, overrides)} --seeds {seeds}"
    with Steps() as steps:
        page = study_job(settings, input, out, steps, seeds=seeds, command=command, rows=rows)
    made({"study": page})


def _track(result: RunResult, command: str) -> None:
    """Tell MLflow of a run, where the environment names one."""
    tracking = tracker()
    if tracking is None:
        return
    figures = {
        f"{name}_{measure}": getattr(model, measure)
        for name, model in result.report.models.items()
        for measure in ("pr_auc", "roc_auc", "ece", "parameters", "rows_per_second")
    }
    told = {"experiment": result.config.name, "dataset": result.dataset.fingerprint, "seed": result.config.seed}
    told |= {"bundle": result.bundle.version, "command": command}
    pages = [result.page, result.metrics, result.distillation, result.bundle.path / "model_card.md"]
    tracking.log_run("run", parameters=told, metrics=figures, artefacts=pages)


def command_line(job: str, config: Path, source: Path, out: Path, overrides: list[str] | None) -> str:
    """What was typed, so that it can be typed again."""
    words = ["riskdistill", job, str(config), "--input", str(source), "--out", str(out)]
    return shlex.join([*words, *(word for override in overrides or [] for word in ("--set", override))])


@experiment_app.command(rich_help_panel=SCIENTIST)
def evaluate(
    bundle: Annotated[Path, typer.Option("--bundle", help="Directory of a bundle.", show_default=False)],
    input: Annotated[Path, typer.Option("--input", help="Folder of canonical tables with labels (see ingest).")],
    out: OutFolder,
    rates: RatesOption = None,
) -> None:
    """Judge a bundle's student and teacher on labelled data that it has not seen."""
    from pipelines.jobs import evaluate_bundle

    with Steps() as steps:
        report, path = evaluate_bundle(bundle, input, out, steps, rates=rates)
    console.print(report_table(report))
    made({"metrics": path})


def report_table(report: Any) -> Table:
    """The models of a `MetricsReport` side by side."""
    table = Table("model", title=f"{report.dataset.name}, test period")
    for name in ("PR-AUC (95 %)", "recall", "ECE", "parameters", "rows/s"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, m in report.models.items():
        low, high = m.pr_auc_interval
        recall = m.recall_at_budget.get("0.005")
        table.add_row(
            name.replace("_", " "),
            f"{m.pr_auc:.3f} ({low:.2f}-{high:.2f})",
            "" if recall is None else f"{recall:.3f}",
            f"{m.ece:.4f}",
            f"{m.parameters:,}",
            f"{m.rows_per_second:,.0f}",
        )
    table.caption = (
        f"student / teacher: PR-AUC {report.retention:.1%}, {report.compression:.1f} x smaller, "
        f"{report.speedup:.1f} x faster\nrecall: at 0.5 % of traffic alerted; rows/s: on one thread"
    )
    return table


def made(paths: dict[str, Path]) -> None:
    """Tell where each thing is."""
    for name, path in paths.items():
        console.print(f"{name:<14} {path}", soft_wrap=True, highlight=False)
