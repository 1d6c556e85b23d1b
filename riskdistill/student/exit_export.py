"""From a student with early exits to the ONNX segments that `exit_scorer` serves."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from riskdistill.features import Encoded
from riskdistill.models.serving_form import serving_form
from riskdistill.student.exit_scorer import RULE_FILE, ExitRule, segment_file
from riskdistill.student.exits import ExitingStudent


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
def export_exits(student: ExitingStudent, rule: ExitRule, folder: Path, sample: Encoded) -> None:
    """Write the segments and the rule into `folder`; `sample` are some rows for tracing, at least one."""
    folder.mkdir(parents=True, exist_ok=True)
    served = ExitingStudent(serving_form(student.model))
    served.exits.load_state_dict(student.exits.state_dict())
    served.train(False)
    example = sample.take(np.arange(7) % len(sample))
    context, events = torch.from_numpy(example.context), torch.from_numpy(example.events)
    hidden, bias = student.begin(context, events)
    _export(_First(served), (context, events), ("hidden", "bias", "logits"), folder / segment_file(0))
    for depth in range(1, len(rule.calibrators)):
        _export(_Further(served, depth), (hidden, bias), ("deeper", "logits"), folder / segment_file(depth))
    (folder / RULE_FILE).write_text(rule.model_dump_json(indent=2))


def _export(module: nn.Module, inputs: tuple[Tensor, Tensor], outputs: tuple[str, ...], path: Path) -> None:
    rows = torch.export.Dim("rows")
    names = ["context", "events"] if isinstance(module, _First) else ["hidden", "bias"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations, nothing that we can mend
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            module,
            inputs,
            str(path),
            input_names=names,
            output_names=list(outputs),
            dynamic_shapes={name: {0: rows} for name in names},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
