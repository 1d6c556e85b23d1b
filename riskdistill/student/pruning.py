"""Structured pruning: units of the context block and of the feed-forward blocks that matter least are cut out.

A unit matters as much as the loss would change without its incoming weights, to first order: (Σ weight · gradient)²
summed over batches (Molchanov et al., "Importance estimation for neural network pruning", 2019). What is left is an
ordinary, smaller `EventTransformer`; some epochs of any objective make good what the cut cost. Every layer keeps as
many units as the others, so that a config can say it.
"""

from __future__ import annotations

import copy
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from riskdistill.errors import TrainingError
from riskdistill.models.event_transformer import EventTransformer, EventTransformerConfig
from riskdistill.models.training import Objective

_BATCH_ROWS = 256


def prune(
    model: EventTransformer, objective: Objective, rows: NDArray[np.int64], *, keep: float
) -> EventTransformer:
    """A smaller copy of `model`.

    Args:
        objective: what the network is trained towards; its gradient says what matters.
        rows: training rows to ask it on, some thousands.
        keep: share of the units of each block that stays, above 0 and at most 1.

    Raises:
        TrainingError: `keep` is out of range, or there are no rows.
    """
    if not 0 < keep <= 1 or not len(rows):
        raise TrainingError(
            f"cannot keep {keep:g} of the units by {len(rows)} rows", mend="keep above 0, at most 1"
        )
    blocks = _entrances(model)
    important = _importance(model, objective, rows, blocks)
    kept = {
        name: torch.topk(scores, max(1, round(keep * len(scores)))).indices.sort().values
        for name, scores in important.items()
    }
    config = cast(EventTransformerConfig, copy.deepcopy(model.config))
    config.context_width = len(kept["context.0"])
    config.feedforward = len(kept["encoder.0.feedforward.1"]) / config.width
    smaller = EventTransformer(config)
    state = dict(model.state_dict())
    for name, units in kept.items():
        block, entrance = name.rsplit(".", 1)
        for key in [f"{name}.weight", f"{name}.bias"]:
            state[key] = state[key][units]
        if block == "context":
            for key in ("context.3.weight", "context.3.bias"):  # the norm of the units
                state[key] = state[key][units]
        leaving = f"{block}.{4 if block == 'context' else int(entrance) + 2}.weight"
        state[leaving] = state[leaving][:, units]
    smaller.load_state_dict(state)
    smaller.train(False)
    return smaller


def _entrances(model: EventTransformer) -> dict[str, nn.Linear]:
    """The layers whose outputs are the units that may go, by name."""
    names = ["context.0", *(f"encoder.{depth}.feedforward.1" for depth in range(len(model.encoder)))]
    return {name: cast(nn.Linear, model.get_submodule(name)) for name in names}


def _importance(
    model: EventTransformer, objective: Objective, rows: NDArray[np.int64], blocks: dict[str, nn.Linear]
) -> dict[str, Tensor]:
    model.train(False)
    parameters = [parameter for block in blocks.values() for parameter in (block.weight, block.bias)]
    important = {name: torch.zeros(block.out_features) for name, block in blocks.items()}
    for start in range(0, len(rows), _BATCH_ROWS):
        terms = objective.loss(model, rows[start : start + _BATCH_ROWS], 0)
        gradients = iter(torch.autograd.grad(torch.stack(list(terms.values())).sum(), parameters))
        for name, block in blocks.items():
            change = (block.weight.detach() * next(gradients)).sum(1) + block.bias.detach() * next(gradients)
            important[name] += change.square()
    return important
