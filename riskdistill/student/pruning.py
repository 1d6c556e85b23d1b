"""Structured pruning: whole attention heads and hidden units leave, and the network that is left is really smaller.

What may leave is judged by how much the loss would change without it, to first order: the square of the sum of
gradient times weight over all weights of a head or unit (Molchanov et al., "Importance estimation for neural
network pruning", 2019; for heads: Michel et al., "Are sixteen heads really better than one?", 2019). What was lost
is won back by training the smaller network on towards the teacher, with `Trainer` and any objective.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from riskdistill.config.student import PruningConfig, kept_parts
from riskdistill.errors import TrainingError
from riskdistill.models.event_transformer import EncoderLayer, EventTransformer, EventTransformerConfig
from riskdistill.models.training import Objective


@dataclass(frozen=True)
class Importance:
    """How much each part of a network matters to the loss; the higher, the more.

    Attributes:
        heads: [layers, heads].
        feedforward: [layers, hidden units].
        context: [hidden units of the block that reads the context vector].
    """

    heads: Tensor
    feedforward: Tensor
    context: Tensor


def importance(model: EventTransformer, objective: Objective, batches: Iterable[NDArray[np.int64]]) -> Importance:
    """Measure a trained network on batches of training rows, in evaluation mode.

    Raises:
        TrainingError: there is no batch, or the network mixes experts, which are not pruned.
    """
    if model.config.experts > 1:
        raise TrainingError("a mixture of experts cannot be pruned", mend="set experts: 1")
    model.train(False)
    layers = cast(list[EncoderLayer], list(model.encoder))
    heads, feedforward, context = [], [], []
    for rows in batches:
        model.zero_grad(set_to_none=True)
        torch.stack(list(objective.loss(model, rows, 0).values())).sum().backward()
        heads.append(torch.stack([_of_heads(layer) for layer in layers]))
        feedforward.append(torch.stack([_of_units(*_linears(layer.feedforward)) for layer in layers]))
        context.append(_of_units(*_linears(model.context)))
    model.zero_grad(set_to_none=True)
    if not heads:
        raise TrainingError("no rows to measure importance on", mend="give some training rows")
    return Importance(*(torch.stack(parts).square().mean(0) for parts in (heads, feedforward, context)))


def prune(model: EventTransformer, importance: Importance, keep: PruningConfig) -> EventTransformer:
    """A smaller network with the most important heads and units of `model`, as many in each layer; at least one."""
    heads = _kept(importance.heads, keep.heads)
    units = _kept(importance.feedforward, keep.feedforward)
    read = _kept(importance.context, keep.context)
    old = model.config
    part = old.attention_width // old.heads
    changes = {
        "heads": heads.shape[-1],
        "attention_width": heads.shape[-1] * part,
        "feedforward_width": units.shape[-1],
        "context_width": read.shape[-1],
    }
    smaller = EventTransformer(EventTransformerConfig(**{**old.to_dict(), **changes}))
    state = dict(model.state_dict())
    _cut(state, "context.0", "context.4", read)
    for name in ("context.3.weight", "context.3.bias"):  # the norm between the two
        state[name] = state[name][read]
    for depth in range(old.layers):
        inside = (heads[depth][:, None] * part + torch.arange(part)).flatten()
        asked = (torch.arange(3)[:, None] * old.attention_width + inside).flatten()
        layer = f"encoder.{depth}"
        for name in (f"{layer}.projection.weight", f"{layer}.projection.bias"):
            state[name] = state[name][asked]
        state[f"{layer}.output.weight"] = state[f"{layer}.output.weight"][:, inside]
        _cut(state, f"{layer}.feedforward.1", f"{layer}.feedforward.3", units[depth])
    if "relation_bias" in state:
        state["relation_bias"] = torch.stack(
            [bias[kept] for bias, kept in zip(state["relation_bias"], heads, strict=True)]
        )
    smaller.load_state_dict(state)
    smaller.train(model.training)
    return smaller


def _kept(importance: Tensor, share: float) -> Tensor:
    """Indices of the most important share along the last dimension, in their old order."""
    return importance.topk(kept_parts(share, importance.shape[-1]), dim=-1).indices.sort(-1).values


def _cut(state: dict[str, Tensor], first: str, second: str, units: Tensor) -> None:
    """Leave of the hidden units between two linear layers only some."""
    for name in (f"{first}.weight", f"{first}.bias"):
        state[name] = state[name][units]
    state[f"{second}.weight"] = state[f"{second}.weight"][:, units]


def _linears(block: nn.Module) -> tuple[nn.Linear, nn.Linear]:
    first, second = (module for module in block.modules() if isinstance(module, nn.Linear))
    return first, second


def _of_heads(layer: EncoderLayer) -> Tensor:
    """Change of the loss, to first order, if a head's queries, keys, values and outputs were 0: [heads]."""
    projected = _change(layer.projection.weight).sum(1).view(3, layer.heads, -1).sum((0, 2))
    return projected + _change(layer.output.weight).sum(0).view(layer.heads, -1).sum(1)


def _of_units(first: nn.Linear, second: nn.Linear) -> Tensor:
    """The same of the hidden units between two linear layers, [units]."""
    return _change(first.weight).sum(1) + _change(first.bias) + _change(second.weight).sum(0)


def _change(weight: Tensor) -> Tensor:
    return weight.detach() * cast(Tensor, weight.grad)
