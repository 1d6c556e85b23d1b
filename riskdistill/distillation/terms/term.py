"""What every term of the distillation loss is: its needs, its row losses, and the mean over a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn

from riskdistill.augmentation.encodings import Mixture
from riskdistill.config import TermConfig
from riskdistill.errors import DegenerateTermError
from riskdistill.models.event_transformer import EventTransformerOutput
from riskdistill.models.training import TrainingRows

Heat = float | Tensor
# Relations between all pairs of tokens cost more than the rest of a student's step: a random eighth of each batch
# (batches are shuffled) gives the same gradient on the average.
RELATIONS_OF_EVERY: Final = 8


@dataclass(frozen=True)
class Taught:
    """What a batch of n rows is taught; T are the tokens that the student reads. Absent answers are None.

    Attributes:
        logit: [n], the teacher's, on the scale of the training mix.
        label: [n], the probability of laundering; NaN where it is not known.
        typology_logits: [n, typologies].
        relations: [m, 3, relation heads, T, T], of queries, keys and values, of every `RELATIONS_OF_EVERY`-th row.
        attention: [n, heads, T, T], of the last layer; of one head where they are averaged.
        hidden: [n, T, teacher's width], of the last layer.
        embedding: [n, teacher's width].
    """

    logit: Tensor
    label: Tensor
    typology_logits: Tensor | None = None
    relations: Tensor | None = None
    attention: Tensor | None = None
    hidden: Tensor | None = None
    embedding: Tensor | None = None

    def every(self, step: int) -> Taught:
        """Of every so many rows, beginning with the first; relations are of few rows already."""
        parts = {
            name: part[::step] for name, part in vars(self).items() if part is not None and name != "relations"
        }
        return Taught(**parts, relations=self.relations)

    def mixed(self, mixture: Mixture) -> Taught:
        """What rows are taught that were mixed: logits and labels move along a line, as the inputs did.

        An approximation, since the teacher was not asked about mixed rows; of its states nothing is known there.
        """
        typology = None if self.typology_logits is None else mixture.between(self.typology_logits)
        return Taught(mixture.between(self.logit), mixture.between(self.label), typology)


@dataclass(frozen=True)
class Setting:
    """What a term is made for.

    Attributes:
        student_width, teacher_width: of hidden states; 0 where it is not known.
        relation_heads: into how many heads queries, keys and values are cut anew.
        label_smoothing: how far labels are moved towards a half.
    """

    student_width: int = 0
    teacher_width: int = 0
    relation_heads: int = 1
    label_smoothing: float = 0.0


class Term(nn.Module, ABC):
    """One term: the mean over a batch of what the student still has to learn; 0 for no rows.

    Class attributes:
        answers: the teacher's answers that it reads, fields of `Taught`.
        step: it looks at every so many rows of a batch: 1 at all of them.
        layers, hidden_states, attentions: whether it looks into the student's layers, at all hidden states of the
            last one, and at attention maps.
    """

    answers: ClassVar[tuple[str, ...]] = ("logit",)
    step: ClassVar[int] = 1
    layers: ClassVar[bool] = False
    hidden_states: ClassVar[bool] = False
    attentions: ClassVar[bool] = False

    def __init__(self, config: TermConfig, setting: Setting) -> None:
        super().__init__()
        self.config, self.setting = config, setting

    @abstractmethod
    def forward(
        self, student: EventTransformerOutput, taught: Taught, heat: Heat, weight: Tensor | None = None
    ) -> Tensor:
        """The term's value on a batch, rows counting by their `weight` [n]."""

    def refuse_degenerate(self, rows: TrainingRows, answers: Any) -> None:
        """Refuse answers of which the term learns nothing, since that would look like training.

        Args:
            answers: for all `rows`; has the fields of `Taught` but the label.

        Raises:
            DegenerateTermError: an answer is absent, or the same for every row.
        """
        for name in self.answers:
            if getattr(answers, name, None) is None:
                raise self.degenerate(f"the teacher gives no {name.replace('_', ' ')}")

    def degenerate(
        self, what: str, mend: str = "leave the term out or take another teacher"
    ) -> DegenerateTermError:
        """The error that says why this term teaches nothing."""
        return DegenerateTermError(what, where=f"term {self.config.name}", mend=mend)


class RowTerm(Term):
    """A term that is the mean of what each row has by itself."""

    def forward(
        self, student: EventTransformerOutput, taught: Taught, heat: Heat, weight: Tensor | None = None
    ) -> Tensor:
        """The mean over rows, each times its weight; a row's part does not depend on others' weights."""
        rows = self.rows(student, taught, heat)
        return (rows if weight is None else rows * weight).sum() / max(1, len(rows))

    @abstractmethod
    def rows(self, student: EventTransformerOutput, taught: Taught, heat: Heat) -> Tensor:
        """The loss of every row, [n]."""


def given(answer: Tensor | None) -> Tensor:
    """What is known to be there, in the precision of losses: single, or double where it comes so."""
    assert answer is not None
    return answer if answer.dtype == torch.float64 else answer.float()


def over_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of values [n, tokens] over each row's tokens that are present, [n]; 0 where there is none."""
    present = mask.to(values.dtype)
    return (values * present).sum(-1) / present.sum(-1).clamp_min(1.0)
