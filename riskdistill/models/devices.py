"""Where a training runs and in which precision: accelerate, behind the few calls that the loop needs.

One CPU, one GPU, or several by `accelerate launch`. Gradients are averaged over the processes here and not by a
`DistributedDataParallel` wrapper, because objectives look inside the model, which the wrapper would hide.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray
from torch import Tensor, nn

from riskdistill.config.training import Precision
from riskdistill.errors import TrainingError


class Devices:
    """The devices of one training.

    Attributes:
        device: of this process.
        main: whether this process is the one that writes and reports.

    Raises:
        TrainingError: this machine cannot compute in that precision.
    """

    def __init__(self, precision: Precision) -> None:
        self._accelerator = new_accelerator(precision)
        self.device: torch.device = self._accelerator.device
        if precision == "fp16" and self.device.type == "cpu":
            raise TrainingError("fp16 needs a GPU, and there is none here", mend="set precision to fp32 or bf16")
        self.process: int = self._accelerator.process_index
        self.main: bool = self._accelerator.is_main_process

    def prepare(self, optimizer: torch.optim.Optimizer) -> Any:
        """The optimizer, which then skips steps whose fp16 gradients overflowed and tells so."""
        return self._accelerator.prepare_optimizer(optimizer)

    def precision(self) -> Any:
        """A context in which losses are computed in the chosen precision."""
        return self._accelerator.autocast()

    def share(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process's slice of a batch; never empty."""
        mine = batch[self.process :: self._accelerator.num_processes]
        return mine if len(mine) else batch[:1]

    def backward(self, loss: Tensor) -> None:
        """Add to the gradients."""
        self._accelerator.backward(loss)

    def clip(self, parameters: Iterable[nn.Parameter], norm: float) -> None:
        """Average the gradients over all processes, then shorten them to at most `norm`."""
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if self._accelerator.num_processes > 1:
            for parameter in trained:  # a process whose rows did not touch a parameter takes part all the same
                here = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = self._accelerator.reduce(here, "mean")
        self._accelerator.clip_grad_norm_(trained, norm)

    def agreed(self, number: float) -> float:
        """The main process's number, in every process: they must stop at the same time."""
        return float(broadcast_object_list([number])[0])

    def scale(self) -> dict[str, Any]:
        """State of the fp16 loss scale; empty in other precisions."""
        scaler = self._accelerator.scaler
        return {} if scaler is None else dict(scaler.state_dict())

    def restore(self, scale: dict[str, Any]) -> None:
        """Go on from what `scale` gave."""
        if self._accelerator.scaler is not None and scale:
            self._accelerator.scaler.load_state_dict(scale)


def new_accelerator(precision: Precision) -> Accelerator:
    """One for a training of its own: accelerate keeps one precision for the whole process unless it is reset."""
    AcceleratorState._reset_state()
    return Accelerator(mixed_precision="no" if precision == "fp32" else precision)
