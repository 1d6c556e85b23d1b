"""A mixture of experts in place of a feed-forward block: several blocks, of which each transaction uses two.

One gate per transaction, read at its context token, so that an expert can specialise in a kind of payment (Shazeer
et al., "Outrageously large neural networks: the sparsely-gated mixture-of-experts layer", 2017). All blocks are
computed and summed by their gates: batches here are small, and the graph stays one that ONNX Runtime can serve.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

CHOSEN: Final = 2  # experts of one transaction
BALANCE_WEIGHT: Final = 0.01  # of `balance` in a loss


def feed_forward(width: int, inner: int) -> nn.Sequential:
    """A pre-norm feed-forward block, [..., width] -> the same."""
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))


class MixtureOfExperts(nn.Module):
    """Feed-forward blocks weighed by each transaction's gates, [n, tokens, width] -> the same."""

    def __init__(self, width: int, inner: int, experts: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, experts))
        self.experts = nn.ModuleList(feed_forward(width, inner) for _ in range(experts))

    def gates(self, hidden: Tensor) -> Tensor:
        """[n, experts]: shares of the `CHOSEN` best experts for the first token, 0 for the others; the sum is 1."""
        scores = self.gate(hidden[:, 0]).float()
        least = scores.topk(min(CHOSEN, len(self.experts)), dim=-1).values[:, -1:]
        return torch.softmax(scores.masked_fill(scores < least, float("-inf")), dim=-1)

    def mix(self, hidden: Tensor, gates: Tensor) -> Tensor:
        """The experts' outputs, weighed by `gates`."""
        # added one by one, as ONNX Runtime gives the sum over the last axis of no rows a wrong shape
        mixed = torch.zeros_like(hidden)
        for expert, share in zip(self.experts, gates.unbind(-1), strict=True):
            mixed = mixed + share[:, None, None].to(hidden.dtype) * expert(hidden)
        return mixed

    def forward(self, hidden: Tensor) -> Tensor:
        return self.mix(hidden, self.gates(hidden))


def balance(gates: Tensor) -> Tensor:
    """How unevenly a batch uses the experts: squared coefficient of variation of the summed gates [n, experts].

    0 where all are used alike; added to the loss, it keeps experts from being forgotten (Shazeer et al., 2017).
    """
    importance = gates.sum(0)
    return importance.var(correction=0) / importance.mean().square().clamp_min(1e-12)
