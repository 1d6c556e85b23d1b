"""Terms on hidden states, through learned adapters between the widths of student and teacher."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from riskdistill.config import TermConfig
from riskdistill.distillation.terms.term import Heat, RowTerm, Setting, Taught, given, over_tokens
from riskdistill.errors import TrainingError
from riskdistill.models.event_transformer import EventTransformerOutput
from riskdistill.models.training import TrainingRows


class _Adapted(RowTerm):
    """A term whose `adapter` brings the student's states to the teacher's width; it is trained along.

    Adapter and distances follow Romero et al., "FitNets: hints for thin deep nets", 2015.
    """

    def __init__(self, config: TermConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        if not (setting.student_width and setting.teacher_width):
            raise TrainingError(
                "an adapter needs the widths of student and teacher",
                where=f"term {config.name}",
                mend="give the objective student_width, and the answers of a teacher that has states",
            )
        self.adapter = nn.Linear(setting.student_width, setting.teacher_width)

    def refuse_degenerate(self, rows: TrainingRows, answers: Any) -> None:
        super().refuse_degenerate(rows, answers)
        some = np.asarray(getattr(answers, self.answers[0])[:512], np.float32)
        if some.std(axis=0).max() < 1e-6:
            raise self.degenerate("the teacher's states are the same for every row", "train the teacher")


class HiddenStateTerm(_Adapted):
    """Mean squared error of the last layers' states after the feed-forward block, over the tokens present.

    Layer-normed on both sides, since pre-norm networks leave the size of their states open.
    """

    answers = ("hidden",)
    hidden_states = True

    def rows(self, student: EventTransformerOutput, taught: Taught, heat: Heat) -> Tensor:
        theirs = given(taught.hidden)
        width = theirs.shape[-1:]
        own = F.layer_norm(self.adapter(student.layers[-1].hidden), width)
        there = student.mask & (theirs != 0).any(-1)  # a text's words may have been cut off
        return over_tokens((own - F.layer_norm(theirs, width)).square().mean(-1), there)


class FeatureTerm(_Adapted):
    """Distance of the read-outs: 1 - cosine, or with `form` "mse" the mean squared error."""

    answers = ("embedding",)

    def rows(self, student: EventTransformerOutput, taught: Taught, heat: Heat) -> Tensor:
        own, theirs = self.adapter(student.embedding), given(taught.embedding)
        apart: Tensor = own - theirs
        return apart.square().mean(-1) if self.config.form == "mse" else 1 - F.cosine_similarity(own, theirs, -1)
