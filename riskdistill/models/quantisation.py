"""Eight-bit students: fake quantisation while training, integer products when served.

Weights are symmetric per output channel, activations affine per tensor (Jacob et al., "Quantization and training of
neural networks for efficient integer-arithmetic-only inference", 2018). Ranges are fixed after calibration: with
ranges taken from each batch ("dynamic" quantisation) a row's score would move with its batch mates.

    quantised = quantise(model, rows, judge)    a copy whose linear layers round as the integers will
    Trainer(..., quantised, ...).run(objective) rounding passes gradients straight through (Bengio et al., 2013)
    export_onnx(quantised, ...)                 `models.serving_form` turns the rounding into integer products
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Final, Literal, get_args

import torch
from torch import Tensor, nn

from riskdistill.errors import EmptyInputError
from riskdistill.features import Encoded
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.training import tensors

# Seven bits of a weight: processors without VNNI add two products of 8 bits in 16, and 255 · 127 · 2 does not fit.
WEIGHT_STEPS: Final = 63
ACTIVATION_STEPS: Final = 255
RangeRule = Literal["minmax", "percentile"]
_TAIL: Final = 1e-4  # share of the activations that the percentile rule cuts off at each end
_SAMPLED: Final = 100_000  # activations of one batch that the percentile rule looks at
_CALIBRATION_ROWS: Final = 256  # at a time


class QuantisedLinear(nn.Linear):
    """A linear layer that rounds its weights and inputs as 8-bit integers would.

    Attributes:
        low, high: range of the inputs; learned with the weights.
    """

    observed: RangeRule | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None)
        self.load_state_dict(linear.state_dict())
        self.low, self.high = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.tensor(1.0))
        self.observed = None
        self._batches: list[Tensor] = []

    def forward(self, values: Tensor) -> Tensor:
        if self.observed is not None:
            self._observe(values.detach().float().flatten(), self.observed)
            return super().forward(values)
        scale, zero = self.input_grid()
        steps = (_round(values / scale) + zero).clamp(0, ACTIVATION_STEPS)
        return nn.functional.linear((steps - zero) * scale, self.rounded_weight(), self.bias)

    def input_grid(self) -> tuple[Tensor, Tensor]:
        """Size of a step and which step is 0, so that 0 itself is exact."""
        low, high = self.low.clamp_max(0.0), self.high.clamp_min(0.0)
        scale = ((high - low) / ACTIVATION_STEPS).clamp_min(1e-8)
        return scale, _round(-low / scale).clamp(0, ACTIVATION_STEPS)

    def served(self) -> IntegerLinear:
        """The same layer in integers, for export."""
        return IntegerLinear(self)

    def weight_scale(self) -> Tensor:
        """Size of a step of each output channel's weights, [out, 1]."""
        return self.weight.detach().abs().amax(1, keepdim=True).clamp_min(1e-8) / WEIGHT_STEPS

    def rounded_weight(self) -> Tensor:
        """The weights on their grid, [out, in]."""
        scale = self.weight_scale()
        return _round(self.weight / scale).clamp(-WEIGHT_STEPS, WEIGHT_STEPS) * scale

    def _observe(self, values: Tensor, rule: RangeRule) -> None:
        if rule == "percentile":
            values = values[:: max(1, len(values) // _SAMPLED)]
            ends = torch.quantile(values, values.new_tensor([_TAIL, 1 - _TAIL]))
        else:
            ends = torch.stack([values.min(), values.max()])
        self._batches.append(ends)

    def settle(self) -> None:
        """End the observation: the range is the mean of the batches' (percentile) or holds them all (minmax)."""
        ends = torch.stack(self._batches)
        low, high = ends.mean(0) if self.observed == "percentile" else (ends[:, 0].min(), ends[:, 1].max())
        with torch.no_grad():
            self.low.copy_(low)
            self.high.copy_(high)
        self.observed, self._batches = None, []


class IntegerLinear(nn.Module):
    """A calibrated `QuantisedLinear` as ONNX operators on integers; it can be exported, not run in PyTorch.

    The sums are exact, so that no order of summation makes a row's score depend on its batch.
    """

    def __init__(self, linear: QuantisedLinear) -> None:
        super().__init__()
        with torch.no_grad():
            scale, zero = linear.input_grid()
            weight_scale = linear.weight_scale()
            steps = (linear.weight / weight_scale).round().clamp(-WEIGHT_STEPS, WEIGHT_STEPS)
        self.outputs = linear.out_features
        self.register_buffer("scale", scale.detach().clone())
        self.register_buffer("zero", zero.detach().to(torch.uint8))
        self.register_buffer("weight", steps.T.contiguous().to(torch.int8))
        self.register_buffer("step", (scale * weight_scale[:, 0]).detach())
        self.register_buffer("bias", linear.bias.detach().clone())

    def forward(self, values: Tensor) -> Tensor:
        """See `QuantisedLinear`; the sums of products are 32-bit integers."""
        zero, weight = self.get_buffer("zero"), self.get_buffer("weight")
        steps = torch.onnx.ops.symbolic(
            "QuantizeLinear",
            (values, self.get_buffer("scale"), zero),
            dtype=torch.uint8,
            shape=values.shape,
            version=13,
        )
        sums = torch.onnx.ops.symbolic(
            "MatMulInteger",
            (steps, weight, zero),
            dtype=torch.int32,
            shape=(*values.shape[:-1], self.outputs),
            version=10,
        )
        return sums.float() * self.get_buffer("step") + self.get_buffer("bias")


def quantise(
    model: EventTransformer, rows: Encoded, judge: Callable[[EventTransformer], float]
) -> EventTransformer:
    """A copy whose linear layers round, with the ranges of the rule that `judge` likes best.

    The heads stay in floating point, and so do the last layer's projections: they are read at one token, where the
    serving form takes them apart and rounding would save nothing.

    Args:
        rows: training rows, some hundreds, from which the ranges are taken.
        judge: of a network in evaluation mode, on rows kept apart; the higher, the better.

    Raises:
        EmptyInputError: there are no rows.
    """
    if not len(rows):
        raise EmptyInputError("no rows to calibrate activations on", mend="give some training rows")
    candidates = [_calibrated(_rounding(model), rows, rule) for rule in get_args(RangeRule)]
    return max(candidates, key=judge)


def _rounding(model: EventTransformer) -> EventTransformer:
    rounding = copy.deepcopy(model)
    last = rounding.encoder[-1]
    kept = {rounding.head, last.projection, last.output, rounding.channels}
    for parent in list(rounding.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and child not in kept:
                setattr(parent, name, QuantisedLinear(child))
    return rounding


@torch.no_grad()
def _calibrated(model: EventTransformer, rows: Encoded, rule: RangeRule) -> EventTransformer:
    layers = [module for module in model.modules() if isinstance(module, QuantisedLinear)]
    model.train(False)
    for layer in layers:
        layer.observed = rule
    for start in range(0, len(rows), _CALIBRATION_ROWS):
        model(*tensors(rows.take(slice(start, start + _CALIBRATION_ROWS)), model.device))
    for layer in layers:
        layer.settle()
    return model


def _round(values: Tensor) -> Tensor:
    """Rounded to the nearest integer (ties to even, as ONNX does); gradients pass straight through."""
    return values + (values.round() - values).detach()
