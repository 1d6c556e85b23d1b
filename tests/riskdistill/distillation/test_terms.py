"""Every term of the distillation loss under one battery, and what some promise on their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from riskdistill.config import TermConfig
from riskdistill.distillation.terms import (
    TERMS,
    Setting,
    Taught,
    bernoulli_kl,
    relations,
    smoothed_labels,
    typology_kl,
)
from riskdistill.models.event_transformer import EventTransformerOutput, LayerView

ROWS, TOKENS, WIDTH, HEADS, TYPOLOGIES = 6, 4, 6, 2, 3

# what of a student each term compares, by the names in `raw`; a colon parts a term from its form
PARTS = {
    "logits": ("logit",),
    "labels": ("logit",),
    "typology": ("typology",),
    "attention_relations": ("query", "key", "value"),
    "attention_maps": ("scores",),
    "attention_maps:kl": ("scores",),
    "hidden_states": ("hidden",),
    "feature": ("embedding",),
    "feature:mse": ("embedding",),
    "batch_correlation": ("logit",),
    "ranking": ("logit",),
}
AMONG_ROWS = ("batch_correlation", "ranking")
BETWEEN_TOKENS = [name for name in PARTS if TERMS[name.split(":")[0]].layers]

every_term = pytest.mark.parametrize("name", list(PARTS))
seeds = st.integers(0, 2**32 - 1)
Raw = dict[str, Tensor]


def made(name: str, student_width: int = WIDTH, teacher_width: int = WIDTH, heads: int = HEADS) -> Any:
    """The term in double precision; an adapter between equal widths changes nothing."""
    term, _, form = name.partition(":")
    torch.manual_seed(0)
    config = TermConfig(name=term, weight=1.0, form=form or None)
    new = TERMS[term](config, Setting(student_width, teacher_width, heads)).double()
    if student_width == teacher_width:
        for adapter in new.children():
            torch.nn.init.eye_(adapter.weight)
            torch.nn.init.zeros_(adapter.bias)
    return new


def raw(seed: int, rows: int = ROWS, width: int = WIDTH, heads: int = HEADS) -> Raw:
    """Random numbers behind all outputs of a network."""
    shapes = dict.fromkeys(("query", "key", "value", "hidden"), (TOKENS, width))
    shapes |= {"logit": (), "typology": (TYPOLOGIES,), "embedding": (width,), "scores": (heads, TOKENS, TOKENS)}
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn((rows, *shape), generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def everywhere(rows: int = ROWS) -> Tensor:
    return torch.ones(rows, TOKENS, dtype=torch.bool)


def attention(of: Raw, mask: Tensor) -> Tensor:
    return torch.softmax(of["scores"].masked_fill(~mask[:, None, None, :], -1e4), -1)


def output(of: Raw, mask: Tensor) -> EventTransformerOutput:
    """What the student says."""
    view = LayerView(of["query"], of["key"], of["value"], of["hidden"], attention(of, mask))
    return EventTransformerOutput(of["logit"], of["typology"], of["embedding"], mask, (view,))


def taught(of: Raw, mask: Tensor, relation_heads: int = HEADS) -> Taught:
    """The same numbers as a teacher's answers; labels are its probabilities."""
    cut = [relations(of[part], relation_heads, mask) for part in ("query", "key", "value")]
    return Taught(
        logit=of["logit"],
        label=torch.sigmoid(of["logit"]),
        typology_logits=of["typology"],
        relations=torch.stack(cut, 1),
        attention=attention(of, mask),
        hidden=of["hidden"],
        embedding=of["embedding"],
    )


def value(name: str, student: Raw, teacher: Raw, heat: float = 1.0, weight: Tensor | None = None) -> Tensor:
    mask = everywhere(len(student["logit"]))
    return made(name)(output(student, mask), taught(teacher, mask), heat, weight)


def gradients(name: str, student: Raw, loss: Callable[[Raw], Tensor]) -> list[Tensor]:
    """Of the loss, with regard to what the term compares."""
    leaves = {part: student[part].clone().requires_grad_() for part in PARTS[name]}
    return list(torch.autograd.grad(loss({**student, **leaves}), list(leaves.values())))


def test_the_battery_has_every_term() -> None:
    assert {name.split(":")[0] for name in PARTS} == set(TERMS)


# ---- values and gradients


@every_term
@settings(max_examples=20)
@given(seed=seeds)
def test_a_term_is_least_where_the_student_equals_the_teacher(name: str, seed: int) -> None:
    teacher = raw(seed)
    least = value(name, teacher, teacher).item()
    if name != "labels":
        assert least == pytest.approx(0, abs=1e-9)
    for gradient in gradients(name, teacher, lambda student: value(name, student, teacher)):
        assert gradient.abs().max() < 1e-7
    assert value(name, raw(seed + 1), teacher).item() > least


@every_term
@settings(max_examples=20)
@given(seed=seeds, scale=st.floats(0.01, 30))
def test_a_term_is_never_negative(name: str, seed: int, scale: float) -> None:
    student = {part: scale * numbers for part, numbers in raw(seed).items()}
    assert value(name, student, raw(seed + 1)).item() >= 0


@every_term
def test_the_gradient_is_the_numerical_one(name: str) -> None:
    student, teacher = raw(1, rows=3), raw(2, rows=3)
    weight = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)

    def loss(*leaves: Tensor) -> Tensor:
        return value(name, {**student, **dict(zip(PARTS[name], leaves, strict=True))}, teacher, weight=weight)

    assert torch.autograd.gradcheck(loss, [student[part].clone().requires_grad_() for part in PARTS[name]])


@every_term
def test_a_step_against_the_gradient_brings_the_student_nearer(name: str) -> None:
    student, teacher = raw(3), raw(4)
    found = gradients(name, student, lambda moved: value(name, moved, teacher))
    steps = zip(PARTS[name], found, strict=True)
    nearer = {**student, **{part: student[part] - 0.1 * gradient for part, gradient in steps}}
    assert value(name, nearer, teacher) < value(name, student, teacher)


# ---- batches


@every_term
def test_the_scale_does_not_depend_on_the_batch_size(name: str) -> None:
    student, teacher = raw(5, rows=20), raw(6, rows=20)
    twice = [{part: numbers.repeat_interleave(2, 0) for part, numbers in of.items()} for of in (student, teacher)]
    # a row is not ranked against itself, but is against its copy
    near = 0.03 if name == "ranking" else 1e-9
    assert value(name, *twice).item() == pytest.approx(value(name, student, teacher).item(), rel=near)


@every_term
def test_a_batch_of_none_costs_nothing(name: str) -> None:
    student, teacher = raw(0, rows=0), raw(1, rows=0)
    assert value(name, student, teacher).item() == 0
    assert all(len(gradient) == 0 for gradient in gradients(name, student, lambda of: value(name, of, teacher)))


@every_term
def test_a_batch_of_one_is_taught_unless_rows_are_compared(name: str) -> None:
    student, teacher = raw(7, rows=1), raw(8, rows=1)
    found = gradients(name, student, lambda of: value(name, of, teacher))
    assert all(gradient.isfinite().all() for gradient in found)
    if name in AMONG_ROWS:
        assert value(name, student, teacher).item() == 0
    else:
        assert max(gradient.abs().max() for gradient in found) > 0


@every_term
def test_a_row_of_no_weight_takes_no_part(name: str) -> None:
    student, teacher = raw(9), raw(10)
    weight = torch.ones(ROWS, dtype=torch.float64)
    weight[2] = 0
    kept = weight > 0
    for gradient in gradients(name, student, lambda of: value(name, of, teacher, weight=weight)):
        assert gradient[2].abs().max() == 0
        assert gradient[kept].abs().max() > 0


@every_term
def test_weights_of_one_are_no_weights(name: str) -> None:
    student, teacher = raw(9), raw(10)
    ones = torch.ones(ROWS, dtype=torch.float64)
    plain = value(name, student, teacher)
    assert value(name, student, teacher, weight=ones).item() == pytest.approx(plain.item())


# ---- temperature


@every_term
def test_only_terms_of_soft_answers_read_the_temperature(name: str) -> None:
    student, teacher = raw(11), raw(12)
    same = value(name, student, teacher, 1.0).item() == value(name, student, teacher, 5.0).item()
    assert same == (name not in ("logits", "typology"))


@pytest.mark.parametrize("name", ["logits", "typology"])
def test_the_gradient_s_size_does_not_depend_on_the_temperature(name: str) -> None:
    """T² makes up for the two factors 1/T, where logits are small against T."""
    student, teacher = ({part: 0.1 * numbers for part, numbers in raw(seed, 64).items()} for seed in (0, 1))
    norms = [
        gradients(name, student, lambda of, heat=heat: value(name, of, teacher, heat))[0].norm().item()
        for heat in (1.0, 2.0, 5.0, 8.0)
    ]
    assert max(norms) / min(norms) < 1.02


def test_two_classes_weigh_as_much_as_a_softmax_over_two() -> None:
    """No halving by a mean over classes: the binary term is the KL of the two-class softmax."""
    student, teacher = raw(3)["logit"], raw(4)["logit"]
    both = [torch.stack([torch.zeros_like(logit), logit], dim=-1) for logit in (student, teacher)]
    torch.testing.assert_close(bernoulli_kl(student, teacher, 5.0), typology_kl(both[0], both[1], 5.0))


# ---- models of unequal size, absent tokens, coarse answers


@every_term
def test_a_teacher_of_other_width_and_heads_is_followed(name: str) -> None:
    student, teacher, mask = raw(13), raw(14, width=12, heads=3), everywhere()
    term = made(name, teacher_width=12, heads=3)
    answers = taught(teacher, mask, relation_heads=3)
    for one in (answers, dataclasses.replace(answers, attention=answers.attention.mean(1, keepdim=True))):
        for gradient in gradients(name, student, lambda of, one=one: term(output(of, mask), one, 1.0)):
            assert gradient.isfinite().all()
            assert gradient.abs().max() > 0


@pytest.mark.parametrize("name", ["hidden_states", "feature", "feature:mse"])
def test_an_adapter_is_trained_along(name: str) -> None:
    term, mask = made(name, teacher_width=12), everywhere()
    term(output(raw(13), mask), taught(raw(14, width=12), mask), 1.0).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in term.parameters())


@pytest.mark.parametrize("name", BETWEEN_TOKENS)
def test_what_is_absent_changes_nothing_and_gets_no_gradient(name: str) -> None:
    mask = everywhere()
    mask[:, -1] = False
    mask[0, 1:] = False
    term, student, teacher = made(name), raw(15), raw(16)

    def filled(of: Raw, junk: float) -> Raw:
        tokens = ("query", "key", "value", "hidden")
        inside = {part: torch.where(mask[..., None], of[part], of[part] + junk) for part in tokens}
        both = mask[:, None, :, None] & mask[:, None, None, :]
        return {**of, **inside, "scores": torch.where(both, of["scores"], of["scores"] + junk)}

    def loss(of: Raw, junk: float = 0.0) -> Tensor:
        return term(output(filled(of, junk), mask), taught(filled(teacher, -junk), mask), 1.0)

    assert loss(student, 50.0).item() == pytest.approx(loss(student).item(), rel=1e-12)
    for gradient in gradients(name, student, loss):
        absent = ~mask if gradient.ndim == 3 else ~mask[:, None, :, None].expand_as(gradient)
        assert gradient[absent].abs().max() == 0
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("name", BETWEEN_TOKENS)
def test_rows_without_any_token_cost_nothing(name: str) -> None:
    mask = torch.zeros(ROWS, TOKENS, dtype=torch.bool)
    assert made(name)(output(raw(1), mask), taught(raw(2), mask), 1.0).item() == 0


@every_term
def test_answers_in_half_precision_are_as_good(name: str) -> None:
    student, mask = raw(17), everywhere()
    exact = taught(raw(18), mask)
    coarse = {part: getattr(exact, part).half() for part in ("typology_logits", "relations", "attention", "hidden")}
    halves = made(name)(output(student, mask), dataclasses.replace(exact, **coarse), 1.0)
    assert halves.dtype == torch.float64
    assert halves.item() == pytest.approx(value(name, student, raw(18)).item(), rel=5e-3)


@pytest.mark.parametrize("heads", [1, 2, 3, 6])
def test_relations_are_distributions_over_the_tokens_present(heads: int) -> None:
    mask = torch.rand(ROWS, TOKENS, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[:, 0] = True
    found = relations(raw(0)["query"], heads, mask)
    assert found.shape == (ROWS, heads, TOKENS, TOKENS)
    torch.testing.assert_close(found.sum(-1), torch.ones(ROWS, heads, TOKENS, dtype=torch.float64))
    assert (found.masked_select(~mask[:, None, None, :].expand_as(found)) == 0).all()


@pytest.mark.parametrize("name", ["attention_maps", "attention_maps:kl"])
def test_attention_is_compared_head_by_head_where_heads_are_as_many(name: str) -> None:
    teacher, mask = raw(19), everywhere()
    swapped = {**teacher, "scores": teacher["scores"].flip(1)}
    assert value(name, swapped, teacher).item() > 1e-3
    averaged = dataclasses.replace(taught(teacher, mask), attention=attention(teacher, mask).mean(1, keepdim=True))
    assert made(name)(output(swapped, mask), averaged, 1.0).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ["attention_maps", "attention_maps:kl"])
def test_attention_cut_to_the_tokens_that_the_student_reads_is_made_whole(name: str) -> None:
    teacher, mask = raw(20), everywhere()
    cut = dataclasses.replace(taught(teacher, mask), attention=0.4 * attention(teacher, mask))
    assert made(name)(output(teacher, mask), cut, 1.0).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "part"),
    [("hidden_states", "hidden"), ("attention_maps", "attention"), ("attention_maps:kl", "attention")],
)
def test_a_token_of_which_the_teacher_tells_nothing_is_not_learned(name: str, part: str) -> None:
    """The words of an event may have been cut off: its states and its row of attention are zeros then."""
    student, mask, answers = raw(25), everywhere(), taught(raw(26), everywhere())
    told = getattr(answers, part).clone()
    told[..., 2, :] = 0
    cut = dataclasses.replace(answers, **{part: told})
    (gradient,) = gradients(name, student, lambda of: made(name)(output(of, mask), cut, 1.0))
    assert gradient[..., 2, :].abs().max() == 0
    assert gradient[..., 1, :].abs().max() > 0


# ---- labels


@every_term
def test_rows_without_a_label_take_no_part_in_the_labels_alone(name: str) -> None:
    student, mask, answers = raw(21), everywhere(), taught(raw(22), everywhere())
    label = answers.label.clone()
    label[[1, 4]] = torch.nan
    some = dataclasses.replace(answers, label=label)
    (gradient,) = gradients(name, student, lambda of: made(name)(output(of, mask), some, 1.0))[:1]
    found = made(name)(output(student, mask), some, 1.0).item()
    full = made(name)(output(student, mask), answers, 1.0).item()
    if name == "labels":
        assert gradient[[1, 4]].abs().max() == 0
        assert 0 < found < full
    else:
        assert found == full


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_are_fitted_best_by_the_smoothed_label_s_own_logit(smoothing: float) -> None:
    label = torch.tensor([0.0, 1.0], dtype=torch.float64)
    student = (label * (1 - smoothing) + smoothing / 2).clamp(1e-12, 1 - 1e-12).logit().requires_grad_()
    (gradient,) = torch.autograd.grad(smoothed_labels(student, label, smoothing).sum(), student)
    assert gradient.abs().max() < 1e-9


def test_a_student_of_one_logit_gets_a_bounded_gradient_from_the_correlation() -> None:
    student = {**raw(23), "logit": torch.full((ROWS,), 0.3, dtype=torch.float64)}
    (gradient,) = gradients("batch_correlation", student, lambda of: value("batch_correlation", of, raw(24)))
    assert 0 < gradient.abs().max() < 100
