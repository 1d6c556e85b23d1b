"""Early exits: most traffic is plainly normal after the first layers, and goes no further.

Each layer before the last gets a head that foretells the whole network's logits from the context token
(Teerapittayanon et al., "BranchyNet", 2016; taught by the last exit as in Phuong and Lampert, "Distillation-based
training for multi-exit architectures", 2019) and a calibrator of its own, so that scores of all exits mean
the same. A row leaves where its calibrated score is below the exit's bound, or where its parties have so
few events that more layers found nothing in them. Both are settled by validation rows.

The exits' calibrators are fitted on the rows that choose the rule: they are part of how the model ranks, as the
weights of an ensemble are. What its scores mean is settled later, by one calibrator over all exits, on other rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from riskdistill.errors import TrainingError
from riskdistill.features import Encoded
from riskdistill.models.calibration import Calibrator
from riskdistill.models.event_transformer import EncoderLayer, EventTransformer
from riskdistill.models.training import INFERENCE_ROWS, tensors
from riskdistill.student.exit_scorer import NEVER, ExitRule, event_counts

BOUND_QUANTILES: Final = (0.99, 0.97, 0.95, 0.9, 0.8, 0.7, 0.5, 0.3)  # of an exit's scores: bounds that are tried
SHORT_HISTORIES: Final = (8, 4, 2, 1, 0)  # events of both parties together: rules that are tried
_RIDGE: Final = 1e-3


@dataclass(frozen=True)
class ExitGain:
    """What the exits save and cost on the validation rows.

    Attributes:
        pr_auc, full_pr_auc: with exits, and of the whole network.
        saved: share of the layer evaluations that are not done.
    """

    pr_auc: float
    full_pr_auc: float
    saved: float


class ExitingStudent(nn.Module):
    """A trained student with a head after each layer; `fit_exits` makes it."""

    def __init__(self, model: EventTransformer) -> None:
        super().__init__()
        self.model = model
        outputs = 1 + len(model.config.typologies)
        self.exits = nn.ModuleList(nn.Linear(model.config.width, outputs) for _ in range(len(model.encoder) - 1))

    def begin(self, context: Tensor, events: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [n, tokens, width] before the first layer, and all layers' biases of attention, [n, layers, …]."""
        hidden, mask = self.model.embed(context, events)
        return hidden, torch.stack(self.model.attention_biases(events, mask), 1)

    def deepen(self, depth: int, hidden: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states after layer `depth` (from 0) and its head's logits [n, 1 + typologies]."""
        last = depth == len(self.exits)
        hidden = cast(EncoderLayer, self.model.encoder[depth])(hidden, bias[:, depth], last).hidden
        logits: Tensor = (self.model.head if last else self.exits[depth])(self.state(hidden))
        return hidden, logits

    def parameter_count(self) -> int:
        """Trained parameters, those of the exits included."""
        return sum(parameter.numel() for parameter in self.parameters())

    def state(self, hidden: Tensor) -> Tensor:
        """What a head reads, [n, width]."""
        normed: Tensor = self.model.norm(hidden[:, 0])
        return normed


@torch.no_grad()
def fit_exits(model: EventTransformer, rows: Encoded) -> ExitingStudent:
    """Give a trained student exits that foretell its own answers on `rows`, by ridge regression; none moves it.

    Raises:
        TrainingError: it has one layer, after which there is nothing to save.
    """
    if len(model.encoder) < 2:
        raise TrainingError("a student of one layer has no earlier exit", mend="give it two layers or more")
    student = ExitingStudent(model.train(False))
    states: list[list[Tensor]] = [[] for _ in student.exits]
    answers = []
    for start in range(0, len(rows), INFERENCE_ROWS):
        hidden, bias = student.begin(*tensors(rows.take(slice(start, start + INFERENCE_ROWS)), model.device))
        for depth in range(len(model.encoder)):
            hidden, logits = student.deepen(depth, hidden, bias)
            if depth < len(states):
                states[depth].append(student.state(hidden).double())
        answers.append(logits.double())
    answer = torch.cat(answers)
    for depth, parts in enumerate(states):
        state = torch.cat(parts)
        mean, level = state.mean(0), answer.mean(0)
        centred = state - mean
        gram = centred.T @ centred + _RIDGE * len(state) * torch.eye(state.shape[1], dtype=state.dtype)
        weight = torch.linalg.solve(gram, centred.T @ (answer - level)).T
        exit_head = cast(nn.Linear, student.exits[depth])
        exit_head.weight.copy_(weight)
        exit_head.bias.copy_(level - weight @ mean)
    return student


@torch.inference_mode()
def logits_by_depth(student: ExitingStudent, encoded: Encoded) -> NDArray[np.float64]:
    """Laundering logits of every exit, [depths, n]."""
    student.train(False)
    parts = []
    for start in range(0, len(encoded), INFERENCE_ROWS):
        rows = encoded.take(slice(start, start + INFERENCE_ROWS))
        hidden, bias = student.begin(*tensors(rows, student.model.device))
        column = []
        for depth in range(len(student.exits) + 1):
            hidden, logits = student.deepen(depth, hidden, bias)
            column.append(logits[:, 0].double().cpu().numpy())
        parts.append(np.stack(column))
    return np.concatenate(parts, axis=1) if parts else np.empty((len(student.exits) + 1, 0))


def choose_rule(
    student: ExitingStudent, rows: Encoded, label: NDArray[np.bool_], *, shift: float, tolerance: float = 0.002
) -> tuple[ExitRule, ExitGain]:
    """The rule that saves most layers among those whose PR-AUC is within `tolerance` of the whole network's.

    Args:
        rows, label: of the validation period, at natural prevalence.
        shift: the prior's correction, as for `Calibrator.fit`.
    """
    logits = logits_by_depth(student, rows)
    calibrators = tuple(Calibrator.fit(column, label, shift=shift) for column in logits)
    scores = np.stack([fitted(column) for fitted, column in zip(calibrators, logits, strict=True)])
    full = float(average_precision_score(label, scores[-1]))
    read = student.model.config.events_per_party
    events = event_counts(rows, read)
    rule = ExitRule(events_per_party=read, calibrators=calibrators, bounds=(NEVER,) * len(student.exits))

    def gain(candidate: ExitRule) -> ExitGain:
        score, depth = _apply(candidate, scores, events)
        saved = 1 - float((depth + 1).mean()) / len(scores)
        return ExitGain(float(average_precision_score(label, score)), full, saved)

    for depth in range(len(rule.bounds)):
        for quantile in BOUND_QUANTILES:
            bound = float(np.quantile(scores[depth], quantile))
            bounds = (*rule.bounds[:depth], bound, *rule.bounds[depth + 1 :])
            candidate = rule.model_copy(update={"bounds": bounds})
            if gain(candidate).pr_auc >= full - tolerance:
                rule = candidate
                break
    for short in SHORT_HISTORIES:
        candidate = rule.model_copy(update={"short": short})
        if gain(candidate).pr_auc >= full - tolerance:
            rule = candidate
            break
    return rule, gain(rule)


def _apply(
    rule: ExitRule, scores: NDArray[np.float64], events: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Score and depth [n] at which each row leaves, of scores [depths, n]."""
    leaving = np.stack([rule.leaves(depth, scores[depth], events) for depth in range(len(scores))])
    depth = leaving.argmax(0)
    return scores[depth, np.arange(scores.shape[1])], depth
