"""The search: within the budget, without training what is over it, and on from where it stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from riskdistill.config import SearchConfig, StudentConfig
from riskdistill.dataset import Dataset
from riskdistill.errors import TrainingError
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.student import search as searching
from riskdistill.student.search import front, front_table, latency_us, search

CONFIG = SearchConfig(
    trials=4,
    latency_us=50.0,
    width=(8, 16),
    layers=(1,),
    heads=(2,),
    events_per_party=(2, 4),
    pieces=(300,),
    context_width=(8,),
)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency by width alone: what is tested is the search, not this machine."""
    monkeypatch.setattr(searching, "latency_us", lambda model, sample, rows: 4.0 * model.config.width * rows**0.5)


class Counted:
    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.trained = dataset, 0

    def build(self, size: StudentConfig) -> EventTransformer:
        return tiny.network(self.dataset, size)

    def train(self, size: StudentConfig) -> float:
        self.trained += 1
        return size.events_per_party / 10


@pytest.mark.usefixtures("quick")
def test_only_what_is_within_the_budget_is_trained(tiny_dataset: Dataset, tmp_path: Path) -> None:
    calls = Counted(tiny_dataset)
    study = search(tiny.CONFIG.student, CONFIG, calls.build, calls.train, tiny_dataset.test.encoded, tmp_path)
    assert len(study.trials) == 4
    within = [trial for trial in study.trials if trial.params["width"] == 8]
    assert calls.trained == len(within) > 0
    found = front(study)
    assert found[0].choices["width"] == 8
    assert found[0].choices["events_per_party"] == max(trial.params["events_per_party"] for trial in within)
    assert found[0].score == found[0].choices["events_per_party"] / 10
    assert found[0].latency_us == 32
    assert front_table(found).row_count == len(found) == len(study.best_trials)


@pytest.mark.usefixtures("quick")
def test_a_stopped_search_goes_on(tiny_dataset: Dataset, tmp_path: Path) -> None:
    calls = Counted(tiny_dataset)
    rows = tiny_dataset.test.encoded
    search(tiny.CONFIG.student, CONFIG.model_copy(update={"trials": 2}), calls.build, calls.train, rows, tmp_path)
    study = search(tiny.CONFIG.student, CONFIG, calls.build, calls.train, rows, tmp_path)
    assert len(study.trials) == 4
    again = search(tiny.CONFIG.student, CONFIG, calls.build, calls.train, rows, tmp_path)
    assert len(again.trials) == 4


@pytest.mark.usefixtures("quick")
def test_no_student_within_the_budget_is_an_error(tiny_dataset: Dataset, tmp_path: Path) -> None:
    calls = Counted(tiny_dataset)
    tight = CONFIG.model_copy(update={"trials": 2, "latency_us": 1.0})
    study = search(tiny.CONFIG.student, tight, calls.build, calls.train, tiny_dataset.test.encoded, tmp_path)
    assert calls.trained == 0
    with pytest.raises(TrainingError, match="latency budget"):
        front(study)


def test_latency_is_measured_and_grows_with_the_batch(tiny_dataset: Dataset) -> None:
    model = tiny.network(tiny_dataset, tiny.CONFIG.student)
    rows = tiny_dataset.test.encoded
    alone, batch = latency_us(model, rows, 1), latency_us(model, rows, 256)
    assert 1 < alone < batch
