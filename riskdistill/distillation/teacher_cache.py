"""What the teacher says of the training rows, computed once: distilling from it costs no teacher pass.

Relations are kept only between the tokens that the student reads too (the context and the newest events of each
party), and in half precision: the teacher's own precision is far coarser.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskdistill.distillation.terms import relations
from riskdistill.errors import TrainingError
from riskdistill.features import Encoded
from riskdistill.models.event_transformer import EventTransformer

BATCH_ROWS = 512


def rows_fingerprint(encoded: Encoded) -> str:
    """16 hex digits over the content and order of the rows."""
    digest = hashlib.sha256(np.ascontiguousarray(encoded.context).data)
    digest.update(np.ascontiguousarray(encoded.events).data)
    return digest.hexdigest()[:16]


def weights_fingerprint(model: EventTransformer) -> str:
    """16 hex digits over all weights and percentiles of a model."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.numpy()).data)
    return digest.hexdigest()[:16]


def shared_tokens(teacher_events: int, student_events: int) -> NDArray[np.int64]:
    """Positions in the teacher's sequence of the tokens that the student has, in the student's order."""
    newest = np.arange(student_events)
    return np.concatenate([[0], 1 + newest, 1 + teacher_events + newest])


@dataclass(frozen=True)
class TeacherCache:
    """The teacher's answers on all training rows.

    Attributes:
        logit: float32 [n].
        typology_logits: float32 [n, typologies].
        relations: float16 [n, 3, heads, tokens, tokens], of queries, keys and values.
        rows: fingerprint of the rows that were asked.
        teacher: fingerprint of the weights that answered.
    """

    logit: Tensor
    typology_logits: Tensor
    relations: Tensor
    rows: str
    teacher: str

    def blended(self, logit: NDArray[np.float64], share: float) -> TeacherCache:
        """The same answers with the logits of a second teacher mixed in; relations and typologies stay the first's.

        Args:
            logit: [n] for the same rows, on the scale of the training mix.
            share: of the second teacher, 0 to 1.
        """
        second = torch.from_numpy(np.asarray(logit, np.float32))
        if second.shape != self.logit.shape:
            raise TrainingError(
                f"{len(second)} logits of a second teacher for {len(self.logit)} rows", mend="score the same rows"
            )
        return replace(self, logit=torch.lerp(self.logit, second, share))

    def check(self, encoded: Encoded) -> None:
        """Refuse rows other than those that the teacher was asked about.

        Raises:
            TrainingError: rows were changed, added or shuffled since.
        """
        found = rows_fingerprint(encoded)
        if found != self.rows:
            raise TrainingError(
                f"the teacher's answers are for rows {self.rows}, these are {found}",
                mend="ask the teacher again",
            )


@torch.inference_mode()
def ask_teacher(
    teacher: EventTransformer,
    encoded: Encoded,
    *,
    relation_heads: int,
    student_events: int,
    progress: Callable[[int, int], None] | None = None,
) -> TeacherCache:
    """Run the teacher over all rows, in evaluation mode; `progress` hears rows done and rows in all.

    Raises:
        TrainingError: the student reads events that the teacher does not.
    """
    most = teacher.config.events_per_party
    if student_events > most:
        raise TrainingError(
            f"the student reads {student_events} events of each party, its teacher only {most}",
            mend="lower student.events_per_party or raise the teacher's",
        )
    teacher.train(False)
    tokens = torch.from_numpy(shared_tokens(teacher.config.events_per_party, student_events))
    total = len(encoded)
    logit = torch.empty(total)
    typology = torch.empty(total, len(teacher.config.typologies))
    kept = torch.empty(total, 3, relation_heads, len(tokens), len(tokens), dtype=torch.float16)
    for start in range(0, total, BATCH_ROWS):
        rows = slice(start, start + BATCH_ROWS)
        part = encoded.take(rows)
        output = teacher(torch.from_numpy(part.context), torch.from_numpy(part.events).float(), output_layers=True)
        logit[rows], typology[rows] = output.logit, output.typology_logits
        mask = output.mask[:, tokens]
        for index, projection in enumerate(output.layers[-1][:3]):
            kept[rows, index] = relations(projection[:, tokens], relation_heads, mask).half()
        if progress is not None:
            progress(min(total, start + BATCH_ROWS), total)
    return TeacherCache(logit, typology, kept, rows_fingerprint(encoded), weights_fingerprint(teacher))
