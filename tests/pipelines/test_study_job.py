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
from pipelines.recipes import FULL, NONE, recipes
from riskdistill.dataset import Dataset
from riskdistill.models.teacher import Answers
from riskdistill.models.training import Trainer

CONFIG = tiny.configured(student_training={"epochs": 1, "rows_per_epoch": 128})
WIDTHS = (8, 16)
CHOSEN = ("logits alone", "with hidden states", "answers out of fold")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tiny_dataset: Dataset) -> list[str]:
    """Names of all that was trained for more than a look at its checkpoint."""
    teachers = untrained_teachers(monkeypatch, job, tiny_dataset, CONFIG)
    teachers.parameters = 200_000
    teachers.ensemble = SimpleNamespace(
        answer=lambda rows, _: Answers(logit=np.linspace(-4, 4, len(rows), dtype=np.float32))
    )
    monkeypatch.setattr(job, "recipes", lambda config: {name: recipes(config)[name] for name in CHOSEN})
    monkeypatch.setattr(job, "WIDTHS", WIDTHS)
    monkeypatch.setattr(job, "check_text_teacher", lambda _: None)
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
    assert len(trained) == 2 * (len(WIDTHS) + 2 + len(CHOSEN))  # 2: as configured, and without a teacher
    assert len(set(trained)) == len(trained)
    page = out / "study" / "report" / "distillation.html"
    assert str(page) in told
    evidence = json.loads(page.with_suffix(".json").read_text())
    assert [line["recipe"] for line in evidence["ablation"]] == [FULL, NONE, *CHOSEN]
    assert all(line["pr_auc"]["seeds"] == 2 for line in evidence["ablation"])
    small, smaller = (point["compression"] for point in evidence["retention"])
    assert 1 < small < smaller
    assert evidence["period"] in page.read_text()
    (absent,) = [line for line in evidence["ruled_out"] if line.startswith("stages: feature, attention, logits")]
    assert "three stages need 3 epochs" in absent
    assert absent in told
    assert absent in page.read_text()
    assert page.read_text().count("<svg") == 2
    done("study", config, "--input", tmp_path, "--out", out, "--seeds", 2)
    assert len(trained) == 2 * (len(WIDTHS) + 2 + len(CHOSEN))  # nothing is trained twice
