"""`riskdistill search`: what it writes, that it goes on, which choices it offers. The teachers are untrained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import yaml
from untrained_teachers import untrained_teachers

from pipelines import search as job
from riskdistill.config import SearchConfig, load_config
from riskdistill.dataset import Dataset
from riskdistill.errors import ConfigError
from riskdistill.models.training import Trainer
from riskdistill.student import search as searching

CONFIG = tiny.configured(
    search={"rows": 128, "width": (16, 18, 32), "layers": (1,), "heads": (2,), "events_per_party": (2, 4, 16)}
    | {"pieces": (300,), "context_width": (8,)}
)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tiny_dataset: Dataset) -> list[tuple[int, int]]:
    """Width and rows of every brief training; a size takes as many microseconds as it is wide."""
    untrained_teachers(monkeypatch, job, tiny_dataset, CONFIG)
    monkeypatch.setattr(searching, "latency_us", lambda model, sample, rows: float(model.config.width * rows))
    seen: list[tuple[int, int]] = []
    run = Trainer.run

    def noted(trainer: Trainer, objective: object) -> object:
        seen.append((trainer.model.config.width, trainer.steps_per_epoch * trainer.rows_per_step))
        return run(trainer, objective)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "run", noted)
    return seen


def test_a_search_writes_its_front_and_the_best_size_and_goes_on(
    trained: list[tuple[int, int]], tmp_path: Path, done: Callable[..., str]
) -> None:
    config, out = tmp_path / "tiny.yaml", tmp_path / "out"
    config.write_text(CONFIG.model_dump_json(exclude_unset=True))  # JSON is YAML
    out.mkdir()

    def searched(trials: int) -> str:
        return done("search", config, "--input", tmp_path, "--out", out, "--trials", trials, "--latency-us", 20)

    told = searched(4)
    first = len(trained)
    assert first > 0
    assert set(trained) == {(16, 128)}  # what is over the budget is never trained
    front = json.loads((out / "search" / "front.json").read_text())
    assert all(one["latency_us"] == 16 and one["batch_us_per_row"] == 16 and 0 < one["score"] <= 1 for one in front)
    assert f"{front[0]['score']:.4f}" in told
    snippet = out / "search" / "student.yaml"
    assert str(snippet) in told
    student = load_config(config).student
    best = yaml.safe_load(snippet.read_text())["student"]
    assert best == student.model_dump(exclude_defaults=True) | front[0]["choices"]
    searched(4)
    assert len(trained) == first  # nothing is tried twice
    searched(5)
    assert len(trained) <= first + 1
    assert len(list(out.glob("search/*/search.db"))) == 1


def test_choices_that_the_experiment_does_not_allow_are_not_offered() -> None:
    offered = job.offered_choices(CONFIG)
    assert offered.width == (16, 32)  # 4 relation heads divide them
    assert offered.events_per_party == (2, 4)  # of 8 that are kept
    assert offered.pieces == CONFIG.search.pieces
    assert offered.heads == CONFIG.search.heads


def test_heads_that_are_matched_are_searched_as_many_as_the_teacher_s() -> None:
    terms = [{"name": "logits", "weight": 1.0}, {"name": "attention_maps", "weight": 0.5, "by_head": True}]
    config = tiny.configured(
        student={**CONFIG.student.model_dump(), "heads": 4},
        distillation={"terms": terms},
        search={"heads": (2, 4)},
    )
    assert job.offered_choices(config).heads == (4,)


@pytest.mark.parametrize("choices", [{"width": (18,)}, {"events_per_party": (16, 32)}])
def test_a_search_without_a_choice_is_refused(choices: dict[str, tuple[int, ...]]) -> None:
    config = CONFIG.model_copy(update={"search": SearchConfig(**choices)})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=rf"search\.{next(iter(choices))}"):
        job.offered_choices(config)
