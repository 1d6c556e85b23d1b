"""A distillation on random rows that takes a second: those of `small_training`, and a teacher's answers on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from small_training import small_rows

from riskdistill.config import DistillationConfig
from riskdistill.distillation.objective import DistillationObjective
from riskdistill.distillation.teacher_cache import Heard
from riskdistill.distillation.terms import relations
from riskdistill.features import Encoded
from riskdistill.models.bins import Bins
from riskdistill.models.event_transformer import EventTransformer, EventTransformerConfig
from riskdistill.models.training import TrainingRows

RELATION_HEADS = 4
STUDENT_WIDTH = 8


@dataclass(frozen=True)
class SmallAnswers:
    """All that a teacher can answer; see `riskdistill.distillation.terms.Taught`."""

    logit: NDArray[np.float32]
    typology_logits: NDArray[np.float32] | None = None
    relations: NDArray[np.float16] | None = None
    attention: NDArray[np.float16] | None = None
    hidden: NDArray[np.float16] | None = None
    embedding: NDArray[np.float32] | None = None
    heard: Heard | None = None
    checked: list[Encoded] = field(default_factory=list)

    def check(self, encoded: Encoded) -> None:
        self.checked.append(encoded)


@torch.inference_mode()
def small_answers(rows: TrainingRows | None = None) -> SmallAnswers:
    """The answers of an untrained teacher of another width, depth and number of heads than the small student."""
    encoded = (rows or small_rows()).encoded
    torch.manual_seed(11)
    size = EventTransformerConfig(
        features=6, events_per_party=4, width=12, layers=3, heads=3, pieces=24, context_width=8
    )
    teacher = EventTransformer(size)
    teacher.numbers.set(Bins.of_quantiles(encoded.context, 24))
    teacher.train(False)
    output = teacher(torch.from_numpy(encoded.context), torch.from_numpy(encoded.events), output_attentions=True)
    last = output.layers[-1]
    cut = [relations(part, RELATION_HEADS, output.mask) for part in (last.query, last.key, last.value)]
    return SmallAnswers(
        logit=3 * output.logit.numpy(),
        typology_logits=output.typology_logits.numpy(),
        relations=torch.stack(cut, 1).half().numpy(),
        attention=last.attention.mean(1, keepdim=True).half().numpy(),
        hidden=last.hidden.half().numpy(),
        embedding=output.embedding.numpy(),
    )


def small_objective(
    config: dict[str, Any] | DistillationConfig, epochs: int = 3, rows: TrainingRows | None = None
) -> DistillationObjective:
    """The objective of the small student."""
    if isinstance(config, dict):
        config = DistillationConfig.model_validate({"relation_heads": RELATION_HEADS, **config})
    rows = rows or small_rows()
    torch.manual_seed(3)
    return DistillationObjective(
        rows, small_answers(rows), config, epochs=epochs, label_smoothing=0.05, student_width=STUDENT_WIDTH
    )
