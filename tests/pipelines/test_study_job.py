"""`riskdistill study`: what it compares and writes, and that it goes on. The teachers are untrained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from untrained_teachers import untrained_teachers

from pipelines import study as job
from riskdistill.config import DistillationConfig
from riskdistill.dataset import Dataset
from riskdistill.models.teacher import Answers
from riskdistill.models.training import Trainer

CONFIG = tiny.configured(student_training={"epochs": 1, "rows_per_epoch": 128})
SIZES = ((16, 1, 8, 300), (8, 1, 8, 200))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tiny_dataset: Dataset) -> list[str]:
    """Names of all that was trained for more than a look at its checkpoint."""
    teachers = untrained_teachers(monkeypatch, job, tiny_dataset, CONFIG)
    teachers.parameters = 1_000_000
    said = np.linspace(-4, 4, len(tiny_dataset.test), dtype=np.float32)
    teachers.ensemble = SimpleNamespace(answer=lambda *_: Answers(logit=said))
    monkeypatch.setattr(job, "RECIPES", {name: job.RECIPES[name] for name in ("logits alone", "MixUp")})
    monkeypatch.setattr(job, "SIZES", SIZES)
    seen: list[str] = []
    epoch = Trainer._epoch

    def noted(trainer: Trainer, objective: object, number: int) -> object:
        seen.append(trainer.name)
        return epoch(trainer, objective, number)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_epoch", noted)
    return seen


def test_a_study_compares_every_recipe_and_size_and_goes_on(
    trained: list[str], tmp_path: Path, done: Callable[..., str]
) -> None:
    config, out = tmp_path / "tiny.yaml", tmp_path / "out"
    config.write_text(CONFIG.model_dump_json(exclude_unset=True))  # JSON is YAML
    out.mkdir()
    told = done("study", config, "--input", tmp_path, "--out", out, "--seeds", 2)
    assert len(trained) == 2 * (len(SIZES) + 2 + 2)  # sizes; recipes; as configured and without a teacher
    assert len(set(trained)) == len(trained)
    page = out / "study" / "report" / "distillation.html"
    assert str(page) in told
    evidence = json.loads(page.with_suffix(".json").read_text())
    assert [line["recipe"] for line in evidence["ablation"]] == [job.FULL, job.NONE, "logits alone", "MixUp"]
    assert all(line["pr_auc"]["seeds"] == 2 for line in evidence["ablation"])
    small, smaller = (point["compression"] for point in evidence["retention"])
    assert 1 < small < smaller
    assert page.read_text().count("<svg") == 2
    done("study", config, "--input", tmp_path, "--out", out, "--seeds", 2)
    assert len(trained) == 2 * (len(SIZES) + 2 + 2)  # nothing is trained twice


def test_every_recipe_is_a_loss_that_can_be_configured() -> None:
    every = [DistillationConfig.model_validate(changes) for changes in job.RECIPES.values()]
    assert len({one.model_dump_json() for one in every}) == len(every)
