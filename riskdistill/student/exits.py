"""Dynamic depth: heads before each layer, trained along, and rules for leaving that are chosen on validation rows.

student = untrained(...) with `exits`
Trainer(...).run(ExitObjective(objective, config.weight))
policy = choose_exits(student, validation, config)
export_exits(student, policy, folder, sample)      ->  models.early_exit.EarlyExitScorer(folder)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from riskdistill.config.student import ExitConfig
from riskdistill.errors import TrainingError
from riskdistill.features import Encoded
from riskdistill.models.calibration import Calibrator
from riskdistill.models.early_exit import NEVER, POLICY_FILE, ExitPolicy, segment_file
from riskdistill.models.event_transformer import EventTransformer, EventTransformerOutput
from riskdistill.models.onnx_export import write_onnx
from riskdistill.models.serving_form import serving_form
from riskdistill.models.training import INFERENCE_ROWS, Objective, tensors

_LIMITS: Final = 50  # candidates for each exit's limit, at quantiles of its log-odds
_SHORT: Final = (0, 1, 2, 4, 8)  # candidates for how few events are a short history


class ExitObjective(nn.Module):
    """An objective, and exits that learn to answer as the end of the network does.

    The end is their teacher (Zhang et al., "Be your own teacher", 2019), so that the exits need no labels and any
    objective will do; the end does not move towards them.

    Args:
        objective: what the end of the network learns.
        weight: of the exits.
    """

    def __init__(self, objective: Objective, weight: float) -> None:
        super().__init__()
        self.objective, self.weight = objective, weight

    def loss(self, model: EventTransformer, rows: NDArray[np.int64], epoch: int) -> dict[str, Tensor]:
        """See `Objective`; the exits' term is called "exits"."""
        with _outputs(model) as outputs:
            terms = self.objective.loss(model, rows, epoch)
        return terms | {"exits": self.weight * torch.stack([_from_the_end(output) for output in outputs]).mean()}


@contextmanager
def _outputs(model: EventTransformer) -> Iterator[list[EventTransformerOutput]]:
    """What the network says while an objective runs it, rather than a second run."""
    outputs: list[EventTransformerOutput] = []
    handle = model.register_forward_hook(lambda module, given, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


def _from_the_end(output: EventTransformerOutput) -> Tensor:
    """KL(end ‖ exit) of laundering and of typologies, the mean over rows and exits."""
    if output.exit_logits is None:
        raise TrainingError("the network has no exits", mend="make it with exits: true")
    logits = output.exit_logits
    target = output.logit.detach().unsqueeze(1).expand_as(logits[..., 0])
    laundering = nn.functional.binary_cross_entropy_with_logits(logits[..., 0], target.sigmoid())
    typology = output.typology_logits.detach().log_softmax(-1).unsqueeze(1).expand_as(logits[..., 1:])
    return (
        laundering
        + nn.functional.kl_div(logits[..., 1:].log_softmax(-1), typology, reduction="none", log_target=True)
        .sum(-1)
        .mean()
    )


@torch.inference_mode()
def exit_logits(model: EventTransformer, encoded: Encoded) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits of all exits and of the end [n, layers + 1], and how many events a row has [n]."""
    model.train(False)
    logits, events = [], []
    for start in range(0, len(encoded), INFERENCE_ROWS):
        output = model(*tensors(encoded.take(slice(start, start + INFERENCE_ROWS)), model.device))
        logits.append(torch.cat([output.exit_logits[..., 0], output.logit.unsqueeze(1)], 1).double().cpu().numpy())
        events.append(output.mask[:, 1:].sum(1).cpu().numpy())
    return np.concatenate(logits), np.concatenate(events)


def walk(
    policy: ExitPolicy, log_odds: NDArray[np.float64], events: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Where rows leave by `policy`: their log-odds there, and the layers they took, both [n].

    Args:
        log_odds: [n, layers + 1], calibrated, of every exit and of the end.
    """
    depths = np.full(len(log_odds), len(policy.limits))
    for depth in reversed(range(len(policy.limits))):
        depths[policy.leaves(depth, log_odds[:, depth], events)] = depth
    return log_odds[np.arange(len(log_odds)), depths], depths


def choose_exits(
    model: EventTransformer, validation: tuple[Encoded, NDArray[np.bool_]], config: ExitConfig, shift: float = 0.0
) -> ExitPolicy:
    """Rules by which most rows leave early at a cost of at most `config.tolerance` PR-AUC on validation rows.

    Each exit in turn takes the highest limit that the tolerance allows, the first ones a part of it, so that
    something is left for the next; then the longest history that still counts as short.

    Args:
        shift: the prior correction of the network's logits, see `calibration.prior_shift`.

    Raises:
        TrainingError: labels of one kind only.
    """
    encoded, label = validation
    logits, events = exit_logits(model, encoded)
    exits = logits.shape[1] - 1
    calibrators = tuple(Calibrator.fit(column, label, shift=shift) for column in logits.T)
    log_odds = np.stack(
        [calibrator.log_odds(column) for calibrator, column in zip(calibrators, logits.T, strict=True)], 1
    )
    policy = ExitPolicy(calibrators=calibrators, limits=(NEVER,) * exits)
    full = average_precision_score(label, log_odds[:, -1])

    def allowed(candidate: ExitPolicy, share: float) -> bool:
        left = walk(candidate, log_odds, events)[0]
        return bool(average_precision_score(label, left) >= full - share * config.tolerance)

    for depth in range(exits):
        for limit in np.quantile(log_odds[:, depth], np.linspace(1, 0, _LIMITS)):
            limits = (*policy.limits[:depth], float(limit), *policy.limits[depth + 1 :])
            candidate = policy.model_copy(update={"limits": limits})
            if allowed(candidate, (depth + 1) / (exits + 1)):
                policy = candidate
                break
    for few in _SHORT:
        for quantile in (1.0, 0.99, 0.9):
            limit = float(np.quantile(log_odds[:, 0], quantile))
            candidate = policy.model_copy(update={"short_history": few, "short_limit": limit})
            if allowed(candidate, 1.0):
                policy = candidate
                break
    return policy


class _First(nn.Module):
    """(context, events) -> the first exit, the tokens, which are there."""

    def __init__(self, model: EventTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, context: Tensor, events: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden, mask = self.model.embed(context, events)
        return self.model.exit_heads[0](hidden[:, 0]), hidden, mask


class _Next(nn.Module):
    """(tokens, which are there, events) -> what the head after layer `depth` says, and the tokens for the next."""

    def __init__(self, model: EventTransformer, depth: int) -> None:
        super().__init__()
        self.model, self.depth = model, depth

    def forward(self, hidden: Tensor, mask: Tensor, events: Tensor) -> tuple[Tensor, ...]:
        model, last = self.model, self.depth == len(self.model.encoder)
        bias = model.attention_biases(events, mask)[self.depth - 1]
        hidden = model.encoder[self.depth - 1](hidden, bias, last).hidden
        if last:
            return (model.head(model.norm(hidden[:, 0])),)
        return model.exit_heads[self.depth](hidden[:, 0]), hidden


@torch.no_grad()
def export_exits(model: EventTransformer, policy: ExitPolicy, folder: Path, sample: Encoded) -> None:
    """Write the network's segments and the rules for leaving into `folder`, which must exist; the rules last.

    Args:
        sample: some rows to trace the network with.
    """
    served = cast(EventTransformer, serving_form(model))
    context, events = tensors(sample.take(np.arange(7) % max(1, len(sample))), served.device)
    hidden, mask = served.embed(context, events)
    first = {"context": context, "events": events}
    write_onnx(_First(served), folder / segment_file(0), first, ("logits", "hidden", "mask"))
    later = {"hidden": hidden, "mask": mask, "events": events}
    for depth in range(1, len(served.encoder) + 1):
        outputs = ("logits", "next") if depth < len(served.encoder) else ("logits",)
        write_onnx(_Next(served, depth), folder / segment_file(depth), later, outputs)
    draft = folder / f".{POLICY_FILE}"
    draft.write_text(policy.model_dump_json(indent=2))
    draft.replace(folder / POLICY_FILE)
