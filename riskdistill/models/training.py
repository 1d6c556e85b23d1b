"""One training loop for every network here: progress, early stopping, checkpoints, resume.

What is learned is decided by an `Objective` (labels for a teacher, a sum of distillation terms for a student); the
loop decides when to stop and makes sure that nothing is lost: after each epoch, and every few minutes within one,
it writes a checkpoint atomically, and a run that finds one goes on from there to the result it would have had.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from riskdistill.config import TrainingConfig
from riskdistill.errors import TrainingError
from riskdistill.features import Encoded
from riskdistill.models.checkpoint import load_checkpoint, save_checkpoint, unusable
from riskdistill.models.committee import Network
from riskdistill.models.devices import Devices
from riskdistill.models.emphasis import competence, easiest
from riskdistill.models.event_transformer import EventTransformer

INFERENCE_ROWS = 2_048  # rows scored at a time


def _no_rows() -> NDArray[np.int64]:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class TrainingRows:
    """Rows to learn from.

    Attributes:
        encoded: [n] rows.
        label: float32 [n], 1 where laundering.
        typology: int64 [n], class index.
        draw: int64 [m], the mix, of which every epoch takes rows anew; a row may stand in it more than once.
        scheme: int64 [n], the laundering operation that a row belongs to, -1 none; of labels, never an input.
        difficulty: float32 [n], for a curriculum; the higher, the later a row is learned.
        unlabelled: int64 [k], rows that are not in the mix, whose label is NaN and whose typology -1: a student may
            learn from them what its teachers say.
        reviewed: int64 [r], rows that an investigator has judged.
    """

    encoded: Encoded
    label: NDArray[np.float32]
    typology: NDArray[np.int64]
    draw: NDArray[np.int64]
    scheme: NDArray[np.int64] | None = None
    difficulty: NDArray[np.float32] | None = None
    unlabelled: NDArray[np.int64] = field(default_factory=_no_rows)
    reviewed: NDArray[np.int64] = field(default_factory=_no_rows)

    def in_an_epoch(self, config: TrainingConfig) -> int:
        """How many rows of the mix one epoch learns from."""
        return min(len(self.draw), config.rows_per_epoch or len(self.draw))


class Objective(Protocol):
    """What a network is trained towards.

    One that is an `nn.Module` has parameters of its own, which are trained along and kept in the checkpoint.
    """

    def loss(self, model: EventTransformer, rows: NDArray[np.int64], epoch: int) -> dict[str, Tensor]:
        """Weighted terms of the loss over the given training rows, by name; the loop minimises their sum."""
        ...


@runtime_checkable
class Draws(Protocol):
    """An objective that draws the rows of an epoch from the mix by itself, hard ones more often."""

    def draw(self, epoch: int, random: np.random.Generator) -> NDArray[np.int64]:
        """Rows of the mix, as many as it has."""
        ...


@runtime_checkable
class Staged(Protocol):
    """An objective whose terms change from one stage of the epochs to the next.

    Attributes:
        begins: the first epoch of each stage, ascending from 0.
        scored_from: the first epoch in which a term trains the laundering logit; what the epochs before it score
            says nothing.
    """

    begins: tuple[int, ...]
    scored_from: int


@dataclass
class EpochLog:
    """What one epoch did."""

    epoch: int
    terms: dict[str, float]
    gradient_share: dict[str, float]
    score: float
    seconds: float


@dataclass
class Training:
    """A finished training: the best model by the judge's score (PR-AUC by default) and how it got there."""

    model: EventTransformer
    best_epoch: int
    best_score: float
    epochs: list[EpochLog] = field(default_factory=list)


Progress = Callable[[str, int, int, float], None]  # stage, steps done, steps in all, best score so far
Judge = Callable[[EventTransformer], float]  # of a network in evaluation mode; the higher, the better


@torch.inference_mode()
def score_logits(model: Network, encoded: Encoded) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Laundering logits [n] and typology logits [n, typologies] of all rows, in evaluation mode."""
    model.train(False)
    logits, typologies = [], []
    for start in range(0, len(encoded), INFERENCE_ROWS):
        part = encoded.take(slice(start, start + INFERENCE_ROWS))
        output = model(*tensors(part, model.device))
        logits.append(output.logit.double().cpu().numpy())
        typologies.append(output.typology_logits.float().cpu().numpy())
    if not logits:
        return np.empty(0), np.empty((0, len(model.config.typologies)), np.float32)
    return np.concatenate(logits), np.concatenate(typologies)


def tensors(encoded: Encoded, device: torch.device) -> tuple[Tensor, Tensor]:
    """Context and events as float32 tensors on a device."""
    return torch.from_numpy(encoded.context).to(device), torch.from_numpy(encoded.events).float().to(device)


def validation_pr_auc(validation: tuple[Encoded, NDArray[np.bool_]], model: EventTransformer) -> float:
    """Average precision on labelled rows: the judge where there is no other."""
    encoded, label = validation
    return float(average_precision_score(label, score_logits(model, encoded)[0]))


def summed(terms: dict[str, Tensor]) -> Tensor:
    """The loss that its terms make together, a scalar."""
    return torch.stack(list(terms.values())).sum()


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


@dataclass
class _Done:
    """What the epoch in progress has done so far."""

    steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


class Trainer:
    """Trains one event transformer towards one objective.

    Args:
        name: what is being trained, for progress and messages.
        model: the network, its edges set.
        rows: training rows.
        validation: rows and labels (0 or 1) for early stopping.
        config: epochs, rates, patience.
        checkpoint: file for the state after each epoch and every few minutes within; None keeps nothing.
        judge: what is judged for early stopping, in place of PR-AUC on the validation rows.
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
        judge: Judge | None = None,
    ) -> None:
        if config.curriculum == "easy_first" and rows.difficulty is None:
            raise TrainingError(f"the rows of the {name} have no difficulty", mend="set its curriculum to none")
        self.name, self.rows, self.config = name, rows, config
        self.checkpoint, self.progress = checkpoint, progress
        self.judge = judge or partial(validation_pr_auc, validation)
        self.devices = Devices(config.precision)
        self.model = cast(EventTransformer, model.to(self.devices.device))  # type: ignore[arg-type]
        self.rows_per_step = config.batch_size * config.accumulation
        self.steps_per_epoch = math.ceil(rows.in_an_epoch(config) / self.rows_per_step)
        # The average of recent weights is what is judged and kept: with few laundering rows the weights of single
        # steps scatter (Polyak and Juditsky, 1992).
        self.average = AveragedModel(self.model, avg_fn=partial(_blend, config.average_decay))
        self.log: list[EpochLog] = []
        self.best: dict[str, Tensor] = {}
        self.best_epoch, self.best_score = -1, -math.inf
        self._done, self._saved = _Done(), time.monotonic()

    def run(self, objective: Objective) -> Training:
        """Train until the patience or the epochs run out; leaves the best weights in the model, on the CPU.

        The best are those of an epoch by whose end the laundering logit was trained. Patience is lost in the last
        stage alone, so that every stage has its epochs.

        Raises:
            TrainingError: the loss became NaN or infinite, no epoch would train the score, or the checkpoint cannot
                be used.
        """
        self._begin(objective)
        self._resume()
        while len(self.log) < self.config.epochs and self._waited() < self.config.patience:
            self.log.append(self._epoch(objective, len(self.log)))
            self._done = _Done()
            self._save()
        self.model.load_state_dict(self.best)
        self.model.train(False)
        self.model.cpu()
        return Training(self.model, self.best_epoch, self.best_score, self.log)

    def _waited(self) -> int:
        """Epochs of the last stage since the best one."""
        return len(self.log) - 1 - max(self.best_epoch, self.begins[-1] - 1)

    def _begin(self, objective: Objective) -> None:
        """Put what is trained in the optimizer's hands: the model, and what the objective has of its own."""
        self.begins: tuple[int, ...] = (0,)
        self.scored_from = 0
        if isinstance(objective, Staged):
            self.begins, self.scored_from = objective.begins, objective.scored_from
        if self.scored_from >= self.config.epochs:
            raise TrainingError(
                f"none of the {self.config.epochs} epochs of the {self.name} would train its score",
                mend="train for as many epochs as its objective was planned for",
            )
        self.own = objective.to(self.devices.device) if isinstance(objective, torch.nn.Module) else None
        self.parameters = [*self.model.parameters(), *(self.own.parameters() if self.own is not None else ())]
        optimizer = torch.optim.AdamW(
            self.parameters, lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        self.optimizer = self.devices.prepare(optimizer)

    def _rate(self, step: int) -> float:
        """Linear warm-up, then cosine to zero, in each stage anew (Loshchilov and Hutter, "SGDR", 2017)."""
        ends = [epoch * self.steps_per_epoch for epoch in (*self.begins, self.config.epochs)]
        stage = min(bisect_right(ends, step), len(self.begins)) - 1
        step, total = step - ends[stage], ends[stage + 1] - ends[stage]
        warmup = max(1, int(self.config.warmup * total))
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))

    def _epoch(self, objective: Objective, epoch: int) -> EpochLog:
        started = time.perf_counter() - self._done.seconds
        order = self._order(objective, epoch)
        self.model.train()
        for step in range(self._done.steps, self.steps_per_epoch):
            self._step(objective, order[step * self.rows_per_step : (step + 1) * self.rows_per_step], epoch, step)
            self._done.steps, self._done.seconds = step + 1, time.perf_counter() - started
            if self._done.steps < self.steps_per_epoch and self._save_is_due():
                self._save()
            if self.progress is not None and self.devices.main:
                done = epoch * self.steps_per_epoch + step + 1
                self.progress(self.name, done, self.config.epochs * self.steps_per_epoch, self.best_score)
        averaged = cast(EventTransformer, self.average.module)
        averaged.train(False)
        score = self.devices.agreed(self.judge(averaged))
        if epoch >= self.scored_from and score > self.best_score:
            self.best_epoch, self.best_score = epoch, score
            self.best = {name: tensor.clone() for name, tensor in averaged.state_dict().items()}
        means = {name: total / self.steps_per_epoch for name, total in self._done.sums.items()}
        return EpochLog(epoch, means, self._done.shares, score, time.perf_counter() - started)

    def _order(self, objective: Objective, epoch: int) -> NDArray[np.int64]:
        random = np.random.default_rng([self.config.seed, epoch])
        draw = objective.draw(epoch, random) if isinstance(objective, Draws) else self.rows.draw
        if self.config.curriculum == "easy_first" and self.rows.difficulty is not None:
            share = competence(epoch, self.config.epochs)
            draw = easiest(draw, self.rows.label, self.rows.difficulty, share)
        return random.permutation(draw)[: self.rows.in_an_epoch(self.config)]

    def _step(self, objective: Objective, rows: NDArray[np.int64], epoch: int, step: int) -> None:
        """One step of the optimizer on `rows`, of which each process takes its slice of each batch."""
        # seeded by step, so that a resumed run draws what the uninterrupted one would have drawn
        seed = np.random.SeedSequence([self.config.seed, epoch, step, self.devices.process])
        torch.manual_seed(int(seed.generate_state(1)[0]))
        self.optimizer.zero_grad(set_to_none=True)
        for start in range(0, len(rows), self.config.batch_size):
            batch = rows[start : start + self.config.batch_size]
            with self.devices.precision():
                terms = objective.loss(self.model, self.devices.share(batch), epoch)
            if not self._done.shares:
                self._done.shares = gradient_shares(self.model, terms)
            part = len(batch) / len(rows)
            self.devices.backward(part * self._sum(terms, epoch))
            for name, term in terms.items():
                self._done.sums[name] = self._done.sums.get(name, 0.0) + part * float(term.detach())
        self.devices.clip(self.parameters, self.config.clip)
        self.optimizer.step()
        if not self.optimizer.step_was_skipped:
            self.schedule.step()
            self.average.update_parameters(self.model)

    def _sum(self, terms: dict[str, Tensor], epoch: int) -> Tensor:
        loss = summed(terms)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss of the {self.name} is {float(loss.detach())} in epoch {epoch}",
                mend="lower its learning_rate",
            )
        return loss

    def _save_is_due(self) -> bool:
        return time.monotonic() - self._saved >= 60 * self.config.checkpoint_minutes

    def _save(self) -> None:
        if self.checkpoint is None or not self.devices.main:
            return
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "objective": {} if self.own is None else self.own.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_score": self.best_score,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scale": self.devices.scale(),
            "log": [vars(entry) for entry in self.log],
            "done": vars(self._done),
        }
        save_checkpoint(state, self.checkpoint)
        self._saved = time.monotonic()

    def _resume(self) -> None:
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        state = load_checkpoint(self.checkpoint, self.devices.device)
        try:
            self.model.load_state_dict(state["model"])
            if self.own is not None:
                self.own.load_state_dict(state["objective"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self.devices.restore(state["scale"])
            self.best, self.best_epoch = state["best"], state["best_epoch"]
            self.best_score = state["best_score"]
            self.log = [EpochLog(**entry) for entry in state["log"]]
            self._done = _Done(**state["done"])
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            raise unusable(self.checkpoint, f"is not of this {self.name}") from error
