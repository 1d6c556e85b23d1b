"""Every term of the distillation loss under one battery, and what each promises on its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from riskdistill.augmentation.encodings import Mixture
from riskdistill.config import TermConfig
from riskdistill.distillation.terms import (
    TERMS,
    Setting,
    Taught,
    Term,
    bernoulli_kl,
    relations,
    smoothed_labels,
    typology_kl,
)
from riskdistill.errors import DegenerateTermError, TrainingError
from riskdistill.features import Encoded
from riskdistill.models.event_transformer import EventTransformerOutput, LayerView
from riskdistill.models.training import TrainingRows

ROWS, TOKENS, RELATION_HEADS, TYPOLOGIES = 4, 3, 2, 3
AMONG_ROWS = {"batch_correlation", "ranking"}
BETWEEN_TOKENS = {"attention_relations", "attention_maps", "hidden_states"}
seeds = st.integers(0, 2**32 - 1)


@dataclass(frozen=True)
class Size:
    """Of a network whose outputs are cut out of one tensor, so that gradients flow back to that one."""

    width: int = 4
    heads: int = 2

    @property
    def numbers(self) -> int:
        """How many a row's outputs have in all."""
        return 1 + TYPOLOGIES + self.width + 4 * TOKENS * self.width + self.heads * TOKENS**2

    def output(self, leaf: Tensor, mask: Tensor | None = None) -> EventTransformerOutput:
        """The outputs that `leaf` [n, numbers] holds."""
        states = TOKENS * self.width
        logit, typology, embedding, query, key, value, hidden, scores = leaf.split(
            [1, TYPOLOGIES, self.width, states, states, states, states, self.heads * TOKENS**2], dim=1
        )
        there = torch.ones(len(leaf), TOKENS, dtype=torch.bool) if mask is None else mask
        tokens = [part.unflatten(1, (TOKENS, self.width)) for part in (query, key, value, hidden)]
        attention = scores.unflatten(1, (self.heads, TOKENS, TOKENS)).masked_fill(~there[:, None, None], -1e9)
        view = LayerView(*tokens, torch.softmax(attention, -1))
        return EventTransformerOutput(logit[:, 0], typology, embedding, there, (view,))


STUDENT, WIDE = Size(), Size(width=6, heads=3)


def taught_by(teacher: EventTransformerOutput) -> Taught:
    last = teacher.layers[-1]
    related = [relations(part, RELATION_HEADS, teacher.mask) for part in (last.query, last.key, last.value)]
    return Taught(
        logit=teacher.logit,
        label=torch.sigmoid(teacher.logit),
        typology_logits=teacher.typology_logits,
        relations=torch.stack(related, 1),
        attention=last.attention,
        hidden=last.hidden,
        embedding=teacher.embedding,
    )


@dataclass(frozen=True)
class Case:
    """A term and the form of its distance."""

    name: str
    form: str | None = None

    def term(self, teacher: Size = STUDENT) -> Term:
        """The term in double precision; an adapter between equal widths changes nothing."""
        config = TermConfig.model_validate({"name": self.name, "weight": 1.0, "form": self.form})
        torch.manual_seed(0)
        term = TERMS[self.name](config, Setting(STUDENT.width, teacher.width, RELATION_HEADS)).double()
        if teacher == STUDENT:
            for adapter in term.children():
                torch.nn.init.eye_(adapter.weight)
                torch.nn.init.zeros_(adapter.bias)
        return term

    def value(self, leaf: Tensor, taught: Taught, mask: Tensor | None = None) -> Tensor:
        return self.term()(STUDENT.output(leaf, mask), taught, 2.0)


CASES = [
    *map(Case, TERMS),
    Case("attention_maps", "kl"),
    Case("feature", "mse"),
]
every_term = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.form or 'own'}")


def drawn(seed: int, size: Size = STUDENT, rows: int = ROWS) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, size.numbers, generator=generator, dtype=torch.float64)


def gradient(value: Tensor, leaf: Tensor) -> Tensor:
    return torch.autograd.grad(value, leaf)[0]


# ---- the battery


def test_no_term_is_forgotten() -> None:
    assert {case.name for case in CASES} == set(TERMS)


@every_term
@settings(max_examples=10)
@given(seed=seeds)
def test_a_student_that_equals_its_teacher_has_nothing_to_learn(case: Case, seed: int) -> None:
    leaf = drawn(seed).requires_grad_()
    value = case.value(leaf, taught_by(STUDENT.output(leaf.detach())))
    assert gradient(value, leaf).abs().max() < 1e-6
    if case.name != "labels":  # whose least value is the labels' own entropy
        assert value.item() == pytest.approx(0, abs=1e-8)


@every_term
@settings(max_examples=10)
@given(seed=seeds)
def test_a_term_is_positive_where_the_two_differ(case: Case, seed: int) -> None:
    assert case.value(drawn(seed), taught_by(STUDENT.output(drawn(seed + 1)))).item() > 0


@every_term
def test_the_gradient_is_the_numerical_one(case: Case) -> None:
    taught = taught_by(STUDENT.output(drawn(1, rows=3)))
    leaf = drawn(0, rows=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: case.value(x, taught), leaf)


@every_term
def test_a_step_against_the_gradient_brings_the_student_nearer(case: Case) -> None:
    taught, leaf = taught_by(STUDENT.output(drawn(1))), drawn(0).requires_grad_()
    before = case.value(leaf, taught)
    assert case.value(leaf.detach() - 0.1 * gradient(before, leaf), taught) < before


@every_term
def test_the_size_of_a_batch_does_not_change_the_scale(case: Case) -> None:
    student, teacher = drawn(0, rows=32), drawn(1, rows=32)
    once = case.value(student, taught_by(STUDENT.output(teacher))).item()
    twice = case.value(torch.cat([student, student]), taught_by(STUDENT.output(torch.cat([teacher, teacher]))))
    # pairs of a row and its own copy cost a ranking nothing
    assert twice.item() == pytest.approx(once, rel=0.02 if case.name == "ranking" else 1e-9)


@every_term
@pytest.mark.parametrize("rows", [0, 1])
def test_a_batch_of_one_or_none_is_learned_from_as_far_as_it_goes(case: Case, rows: int) -> None:
    leaf = drawn(0, rows=rows).requires_grad_()
    value = case.value(leaf, taught_by(STUDENT.output(drawn(1, rows=rows))))
    assert (value.item() > 0) == (rows == 1 and case.name not in AMONG_ROWS)
    assert gradient(value, leaf).isfinite().all()


@every_term
def test_a_row_of_no_weight_gets_no_gradient(case: Case) -> None:
    leaf, weight = drawn(0).requires_grad_(), torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    value = case.term()(STUDENT.output(leaf), taught_by(STUDENT.output(drawn(1))), 2.0, weight)
    found = gradient(value, leaf)
    assert found[[0, 2, 3]].abs().max() > 0
    if case.name != "ranking":  # it still is one side of the other rows' pairs
        assert found[1].abs().max() == 0


@every_term
@pytest.mark.parametrize("teacher", [WIDE, Size(width=2, heads=1)], ids=["wider", "narrower"])
def test_heads_and_widths_may_differ(case: Case, teacher: Size) -> None:
    leaf = drawn(0).requires_grad_()
    value = case.term(teacher)(STUDENT.output(leaf), taught_by(teacher.output(drawn(1, teacher))), 2.0)
    assert gradient(value, leaf).norm() > 0


@pytest.mark.parametrize("case", [case for case in CASES if case.name in BETWEEN_TOKENS], ids=str)
def test_what_absent_tokens_hold_changes_nothing_and_gets_no_gradient(case: Case) -> None:
    mask = torch.tensor([[True, True, False], [True, False, True], [True, False, False], [True, True, True]])
    junk = 50 * ~mask[..., None].expand(-1, -1, STUDENT.width).flatten(1)
    states = slice(1 + TYPOLOGIES + STUDENT.width, 1 + TYPOLOGIES + STUDENT.width + 4 * junk.shape[1])

    def filled(leaf: Tensor) -> Tensor:
        return torch.cat([leaf[:, : states.start], leaf[:, states] + junk.repeat(1, 4), leaf[:, states.stop :]], 1)

    leaf, teacher = drawn(0).requires_grad_(), drawn(1)
    plain = case.value(leaf, taught_by(STUDENT.output(teacher, mask)), mask)
    other = case.value(filled(leaf), taught_by(STUDENT.output(filled(teacher), mask)), mask)
    assert other.item() == pytest.approx(plain.item(), abs=1e-12)
    found = gradient(plain, leaf)[:, states].unflatten(1, (4, TOKENS, STUDENT.width))
    absent = ~mask[:, None, :, None].expand_as(found)
    assert found[absent].abs().max() == 0


@pytest.mark.parametrize("case", [case for case in CASES if case.name in BETWEEN_TOKENS], ids=str)
def test_rows_without_any_token_cost_nothing(case: Case) -> None:
    mask = torch.zeros(ROWS, TOKENS, dtype=torch.bool)
    assert case.value(drawn(0), taught_by(STUDENT.output(drawn(1), mask)), mask).item() == 0


@every_term
def test_answers_kept_in_half_precision_are_read_in_single(case: Case) -> None:
    kept = {
        name: answer if answer is None else answer.half() if answer.ndim > 2 else answer.float()
        for name, answer in vars(taught_by(STUDENT.output(drawn(1)))).items()
    }
    value = case.term().float()(STUDENT.output(drawn(0).float()), Taught(**kept), 2.0)
    exact = case.value(drawn(0), taught_by(STUDENT.output(drawn(1))))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact.item(), rel=1e-2)


# ---- what teaches nothing


def training_rows(label: float = 1.0, flow: float = 1.0) -> TrainingRows:
    encoded = Encoded(np.zeros((ROWS, 2), np.float32), np.full((ROWS, 4, 3), flow, np.float32))
    return TrainingRows(encoded, np.full(ROWS, label, np.float32), np.full(ROWS, -1), np.arange(ROWS))


def answers(**changed: object) -> SimpleNamespace:
    found = vars(taught_by(STUDENT.output(drawn(0))))
    return SimpleNamespace(**{name: part.numpy() for name, part in found.items()} | changed)


@every_term
def test_good_answers_are_accepted(case: Case) -> None:
    case.term().refuse_degenerate(training_rows(), answers())


@pytest.mark.parametrize("case", [case for case in CASES if case.name != "labels"], ids=str)
def test_a_teacher_that_does_not_answer_is_refused(case: Case) -> None:
    (read,) = case.term().answers
    with pytest.raises(DegenerateTermError, match=f"term {case.name}: the teacher gives no"):
        case.term().refuse_degenerate(training_rows(), answers(**{read: None}))


@pytest.mark.parametrize(
    ("name", "rows", "changed", "why"),
    [
        ("logits", training_rows(), {"logit": np.ones(ROWS)}, "the same logit"),
        ("batch_correlation", training_rows(), {"logit": np.ones(ROWS)}, "the same logit"),
        ("ranking", training_rows(), {"logit": np.ones(ROWS)}, "the same logit"),
        ("typology", training_rows(), {"typology_logits": np.ones((ROWS, 1))}, "only one typology"),
        ("typology", training_rows(), {"typology_logits": np.full((ROWS, 2), np.nan)}, "some rows no typology"),
        ("labels", training_rows(label=np.nan), {}, "no training row has a label"),
        ("attention_relations", training_rows(flow=0.0), {}, "no training row has any event"),
        ("attention_maps", training_rows(), {"attention": np.zeros((ROWS, 2, 2))}, "attention maps are empty"),
    ],
)
def test_what_carries_no_signal_is_refused_with_the_reason(
    name: str, rows: TrainingRows, changed: dict[str, object], why: str
) -> None:
    with pytest.raises(DegenerateTermError, match=why):
        Case(name).term().refuse_degenerate(rows, answers(**changed))


@pytest.mark.parametrize("name", ["hidden_states", "feature"])
def test_an_adapter_of_unknown_width_is_refused(name: str) -> None:
    with pytest.raises(TrainingError, match="widths"):
        TERMS[name](TermConfig.model_validate({"name": name, "weight": 1.0}), Setting())


# ---- logits, typologies, labels


@pytest.mark.parametrize("case", [Case("logits"), Case("typology")], ids=str)
def test_the_gradient_s_size_does_not_depend_on_the_temperature(case: Case) -> None:
    """T² makes up for the two factors 1/T, where logits are small against T."""
    leaf, taught = (0.1 * drawn(0)).requires_grad_(), taught_by(STUDENT.output(0.1 * drawn(1)))
    norms = [
        gradient(case.term()(STUDENT.output(leaf), taught, heat), leaf).norm().item()
        for heat in (1.0, 2.0, 5.0, 8.0)
    ]
    assert max(norms) / min(norms) < 1.02


def test_two_classes_weigh_as_much_as_a_softmax_over_two() -> None:
    """No halving by a mean over classes: the binary term is the KL of the two-class softmax."""
    student, teacher = drawn(0)[:, 0], drawn(1)[:, 0]
    both = [torch.stack([torch.zeros_like(logit), logit], dim=-1) for logit in (student, teacher)]
    torch.testing.assert_close(bernoulli_kl(student, teacher, 5.0), typology_kl(both[0], both[1], 5.0))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_are_fitted_best_by_the_smoothed_label_s_own_logit(smoothing: float) -> None:
    label = torch.tensor([0.0, 1.0], dtype=torch.float64)
    target = (label * (1 - smoothing) + smoothing / 2).clamp(1e-12, 1 - 1e-12)
    student = target.logit().requires_grad_()
    assert gradient(smoothed_labels(student, label, smoothing).sum(), student).abs().max() < 1e-9


def test_rows_without_a_label_take_no_part_in_the_labels() -> None:
    leaf, taught = drawn(0).requires_grad_(), taught_by(STUDENT.output(drawn(1)))
    label = torch.tensor([np.nan, 1.0, np.nan, 0.0], dtype=torch.float64)
    found = gradient(Case("labels").value(leaf, replace(taught, label=label)), leaf)
    assert found[[0, 2]].abs().max() == 0
    assert (found[[1, 3], 0] != 0).all()


def test_mixed_rows_are_taught_mixed_logits_and_keep_unknown_labels_unknown() -> None:
    taught = taught_by(STUDENT.output(drawn(0)))
    taught = replace(taught, label=torch.tensor([np.nan, 1.0, 0.0, 0.0], dtype=torch.float64))
    mixed = taught.mixed(Mixture(torch.tensor([0.75] * ROWS), torch.tensor([1, 2, 3, 0])))
    torch.testing.assert_close(mixed.logit, 0.75 * taught.logit + 0.25 * taught.logit[[1, 2, 3, 0]])
    assert mixed.label.isnan().tolist() == [True, False, False, True]
    assert mixed.label[1].item() == 0.75
    assert mixed.relations is None


# ---- relations and attention


@pytest.mark.parametrize("heads", [1, 2, 3, 6])
def test_relations_are_distributions_over_the_tokens_present(heads: int) -> None:
    projection = torch.randn(ROWS, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = torch.rand(ROWS, 5, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[:, 0] = True
    found = relations(projection, heads, mask)
    assert found.shape == (ROWS, heads, 5, 5)
    torch.testing.assert_close(found.sum(-1), torch.ones(ROWS, heads, 5, dtype=torch.float64))
    assert (found.masked_select(~mask[:, None, None, :].expand_as(found)) == 0).all()


def test_as_many_heads_are_matched_one_by_one() -> None:
    """Two students whose heads average alike but are swapped differ only where heads are matched."""
    leaf = drawn(0)
    scores = leaf[:, -STUDENT.heads * TOKENS**2 :].unflatten(1, (STUDENT.heads, -1))
    swapped = torch.cat([leaf[:, : -STUDENT.heads * TOKENS**2], scores.flip(1).flatten(1)], 1)
    taught = taught_by(STUDENT.output(leaf))
    assert taught.attention is not None
    assert Case("attention_maps").value(swapped, taught).item() > 0
    averaged = replace(taught, attention=taught.attention.mean(1))
    assert Case("attention_maps").value(swapped, averaged).item() == pytest.approx(0, abs=1e-12)


def test_a_map_cut_to_the_student_s_tokens_is_brought_back_to_one() -> None:
    taught = taught_by(STUDENT.output(drawn(0)))
    assert taught.attention is not None
    cut = replace(taught, attention=0.3 * taught.attention)
    assert Case("attention_maps", "kl").value(drawn(0), cut).item() == pytest.approx(0, abs=1e-8)


# ---- among rows


@settings(max_examples=10)
@given(seed=seeds, scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_correlation_does_not_look_at_scale_and_place(seed: int, scale: float, shift: float) -> None:
    student, teacher = drawn(seed, rows=16), drawn(seed + 1, rows=16)
    moved = torch.cat([scale * student[:, :1] + shift, student[:, 1:]], 1)
    taught = taught_by(STUDENT.output(teacher))
    case = Case("batch_correlation")
    assert case.value(moved, taught).item() == pytest.approx(case.value(student, taught).item(), rel=1e-6)


def test_a_flat_student_gets_a_bounded_gradient_from_the_correlation() -> None:
    flat = torch.zeros_like(drawn(0)).requires_grad_()
    found = gradient(Case("batch_correlation").value(flat, taught_by(STUDENT.output(drawn(1)))), flat)
    assert 0 < found.norm() <= 100


def test_a_pair_in_the_wrong_order_costs_more_the_further_the_teacher_has_it_apart() -> None:
    def cost(apart: float) -> float:
        logit = torch.tensor([-apart / 2, apart / 2], dtype=torch.float64)
        leaf = torch.cat([-logit[:, None], drawn(0, rows=2)[:, 1:]], 1)
        return Case("ranking").value(leaf, replace(taught_by(STUDENT.output(drawn(0, rows=2))), logit=logit)).item()

    costs = [cost(apart) for apart in (0.0, 0.5, 2.0, 6.0)]
    assert costs[0] == pytest.approx(0, abs=1e-12)
    assert costs == sorted(costs)
