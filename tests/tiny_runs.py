"""The main job on the tiny world: how tests configure it, run it, and watch what it trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from pipelines.progress import Steps
from pipelines.run import RunResult, run
from riskdistill.config import ExperimentConfig
from riskdistill.models.training import EpochLog, Objective, Trainer


def config_with(changes: Mapping[str, Any] | None = None) -> ExperimentConfig:
    """The tiny experiment on canonical files; `changes` go into its sections."""
    fields: dict[str, Any] = tiny.CONFIG.model_dump(mode="json", exclude_unset=True) | {
        "source": {"format": "canonical"},
        "boosted_trees": {"candidates": [{"rounds": 20}]},
        "evaluation": {"timing_rows": 256},
    }
    for section, values in (changes or {}).items():
        fields[section] = fields.get(section, {}) | values
    return ExperimentConfig.model_validate(fields)


def run_to(out: Path, source: Path, config: ExperimentConfig | None = None) -> RunResult:
    torch.set_num_threads(1)  # as `tiny.network` does: sums by another number of threads end in other bits
    with Steps() as steps:
        return run(config or config_with(), source, out, steps)


class Epochs:
    """The epochs trained, as (network, epoch); training stops as Ctrl-C would stop it before `stop_at`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trained: list[tuple[str, int]] = []
        self.stop_at: tuple[str, int] | None = None
        original = Trainer._epoch

        def watched(trainer: Trainer, objective: Objective, epoch: int) -> EpochLog:
            if (trainer.name, epoch) == self.stop_at:
                raise KeyboardInterrupt
            self.trained.append((trainer.name, epoch))
            return original(trainer, objective, epoch)

        monkeypatch.setattr(Trainer, "_epoch", watched)
