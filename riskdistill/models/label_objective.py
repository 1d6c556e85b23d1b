"""What a network learns from labels: laundering or not, and its typology; with MixUp and an adversary, if any."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskdistill.augmentation.encodings import Batch, Bounds, adversarial, mixup
from riskdistill.models.emphasis import scheme_weights
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.experts import BALANCE_WEIGHT
from riskdistill.models.training import TrainingRows, summed, tensors

ADVERSARIAL_REACH = 0.1  # of a feature's interquartile range: how far it may be moved
ADVERSARIAL_STEPS = 2


class LabelObjective:
    """Binary cross-entropy on labels, and cross-entropy on typologies beside it.

    Args:
        label_smoothing: how far labels are moved towards a half.
        typology_weight: of the typologies.
        mixup: alpha of MixUp, with which rows and labels are mixed; 0 leaves them as they are.
        adversarial: share of the loss that is taken on adversarial examples of the same rows; 0 makes none.
        scheme_power: a laundering row weighs 1 / (rows of its scheme) ** power, so that a scheme of many payments
            does not drown the others; needs `rows.scheme`.
    """

    def __init__(
        self,
        rows: TrainingRows,
        *,
        label_smoothing: float,
        typology_weight: float = 0.1,
        mixup: float = 0.0,
        adversarial: float = 0.0,
        scheme_power: float = 0.5,
    ) -> None:
        self.rows, self.label_smoothing, self.typology_weight = rows, label_smoothing, typology_weight
        self.mixup, self.adversarial = mixup, adversarial
        self._bounds = Bounds.of(rows.encoded.context, ADVERSARIAL_REACH) if adversarial > 0 else None
        self._weight = None if rows.scheme is None else scheme_weights(rows.scheme, rows.draw, scheme_power)

    def loss(self, model: EventTransformer, rows: NDArray[np.int64], epoch: int) -> dict[str, Tensor]:
        """See `Objective`."""
        context, events = tensors(self.rows.encoded.take(rows), torch.device("cpu"))
        label, typology = torch.from_numpy(self.rows.label[rows]), torch.from_numpy(self.rows.typology[rows])
        batch = Batch(context=context, events=events, label=label, typology=typology)
        if self.mixup > 0:
            batch = mixup(batch, self.mixup, len(model.config.typologies))
        batch = Batch(**{name: part.to(model.device) for name, part in vars(batch).items()})
        weight = None if self._weight is None else torch.from_numpy(self._weight[rows]).to(model.device)
        terms = self._terms(model, batch, weight)
        if self._bounds is None:
            return terms
        training = model.training
        model.train(False)  # the adversary sees the whole network
        bounds = Bounds(**{name: part.to(model.device) for name, part in vars(self._bounds).items()})
        attacked = adversarial(
            batch, lambda moved: summed(self._terms(model, moved, weight)), bounds, ADVERSARIAL_STEPS
        )
        model.train(training)
        kept = {name: (1 - self.adversarial) * term for name, term in terms.items()}
        return kept | {"adversarial": self.adversarial * summed(self._terms(model, attacked, weight))}

    def _terms(self, model: EventTransformer, batch: Batch, weight: Tensor | None) -> dict[str, Tensor]:
        output = model(batch.context, batch.events)
        smooth = batch.label * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        typology = torch.nn.functional.cross_entropy(output.typology_logits, batch.typology)
        terms = {
            "labels": torch.nn.functional.binary_cross_entropy_with_logits(output.logit, smooth, weight),
            "typology": self.typology_weight * typology,
        }
        return terms if output.balance is None else terms | {"balance": BALANCE_WEIGHT * output.balance}
