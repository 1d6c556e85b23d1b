"""From a student with early exits to the ONNX segments that `exit_scorer` serves, checked on real rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from riskdistill.features import Encoded
from riskdistill.models.calibration import Calibrator
from riskdistill.models.onnx_export import TOLERANCE, checked_batches, refuse_difference, traced, write_onnx
from riskdistill.models.serving_form import serving_form
from riskdistill.student.exit_scorer import RULE_FILE, EarlyExitScorer, ExitRule, segment_file
from riskdistill.student.exits import ExitingStudent, logits_by_depth


class _First(nn.Module):
    def __init__(self, student: ExitingStudent) -> None:
        super().__init__()
        self.student = student

    def forward(self, context: Tensor, events: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden, bias = self.student.begin(context, events)
        deeper, logits = self.student.deepen(0, hidden, bias)
        return deeper, bias, logits


class _Further(nn.Module):
    def __init__(self, student: ExitingStudent, depth: int) -> None:
        super().__init__()
        self.student, self.depth = student, depth

    def forward(self, hidden: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        return self.student.deepen(self.depth, hidden, bias)


@torch.no_grad()
def export_exits(student: ExitingStudent, rule: ExitRule, folder: Path, sample: Encoded) -> float:
    """Write the segments and the rule into `folder`, and compare every exit with PyTorch on rows of `sample`.

    The segments name the dataset that the student was trained on, which a bundle holds them to.

    Returns:
        The largest absolute difference of a logit.

    Raises:
        TrainingError: the difference is above `onnx_export.TOLERANCE`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    served = ExitingStudent(serving_form(student.model))
    served.exits.load_state_dict(student.exits.state_dict())
    served.train(False)
    dataset, inputs = student.model.config.dataset_fingerprint, traced(sample)
    write_onnx(_First(served), inputs, ("hidden", "bias", "logits"), folder / segment_file(0), dataset)
    hidden, bias = student.begin(**inputs)
    for depth in range(1, len(rule.calibrators)):
        between = {"hidden": hidden, "bias": bias}
        write_onnx(_Further(served, depth), between, ("deeper", "logits"), folder / segment_file(depth), dataset)
    (folder / RULE_FILE).write_text(rule.model_dump_json(indent=2))
    largest = _difference(student, rule, folder, sample)
    refuse_difference(largest, TOLERANCE, folder)
    return largest


def _difference(student: ExitingStudent, rule: ExitRule, folder: Path, sample: Encoded) -> float:
    """The largest difference between segments and PyTorch, each batch leaving as a whole at each exit in turn."""
    scorer, largest = EarlyExitScorer(folder, Calibrator()), 0.0
    for batch in checked_batches(sample):
        for depth, expected in enumerate(logits_by_depth(student, batch)):
            scorer.rule = rule.leaving_at(depth)
            largest = max(largest, float(np.abs(scorer.score(batch).logit - expected).max(initial=0.0)))
    return largest
