"""Which rows count when, and how much."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_training import small_labels, small_rows, small_trainer

from riskdistill.errors import TrainingError
from riskdistill.models.emphasis import competence, easiest, scheme_weights
from riskdistill.models.label_objective import LabelObjective


@given(st.integers(2, 40))
def test_competence_grows_to_everything_by_the_middle(epochs: int) -> None:
    shares = [competence(epoch, epochs) for epoch in range(epochs)]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 1
    assert all(share == 1 for share in shares[-(-epochs // 2) :])


@given(st.floats(0.01, 1.0), st.integers(0, 2**31))
def test_the_easiest_rows_keep_the_mix_and_the_length_of_an_epoch(share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    label = (rng.random(50) < 0.3).astype(np.float32)
    difficulty, draw = rng.random(50).astype(np.float32), rng.integers(0, 50, 80)
    taken = easiest(draw, label, difficulty, share)
    assert len(taken) == len(draw)
    assert label[taken].sum() == label[draw].sum()
    for value in (0.0, 1.0):
        pool, chosen = draw[label[draw] == value], taken[label[taken] == value]
        left = np.setdiff1d(pool, chosen)
        if len(left):
            assert difficulty[chosen].max() <= difficulty[left].min()


def test_a_curriculum_begins_with_the_easy_rows_and_ends_with_all() -> None:
    trainer, rows = small_trainer(curriculum="easy_first", epochs=4), small_rows()
    assert rows.difficulty is not None
    mean = [float(rows.difficulty[trainer._order(small_labels(), epoch)].mean()) for epoch in range(4)]
    assert mean[0] < mean[1] < mean[2] == pytest.approx(mean[3])
    assert sorted(trainer._order(small_labels(), 3)) == sorted(rows.draw)
    trainer.run(small_labels())


def test_a_curriculum_without_difficulties_is_refused() -> None:
    trainer = small_trainer(curriculum="easy_first")
    with pytest.raises(TrainingError, match="rows of the small have no difficulty"):
        type(trainer)(
            "small", trainer.model, replace(trainer.rows, difficulty=None), trainer.judge.args[0], trainer.config
        )


def test_with_power_one_each_scheme_weighs_the_same_and_laundering_what_it_did() -> None:
    scheme = np.array([-1, -1, 0, 1, 1, 1, 1, 2, 2])
    draw = np.arange(9)
    weight = scheme_weights(scheme, draw, 1.0)
    assert weight is not None
    sums = [weight[scheme == one].sum() for one in range(3)]
    assert sums == pytest.approx([7 / 3] * 3)
    assert weight[:2].tolist() == [1, 1]
    half = scheme_weights(scheme, draw, 0.5)
    assert half is not None
    assert half[3] / half[2] == pytest.approx(0.5)


@pytest.mark.parametrize(("scheme", "power"), [([-1, -1], 0.5), ([0, 0], 0.0)])
def test_rows_weigh_alike_without_schemes_or_power(scheme: list[int], power: float) -> None:
    assert scheme_weights(np.array(scheme), np.arange(2), power) is None


def test_the_loss_is_weighted_by_schemes() -> None:
    trainer, rows = small_trainer(), small_rows()
    model = trainer.model.train(False)
    losses = [
        LabelObjective(rows, label_smoothing=0.0, scheme_power=power).loss(model, rows.draw, 0)["labels"].item()
        for power in (0.0, 1.0)
    ]
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)
