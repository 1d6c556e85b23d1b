"""Schedules: by the epoch, learned against the student, by the row, and by gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from riskdistill.config import TemperatureConfig, TermConfig
from riskdistill.distillation.schedules import (
    BALANCE_STEPS,
    GradientNormBalance,
    LearnedTemperature,
    RowWeights,
    reversed_gradient,
    temperature,
    weight,
)

seeds = st.integers(0, 2**32 - 1)


# ---- by the epoch


def test_a_constant_temperature_stays() -> None:
    assert {temperature(TemperatureConfig(), epoch, 11) for epoch in range(11)} == {2.0}


def test_the_temperature_rises_from_five_to_eight_after_the_fifth_epoch() -> None:
    config = TemperatureConfig(schedule="rising", start=5.0, end=8.0)
    heats = [temperature(config, epoch, 11) for epoch in range(11)]
    assert heats == [5.0] * 5 + [5.5, 6.0, 6.5, 7.0, 7.5, 8.0]


def test_an_annealed_temperature_falls_from_five_to_one() -> None:
    config = TemperatureConfig(schedule="annealed", start=5.0, end=1.0, after_epoch=0)
    assert [temperature(config, epoch, 4) for epoch in range(4)] == [4.0, 3.0, 2.0, 1.0]


@given(st.integers(1, 40), st.integers(0, 40), st.floats(1, 10), st.floats(0, 10))
def test_the_temperature_moves_one_way_and_stays_in_its_bounds(
    epochs: int, after: int, low: float, rise: float
) -> None:
    high = low + rise
    rising = TemperatureConfig(schedule="rising", start=low, end=high, after_epoch=after)
    annealed = TemperatureConfig(schedule="annealed", start=high, end=low, after_epoch=after)
    up, down = ([temperature(config, epoch, epochs) for epoch in range(epochs)] for config in (rising, annealed))
    assert up == sorted(up)
    assert down == sorted(down, reverse=True)
    assert up[0] >= low
    assert up[-1] == pytest.approx(high if epochs > after else low)
    assert down[-1] == pytest.approx(low if epochs > after else high)


def test_a_weight_goes_evenly_to_its_last_value_or_stays() -> None:
    falling = TermConfig(name="logits", weight=1.0, end_weight=0.0)
    assert [weight(falling, epoch, 5) for epoch in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert [weight(TermConfig(name="logits", weight=0.7), epoch, 3) for epoch in range(3)] == [0.7] * 3
    assert weight(falling, 0, 1) == 1.0


# ---- learned temperature


@given(st.floats(-3, 3), st.floats(0, 2))
def test_a_reversed_gradient_is_negated_and_scaled(at: float, strength: float) -> None:
    value = torch.tensor(at, requires_grad=True)
    reversed_ = reversed_gradient(value, strength)
    (gradient,) = torch.autograd.grad(reversed_**2, value)
    assert reversed_.item() == value.item()
    assert gradient.item() == pytest.approx(-strength * 2 * value.item(), abs=1e-6)


def test_a_learned_temperature_begins_at_its_start_and_descent_raises_the_loss() -> None:
    config = TemperatureConfig(schedule="learned", start=3.0, end=8.0)
    learned = LearnedTemperature(config)
    optimizer = torch.optim.SGD(learned.parameters(), lr=0.1)
    heats = []
    for _ in range(200):
        optimizer.zero_grad()
        heat = learned(3, 4)
        (heat - 2.0).square().backward()  # a loss that is least at 2
        optimizer.step()
        heats.append(heat.item())
    assert heats[0] == pytest.approx(3.0, abs=1e-5)
    assert heats == sorted(heats)
    assert 7.0 < heats[-1] <= 8.0


def test_the_adversary_grows_stronger_with_the_epochs() -> None:
    learned = LearnedTemperature(TemperatureConfig(schedule="learned", start=3.0, end=8.0))
    sizes = [torch.autograd.grad(learned(epoch, 6), learned.position)[0].item() for epoch in range(6)]
    assert all(size < 0 for size in sizes)
    assert sizes == sorted(sizes, reverse=True)


# ---- weights of rows


def some_logits(seed: int, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pair = 3 * torch.randn(2, rows, generator=generator)
    return pair[0], pair[1]


@settings(max_examples=30)
@given(seed=seeds, rows=st.integers(1, 20))
def test_row_weights_are_gates_brought_to_a_mean_of_one(seed: int, rows: int) -> None:
    weights = RowWeights(30)
    with torch.no_grad():
        weights.alpha_beta_gamma.copy_(torch.randn(3, generator=torch.Generator().manual_seed(seed)))
    student, teacher = some_logits(seed, rows)
    found = weights(student, teacher, torch.arange(rows))
    assert found.mean().item() == pytest.approx(1, abs=1e-5)
    assert (found > 0).all()


def test_untaught_row_weights_are_all_one() -> None:
    found = RowWeights(9)(*some_logits(0, 9), torch.arange(9))
    torch.testing.assert_close(found, torch.ones(9))


def test_descent_moves_weight_to_rows_far_from_the_teacher() -> None:
    weights = RowWeights(8)
    optimizer = torch.optim.SGD(weights.parameters(), lr=0.5)
    teacher = torch.zeros(8)  # the same complexity everywhere
    student = torch.tensor([0.0] * 6 + [4.0, -4.0])
    for _ in range(20):
        optimizer.zero_grad()
        found = weights(student, teacher, torch.arange(8))
        (found * (student - teacher).abs()).mean().backward()
        optimizer.step()
    assert found[-2:].min() > 1 > found[:6].max()


def test_past_transfer_grows_for_rows_that_came_nearer_and_is_kept_in_the_state() -> None:
    weights, teacher, rows = RowWeights(4), torch.full((2,), 3.0), torch.tensor([1, 3])
    for student in (-3.0, 0.0, 3.0):
        weights(torch.tensor([student, -3.0]), teacher, rows)
    assert weights.transfer[1] > 0
    assert weights.transfer[[0, 2, 3]].tolist() == [0, 0, 0]
    other = RowWeights(4)
    other.load_state_dict(weights.state_dict())
    torch.testing.assert_close(other.distance, weights.distance, equal_nan=True)


# ---- balance of gradient norms


def norms_of(trunk: torch.nn.Linear, terms: dict[str, torch.Tensor]) -> dict[str, float]:
    return {
        name: float(torch.autograd.grad(term, trunk.weight, retain_graph=True)[0].norm())
        for name, term in terms.items()
    }


def test_gradient_norms_keep_their_configured_shares() -> None:
    trunk = torch.nn.Linear(3, 1, bias=False)
    out = trunk(torch.ones(2, 3)).sum()
    terms = {"large": 100 * out, "small": 0.01 * out}
    factors = GradientNormBalance(("large", "small"))(terms, {"large": 0.7, "small": 0.3}, trunk)
    norms = norms_of(trunk, terms)
    assert 0.7 * factors["large"] * norms["large"] / (0.3 * factors["small"] * norms["small"]) == pytest.approx(
        7 / 3, rel=1e-4
    )


def test_factors_move_only_when_measured_and_then_slowly() -> None:
    trunk = torch.nn.Linear(3, 1, bias=False)
    balance = GradientNormBalance(("one", "other"))
    weights = {"one": 1.0, "other": 1.0}

    def step(scale: float) -> float:
        out = trunk(torch.ones(2, 3)).sum()
        return balance({"one": scale * out, "other": out}, weights, trunk)["one"]

    first = step(1.0)
    assert first == pytest.approx(1.0)
    assert [step(9.0) for _ in range(BALANCE_STEPS - 1)] == [first] * (BALANCE_STEPS - 1)
    # the typical norm of 9 and 1 is 5
    assert step(9.0) == pytest.approx(0.9 * first + 0.1 * 5 / 9, rel=1e-4)


def test_a_term_without_gradient_keeps_its_weight() -> None:
    trunk = torch.nn.Linear(3, 1, bias=False)
    terms = {"flat": torch.tensor(1.0), "moved": trunk(torch.ones(1, 3)).sum()}
    factors = GradientNormBalance(("flat", "moved"))(terms, dict.fromkeys(terms, 1.0), trunk)
    assert factors == {"flat": 1.0, "moved": pytest.approx(1.0)}
    assert np.isfinite(list(factors.values())).all()
