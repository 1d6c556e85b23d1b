"""The smaller jobs behind the command line: simulation settings, offline scoring, judging a bundle on new data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import yaml
from pydantic import ValidationError

from pipelines.progress import Steps
from pipelines.run import measure_speed
from pipelines.score import score_table, write_scores
from riskdistill.bundle import Bundle
from riskdistill.config import EvaluationConfig, SplitConfig
from riskdistill.data.ingest import load_canonical, read_transactions
from riskdistill.dataset import as_known_at, split_points
from riskdistill.errors import BundleError, ConfigError
from riskdistill.evaluation.metrics import (
    STUDENT,
    TEACHER,
    DatasetFacts,
    MetricsReport,
    ModelFacts,
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
    values: dict[str, Any] = PRESETS[preset].model_dump()
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise ConfigError(
                "not of the form key=value", where=f"--set {override}", mend="write e.g. --set seed=3"
            )
        values[key] = yaml.safe_load(text)
    try:
        return SimulationConfig.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ConfigError(
            faults, where="--set", mend=f"keys are {', '.join(SimulationConfig.model_fields)}"
        ) from error


def score_file(
    file: Path, bundle_path: Path, history: Path | None, out: Path, steps: Steps
) -> tuple[pd.DataFrame, int]:
    """Score a file of canonical transactions after replaying a history; returns scores and rows rejected.

    Rows that are not valid are written beside `out`, with reasons.
    """
    bundle = Bundle.load(bundle_path)
    engine = bundle.engine()
    if history is not None:
        past, _ = read_transactions(history)
        step = steps.step("history", past.num_rows)
        engine.replay(past, tokens=False, progress=step.advance)
        step.done()
    transactions, rejected = read_transactions(file)
    step = steps.step("score", transactions.num_rows)
    scores = score_table(bundle, engine, transactions, step)
    step.done()
    out.parent.mkdir(parents=True, exist_ok=True)
    write_scores(scores, out)
    if rejected.num_rows:
        pq.write_table(rejected, out.with_suffix(".quarantine.parquet"))
    return scores, int(rejected.num_rows)


def evaluate_bundle(bundle_path: Path, source: Path, out: Path, steps: Steps) -> tuple[MetricsReport, Path]:
    """Judge a bundle on the last fifth of labelled canonical tables; the fifth before it chooses F1's threshold.

    Raises:
        BundleError: the bundle has no teacher to compare with.
    """
    bundle = Bundle.load(bundle_path)
    if bundle.teacher is None:
        raise BundleError("it has no teacher", where=str(bundle_path), mend="evaluate a bundle with both models")
    transactions, labels = load_canonical(source)
    times = transactions["timestamp"].cast("int64").to_numpy()
    first, second = split_points(times, SplitConfig())
    step = steps.step("features", transactions.num_rows)
    wanted = [row >= first for row in range(len(times))]
    encoded = bundle.engine().replay(transactions, tokens=pd.Series(wanted).to_numpy(), progress=step.advance)
    step.done()
    step = steps.step("score")
    moments = transactions["timestamp"].to_pylist()
    known = as_known_at(labels, moments[second])
    scorers = {STUDENT: bundle.student, TEACHER: bundle.teacher}
    periods, facts = {}, {}
    for name, rows, table in (("validation", slice(first, second), known), ("test", slice(second, None), labels)):
        part = type(encoded)(encoded.context[rows], encoded.events[_shifted(rows, first)])
        label = table["is_laundering"].to_numpy()[rows]
        typology = table["typology"].to_numpy(zero_copy_only=False)[rows]
        scores = {model: scorer.score_all(part).score for model, scorer in scorers.items()}
        periods[name] = ScoredPeriod(name, label, typology, scores)
        facts[name] = PeriodFacts(
            rows=len(label), laundering=int(label.sum()), start=moments[rows][0], end=moments[rows][-1]
        )
    past = labels["is_laundering"].to_numpy()[:first]
    dataset = DatasetFacts(
        name=f"{bundle.manifest.name} on {source.name}",
        fingerprint=bundle.manifest.dataset_fingerprint,
        train=PeriodFacts(rows=first, laundering=int(past.sum()), start=moments[0], end=moments[first - 1]),
        validation=facts["validation"],
        test=facts["test"],
    )
    settings = EvaluationConfig()
    costs = {
        name: ModelFacts(
            parameters=bundle.manifest.parameters[name],
            bytes=scorer.bytes,
            rows_per_second=measure_speed(part, settings, scorer.score),
        )
        for name, scorer in scorers.items()
    }
    report = evaluate(periods["validation"], periods["test"], costs, dataset, settings)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "metrics.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(report.model_dump_json(indent=2))
    temporary.replace(path)
    step.done()
    return report, path


def _shifted(rows: slice, offset: int) -> slice:
    return slice(rows.start - offset, None if rows.stop is None else rows.stop - offset)
