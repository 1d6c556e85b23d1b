"""How weights and temperature move while a student learns: by the epoch, by the row, or by the gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from riskdistill.config import TemperatureConfig, TermConfig

BALANCE_STEPS = 20  # between two measurements of gradient norms
_KEPT = 0.9  # of a running mean at each step


def temperature(config: TemperatureConfig, epoch: int, epochs: int) -> float:
    """The temperature in an epoch (from 0): `start` for `after_epoch` epochs, then evenly to `end`.

    >>> rising = TemperatureConfig(schedule="rising", start=5.0, end=8.0)
    >>> [temperature(rising, epoch, 8) for epoch in (0, 4, 5, 7)]
    [5.0, 5.0, 6.0, 8.0]
    """
    if config.schedule == "constant":
        return config.start
    moving = epochs - config.after_epoch
    done = max(0, epoch + 1 - config.after_epoch)
    return config.start + (config.end - config.start) * (min(1.0, done / moving) if moving > 0 else 0.0)


def weight(term: TermConfig, epoch: int, epochs: int) -> float:
    """A term's weight in an epoch (from 0): `weight` in the first, evenly to `end_weight` in the last."""
    if term.end_weight is None:
        return term.weight
    return term.weight + (term.end_weight - term.weight) * (epoch / max(1, epochs - 1))


class _Reversal(torch.autograd.Function):
    """The identity, whose gradient comes back negated and scaled (Ganin and Lempitsky, 2015)."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reversed_gradient(value: Tensor, strength: float = 1.0) -> Tensor:
    """`value`, which gradient descent on what follows moves uphill."""
    reversed_: Tensor = _Reversal.apply(value, strength)  # type: ignore[no-untyped-call]
    return reversed_


class LearnedTemperature(nn.Module):
    """A temperature between 1 and `end` that learns to make the student's task harder, more so with every epoch.

    Its gradient is reversed with a strength that rises from 0 to 1 along a cosine (Li et al., "Curriculum
    temperature for knowledge distillation", 2023).
    """

    def __init__(self, config: TemperatureConfig) -> None:
        super().__init__()
        share = (config.start - 1) / (config.end - 1)
        self.end = config.end
        self.position = nn.Parameter(torch.tensor(math.log(share / (1 - share))))

    def forward(self, epoch: int, epochs: int) -> Tensor:
        strength = 0.5 * (1 - math.cos(math.pi * min(1.0, (epoch + 1) / epochs)))
        return 1 + (self.end - 1) * torch.sigmoid(reversed_gradient(self.position, strength))


class RowWeights(nn.Module):
    """W = σ(α·complexity + β·distance + γ·past transfer) for every row of a batch, α, β and γ learned.

    Complexity is the entropy of the teacher's answer; distance is how far the student's probability is from the
    teacher's; past transfer is the running mean of by how much that distance shrank from one visit of the row to
    the next. Each signal is standardised over the batch. The weights are brought to a mean of 1 and learn with a
    reversed gradient, towards rows that are still to be learned: descent itself would shut the hard rows out.

    Args:
        total: how many training rows there are.
    """

    distance: Tensor
    transfer: Tensor

    def __init__(self, total: int) -> None:
        super().__init__()
        self.alpha_beta_gamma = nn.Parameter(torch.zeros(3))
        self.register_buffer("distance", torch.full((total,), math.nan))
        self.register_buffer("transfer", torch.zeros(total))

    def forward(self, student: Tensor, teacher: Tensor, rows: Tensor) -> Tensor:
        """Weights [n] of mean 1, from logits [n] of the training rows `rows` [n]."""
        probability = torch.sigmoid(teacher)
        entropy = nn.functional.binary_cross_entropy_with_logits(teacher, probability, reduction="none")
        distance = (torch.sigmoid(student.detach()) - probability).abs()
        signals = torch.stack([entropy, distance, self._past(distance, rows)], dim=-1)
        spread = signals.std(0, correction=0).clamp_min(1e-6)
        gates = torch.sigmoid(((signals - signals.mean(0)) / spread) @ reversed_gradient(self.alpha_beta_gamma))
        return gates / gates.mean()

    def _past(self, distance: Tensor, rows: Tensor) -> Tensor:
        """The past transfer of these rows, after which their distance is noted."""
        before = self.transfer[rows]
        gained = torch.nan_to_num(self.distance[rows] - distance.float())
        self.transfer[rows] = _KEPT * before + (1 - _KEPT) * gained
        self.distance[rows] = distance.float()
        return before.to(distance.dtype)


class GradientNormBalance(nn.Module):
    """Factors under which each term's gradient on the shared trunk keeps its configured share.

    After Chen et al., "GradNorm", 2018, with the factors set from measured norms in place of their descent.

    Args:
        names: of the terms.
    """

    factors: Tensor
    step: Tensor

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        self.register_buffer("factors", torch.ones(len(names)))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(
        self, terms: Mapping[str, Tensor], weights: Mapping[str, float], trunk: nn.Module
    ) -> dict[str, float]:
        """The factor of each of `terms` (before their `weights`), measured every `BALANCE_STEPS` calls."""
        if int(self.step) % BALANCE_STEPS == 0:
            self._measure(terms, weights, trunk)
        self.step += 1
        return {name: float(self.factors[self.names.index(name)]) for name in terms}

    def _measure(self, terms: Mapping[str, Tensor], weights: Mapping[str, float], trunk: nn.Module) -> None:
        parameters = list(trunk.parameters())
        norms = {}
        for name, term in terms.items():
            if not term.requires_grad:
                continue
            found = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
            squares = [gradient.square().sum() for gradient in found if gradient is not None]
            norms[name] = float(torch.stack(squares).sum().sqrt()) if squares else 0.0
        moved = [name for name, norm in norms.items() if norm > 0 and weights[name] > 0]
        if not moved:
            return
        typical = sum(weights[name] * norms[name] for name in moved) / sum(weights[name] for name in moved)
        for name in moved:
            at = self.names.index(name)
            kept = _KEPT if int(self.step) else 0.0
            self.factors[at] = kept * self.factors[at] + (1 - kept) * typical / norms[name]
