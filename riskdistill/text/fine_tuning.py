"""Fine-tunes a text model on the training mix, in one process, on the device that accelerate finds.

Every step draws from a generator of its own, so that a run which goes on from a checkpoint meets the dropout and
the batches that it would have met. A checkpoint holds the trained weights alone: adapters and head, or all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor
from torch.nn import functional as F
from transformers import get_cosine_schedule_with_warmup

from riskdistill.config import TextTrainingConfig
from riskdistill.distillation.terms import smoothed_labels
from riskdistill.errors import TrainingError
from riskdistill.features import Encoded
from riskdistill.models.checkpoint import load_checkpoint, save_checkpoint
from riskdistill.models.devices import new_accelerator
from riskdistill.models.training import Progress, TrainingRows
from riskdistill.text.pieces import Pieces, by_length, collate, cut
from riskdistill.text.serialise import Serialiser
from riskdistill.text.text_model import TextModel

POOL = 16  # batches that are sorted by length together


@dataclass
class FineTuned:
    """How far a fine-tuning has come: `epoch` and `step` are the next to take, `pr_auc` is of each epoch done."""

    epoch: int = 0
    step: int = 0
    best_epoch: int = -1
    best_pr_auc: float = -1.0
    pr_auc: list[float] = field(default_factory=list)


class FineTuner:
    """Trains a text model, which holds its best weights afterwards.

    Args:
        rows: to learn from.
        validation: rows and labels (0 or 1) for early stopping.
        checkpoint: file for the state, written after each epoch and now and then within; None keeps nothing.

    Raises:
        TrainingError: validation knows labels of one kind only.
    """

    def __init__(
        self,
        model: TextModel,
        serialiser: Serialiser,
        rows: TrainingRows,
        validation: tuple[Encoded, NDArray[np.bool_]],
        *,
        checkpoint: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.config, self.checkpoint, self.progress = model.config.training, checkpoint, progress
        self.rows, self.per_epoch = rows, min(self.config.rows_per_epoch, len(rows.draw))
        self.steps_per_epoch = math.ceil(self.per_epoch / (self.config.batch_size * self.config.accumulation))
        self.total = self.config.epochs * self.steps_per_epoch
        in_half = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        self.accelerator = new_accelerator("bf16" if in_half else "fp32")
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=self.config.learning_rate, weight_decay=self.config.weight_decay)
        warmup = round(self.config.warmup * self.total)
        schedule = get_cosine_schedule_with_warmup(optimizer, warmup, self.total)
        prepared: tuple[Any, ...] = self.accelerator.prepare(model, optimizer, schedule)
        self.wrapped, self.optimizer, self.schedule = prepared
        self.model = model
        encoded, label = validation
        if label.all() or not label.any():
            raise TrainingError(
                "fine-tuning needs laundering and normal rows in the validation period",
                mend="choose a longer validation period",
            )
        self._serialiser, self._pieces = serialiser, dict[int, Pieces]()
        chosen = _validation_rows(label, self.config)
        self.validation = cut_rows(model, serialiser, encoded.take(chosen)), label[chosen]
        self.state, self.best = FineTuned(), dict[str, Tensor]()

    def run(self) -> FineTuned:
        """Train until the epochs are over or validation has not improved for `patience` epochs.

        Raises:
            TrainingError: the loss is not finite, or the checkpoint is damaged.
        """
        self._resume()
        state = self.state
        while state.epoch < self.config.epochs and state.epoch - state.best_epoch <= self.config.patience:
            self._epoch()
            pr_auc = float(average_precision_score(self.validation[1], self.model.score(self.validation[0])))
            state.pr_auc.append(pr_auc)
            if pr_auc > state.best_pr_auc:
                state.best_epoch, state.best_pr_auc = state.epoch, pr_auc
                self.best = {name: tensor.detach().cpu().clone() for name, tensor in self._trained().items()}
            state.epoch, state.step = state.epoch + 1, 0
            self._save()
        self.model.load_state_dict(self.best, strict=False)
        return state

    def _epoch(self) -> None:
        batches, saved = self._batches(), time.monotonic()
        size = self.config.accumulation
        for step in range(self.state.step, self.steps_per_epoch):
            self._step(batches[step * size : (step + 1) * size], self.state.epoch * self.steps_per_epoch + step)
            self.state.step = step + 1
            if time.monotonic() - saved > self.config.checkpoint_seconds:
                self._save()
                saved = time.monotonic()

    def _batches(self) -> list[NDArray[np.int64]]:
        """Training rows of this epoch, in batches of like length, in random order."""
        rng = np.random.default_rng((self.config.seed, self.state.epoch))
        drawn = rng.choice(self.rows.draw, self.per_epoch, replace=False)
        new = np.setdiff1d(drawn, np.fromiter(self._pieces, np.int64, len(self._pieces)))
        cut_new = cut_rows(self.model, self._serialiser, self.rows.encoded.take(new))
        self._pieces.update(zip(new.tolist(), cut_new, strict=True))
        size = self.config.batch_size
        pools = [drawn[start : start + POOL * size] for start in range(0, len(drawn), POOL * size)]
        batches = [
            pool[rows] for pool in pools for rows in by_length([self._pieces[row] for row in pool.tolist()], size)
        ]
        return [batches[place] for place in rng.permutation(len(batches))]

    def _step(self, batches: Sequence[NDArray[np.int64]], step: int) -> None:
        torch.manual_seed(self.config.seed + step)
        self.wrapped.train()
        for rows in batches:
            loss = self._loss(rows) / len(batches)
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss of the text teacher is {float(loss.detach())} in step {step}",
                    mend="lower text_teacher.training.learning_rate",
                )
            self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.wrapped.parameters(), self.config.clip)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        if self.progress is not None:
            self.progress("text teacher", step + 1, self.total, self.state.best_pr_auc)

    def _loss(self, rows: NDArray[np.int64]) -> Tensor:
        device = self.accelerator.device
        batch = collate([self._pieces[row] for row in rows.tolist()], self.model.padding).to(device)
        output = self.wrapped(batch)
        label = torch.from_numpy(self.rows.label[rows]).to(device)
        typology = torch.from_numpy(self.rows.typology[rows]).to(device)
        labels = smoothed_labels(output.logit, label, self.config.label_smoothing)
        return labels.mean() + self.config.typology_weight * F.cross_entropy(output.typology_logits, typology)

    def _trained(self) -> dict[str, Tensor]:
        return {
            name: parameter.detach() for name, parameter in self.model.named_parameters() if parameter.requires_grad
        }

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        kept = {
            "trained": self._trained(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "state": vars(self.state),
        }
        save_checkpoint(kept, self.checkpoint)

    def _resume(self) -> None:
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        kept = load_checkpoint(self.checkpoint, self.accelerator.device)
        self.model.load_state_dict(kept["trained"], strict=False)
        self.optimizer.load_state_dict(kept["optimizer"])
        self.schedule.load_state_dict(kept["schedule"])
        self.best, self.state = kept["best"], FineTuned(**kept["state"])


def cut_rows(model: TextModel, serialiser: Serialiser, encoded: Encoded) -> list[Pieces]:
    """All rows as the model reads them."""
    return cut(model.tokenizer, serialiser(encoded), model.config.max_tokens)


def _validation_rows(label: NDArray[np.bool_], config: TextTrainingConfig) -> NDArray[np.int64]:
    """At most `validation_rows` rows, of which laundering, rare as it is, makes up to half."""
    rng = np.random.default_rng(config.seed)
    laundering, normal = (rng.permutation(np.flatnonzero(kind)) for kind in (label, ~label))
    laundering = laundering[: max(1, config.validation_rows // 2)]
    return np.sort(np.concatenate([laundering, normal[: max(1, config.validation_rows - len(laundering))]]))
