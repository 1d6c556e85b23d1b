"""The network sees which events share a counterparty, and nothing of who it is."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from riskdistill.dataset import Dataset
from riskdistill.features import Encoded
from riskdistill.features.spec import TOKEN_CHANNELS
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.token_relations import RELATIONS, token_relations

PEER, OTHER = TOKEN_CHANNELS.index("peer"), TOKEN_CHANNELS.index("is_other_party")


@pytest.fixture(scope="module")
def model(tiny_dataset: Dataset) -> EventTransformer:
    """The tiny teacher, its biases as if trained."""
    network = tiny.network(tiny_dataset, tiny.CONFIG.teacher.network)
    network.train(False)
    assert network.relation_bias is not None
    with torch.no_grad():
        network.relation_bias.copy_(
            torch.linspace(-2, 2, network.relation_bias.numel()).view_as(network.relation_bias)
        )
    return network


@pytest.fixture(scope="module")
def rows(tiny_dataset: Dataset) -> Encoded:
    events = tiny_dataset.test.encoded.events
    busy = (events[..., 0] != 0).sum(1) > 10
    return tiny_dataset.test.encoded.take(np.flatnonzero(busy)[:40])


@torch.inference_mode()
def logits(model: EventTransformer, rows: Encoded) -> Tensor:
    answer: Tensor = model(torch.from_numpy(rows.context), torch.from_numpy(rows.events)).logit
    return answer


def with_peers(rows: Encoded, peers: np.ndarray) -> Encoded:
    events = rows.events.copy()
    events[..., PEER] = np.where(events[..., 0] != 0, peers, 0)
    return Encoded(rows.context, events)


def related(peers: list[float], others: tuple[int, ...] = ()) -> dict[str, set[tuple[int, int]]]:
    """Pairs of tokens by relation, of one row; the first half of `peers` is the sender's."""
    events = torch.zeros(1, 2, len(peers) // 2, len(TOKEN_CHANNELS))
    events.view(-1, len(TOKEN_CHANNELS))[:, PEER] = torch.tensor(peers)
    for event in others:
        events.view(-1, len(TOKEN_CHANNELS))[event, OTHER] = 1
    found = token_relations(events)[0]
    assert found.shape == (len(RELATIONS), len(peers) + 1, len(peers) + 1)
    assert (found.sum(0) <= 1).all()
    return {name: set(map(tuple, part.nonzero().tolist())) for name, part in zip(RELATIONS, found, strict=True)}


def test_every_pair_of_tokens_has_its_relation() -> None:
    found = related([1, 1, 3, 1], others=(2,))
    assert found["same counterparty"] == {(1, 1), (2, 2), (1, 2), (2, 1), (3, 3), (4, 4)}
    assert found["shared counterparty"] == {(1, 4), (4, 1), (2, 4), (4, 2)}
    assert found["same party"] == {(3, 4), (4, 3)}
    assert found["between the two"] == {(0, 3), (3, 0)}


@given(st.permutations(range(1, 9)), st.lists(st.integers(0, 7), min_size=8, max_size=8))
def test_relations_do_not_depend_on_how_counterparties_are_numbered(names: list[int], held: list[int]) -> None:
    assert related([float(names[one]) for one in held]) == related([float(one + 1) for one in held])


def test_histories_that_differ_only_in_who_shares_a_counterparty_score_differently(
    model: EventTransformer, rows: Encoded
) -> None:
    half = rows.events.shape[1] // 2
    apart = np.arange(1, 2 * half + 1)
    gathered, shared = np.ones(2 * half), np.tile(np.arange(1, half + 1), 2)
    scores = [logits(model, with_peers(rows, peers)) for peers in (apart, gathered, shared)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (scores[one] - scores[other]).abs().max() > 1e-3


def test_renaming_counterparties_alike_changes_no_score(model: EventTransformer, rows: Encoded) -> None:
    names = 1 + np.random.default_rng(0).permutation(rows.events.shape[1])
    renamed = with_peers(rows, names[rows.events[..., PEER].astype(int) - 1])
    assert not np.array_equal(renamed.events, rows.events)
    assert torch.equal(logits(model, renamed), logits(model, rows))


def test_what_each_relation_adds_is_learned(model: EventTransformer, rows: Encoded) -> None:
    model.zero_grad()
    model(torch.from_numpy(rows.context), torch.from_numpy(rows.events)).logit.sum().backward()
    assert model.relation_bias is not None
    assert model.relation_bias.grad is not None
    assert (model.relation_bias.grad[0].abs().sum(0) > 0).all()  # the last layer is read at the context alone
    assert (model.relation_bias.grad[-1, :, RELATIONS.index("between the two")] != 0).any()
    model.zero_grad()


def test_a_network_without_relations_does_not_read_who_shares_a_counterparty(
    tiny_dataset: Dataset, rows: Encoded
) -> None:
    student = tiny.network(tiny_dataset, tiny.CONFIG.student)
    student.train(False)
    alike = with_peers(rows, np.ones(rows.events.shape[1]))
    assert torch.equal(logits(student, alike), logits(student, rows))
