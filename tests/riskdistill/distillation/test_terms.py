"""Every term of the distillation loss under one battery, and what each promises on its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from riskdistill.distillation.terms import bernoulli_kl, relation_kl, relations, smoothed_labels, typology_kl
from riskdistill.errors import DegenerateTermError

ROWS, TOKENS, HEADS, WIDTH = 5, 4, 2, 6


@dataclass(frozen=True)
class Term:
    """A term as a function of one student tensor and the teacher's, both of `shape` after the rows."""

    shape: tuple[int, ...]
    value: Callable[[Tensor, Tensor], Tensor]


def everywhere(tensor: Tensor) -> Tensor:
    return torch.ones(tensor.shape[:2], dtype=torch.bool)


def relation_term(student: Tensor, teacher: Tensor) -> Tensor:
    mask = everywhere(student)
    return relation_kl(relations(student, HEADS, mask), relations(teacher, HEADS, mask), mask)


TERMS = {
    "logits": Term((), lambda student, teacher: bernoulli_kl(student, teacher, 5.0)),
    "typology": Term((3,), lambda student, teacher: typology_kl(student, teacher, 5.0)),
    "attention_relations": Term((TOKENS, WIDTH), relation_term),
}
every_term = pytest.mark.parametrize("term", list(TERMS.values()), ids=list(TERMS))
seeds = st.integers(0, 2**32 - 1)


def drawn(term: Term, seed: int, rows: int = ROWS, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pair = torch.randn((2, rows, *term.shape), generator=generator, dtype=torch.float64)
    return scale * pair[0], scale * pair[1]


@every_term
@settings(max_examples=30)
@given(seed=seeds)
def test_a_term_is_zero_where_the_student_equals_the_teacher(term: Term, seed: int) -> None:
    _, teacher = drawn(term, seed)
    student = teacher.clone().requires_grad_()
    value = term.value(student, teacher)
    (gradient,) = torch.autograd.grad(value, student)
    assert value.item() == pytest.approx(0, abs=1e-9)
    assert gradient.abs().max() < 1e-7


@every_term
@settings(max_examples=30)
@given(seed=seeds, scale=st.floats(0.01, 5))
def test_a_term_is_never_negative_and_positive_where_they_differ(term: Term, seed: int, scale: float) -> None:
    student, teacher = drawn(term, seed, scale=scale)
    assert term.value(student, teacher).item() > 0


@every_term
@given(seed=seeds)
@settings(max_examples=5)
def test_the_gradient_is_the_numerical_one(term: Term, seed: int) -> None:
    student, teacher = drawn(term, seed, rows=2, scale=1.0)
    assert torch.autograd.gradcheck(lambda x: term.value(x, teacher), student.requires_grad_())


@every_term
def test_a_step_against_the_gradient_brings_the_student_nearer(term: Term) -> None:
    student, teacher = drawn(term, 1, scale=1.0)
    before = term.value(student.requires_grad_(), teacher)
    (gradient,) = torch.autograd.grad(before, student)
    assert term.value(student - 0.1 * gradient, teacher) < before


@every_term
def test_a_batch_is_the_mean_of_its_rows(term: Term) -> None:
    student, teacher = drawn(term, 2)
    alone = [term.value(student[row : row + 1], teacher[row : row + 1]) for row in range(ROWS)]
    assert term.value(student, teacher).item() == pytest.approx(torch.stack(alone).mean().item())
    twice = term.value(torch.cat([student, student]), torch.cat([teacher, teacher]))
    assert twice.item() == pytest.approx(term.value(student, teacher).item())


@every_term
def test_a_batch_of_none_costs_nothing(term: Term) -> None:
    student, teacher = drawn(term, 0, rows=0)
    assert term.value(student, teacher).item() == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_are_fitted_best_by_the_smoothed_label_s_own_logit(smoothing: float) -> None:
    label = torch.tensor([0.0, 1.0], dtype=torch.float64)
    target = (label * (1 - smoothing) + smoothing / 2).clamp(1e-12, 1 - 1e-12)
    student = target.logit().requires_grad_()
    (gradient,) = torch.autograd.grad(smoothed_labels(student, label, smoothing), student)
    assert gradient.abs().max() < 1e-9
    elsewhere = (student.detach() / 10).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: smoothed_labels(x, label, 0.1), elsewhere)
    assert smoothed_labels(torch.empty(0), torch.empty(0), smoothing) == 0


# ---- temperature


@pytest.mark.parametrize(("function", "shape"), [(bernoulli_kl, (64,)), (typology_kl, (64, 6))])
def test_the_gradient_s_size_does_not_depend_on_the_temperature(
    function: Callable[[Tensor, Tensor, float], Tensor], shape: tuple[int, ...]
) -> None:
    """T² makes up for the two factors 1/T, where logits are small against T."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = 0.1 * torch.randn((2, *shape), generator=generator, dtype=torch.float64)
    norms = []
    for temperature in (1.0, 2.0, 5.0, 8.0):
        leaf = student.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(leaf, teacher, temperature), leaf)
        norms.append(gradient.norm().item())
    assert max(norms) / min(norms) < 1.02


def test_two_classes_weigh_as_much_as_a_softmax_over_two() -> None:
    """No halving by a mean over classes: the binary term is the KL of the two-class softmax."""
    student, teacher = drawn(TERMS["logits"], 3)
    both = [torch.stack([torch.zeros_like(logit), logit], dim=-1) for logit in (student, teacher)]
    assert bernoulli_kl(student, teacher, 5.0).item() == pytest.approx(typology_kl(both[0], both[1], 5.0).item())


# ---- relations


@pytest.mark.parametrize("heads", [1, 2, 3, 6])
def test_relations_are_distributions_over_the_tokens_present(heads: int) -> None:
    student, _ = drawn(TERMS["attention_relations"], 0)
    mask = torch.rand(ROWS, TOKENS, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[:, 0] = True
    found = relations(student, heads, mask)
    assert found.shape == (ROWS, heads, TOKENS, TOKENS)
    torch.testing.assert_close(found.sum(-1), torch.ones(ROWS, heads, TOKENS, dtype=torch.float64))
    assert (found.masked_select(~mask[:, None, None, :].expand_as(found)) == 0).all()


def test_models_of_unequal_width_are_compared() -> None:
    narrow = torch.randn(ROWS, TOKENS, 8, dtype=torch.float64, requires_grad=True)
    wide = torch.randn(ROWS, TOKENS, 24, dtype=torch.float64)
    mask = everywhere(wide)
    divergence = relation_kl(relations(narrow, 4, mask), relations(wide, 4, mask), mask)
    (gradient,) = torch.autograd.grad(divergence, narrow)
    assert gradient.norm() > 0


def test_what_is_masked_changes_nothing_and_gets_no_gradient() -> None:
    student, teacher = drawn(TERMS["attention_relations"], 4)
    mask = everywhere(student)
    mask[:, -1] = False
    mask[0, 1:] = False

    def value(junk: float, leaf: Tensor) -> Tensor:
        filled = torch.where(mask[..., None], leaf, leaf + junk)
        taught = torch.where(mask[..., None], teacher, teacher - junk)
        return relation_kl(relations(filled, HEADS, mask), relations(taught, HEADS, mask), mask)

    leaf = student.clone().requires_grad_()
    plain = value(0.0, leaf)
    (gradient,) = torch.autograd.grad(plain, leaf)
    assert plain.item() == pytest.approx(value(50.0, student).item(), abs=1e-12)
    assert gradient[~mask].abs().max() == 0
    assert gradient[mask].abs().max() > 0


def test_rows_without_any_token_cost_nothing() -> None:
    student, teacher = drawn(TERMS["attention_relations"], 5)
    mask = torch.zeros(ROWS, TOKENS, dtype=torch.bool)
    value = relation_kl(relations(student, HEADS, mask), relations(teacher, HEADS, mask), mask)
    assert value.item() == 0


def test_relations_of_a_single_token_are_refused() -> None:
    mask = torch.ones(ROWS, 1, dtype=torch.bool)
    one = relations(torch.randn(ROWS, 1, WIDTH), HEADS, mask)
    with pytest.raises(DegenerateTermError, match="at least two tokens"):
        relation_kl(one, one, mask)
