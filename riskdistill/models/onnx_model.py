"""ONNX: the form in which models are served. Export checked against PyTorch, and the scorer that runs it."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from riskdistill.errors import BundleDamagedError, TrainingError
from riskdistill.features import Encoded
from riskdistill.models.calibration import Calibrator
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.training import score_logits

TOLERANCE: Final = 1e-4  # largest difference of a logit from PyTorch's that an export may have
CHECKED_BATCHES: Final = (0, 1, 5, 64)


@dataclass(frozen=True)
class Scored:
    """Scores of a batch.

    Attributes:
        score: float64 [n], calibrated probability of laundering.
        logit: float64 [n], as the network gave it.
        typology: float32 [n, typologies], probabilities.
    """

    score: NDArray[np.float64]
    logit: NDArray[np.float64]
    typology: NDArray[np.float32]


class OnnxScorer:
    """One ONNX Runtime session with its calibrator. Safe to call from several threads.

    Args:
        path: an .onnx file that `export_onnx` wrote.
        threads: for one call; spinning is off, so that an idle service uses no processor.

    Raises:
        BundleDamagedError: the file is not a model that ONNX Runtime can load.
    """

    def __init__(self, path: Path, calibrator: Calibrator, *, threads: int = 1) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises its own unrelated classes
            raise BundleDamagedError(
                f"ONNX Runtime cannot load the model ({error})",
                where=str(path),
                mend="build the bundle again",
            ) from error
        self.calibrator = calibrator
        self.bytes = path.stat().st_size

    def score(self, encoded: Encoded) -> Scored:
        """Score any number of rows, none included."""
        logit, typology = self._session.run(None, {"context": encoded.context, "events": encoded.events})
        logit = np.asarray(logit, np.float64)
        return Scored(self.calibrator(logit), logit, _softmax(typology))


class _Served(nn.Module):
    """What a served model returns: the logit and the typology logits, as a plain tuple."""

    def __init__(self, model: EventTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, context: Tensor, events: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(context, events)
        return output.logit, output.typology_logits


def export_onnx(model: EventTransformer, path: Path, sample: Encoded) -> float:
    """Write `model` as ONNX and compare it with PyTorch on rows of `sample`, in batches of 0, 1, 5 and 64.

    Returns:
        The largest absolute difference of a logit.

    Raises:
        TrainingError: the difference is above `TOLERANCE`.
    """
    model.train(False)
    example = sample.take(np.arange(7) % max(1, len(sample)))
    rows = torch.export.Dim("rows")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations, nothing that we can mend
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            _Served(model),
            (torch.from_numpy(example.context), torch.from_numpy(example.events)),
            str(path),
            input_names=["context", "events"],
            output_names=["logit", "typology_logits"],
            dynamic_shapes={"context": {0: rows}, "events": {0: rows}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    scorer = OnnxScorer(path, Calibrator())
    largest = 0.0
    for size in CHECKED_BATCHES:
        batch = sample.take(np.arange(size) % max(1, len(sample)))
        expected, _ = score_logits(model, batch)
        difference = np.abs(scorer.score(batch).logit - expected)
        largest = max(largest, float(difference.max(initial=0.0)))
    if largest > TOLERANCE:
        raise TrainingError(
            f"the exported model differs from PyTorch by {largest:.2e}, more than {TOLERANCE:.0e}",
            where=str(path),
        )
    return largest


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    if not len(logits):
        return logits
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True), np.float32)
