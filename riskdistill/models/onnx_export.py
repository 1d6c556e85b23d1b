"""From PyTorch to ONNX, checked on real rows: what is exported scores as what was trained."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from riskdistill.errors import TrainingError
from riskdistill.features import Encoded
from riskdistill.models.calibration import Calibrator
from riskdistill.models.committee import Committee, Network
from riskdistill.models.onnx_model import DATASET_KEY, OnnxScorer
from riskdistill.models.quantisation import QuantisedLinear
from riskdistill.models.serving_form import serving_form
from riskdistill.models.training import score_logits

TOLERANCE: Final = (
    1e-4  # largest difference of a logit or a typology's probability from PyTorch's that an export may have
)
ROUNDED_TOLERANCE: Final = 1e-2  # the same of 8-bit models: what lies between two steps may be rounded either way
CHECKED_BATCHES: Final = (0, 1, 5, 64)


class _Served(nn.Module):
    """What a served model returns: the logit and the typology logits, as a plain tuple."""

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.model = model

    def forward(self, context: Tensor, events: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(context, events)
        return output.logit, output.typology_logits


def export_onnx(model: Network, path: Path, sample: Encoded) -> float:
    """Write `model` as ONNX and compare it with PyTorch on rows of `sample`, in batches of 0, 1, 5 and 64.

    The file names the dataset that the model was trained on, which a bundle holds it to.

    Returns:
        The largest absolute difference of a logit or a typology's probability.

    Raises:
        TrainingError: the difference is above `TOLERANCE` (`ROUNDED_TOLERANCE` of 8-bit models).
    """
    model.train(False)
    outputs = "logit", "typology_logits"
    members = [serving_form(member) for member in (model.all if isinstance(model, Committee) else (model,))]
    served = _Served(Committee(members) if len(members) > 1 else members[0])
    write_onnx(served, traced(sample), outputs, path, model.config.dataset_fingerprint)
    scorer = OnnxScorer(path, Calibrator())
    largest = 0.0
    for batch in checked_batches(sample):
        logit, typology_logits = score_logits(model, batch)
        scored = scorer.score(batch)
        typology = torch.from_numpy(typology_logits).softmax(-1).numpy()
        for found, expected in ((scored.logit, logit), (scored.typology, typology)):
            largest = max(largest, float(np.abs(found - expected).max(initial=0.0)))
    rounds = any(isinstance(module, QuantisedLinear) for module in model.modules())
    refuse_difference(largest, ROUNDED_TOLERANCE if rounds else TOLERANCE, path)
    return largest


def write_onnx(
    module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], path: Path, dataset: str
) -> None:
    """Write a module as ONNX for any number of rows, none included.

    Args:
        inputs: some rows of each argument of its `forward`, by the argument's name.
        outputs: names of what it returns.
        dataset: fingerprint of the dataset that it was trained on, which the file will name.
    """
    rows = torch.export.Dim("rows")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations, nothing that we can mend
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes={name: {0: rows} for name in inputs},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    exported = onnx.load(path)
    onnx.helper.set_model_props(exported, {DATASET_KEY: dataset})
    onnx.save(exported, path)


def traced(sample: Encoded) -> dict[str, Tensor]:
    """The rows of `sample` that an export is traced on, as a network's inputs by name."""
    example = sample.take(np.arange(7) % max(1, len(sample)))
    return {"context": torch.from_numpy(example.context), "events": torch.from_numpy(example.events)}


def checked_batches(sample: Encoded) -> Iterator[Encoded]:
    """The batches of rows of `sample` on which an export is compared with PyTorch."""
    for size in CHECKED_BATCHES:
        yield sample.take(np.arange(size) % max(1, len(sample)))


def refuse_difference(largest: float, tolerance: float, path: Path) -> None:
    """Check what an export was found to differ by.

    Raises:
        TrainingError: it is above the tolerance.
    """
    if largest > tolerance:
        raise TrainingError(
            f"the exported model differs from PyTorch by {largest:.2e}, more than {tolerance:.0e}",
            where=str(path),
        )
