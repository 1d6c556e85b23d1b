"""The search for the student's size: as exact as possible within a latency that is measured where it will run.

Every candidate is exported untrained and timed first; one that is over the budget is given up before it costs any
training. The others are trained briefly by the caller's proxy. What is left is a front: no candidate on it is
beaten in both score and latency (multi-objective Tree-structured Parzen Estimator: Ozaki et al., 2020). The study
lies in a file, so that a search which was stopped goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.table import Table

from riskdistill.config import SearchConfig, StudentConfig
from riskdistill.errors import TrainingError
from riskdistill.features import Encoded
from riskdistill.models.calibration import Calibrator
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.onnx_export import export_onnx
from riskdistill.models.onnx_model import OnnxScorer

if TYPE_CHECKING:
    import optuna

_CHOICES: Final = ("width", "layers", "heads", "events_per_party", "pieces", "context_width")
_BATCH: Final = 32
_RUNS: Final = 100  # timed calls
_STUDY: Final = "student"

Build = Callable[[StudentConfig], EventTransformer]  # an untrained network of this size
Train = Callable[[StudentConfig], float]  # score of a briefly trained one, the higher, the better


def latency_us(model: EventTransformer, sample: Encoded, rows: int) -> float:
    """Median microseconds for a batch of the first `rows` rows of `sample`, by ONNX Runtime on one thread."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "candidate.onnx"
        export_onnx(model, path, sample)
        scorer = OnnxScorer(path, Calibrator())
    batch = sample.take(slice(0, rows))
    seconds = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        scorer.score(batch)
        seconds.append(time.perf_counter() - started)
    return 1e6 * float(np.median(seconds))


def search(
    base: StudentConfig, config: SearchConfig, build: Build, train: Train, sample: Encoded, folder: Path
) -> optuna.Study:
    """Try sizes until `config.trials` were tried, those of earlier calls with this folder included.

    Args:
        base: what is not searched.
        sample: rows to time on, at least 32.
        folder: for the study, `search.db`.

    Returns:
        The study; `front` tells its best trials.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{folder / 'search.db'}"
    study = optuna.create_study(
        storage=storage, study_name=_STUDY, load_if_exists=True, directions=["maximize", "minimize"]
    )
    done = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    tried = len(study.get_trials(deepcopy=False, states=done))
    # another seed after a stop: the same one would propose again what was tried
    study.sampler = optuna.samplers.TPESampler(seed=config.seed + tried, n_startup_trials=min(10, config.trials))

    def evaluate(trial: optuna.Trial) -> tuple[float, float]:
        size = _propose(trial, base, config)
        model = build(size)
        alone, batch = (latency_us(model, sample, rows) for rows in (1, _BATCH))
        trial.set_user_attr("parameters", model.parameter_count())
        trial.set_user_attr("batch_us_per_row", batch / _BATCH)
        if alone > config.latency_us:
            raise optuna.TrialPruned(f"{alone:.0f} µs for one row, over {config.latency_us:.0f} µs")
        return train(size), alone

    study.optimize(evaluate, n_trials=max(0, config.trials - tried))
    return study


def _propose(trial: optuna.Trial, base: StudentConfig, config: SearchConfig) -> StudentConfig:
    import optuna

    chosen: dict[str, Any] = {name: trial.suggest_categorical(name, getattr(config, name)) for name in _CHOICES}
    if chosen["width"] % chosen["heads"]:
        raise optuna.TrialPruned("the heads do not divide the width")
    return StudentConfig.model_validate({**base.model_dump(), **chosen})


@dataclass(frozen=True)
class Candidate:
    """One size on the front.

    Attributes:
        choices: of what was searched, by the names of `StudentConfig`.
        score: of the briefly trained network.
        latency_us, batch_us_per_row: microseconds for one row alone, and for each of 32.
    """

    choices: dict[str, int]
    parameters: int
    score: float
    latency_us: float
    batch_us_per_row: float


def front(study: optuna.Study) -> tuple[Candidate, ...]:
    """The candidates that none beats in both score and latency, the best score first.

    Raises:
        TrainingError: no candidate was within the budget.
    """
    if not study.best_trials:
        raise TrainingError(
            "no student within the latency budget", mend="raise search.latency_us or offer smaller sizes"
        )
    found = [
        Candidate(
            choices=trial.params,
            parameters=trial.user_attrs["parameters"],
            score=trial.values[0],
            latency_us=trial.values[1],
            batch_us_per_row=trial.user_attrs["batch_us_per_row"],
        )
        for trial in study.best_trials
    ]
    return tuple(sorted(found, key=lambda candidate: -candidate.score))


def front_table(candidates: Sequence[Candidate]) -> Table:
    """A front as people read it."""
    table = Table(title="Students within the latency budget")
    for heading in (*_CHOICES, "parameters", "score", "one row, µs", f"row of {_BATCH}, µs"):
        table.add_column(heading, justify="right")
    for candidate in candidates:
        table.add_row(
            *(str(candidate.choices[name]) for name in _CHOICES),
            f"{candidate.parameters:,}",
            f"{candidate.score:.4f}",
            f"{candidate.latency_us:.0f}",
            f"{candidate.batch_us_per_row:.1f}",
        )
    return table
