"""How weights and temperature move: by the epoch, by learning against the student, by the row, by the gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from riskdistill.config import TemperatureConfig, TermConfig
from riskdistill.distillation import schedules
from riskdistill.distillation.schedules import BALANCE_STEPS, GradientNormBalance, LearnedTemperature, RowWeights

LEARNED = TemperatureConfig(schedule="learned", start=3.0, end=8.0)


def heats(config: TemperatureConfig, epochs: int) -> list[float]:
    return [schedules.temperature(config, epoch, epochs) for epoch in range(epochs)]


# ---- by the epoch


def test_the_temperature_stays_at_two_unless_told_otherwise() -> None:
    assert heats(TemperatureConfig(), 9) == [2.0] * 9


def test_the_temperature_rises_from_five_to_eight_after_the_fifth_epoch() -> None:
    rising = heats(TemperatureConfig(schedule="rising", start=5.0, end=8.0), 11)
    assert rising == [5.0] * 5 + [5.5, 6.0, 6.5, 7.0, 7.5, 8.0]


def test_the_temperature_is_annealed_to_one() -> None:
    assert heats(TemperatureConfig(schedule="annealed", start=5.0, end=1.0, after_epoch=0), 4) == [
        4.0,
        3.0,
        2.0,
        1.0,
    ]


@given(st.integers(1, 40), st.integers(0, 40), st.floats(1, 10), st.floats(1, 10))
def test_the_temperature_goes_one_way_between_its_ends(epochs: int, after: int, start: float, end: float) -> None:
    schedule = "rising" if end >= start else "annealed"
    found = heats(TemperatureConfig(schedule=schedule, start=start, end=end, after_epoch=after), epochs)
    assert found == sorted(found, reverse=schedule == "annealed")
    assert found[: min(after, epochs)] == [start] * min(after, epochs)
    assert found[-1] == pytest.approx(end if epochs > after else start)


@given(st.integers(1, 40), st.floats(0, 3), st.floats(0, 3))
def test_a_weight_goes_evenly_to_its_end(epochs: int, first: float, last: float) -> None:
    term = TermConfig(name="logits", weight=first, end_weight=last)
    found = [schedules.weight(term, epoch, epochs) for epoch in range(epochs)]
    assert found[0] == first
    assert found[-1] == pytest.approx(last if epochs > 1 else first)
    np.testing.assert_allclose(np.diff(found, 2), 0, atol=1e-9)


def test_a_weight_without_an_end_stays() -> None:
    assert schedules.weight(TermConfig(name="logits", weight=0.7), 5, 9) == 0.7


# ---- against the student


def test_a_learned_temperature_begins_at_its_start_and_stays_between_one_and_its_end() -> None:
    heat = LearnedTemperature(LEARNED)
    assert heat(0, 5).item() == pytest.approx(3.0)
    for position in (-20.0, 0.0, 20.0):
        nn.init.constant_(heat.position, position)
        assert 1 <= heat(0, 5).item() <= 8


def test_descent_moves_a_learned_temperature_uphill_further_with_every_epoch() -> None:
    heat = LearnedTemperature(LEARNED)
    slope = 7 * torch.sigmoid(heat.position) * (1 - torch.sigmoid(heat.position))
    pulls = []
    for epoch in range(5):
        (gradient,) = torch.autograd.grad(heat(epoch, 5), heat.position)
        pulls.append((gradient / slope).item())
    assert pulls == sorted(pulls, reverse=True)
    assert all(-1 <= pull < 0 for pull in pulls)
    assert pulls[-1] == pytest.approx(-1)


# ---- by the row


@given(st.integers(1, 30), st.integers(0, 2**32 - 1), st.floats(0, 3))
def test_row_weights_are_positive_and_one_on_average(n: int, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = RowWeights(40)
    nn.init.constant_(weights.alpha_beta_gamma, scale)
    student, teacher = 4 * torch.randn(2, n, generator=generator)
    rows = torch.randperm(40, generator=generator)[:n]
    for _ in range(3):
        found = weights(student, teacher, rows)
        assert (found > 0).all()
        assert (found <= n + 1e-4).all()
        assert found.mean().item() == pytest.approx(1, abs=1e-5)
        student = student.lerp(teacher, 0.5)


def test_row_weights_begin_all_alike_and_learn_towards_rows_of_high_loss() -> None:
    weights = RowWeights(4)
    student, teacher = torch.tensor([0.0, 0.5, 1.0, 4.0]), torch.tensor([0.1, 0.2, 0.5, -4.0])
    found = weights(student, teacher, torch.arange(4))
    torch.testing.assert_close(found, torch.ones(4))
    loss = (found * (student - teacher).square()).mean()
    (gradient,) = torch.autograd.grad(loss, weights.alpha_beta_gamma)
    nn.init.zeros_(weights.alpha_beta_gamma).data.sub_(0.1 * gradient)
    assert weights(student, teacher, torch.arange(4)).argmax() == 3


def test_past_transfer_is_how_far_a_row_came_since_its_last_visit() -> None:
    weights, teacher, rows = RowWeights(5), torch.zeros(2), torch.tensor([3, 1])
    weights(torch.tensor([2.0, 2.0]), teacher, rows)
    assert not weights.transfer.any()
    weights(torch.tensor([0.0, 3.0]), teacher, rows)
    assert weights.transfer[3] > 0 > weights.transfer[1]
    assert not weights.transfer[[0, 2, 4]].any()


# ---- by the gradients


def trunk_and_terms() -> tuple[nn.Linear, dict[str, Tensor]]:
    torch.manual_seed(0)
    trunk = nn.Linear(4, 2)
    out = trunk(torch.randn(8, 4))
    return trunk, {"loud": 100 * out[:, 0].square().mean(), "quiet": 0.01 * out[:, 1].square().mean()}


def norm(trunk: nn.Module, term: Tensor) -> float:
    parts = torch.autograd.grad(term, list(trunk.parameters()), retain_graph=True)
    return torch.stack([part.square().sum() for part in parts]).sum().sqrt().item()


def test_balanced_gradients_have_the_configured_shares() -> None:
    trunk, terms = trunk_and_terms()
    weights = {"loud": 0.7, "quiet": 0.3}
    factors = GradientNormBalance(("loud", "quiet"))(terms, weights, trunk)
    norms = {name: norm(trunk, weights[name] * factors[name] * term) for name, term in terms.items()}
    assert norms["loud"] / sum(norms.values()) == pytest.approx(0.7, rel=1e-4)
    before = sum(norm(trunk, weights[name] * term) for name, term in terms.items())
    assert sum(norms.values()) == pytest.approx(before, rel=1e-4)


def test_gradients_are_measured_anew_every_few_steps() -> None:
    trunk, terms = trunk_and_terms()
    weights, balance = {"loud": 0.7, "quiet": 0.3}, GradientNormBalance(("loud", "quiet"))
    first = balance(terms, weights, trunk)
    louder = {**terms, "quiet": 10 * terms["quiet"]}
    assert all(balance(louder, weights, trunk) == first for _ in range(BALANCE_STEPS - 1))
    assert balance(louder, weights, trunk)["quiet"] < first["quiet"]


def test_a_term_without_a_gradient_keeps_its_weight() -> None:
    trunk, terms = trunk_and_terms()
    terms["quiet"] = torch.tensor(0.0)
    factors = GradientNormBalance(("loud", "quiet"))(terms, {"loud": 1.0, "quiet": 1.0}, trunk)
    assert factors == {"loud": pytest.approx(1), "quiet": 1}


def test_a_term_that_comes_on_later_is_balanced_at_once() -> None:
    trunk, terms = trunk_and_terms()
    weights, balance = {"loud": 0.5, "quiet": 0.5}, GradientNormBalance(("loud", "quiet"))
    for _ in range(BALANCE_STEPS):
        balance({"loud": terms["loud"]}, weights, trunk)
    factors = balance(terms, weights, trunk)
    ratio = norm(trunk, factors["loud"] * terms["loud"]) / norm(trunk, factors["quiet"] * terms["quiet"])
    assert 0.5 < ratio < 2
