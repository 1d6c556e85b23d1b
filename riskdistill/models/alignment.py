"""The alignment phase: scores are moved to where the business acts on them.

    recall      as much laundering above the alert budget's threshold as possible, as little else
    cost        expected cost, when missed laundering costs many times a false alert
    feedback    investigators' verdicts on alerts
    labels      what the domain phase learned, so that scores stay near probabilities

A team reviews a share of *natural* traffic, whereas the training mix holds far more laundering: its rows are
weighted back to natural prevalence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from riskdistill.config.training import AlignmentConfig
from riskdistill.errors import TrainingError
from riskdistill.features import Encoded
from riskdistill.models.calibration import prior_shift
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.training import Objective, TrainingRows, tensors

THRESHOLD_MEMORY = 0.9  # of the running threshold, from one batch to the next


@dataclass(frozen=True)
class Feedback:
    """What investigators found.

    Attributes:
        rows: [n] rows, as they were scored.
        verdict: float32 [n], 1 laundering, 0 a false alert.
        weight: float32 [n], above 0: how much a verdict counts.
    """

    rows: Encoded
    verdict: NDArray[np.float32]
    weight: NDArray[np.float32]

    @staticmethod
    def of(rows: TrainingRows) -> Feedback:
        """The verdicts among training rows, which count alike."""
        judged = rows.reviewed
        return Feedback(rows.encoded.take(judged), rows.label[judged], np.ones(len(judged), np.float32))


@dataclass(frozen=True)
class Traffic:
    """What training rows stand for.

    Attributes:
        natural: prevalence of laundering in traffic, in (0, 1).
        mixed: prevalence in the rows of an epoch, in (0, 1).
        budget: share of traffic that can be reviewed, in (0, 1).
    """

    natural: float
    mixed: float
    budget: float

    def __post_init__(self) -> None:
        for name, share in vars(self).items():
            if not 0 < share < 1:
                raise TrainingError(f"{name} must lie between 0 and 1, is {share:g}", where="alignment")

    def weights(self, label: Tensor) -> Tensor:
        """[n]: by how much a row of the mix stands for more, or less, of natural traffic."""
        laundering, normal = self.natural / self.mixed, (1 - self.natural) / (1 - self.mixed)
        return label * laundering + (1 - label) * normal


def threshold(logit: Tensor, weight: Tensor, share: float) -> Tensor:
    """The logit above which `share` of the weight lies, or a little more: rows cannot be cut."""
    ordered, order = logit.sort(descending=True)
    above = weight[order].cumsum(0) / weight.sum()
    return ordered[(above < share).sum().clamp_max(len(ordered) - 1)]


class AlignmentObjective(nn.Module):
    """See the module. An objective for `Trainer`.

    Args:
        rows: training rows.
        labels: the objective of the domain phase.
        feedback: verdicts, if there are any.
    """

    running: Tensor

    def __init__(
        self,
        rows: TrainingRows,
        labels: Objective,
        config: AlignmentConfig,
        traffic: Traffic,
        feedback: Feedback | None = None,
    ) -> None:
        super().__init__()
        self.rows, self.labels, self.config, self.traffic = rows, labels, config, traffic
        self.feedback = feedback if feedback is not None and len(feedback.rows) else None
        self.register_buffer("running", torch.tensor(float("nan")))  # threshold, kept for a resumed run

    def loss(self, model: EventTransformer, rows: NDArray[np.int64], epoch: int) -> dict[str, Tensor]:
        """See `riskdistill.models.training.Objective`."""
        terms: dict[str, Tensor] = {}
        if self.config.labels > 0:
            taught = self.labels.loss(model, rows, epoch)
            terms |= {name: self.config.labels * term for name, term in taught.items()}
        if self.config.recall > 0 or self.config.cost > 0:
            logit = model(*tensors(self.rows.encoded.take(rows), model.device)).logit.float()
            label = torch.from_numpy(self.rows.label[rows]).to(model.device)
            if self.config.recall > 0:
                terms["recall"] = self.config.recall * self._recall(logit, label)
            if self.config.cost > 0:
                terms["cost"] = self.config.cost * self._cost(logit, label)
        if self.feedback is not None and self.config.feedback > 0:
            terms["feedback"] = self.config.feedback * self._verdicts(model, self.feedback, len(rows))
        return terms

    def _recall(self, logit: Tensor, label: Tensor) -> Tensor:
        """Share of laundering missed, plus the share of the budget that false alerts use up, both made smooth.

        The Lagrangian of "the best recall within a budget" with its multiplier held at 1 and sigmoids for the
        counts; Eban et al., "Scalable learning of non-decomposable objectives", 2017, learn the multiplier.
        """
        weight = self.traffic.weights(label)
        with torch.no_grad():
            now = threshold(logit, weight, self.traffic.budget)
            self.running.copy_(now if self.running.isnan() else self.running.lerp(now, 1 - THRESHOLD_MEMORY))
        alerted = torch.sigmoid((logit - self.running) / self.config.softness)
        missed = (label * (1 - alerted)).sum() / label.sum().clamp_min(1)
        false = ((1 - label) * weight * alerted).sum() / (weight.sum() * self.traffic.budget)
        return missed + false

    def _cost(self, logit: Tensor, label: Tensor) -> Tensor:
        """Expected cost of a soft decision, over the cost of never raising an alert.

        It alerts where the expected cost of missing exceeds that of an alert: at odds of 1 / `miss_cost`
        (Elkan, "The foundations of cost-sensitive learning", 2001).
        """
        odds = logit + prior_shift(self.traffic.natural, self.traffic.mixed)
        alerted = torch.sigmoid((odds + math.log(self.config.miss_cost)) / self.config.softness)
        cost = label * self.config.miss_cost * (1 - alerted) + (1 - label) * alerted
        return (self.traffic.weights(label) * cost).mean() / (self.config.miss_cost * self.traffic.natural)

    def _verdicts(self, model: EventTransformer, feedback: Feedback, count: int) -> Tensor:
        """Weighted cross-entropy on `count` verdicts, or on all if there are fewer."""
        drawn = torch.randperm(len(feedback.rows))[:count].numpy()
        logit = model(*tensors(feedback.rows.take(drawn), model.device)).logit.float()
        verdict, weight = (
            torch.from_numpy(values[drawn]).to(model.device) for values in (feedback.verdict, feedback.weight)
        )
        each = nn.functional.binary_cross_entropy_with_logits(logit, verdict, reduction="none")
        return (weight * each).sum() / weight.sum()
