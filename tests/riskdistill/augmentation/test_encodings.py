"""MixUp mixes labels as it mixes rows; an adversary keeps inside its bounds and raises the loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from riskdistill.augmentation.encodings import Batch, Bounds, adversarial, mixup
from riskdistill.features.spec import TOKEN_CHANNELS, TRANSACTION_FEATURES

FEATURES = len(TRANSACTION_FEATURES)
CATEGORIES = [i for i, f in enumerate(TRANSACTION_FEATURES) if f.unit in ("bucket", "index")]
NUMBERS = [i for i in range(FEATURES) if i not in CATEGORIES]
contexts = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 4)),
    elements=st.floats(-1e6, 1e6, width=32) | st.just(float("nan")),
)


def batch_of(n: int, seed: int = 0) -> Batch:
    """Rows of which some numbers are missing, with 0 to 4 events, and every second of them laundering."""
    rng = np.random.default_rng(seed)
    context = rng.normal(size=(n, FEATURES)).astype(np.float32)
    context[rng.random(context.shape) < 0.2] = np.nan
    context[:, CATEGORIES] = rng.integers(0, 9, (n, len(CATEGORIES)))
    events = rng.normal(size=(n, 4, len(TOKEN_CHANNELS))).astype(np.float32)
    events[..., 0] = rng.choice([-1, 1], (n, 4))
    events[..., -3:] = rng.integers(0, 9, (n, 4, 3))
    events[rng.random((n, 4)) < 0.3] = 0
    label = torch.arange(n) % 2
    return Batch(torch.from_numpy(context), torch.from_numpy(events), label.float(), label * 2)


@given(n=st.integers(1, 12), alpha=st.floats(0.05, 5), seed=st.integers(0, 2**31))
def test_labels_and_typologies_are_mixed_as_the_numbers_are(n: int, alpha: float, seed: int) -> None:
    batch = batch_of(n, seed)
    # every row carries its own label as a number, too
    context = batch.context.clone()
    context[:, NUMBERS[0]] = batch.label
    torch.manual_seed(seed)
    mixed = mixup(replace(batch, context=context), alpha, typologies=3)
    torch.testing.assert_close(mixed.context[:, NUMBERS[0]], mixed.label)
    torch.testing.assert_close(mixed.typology.sum(dim=1), torch.ones(n))
    torch.testing.assert_close(mixed.typology[:, 2], mixed.label)
    assert (mixed.label - batch.label).abs().max() <= 0.5  # a row stays more itself than another


@given(n=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_categories_missing_numbers_and_lone_events_stay(n: int, seed: int) -> None:
    batch = batch_of(n, seed)
    mixed = mixup(batch, 1.0, typologies=3)
    assert torch.equal(mixed.context[:, CATEGORIES], batch.context[:, CATEGORIES])
    assert torch.equal(mixed.context.isnan(), batch.context.isnan())
    for channel in ("flow", "format", "currency", "peer"):
        at = TOKEN_CHANNELS.index(channel)
        assert torch.equal(mixed.events[..., at], batch.events[..., at])
    assert (mixed.events[batch.events[..., 0] == 0] == 0).all()
    bounds = torch.nan_to_num(batch.context, -9).amax(0), torch.nan_to_num(batch.context, 9).amin(0)
    known = ~mixed.context.isnan()
    assert (mixed.context <= bounds[0] + 1e-6)[known].all()
    assert (mixed.context >= bounds[1] - 1e-6)[known].all()


def test_rows_are_mixed_the_same_for_the_same_seed_and_otherwise_differently() -> None:
    batch = batch_of(20)
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        made.append(mixup(batch, 0.4, typologies=3))
    assert torch.equal(made[0].label, made[1].label)
    assert torch.equal(made[0].events, made[1].events)
    assert not torch.equal(made[0].label, made[2].label)
    assert ((made[0].label > 0) & (made[0].label < 1)).any()


@given(context=contexts, share=st.floats(0.01, 1), steps=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_an_adversary_stays_within_its_bounds(context: np.ndarray, share: float, steps: int, seed: int) -> None:
    bounds = Bounds.of(context, share)
    rows = torch.from_numpy(context)
    batch = Batch(rows, torch.zeros(len(rows), 0, 0), torch.zeros(len(rows)), torch.zeros(len(rows)).long())
    direction = torch.from_numpy(np.random.default_rng(seed).normal(size=context.shape).astype(np.float32))
    moved = adversarial(batch, lambda made: (torch.nan_to_num(made.context) * direction).sum(), bounds, steps)
    assert torch.equal(moved.context.isnan(), rows.isnan())
    known = ~rows.isnan()
    assert ((moved.context - rows).abs() <= bounds.reach + 1e-6 * rows.abs())[known].all()
    assert ((moved.context >= bounds.lower) & (moved.context <= bounds.upper))[known].all()
    whole = [column[~np.isnan(column)] for column in context.T]
    for at, column in enumerate(whole):
        if (column == np.round(column)).all():
            assert torch.equal(moved.context[:, at].nan_to_num(), rows[:, at].nan_to_num())


def test_a_step_follows_the_sign_of_the_gradient() -> None:
    rows = np.array([[0.5, 0.0], [1.5, 1.0], [2.5, 0.0], [3.5, 1.0]], np.float32)
    bounds = Bounds.of(rows, 0.2)
    torch.testing.assert_close(bounds.reach, torch.tensor([0.3, 0.0]))
    batch = Batch(torch.from_numpy(rows), torch.zeros(4, 0, 0), torch.zeros(4), torch.zeros(4).long())
    moved = adversarial(batch, lambda made: made.context.square().sum(), bounds)
    torch.testing.assert_close(moved.context[:, 0], torch.tensor([0.8, 1.8, 2.8, 3.5]))
    assert torch.equal(moved.context[:, 1], batch.context[:, 1])


def test_more_steps_find_what_one_step_overshoots() -> None:
    rows = np.array([[0.05], [1.5], [2.5], [3.5]], np.float32)
    batch = Batch(torch.from_numpy(rows), torch.zeros(4, 0, 0), torch.zeros(4), torch.zeros(4).long())
    bounds = Bounds.of(rows, 1.0)

    def peak(made: Batch) -> Tensor:  # highest at 1
        return -(made.context[:1] - 1.0).abs().sum()

    one, more = (adversarial(batch, peak, bounds, steps) for steps in (1, 8))
    assert peak(more) > peak(one)


@pytest.mark.parametrize("steps", [1, 3])
def test_parameters_get_no_gradient_from_the_attack(steps: int) -> None:
    weight = torch.ones(2, requires_grad=True)
    rows = np.array([[0.5, 0.1], [1.5, 1.2], [2.5, 0.3]], np.float32)
    batch = Batch(torch.from_numpy(rows), torch.zeros(3, 0, 0), torch.zeros(3), torch.zeros(3).long())
    moved = adversarial(batch, lambda made: (made.context * weight).sum(), Bounds.of(rows, 0.1), steps)
    assert weight.grad is None
    assert not moved.context.requires_grad
