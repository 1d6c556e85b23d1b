"""From word pieces to events: what a language model attends to and holds, on the tokens that a student reads.

Pieces are gathered by part of the text: the context is token 0, then come the sender's events and the receiver's.
Pieces of no part are left out, as are events that the student does not read. An event that is absent, or whose
words were cut off, gets rows and columns of zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

from riskdistill.distillation import terms


def membership(part: Tensor, tokens: Tensor) -> Tensor:
    """Which pieces make up which token: float [n, tokens, pieces] of 0 and 1.

    Args:
        part: int64 [n, pieces], of `PieceBatch`.
        tokens: int64 [tokens], the parts that are kept, in the student's order.
    """
    return (part[:, None, :] == tokens[None, :, None]).float()


def pool_hidden(hidden: Tensor, members: Tensor) -> Tensor:
    """The mean over each token's pieces: [n, pieces, width] -> [n, tokens, width]."""
    return _shares(members) @ hidden.float()


def pool_attention(attention: Tensor, members: Tensor) -> Tensor:
    """Attention between tokens: [n, heads, pieces, pieces] -> [n, 1, tokens, tokens].

    From A to B it is the sum over B's pieces of the mean over A's pieces, averaged over heads; rows then sum to 1
    over the tokens that are there.
    """
    pooled = _shares(members) @ attention.float().mean(1) @ members.transpose(1, 2)
    return (pooled / pooled.sum(-1, keepdim=True).clamp_min(torch.finfo(pooled.dtype).tiny)).unsqueeze(1)


def pool_relations(hidden: Tensor, members: Tensor, heads: int) -> Tensor:
    """Relations of pooled hidden states [n, tokens, width] to themselves: [n, 3, heads, tokens, tokens].

    Queries, keys and values lie apart in every architecture; hidden states do not. So all three relations are the
    same, those of MiniLMv2 over hidden states: softmax(HHᵀ/√d) in each relation head.
    """
    there = members.sum(-1) > 0
    relations = terms.relations(hidden, heads, there) * there[:, None, :, None]
    return relations.unsqueeze(1).expand(-1, 3, -1, -1, -1)


def _shares(members: Tensor) -> Tensor:
    return members / members.sum(-1, keepdim=True).clamp_min(1)
