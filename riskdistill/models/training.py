"""One training loop for every network here: progress, early stopping, checkpoints, resume.

What is learned is decided by an `Objective` (labels for a teacher, a sum of distillation terms for a student); the
loop decides when to stop and makes sure that nothing is lost: after each epoch it writes a checkpoint atomically,
and a run that finds one goes on from there to the result it would have had.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from riskdistill.augmentation.encodings import Batch, Bounds, adversarial, mixup
from riskdistill.config import TrainingConfig
from riskdistill.errors import TrainingError
from riskdistill.features import Encoded
from riskdistill.models.event_transformer import EventTransformer

INFERENCE_ROWS = 2_048  # rows scored at a time
ADVERSARIAL_REACH = 0.1  # of a feature's interquartile range: how far it may be moved
ADVERSARIAL_STEPS = 2


@dataclass(frozen=True)
class TrainingRows:
    """Rows to learn from.

    Attributes:
        encoded: [n] rows.
        label: float32 [n], 1 where laundering.
        typology: int64 [n], class index.
        draw: int64 [m], the rows of one epoch; a row may be drawn more than once to make up the mix.
    """

    encoded: Encoded
    label: NDArray[np.float32]
    typology: NDArray[np.int64]
    draw: NDArray[np.int64]


class Objective(Protocol):
    """What a network is trained towards."""

    def loss(self, model: EventTransformer, rows: NDArray[np.int64], epoch: int) -> dict[str, Tensor]:
        """Weighted terms of the loss over the given training rows, by name; the loop minimises their sum."""
        ...


@dataclass
class EpochLog:
    """What one epoch did."""

    epoch: int
    terms: dict[str, float]
    gradient_share: dict[str, float]
    validation_pr_auc: float
    seconds: float


@dataclass
class Training:
    """A finished training: the best model by validation PR-AUC and how it got there."""

    model: EventTransformer
    best_epoch: int
    best_pr_auc: float
    epochs: list[EpochLog] = field(default_factory=list)


Progress = Callable[[str, int, int, float], None]  # stage, steps done, steps in all, best PR-AUC so far


@torch.inference_mode()
def score_logits(model: EventTransformer, encoded: Encoded) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Laundering logits [n] and typology logits [n, typologies] of all rows, in evaluation mode."""
    model.train(False)
    logits, typologies = [], []
    for start in range(0, len(encoded), INFERENCE_ROWS):
        part = encoded.take(slice(start, start + INFERENCE_ROWS))
        output = model(torch.from_numpy(part.context), torch.from_numpy(part.events).float())
        logits.append(output.logit.double().numpy())
        typologies.append(output.typology_logits.numpy())
    if not logits:
        return np.empty(0), np.empty((0, len(model.config.typologies)), np.float32)
    return np.concatenate(logits), np.concatenate(typologies)


def gradient_shares(model: EventTransformer, terms: dict[str, Tensor]) -> dict[str, float]:
    """Each term's share of the summed gradient norms over all parameters.

    A term may outweigh another a hundredfold without its value showing it (see CE against KD).
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    norms = {}
    for name, term in terms.items():
        gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        squares = [gradient.square().sum() for gradient in gradients if gradient is not None]
        norms[name] = float(torch.stack(squares).sum().sqrt()) if squares else 0.0
    total = sum(norms.values())
    return {name: norm / total if total > 0 else 0.0 for name, norm in norms.items()}


def _blend(decay: float, average: Tensor, current: Tensor, steps: Tensor | int) -> Tensor:
    """One step of the running average; it follows faster at first, so that it forgets where training began."""
    kept = min(decay, (1 + float(steps)) / (10 + float(steps)))
    return average.lerp(current, 1 - kept)


class Trainer:
    """Trains one event transformer towards one objective.

    Args:
        name: what is being trained, for progress and messages.
        model: the network, its percentiles fitted.
        rows: training rows.
        validation: rows and labels (0 or 1) for early stopping.
        config: epochs, rates, patience.
        checkpoint: file for the state after each epoch; None keeps nothing.
    """

    def __init__(
        self,
        name: str,
        model: EventTransformer,
        rows: TrainingRows,
        validation: tuple[Encoded, NDArray[np.bool_]],
        config: TrainingConfig,
        *,
        checkpoint: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.name, self.model, self.rows, self.validation = name, model, rows, validation
        self.config, self.checkpoint, self.progress = config, checkpoint, progress
        self.steps_per_epoch = math.ceil(len(rows.draw) / config.batch_size)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)
        # The average of recent weights is what is judged and kept: with few laundering rows the weights of single
        # steps scatter (Polyak and Juditsky, 1992).
        self.average = AveragedModel(model, avg_fn=partial(_blend, config.average_decay))
        self.log: list[EpochLog] = []
        self.best: dict[str, Tensor] = {}
        self.best_epoch, self.best_pr_auc = -1, -1.0

    def run(self, objective: Objective) -> Training:
        """Train until the patience or the epochs run out; leaves the best weights in the model.

        Raises:
            TrainingError: the loss became NaN or infinite.
        """
        self._resume()
        while len(self.log) < self.config.epochs and len(self.log) - 1 - self.best_epoch < self.config.patience:
            self.log.append(self._epoch(objective, len(self.log)))
            self._save()
        self.model.load_state_dict(self.best)
        self.model.train(False)
        return Training(self.model, self.best_epoch, self.best_pr_auc, self.log)

    def _rate(self, step: int) -> float:
        """Linear warm-up, then cosine to zero (Loshchilov and Hutter, "SGDR", 2017)."""
        total = self.config.epochs * self.steps_per_epoch
        warmup = max(1, int(self.config.warmup * total))
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))

    def _epoch(self, objective: Objective, epoch: int) -> EpochLog:
        started = time.perf_counter()
        # seeded by epoch, so that a resumed run draws what the uninterrupted one would have drawn
        torch.manual_seed(self.config.seed * 1_000 + epoch)
        order = np.random.default_rng([self.config.seed, epoch]).permutation(self.rows.draw)
        self.model.train()
        sums: dict[str, float] = {}
        shares: dict[str, float] = {}
        for step in range(self.steps_per_epoch):
            batch = order[step * self.config.batch_size : (step + 1) * self.config.batch_size]
            terms = objective.loss(self.model, batch, epoch)
            if step == 0:
                shares = gradient_shares(self.model, terms)
            self._step(terms, epoch)
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + float(term.detach())
            if self.progress is not None:
                done, total = (
                    epoch * self.steps_per_epoch + step + 1,
                    self.config.epochs * self.steps_per_epoch,
                )
                self.progress(self.name, done, total, self.best_pr_auc)
        encoded, label = self.validation
        averaged = cast(EventTransformer, self.average.module)
        value = float(average_precision_score(label, score_logits(averaged, encoded)[0]))
        if value > self.best_pr_auc:
            self.best_epoch, self.best_pr_auc = epoch, value
            self.best = {name: tensor.clone() for name, tensor in averaged.state_dict().items()}
        means = {name: total / self.steps_per_epoch for name, total in sums.items()}
        return EpochLog(epoch, means, shares, value, time.perf_counter() - started)

    def _step(self, terms: dict[str, Tensor], epoch: int) -> None:
        loss = _sum(terms)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss of the {self.name} is {float(loss.detach())} in epoch {epoch}",
                mend="lower its learning_rate",
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        self.schedule.step()
        self.average.update_parameters(self.model)

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_pr_auc": self.best_pr_auc,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "log": [vars(entry) for entry in self.log],
        }
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self.checkpoint)

    def _resume(self) -> None:
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self.best_pr_auc = state["best_pr_auc"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.log = [EpochLog(**entry) for entry in state["log"]]


class LabelObjective:
    """Binary cross-entropy on labels, and cross-entropy on typologies beside it.

    Args:
        label_smoothing: how far labels are moved towards a half.
        typology_weight: of the typologies.
        mixup: alpha of MixUp, with which rows and labels are mixed; 0 leaves them as they are.
        adversarial: share of the loss that is taken on adversarial examples of the same rows; 0 makes none.
    """

    def __init__(
        self,
        rows: TrainingRows,
        *,
        label_smoothing: float,
        typology_weight: float = 0.1,
        mixup: float = 0.0,
        adversarial: float = 0.0,
    ) -> None:
        self.rows, self.label_smoothing, self.typology_weight = rows, label_smoothing, typology_weight
        self.mixup, self.adversarial = mixup, adversarial
        self._bounds = Bounds.of(rows.encoded.context, ADVERSARIAL_REACH) if adversarial > 0 else None

    def loss(self, model: EventTransformer, rows: NDArray[np.int64], epoch: int) -> dict[str, Tensor]:
        """See `Objective`."""
        taken = self.rows.encoded.take(rows)
        batch = Batch(
            context=torch.from_numpy(taken.context),
            events=torch.from_numpy(taken.events).float(),
            label=torch.from_numpy(self.rows.label[rows]),
            typology=torch.from_numpy(self.rows.typology[rows]),
        )
        if self.mixup > 0:
            batch = mixup(batch, self.mixup, len(model.config.typologies))
        terms = self._terms(model, batch)
        if self._bounds is None:
            return terms
        model.train(False)  # the adversary sees the whole network
        attacked = adversarial(
            batch, lambda moved: _sum(self._terms(model, moved)), self._bounds, ADVERSARIAL_STEPS
        )
        model.train()
        kept = {name: (1 - self.adversarial) * term for name, term in terms.items()}
        return kept | {"adversarial": self.adversarial * _sum(self._terms(model, attacked))}

    def _terms(self, model: EventTransformer, batch: Batch) -> dict[str, Tensor]:
        output = model(batch.context, batch.events)
        smooth = batch.label * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        typology = torch.nn.functional.cross_entropy(output.typology_logits, batch.typology)
        return {
            "labels": torch.nn.functional.binary_cross_entropy_with_logits(output.logit, smooth),
            "typology": self.typology_weight * typology,
        }


def _sum(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()
