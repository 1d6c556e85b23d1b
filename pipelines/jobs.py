"""The smaller jobs behind the command line: simulation settings, offline scoring, judging a bundle on new data."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from monitoring.pages import write_whole
from pipelines.inputs import replay_history, valid_transactions
from pipelines.progress import Steps
from pipelines.run import period_facts
from pipelines.score import check_ending, score_table, write_scores
from pipelines.served import facts_of
from riskdistill.bundle import Bundle
from riskdistill.config import EvaluationConfig, SplitConfig
from riskdistill.config.loader import apply_override
from riskdistill.data.ingest import load_canonical, load_truth
from riskdistill.data.rates import Rates
from riskdistill.data.schema import TIMESTAMP
from riskdistill.dataset import Period, Tables, fingerprint, periods_to_judge
from riskdistill.errors import BundleError, ConfigError
from riskdistill.evaluation.metrics import (
    STUDENT,
    TEACHER,
    DatasetFacts,
    MetricsReport,
    PeriodFacts,
    ScoredPeriod,
    evaluate,
)
from riskdistill.simulator import PRESETS, SimulationConfig


def simulation_config(preset: str, overrides: list[str]) -> SimulationConfig:
    """A preset with `key=value` changes.

    Raises:
        ConfigError: an unknown preset or key, or a value that does not fit.
    """
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}", where="--preset", mend=f"choose among {', '.join(PRESETS)}")
    values = PRESETS[preset].model_dump(mode="json")
    for override in overrides:
        try:
            apply_override(override, values, {}, values)
        except ValueError as error:
            raise ConfigError(
                str(error), where=f"--set {override}", mend="write e.g. --set seed=3 or --set recording.large=0.9"
            ) from error
    try:
        return SimulationConfig.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ConfigError(
            faults, where="--set", mend=f"keys are {', '.join(SimulationConfig.model_fields)}"
        ) from error


def score_file(
    file: Path, bundle_path: Path, history: Path | None, out: Path, steps: Steps, *, rates: Path | None = None
) -> tuple[pd.DataFrame, int]:
    """Score a file of canonical transactions after replaying a history; returns scores and rows rejected.

    Scores are in order of time, rows of one timestamp in the file's order. Rows that are not valid go to
    `inputs.quarantine_beside(out)`, with reasons.

    Raises:
        ConfigError: `out` ends in what cannot be written; nothing was scored.
        EmptyInputError: no row is valid.
    """
    check_ending(out)
    bundle = Bundle.load(bundle_path)
    engine = bundle.engine(Rates.read(rates))
    replay_history(engine, history, steps)
    transactions, rejected = valid_transactions(file, out)
    step = steps.step("score", transactions.num_rows)
    scores = score_table(bundle, engine, transactions, step)
    step.done()
    write_scores(scores, out)
    return scores, rejected


def evaluate_bundle(
    bundle_path: Path, source: Path, out: Path, steps: Steps, *, rates: Path | None = None
) -> tuple[MetricsReport, Path]:
    """Judge a bundle on the last fifth of labelled canonical tables; the fifth before it chooses F1's threshold.

    The last fifth is judged by the truth where the tables have one beside them.

    Returns:
        The report, and the path of `metrics.json` in `out`.

    Raises:
        BundleError: the bundle has no teacher to compare with, or must not be used.
        DataError: the tables have no labels, or too few rows of a kind in a period.
    """
    bundle = Bundle.load(bundle_path)
    if bundle.teacher is None:
        raise BundleError("it has no teacher", where=str(bundle_path), mend="evaluate a bundle with both models")
    scorers = {STUDENT: bundle.student, TEACHER: bundle.teacher}
    tables = Tables(*load_canonical(source), load_truth(source))
    step = steps.step("features", tables.transactions.num_rows)
    engine = bundle.engine(Rates.read(rates))
    periods = periods_to_judge(
        tables.transactions, tables.labels, engine, SplitConfig(), truth=tables.truth, progress=step.advance
    )
    step.done()
    step = steps.step("score")
    validation, test = (
        ScoredPeriod(
            name,
            period.label,
            period.typology,
            {model: scorer.score_all(period.encoded).score for model, scorer in scorers.items()},
        )
        for name, period in zip(("validation", "test"), periods, strict=True)
    )
    settings = EvaluationConfig()
    facts = {
        model: facts_of(scorer, bundle.manifest.parameters[model], periods[1].encoded, settings)
        for model, scorer in scorers.items()
    }
    dataset = _judged_on(f"{bundle.manifest.name} on {source.resolve().name}", tables, periods)
    report = evaluate(validation, test, facts, dataset, settings)
    step.done()
    return report, write_whole(out / "metrics.json", report.model_dump_json(indent=2) + "\n")


def _judged_on(name: str, tables: Tables, periods: tuple[Period, Period]) -> DatasetFacts:
    """What a bundle is judged on; the history before it stands as the training period."""
    transactions, labels, truth = tables
    start = pa.scalar(periods[0].start, TIMESTAMP)
    rows = pc.sum(pc.less(transactions["timestamp"], start)).as_py()
    history = PeriodFacts(
        rows=rows,
        laundering=pc.sum(labels["is_laundering"].slice(0, rows)).as_py(),
        start=transactions["timestamp"][0].as_py(),
        end=transactions["timestamp"][rows - 1].as_py(),
    )
    validation, test = map(period_facts, periods)
    return DatasetFacts(
        name=name,
        fingerprint=fingerprint(transactions, labels, truth=truth),
        train=history,
        validation=validation,
        test=test,
    )
