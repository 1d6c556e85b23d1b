"""The recipe: phases follow one another, keep the better end, and resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from riskdistill.config import PhasesConfig, PretrainingConfig, TrainingConfig
from riskdistill.dataset import Dataset
from riskdistill.features import Encoded
from riskdistill.models.alignment import Traffic
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.phases import PhasedTraining, Recipe, train_in_phases, within
from riskdistill.models.training import TrainingRows

TRAINING = TrainingConfig(batch_size=64, patience=9)
PHASES = PhasesConfig(steps=20, pretraining=PretrainingConfig(rows=200, batch_size=64))


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def recipe(tiny_dataset: Dataset) -> Recipe:
    train = tiny_dataset.train
    rows = replace(train, draw=train.draw[:: len(train.draw) // 250])
    validation = tiny_dataset.validation.encoded, tiny_dataset.validation.label
    return Recipe(rows, validation, Traffic(natural=0.01, mixed=0.15, budget=0.01))


def trained(
    dataset: Dataset, recipe: Recipe, phases: PhasesConfig = PHASES, training: TrainingConfig = TRAINING
) -> PhasedTraining:
    return train_in_phases("teacher", tiny.network(dataset, tiny.CONFIG.student), recipe, phases, training)


def test_the_phases_share_the_steps_and_each_is_logged(tiny_dataset: Dataset, recipe: Recipe) -> None:
    heard: dict[str, int] = {}
    told = replace(recipe, progress=lambda name, done, total, best: heard.update({name: total}))
    found = trained(tiny_dataset, told)
    assert list(found.phases) == ["general", "domain", "alignment"]
    assert list(heard.values()) == [pytest.approx(14, abs=2), 4, 2]
    assert set(found.phases["general"].epochs[0].terms) == {"fields", "features", "following", "contrast"}
    assert set(found.phases["domain"].epochs[0].terms) == {"labels", "typology"}
    assert {"recall", "cost"} < set(found.phases["alignment"].epochs[0].terms)


@pytest.mark.parametrize("better", ["domain", "alignment"])
def test_the_better_of_domain_and_alignment_is_kept(tiny_dataset: Dataset, recipe: Recipe, better: str) -> None:
    judged: list[dict[str, torch.Tensor]] = []

    def judge(model: EventTransformer) -> float:
        judged.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return len(judged) if better == "alignment" else -len(judged)

    found = trained(tiny_dataset, replace(recipe, judge=judge))
    assert found.kept == better
    expected = judged[0 if better == "domain" else -1]
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.model.state_dict().items())


@pytest.mark.parametrize(("share", "only"), [((1.0, 0.0, 0.0), "general"), ((0.0, 0.0, 1.0), "alignment")])
def test_a_phase_without_a_share_is_left_out(
    tiny_dataset: Dataset, recipe: Recipe, share: tuple[float, float, float], only: str
) -> None:
    general, domain, alignment = share
    phases = PhasesConfig(steps=4, general=general, domain=domain, alignment=alignment)
    found = trained(tiny_dataset, recipe, phases)
    assert list(found.phases) == [found.kept] == [only]


@pytest.mark.parametrize("phase", ["general", "domain", "alignment"])
def test_a_run_killed_in_any_phase_resumes_to_the_same_weights(
    tiny_dataset: Dataset, recipe: Recipe, tmp_path: Path, phase: str
) -> None:
    whole = trained(tiny_dataset, recipe)

    def killed(name: str, done: int, total: int, best: float) -> None:
        if phase in name and done == 2:
            raise KilledError

    with pytest.raises(KilledError):
        trained(tiny_dataset, replace(recipe, folder=tmp_path, progress=killed))
    torch.manual_seed(99)
    resumed = trained(tiny_dataset, replace(recipe, folder=tmp_path))
    assert resumed.kept == whole.kept
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_every_phase_runs_in_bf16(tiny_dataset: Dataset, recipe: Recipe) -> None:
    exact, rough = (
        trained(tiny_dataset, recipe, training=TRAINING.model_copy(update={"precision": precision}))
        for precision in ("fp32", "bf16")
    )
    for phase, training in rough.phases.items():
        for name, value in training.epochs[0].terms.items():
            assert value == pytest.approx(exact.phases[phase].epochs[0].terms[name], rel=0.05), (phase, name)


def test_phases_that_make_no_whole_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"general \+ domain \+ alignment must be 1, is 0.8"):
        PhasesConfig(general=0.5)


@given(st.integers(1, 200), st.integers(1, 64), st.integers(1, 4))
def test_the_steps_come_to_what_was_asked_within_half_an_epoch(steps: int, batch: int, accumulation: int) -> None:
    n = 300
    nothing = np.zeros(n, np.float32)
    rows = TrainingRows(Encoded(nothing[:, None], nothing[:, None, None]), nothing, np.arange(n), np.arange(n))
    config = within(steps, rows, TrainingConfig(batch_size=batch, accumulation=accumulation))
    per_epoch = -(-rows.in_an_epoch(config) // (batch * accumulation))
    assert abs(config.epochs * per_epoch - steps) <= max(1, per_epoch / 2 + config.epochs)
