"""The form in which a network is served: the same function, laid out so that ONNX Runtime computes less.

Training wants every token's queries, keys and values; serving wants one number. Nothing here changes a result
beyond rounding:

- numbers are encoded features first, where gathering the pieces of a batch copies whole lines of memory, and
  an unknown number (NaN) becomes one that lies below every edge;
- the last layer is read at the context position alone, so that its keys and values are never made: with one
  query q, q · (K h) = (Kᵀ q) · h, and the mean of V h is V times the mean of h;
- layers that were trained to round (`models.quantisation`) multiply integers.
"""

from __future__ import annotations

import copy
from typing import Final, cast

import torch
from torch import Tensor, nn

from riskdistill.models.event_transformer import EncoderLayer, EventTransformer, LayerView, NumberEncoding
from riskdistill.models.experts import MixtureOfExperts
from riskdistill.models.quantisation import QuantisedLinear

_BELOW_ALL: Final = -3e38


def serving_form(model: EventTransformer) -> EventTransformer:
    """A copy of `model` for export, in evaluation mode. It answers `forward` without layers or attentions."""
    served = copy.deepcopy(model)
    served.train(False)
    served.numbers = cast(NumberEncoding, ServedNumbers(served.numbers))
    last = cast(EncoderLayer, served.encoder[-1])
    if not isinstance(last.feedforward, MixtureOfExperts):
        served.encoder[-1] = ReadOutLayer(last)
    for parent in list(served.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, QuantisedLinear):
                setattr(parent, name, child.served())
    return served


class ServedNumbers(nn.Module):
    """A `NumberEncoding` in evaluation mode, computed as [pieces, n]."""

    def __init__(self, numbers: NumberEncoding) -> None:
        super().__init__()
        for name in ("feature", "missing"):
            self.register_buffer(name, numbers.get_buffer(name))
        for name in ("lower", "inverse_width"):
            self.register_buffer(name, numbers.get_buffer(name).unsqueeze(1))

    def forward(self, values: Tensor) -> Tensor:
        unknown = torch.isnan(values).T
        filled = torch.where(unknown, _BELOW_ALL, values.T)
        pieces = filled.index_select(0, self.get_buffer("feature"))
        steps = ((pieces - self.get_buffer("lower")) * self.get_buffer("inverse_width")).clamp(0.0, 1.0)
        flags = unknown.index_select(0, self.get_buffer("missing")).to(values.dtype)
        return torch.cat([steps, flags]).T


class ReadOutLayer(nn.Module):
    """An `EncoderLayer` that is read at its first token, without keys and values."""

    def __init__(self, layer: EncoderLayer) -> None:
        super().__init__()
        width = layer.output.out_features
        part = layer.output.in_features // layer.heads
        query, key, value = layer.projection.weight.detach().double().view(3, layer.heads, part, width)
        query_bias, _, value_bias = layer.projection.bias.detach().double().view(3, layer.heads, part)
        output = layer.output.weight.detach().double().view(width, layer.heads, part)
        scale = part**-0.5
        self.heads = layer.heads
        self.attention_norm = layer.attention_norm
        # the keys' bias moves all scores of a query alike, which the softmax undoes
        self.ask = _linear(
            scale * torch.einsum("hpk,hpq->hkq", key, query).flatten(0, 1),
            scale * torch.einsum("hpk,hp->hk", key, query_bias).flatten(),
        )
        self.answer = _linear(
            torch.einsum("ohp,hpw->ohw", output, value).flatten(1),
            torch.einsum("ohp,hp->o", output, value_bias) + layer.output.bias.detach().double(),
        )
        self.feedforward = layer.feedforward

    def forward(
        self, hidden: Tensor, bias: Tensor, first_only: bool = False, attentions: bool = False
    ) -> LayerView:
        """See `EncoderLayer`; the first token alone, and no attention maps."""
        normed = self.attention_norm(hidden)
        query = self.ask(normed[:, 0]).unflatten(-1, (self.heads, -1))
        attention = torch.softmax(query @ normed.transpose(1, 2) + bias[:, :, 0], -1)
        first = hidden[:, :1] + self.answer((attention @ normed).flatten(1)).unsqueeze(1)
        return LayerView(query, normed, normed, first + self.feedforward(first))


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    return linear.requires_grad_(False)
