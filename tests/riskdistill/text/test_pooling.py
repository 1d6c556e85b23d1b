from __future__ import annotations

import torch

from riskdistill.text.pieces import NO_PART
from riskdistill.text.pooling import membership, pool_attention, pool_hidden, pool_relations

# a special piece, two of the context, one and two of events 1 and 3; event 2 is absent
PART = torch.tensor([[NO_PART, 0, 0, 1, 3, 3]])
TOKENS = torch.arange(4)


def test_attention_is_summed_over_the_pieces_attended_to_and_averaged_over_those_that_attend() -> None:
    attention = torch.softmax(torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(1)), -1)
    pooled = pool_attention(attention, membership(PART, TOKENS))[:, 0]
    mean = attention[0].mean(0)
    raw = torch.stack([mean[[1, 2]][:, pieces].sum(1).mean() for pieces in ([1, 2], [3], [4, 5])])
    torch.testing.assert_close(pooled[0, 0, [0, 1, 3]], raw / raw.sum())
    torch.testing.assert_close(pooled[0].sum(-1), torch.tensor([1.0, 1.0, 0.0, 1.0]))
    assert not pooled[0, :, 2].any()


def test_hidden_states_are_averaged_over_pieces_and_relations_leave_absent_events_out() -> None:
    hidden = torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(2))
    members = membership(PART, TOKENS)
    pooled = pool_hidden(hidden, members)
    torch.testing.assert_close(pooled[0, 3], hidden[0, 4:].mean(0))
    assert not pooled[0, 2].any()
    relations = pool_relations(pooled, members, heads=2)
    assert relations.shape == (1, 3, 2, 4, 4)
    torch.testing.assert_close(relations.sum(-1)[0, 0, 0], torch.tensor([1.0, 1.0, 0.0, 1.0]))
    assert not relations[..., 2].any()


def test_events_that_the_student_does_not_read_are_left_out() -> None:
    members = membership(PART, torch.tensor([0, 3]))
    attention = torch.full((1, 1, 6, 6), 1 / 6)
    torch.testing.assert_close(pool_attention(attention, members)[0, 0], torch.full((2, 2), 0.5))
