"""The student's objective: a weighted sum of named terms against the teacher's cached answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskdistill.config import DistillationConfig, TemperatureConfig
from riskdistill.distillation.teacher_cache import TeacherCache
from riskdistill.distillation.terms import (
    bernoulli_kl,
    relation_kl,
    relations,
    smoothed_labels,
    typology_kl,
)
from riskdistill.errors import DegenerateTermError
from riskdistill.models.event_transformer import EventTransformer, EventTransformerOutput
from riskdistill.models.training import TrainingRows


def temperature(config: TemperatureConfig, epoch: int, epochs: int) -> float:
    """The temperature in an epoch (from 0): `start` for `after_epoch` epochs, then evenly up to `end`.

    >>> [temperature(TemperatureConfig(), epoch, 8) for epoch in (0, 4, 5, 7)]
    [5.0, 5.0, 6.0, 8.0]
    """
    rising = epochs - config.after_epoch
    done = max(0, epoch + 1 - config.after_epoch)
    return config.start + (config.end - config.start) * (min(1.0, done / rising) if rising > 0 else 0.0)


class DistillationObjective:
    """Sum of the configured terms.

    Args:
        rows: the training rows, on which `cache` was made.
        cache: the teacher's answers.
        config: terms, weights, temperature.
        epochs: how many are planned; the temperature's schedule ends there.

    Raises:
        TrainingError: the cache is of other rows.
        DegenerateTermError: a term cannot carry a signal on these rows.
    """

    def __init__(
        self,
        rows: TrainingRows,
        cache: TeacherCache,
        config: DistillationConfig,
        *,
        epochs: int,
        label_smoothing: float,
    ) -> None:
        cache.check(rows.encoded)
        self.rows, self.cache, self.config = rows, cache, config
        self.epochs, self.label_smoothing = epochs, label_smoothing
        self.weights = {term.name: term.weight for term in config.terms if term.weight > 0}
        self._terms: dict[str, Callable[[EventTransformerOutput, Tensor, float], Tensor]] = {
            "logits": self._logits,
            "attention_relations": self._attention_relations,
            "labels": self._labels,
            "typology": self._typology,
        }
        self._refuse_degenerate()

    def loss(self, model: EventTransformer, rows: NDArray[np.int64], epoch: int) -> dict[str, Tensor]:
        """See `riskdistill.models.training.Objective`."""
        batch = self.rows.encoded.take(rows)
        output = model(
            torch.from_numpy(batch.context),
            torch.from_numpy(batch.events).float(),
            output_layers="attention_relations" in self.weights,
        )
        heat = temperature(self.config.temperature, epoch, self.epochs)
        index = torch.from_numpy(rows)
        return {name: weight * self._terms[name](output, index, heat) for name, weight in self.weights.items()}

    def _logits(self, output: EventTransformerOutput, rows: Tensor, heat: float) -> Tensor:
        return bernoulli_kl(output.logit, self.cache.logit[rows], heat)

    def _typology(self, output: EventTransformerOutput, rows: Tensor, heat: float) -> Tensor:
        return typology_kl(output.typology_logits, self.cache.typology_logits[rows], heat)

    def _labels(self, output: EventTransformerOutput, rows: Tensor, heat: float) -> Tensor:
        return smoothed_labels(output.logit, torch.from_numpy(self.rows.label[rows.numpy()]), self.label_smoothing)

    def _attention_relations(self, output: EventTransformerOutput, rows: Tensor, heat: float) -> Tensor:
        taught = self.cache.relations[rows].float()
        divergences = [
            relation_kl(
                relations(projection, self.config.relation_heads, output.mask), taught[:, part], output.mask
            )
            for part, projection in enumerate(output.layers[-1][:3])
        ]
        return torch.stack(divergences).mean()

    def _refuse_degenerate(self) -> None:
        """A term that is constant on these rows would look like training and teach nothing."""
        if "logits" in self.weights and float(self.cache.logit.std()) < 1e-6:
            raise DegenerateTermError(
                "the teacher gives every training row the same logit",
                where="term logits",
                mend="train the teacher",
            )
        if "typology" in self.weights and self.cache.typology_logits.shape[1] < 2:
            raise DegenerateTermError(
                "there is only one typology", where="term typology", mend="leave the term out"
            )
        if "attention_relations" in self.weights and not (self.rows.encoded.events[:, :, 0] != 0).any():
            raise DegenerateTermError(
                "no training row has any event, so that all relations are alike",
                where="term attention_relations",
                mend="leave the term out",
            )
