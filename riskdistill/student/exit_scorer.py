"""Serving with early exits: one ONNX segment for each layer, and only the rows that stay go on to the next.

segment_0.onnx  context, events -> hidden, bias, logits      the embedding and the first layer
segment_k.onnx  hidden, bias    -> hidden, logits            every further layer with its exit
exits.json      the `ExitRule`
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from riskdistill.features import Encoded
from riskdistill.models.calibration import Calibrator
from riskdistill.models.onnx_model import Scored, softmax

RULE_FILE: Final = "exits.json"


class ExitRule(BaseModel):
    """Which rows leave where.

    Attributes:
        calibrators: of each depth, the last being the whole network's.
        bounds: of each depth but the last: scores below it leave.
        short: rows with at most as many events leave at the first exit; -1: no such rule.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    calibrators: tuple[Calibrator, ...]
    bounds: tuple[float, ...]
    short: int = -1

    def leaves(self, depth: int, score: NDArray[np.float64], events: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows [n] leave after layer `depth` (from 0), by their scores there and counts of events."""
        if depth == len(self.bounds):
            return np.ones(len(score), bool)
        return np.asarray((score < self.bounds[depth]) | (events <= self.short))


def event_counts(encoded: Encoded, events_per_party: int) -> NDArray[np.int64]:
    """Events [n] of both parties that the student reads."""
    parties = encoded.events[..., 0].reshape(len(encoded), 2, encoded.events.shape[1] // 2)[:, :, :events_per_party]
    return np.asarray((parties != 0).sum((1, 2)), np.int64)


class EarlyExitScorer:
    """Scores rows with as many layers as each needs.

    Args:
        folder: what `export_exits` wrote.
        events_per_party: of the student.
    """

    def __init__(self, folder: Path, *, events_per_party: int, threads: int = 1) -> None:
        self.rule = ExitRule.model_validate_json((folder / RULE_FILE).read_text())
        self.events_per_party = events_per_party
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._segments = [
            ort.InferenceSession(str(folder / segment_file(depth)), options, providers=["CPUExecutionProvider"])
            for depth in range(len(self.rule.calibrators))
        ]

    def score(self, encoded: Encoded) -> tuple[Scored, NDArray[np.int64]]:
        """Scores of any number of rows, and how many layers [n] each went through."""
        events = event_counts(encoded, self.events_per_party)
        hidden, bias, logits = self._segments[0].run(None, {"context": encoded.context, "events": encoded.events})
        answers = np.array(logits, np.float32)
        score = np.empty(len(encoded))
        layers = np.zeros(len(encoded), np.int64)
        staying = np.arange(len(encoded))
        for depth, calibrator in enumerate(self.rule.calibrators):
            if depth:
                hidden, logits = self._segments[depth].run(None, {"hidden": hidden, "bias": bias})
            answers[staying] = logits
            score[staying] = calibrator(logits[:, 0])
            layers[staying] = depth + 1
            stays = ~self.rule.leaves(depth, score[staying], events[staying])
            hidden, bias, staying = hidden[stays], bias[stays], staying[stays]
            if not len(staying):
                break
        typology = softmax(answers[:, 1:])
        return Scored(score, answers[:, 0].astype(np.float64), typology), layers


def segment_file(depth: int) -> str:
    return f"segment_{depth}.onnx"
