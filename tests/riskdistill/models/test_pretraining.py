"""The general phase: it reads no label, hides what it asks for, and teaches every part of the network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.config import PretrainingConfig, TrainingConfig
from riskdistill.dataset import Dataset
from riskdistill.features import Encoded
from riskdistill.features.spec import TOKEN_CHANNELS
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.pretraining import _FIELDS, PretrainingObjective, hide, unlabelled
from riskdistill.models.training import Trainer, TrainingRows

TERMS = ("fields", "features", "following", "contrast")
CONFIG = TrainingConfig(epochs=2, batch_size=64, patience=2)


@pytest.fixture(scope="module")
def rows(tiny_dataset: Dataset) -> TrainingRows:
    return unlabelled(tiny_dataset.train.encoded, 256, seed=1)


def network(dataset: Dataset) -> EventTransformer:
    return tiny.network(dataset, tiny.CONFIG.student.model_copy(update={"dropout": 0.1}))


def pretrained(dataset: Dataset, rows: TrainingRows, config: TrainingConfig = CONFIG) -> EventTransformer:
    model = network(dataset)
    objective = PretrainingObjective(model, rows, PretrainingConfig(bins=4))
    validation = dataset.validation.encoded, dataset.validation.label

    def judge(model: EventTransformer) -> float:
        return objective.judge(model, validation[0])

    return Trainer("general", model, rows, validation, config, judge=judge).run(objective).model


@pytest.mark.parametrize("term", TERMS)
def test_each_term_teaches_the_encoder_and_its_own_head(
    tiny_dataset: Dataset, rows: TrainingRows, term: str
) -> None:
    model = network(tiny_dataset)
    off = {name: 0.0 for name in TERMS if name != term}
    objective = PretrainingObjective(model, rows, PretrainingConfig(**off))
    terms = objective.loss(model, rows.draw[:64], 0)
    assert set(terms) == {term}
    terms[term].backward()
    head = {"contrast": objective.compared}.get(term) or getattr(objective, f"guess_{term}")
    for module in (model.encoder[0].projection, model.channels, head):
        assert module.weight.grad is not None
        assert module.weight.grad.abs().sum() > 0


def test_shuffled_labels_give_the_same_weights_to_the_last_bit(tiny_dataset: Dataset, rows: TrainingRows) -> None:
    shuffled = np.random.default_rng(5).integers(0, 2, len(rows.label))
    others = replace(rows, label=shuffled.astype(np.float32), typology=shuffled.astype(np.int64))
    one, other = (pretrained(tiny_dataset, taken).state_dict() for taken in (rows, others))
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_it_learns_to_guess(tiny_dataset: Dataset, rows: TrainingRows) -> None:
    model = network(tiny_dataset)
    objective = PretrainingObjective(model, rows, PretrainingConfig(bins=4))
    validation = tiny_dataset.validation.encoded, tiny_dataset.validation.label
    config = TrainingConfig(epochs=8, batch_size=32, patience=8, learning_rate=1e-2)
    epochs = Trainer("general", model, rows, validation, config, judge=lambda model: 0.0).run(objective).epochs
    for name in TERMS:
        assert epochs[-1].terms[name] < 0.9 * epochs[0].terms[name], name


@given(st.integers(0, 2**31), st.sampled_from(range(len(_FIELDS))))
def test_a_hidden_field_changes_what_is_asked_and_not_what_is_seen(seed: int, field: int) -> None:
    random = torch.Generator().manual_seed(seed)
    events = torch.rand(4, 2, 6, len(TOKEN_CHANNELS), generator=random) + 0.5
    masked = torch.zeros(4, 2, 6, len(_FIELDS), dtype=torch.bool)
    masked[1, 0, 2, field] = True
    changed = events.clone()
    for name in (_FIELDS[field].guessed, *_FIELDS[field].beside):
        changed[1, 0, 2, TOKEN_CHANNELS.index(name)] += 3.0
    assert not torch.equal(events, changed)
    assert torch.equal(hide(events, masked), hide(changed, masked))
    assert (hide(events, masked)[..., 0] != 0).all()  # no event vanishes


def test_what_is_asked_follows_the_true_value(tiny_dataset: Dataset, rows: TrainingRows) -> None:
    objective = PretrainingObjective(network(tiny_dataset), rows, PretrainingConfig(bins=4))
    low = torch.full((1, 1, len(TOKEN_CHANNELS)), -1.0)
    for field, before, after in zip(
        _FIELDS, objective.field_classes(low), objective.field_classes(low + 100.0), strict=True
    ):
        assert before.item() == 0
        assert after.item() > 0, field


def test_the_transaction_is_hidden_where_its_amount_and_time_are_asked(
    tiny_dataset: Dataset, rows: TrainingRows
) -> None:
    """Neither its context nor the channels relative to it reach the network."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    model = network(tiny_dataset)
    config = PretrainingConfig(fields=0.0, features=0.0)
    taken = rows.encoded.take(rows.draw[:64])
    other = Encoded(taken.context * 2 + 1, taken.events.copy())
    there = other.events[..., 0] != 0
    for name in ("log_usd_ratio", "log_age"):
        other.events[there, TOKEN_CHANNELS.index(name)] += 1.0
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    for encoded in (taken, other):
        objective = PretrainingObjective(model, unlabelled(encoded, 64, 0), config)
        torch.manual_seed(2)
        objective.loss(model, np.arange(64), 0)
    following, contrast, other_following, other_contrast = seen
    for (context, events), (other_context, other_events) in (
        (following, other_following),
        (contrast, other_contrast),
    ):
        assert context.isnan().all()
        assert other_context.isnan().all()
        assert torch.equal(events, other_events)


def test_the_halves_that_are_compared_share_no_event(tiny_dataset: Dataset, rows: TrainingRows) -> None:
    seen: list[torch.Tensor] = []
    model = network(tiny_dataset)
    config = PretrainingConfig(fields=0.0, features=0.0, following=0.0)
    objective = PretrainingObjective(model, rows, config)
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    objective.loss(model, rows.draw[:64], 0)
    one, other = (seen[0][..., 0] != 0).chunk(2)
    assert not (one & other).any()
    assert ((one.sum(1) - other.sum(1)).abs() <= 1).all()
    assert one.any()


def test_rows_without_any_event_cost_no_error(tiny_dataset: Dataset, rows: TrainingRows) -> None:
    bare = Encoded(rows.encoded.context, np.zeros_like(rows.encoded.events))
    model = network(tiny_dataset)
    objective = PretrainingObjective(model, replace(rows, encoded=bare), PretrainingConfig())
    terms = objective.loss(model, rows.draw[:64], 0)
    assert all(torch.isfinite(term) for term in terms.values())
    assert terms["contrast"].item() == 0.0


def test_no_more_rows_are_drawn_than_asked_for(tiny_dataset: Dataset) -> None:
    encoded = tiny_dataset.train.encoded
    assert len(set(unlabelled(encoded, 100, 3).draw)) == 100
    assert len(set(unlabelled(encoded, 10**9, 3).draw)) == len(encoded)
