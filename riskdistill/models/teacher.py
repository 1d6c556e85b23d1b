"""What every teacher answers, whatever it is inside: the protocol that students learn behind, and two teachers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from riskdistill.distillation.terms import relations
from riskdistill.errors import TrainingError
from riskdistill.features import Encoded
from riskdistill.models.boosted_trees import BoostedTrees
from riskdistill.models.committee import Network
from riskdistill.models.cross_fitting import CrossFittedTrees
from riskdistill.models.event_transformer import EventTransformerOutput

BATCH_ROWS = 512  # rows that a network answers at a time


@dataclass(frozen=True)
class Wanted:
    """What else than logits a student asks of its teacher; `Wanted()`: nothing.

    Attributes:
        student_events: newest events of each party that the student reads.
        relation_heads: relation heads of `Answers.relations`.
        by_head: whether attention maps are wanted of each head, not averaged.
    """

    student_events: int = 1
    relation_heads: int = 1
    relations: bool = False
    attention: bool = False
    by_head: bool = False
    hidden: bool = False
    embedding: bool = False

    @property
    def inside(self) -> bool:
        """Whether anything of the teacher's states is asked for."""
        return self.relations or self.attention or self.hidden or self.embedding


@dataclass(frozen=True)
class Answers:
    """A teacher's answers for n rows; T are the tokens that the student reads too (`shared_tokens`).

    Attributes:
        logit: float32 [n], natural log of the odds at natural prevalence.
        typology_logits: float32 [n, typologies]; None from a teacher that knows none.
        relations: float16 [n, 3, relation heads, T, T], of queries, keys and values.
        attention: float16 [n, heads, T, T], of the last layer; of one head where they are averaged.
        hidden: float16 [n, T, width], of the last layer, after its feed-forward block.
        embedding: float32 [n, width].

    Raises:
        TrainingError: the parts differ in rows, or one has the wrong number of dimensions.
    """

    logit: NDArray[np.float32]
    typology_logits: NDArray[np.float32] | None = None
    relations: NDArray[np.float16] | None = None
    attention: NDArray[np.float16] | None = None
    hidden: NDArray[np.float16] | None = None
    embedding: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        for name, part in self.parts().items():
            if part.ndim != DIMENSIONS[name] or len(part) != len(self.logit):
                raise TrainingError(
                    f"{name} has the shape {list(part.shape)} for {len(self.logit)} rows; "
                    f"{DIMENSIONS[name]} dimensions are due",
                    mend="let the teacher answer every row in each part",
                )

    def __len__(self) -> int:
        return len(self.logit)

    def parts(self) -> dict[str, NDArray[np.floating]]:
        """The arrays that are there, by name."""
        found = {name: getattr(self, name) for name in DIMENSIONS}
        return {name: part for name, part in found.items() if part is not None}

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Answers:
        """The chosen rows, in the given order."""
        return Answers(**{name: part[rows] for name, part in self.parts().items()})

    @staticmethod
    def concat(answers: Sequence[Answers]) -> Answers:
        """All rows, one after another.

        Raises:
            TrainingError: nothing given, or the answers do not have the same parts.
        """
        if len({frozenset(each.parts()) for each in answers}) != 1:
            raise TrainingError("only answers with the same parts, and at least one, can follow one another")
        names = answers[0].parts()
        return Answers(**{name: np.concatenate([each.parts()[name] for each in answers]) for name in names})


DIMENSIONS = {"logit": 1, "typology_logits": 2, "relations": 5, "attention": 4, "hidden": 3, "embedding": 2}


class Teacher(Protocol):
    """Anything that scores encoded rows and tells what the student may learn from."""

    @property
    def name(self) -> str:
        """How messages and reports call it."""
        ...

    @property
    def fingerprint(self) -> str:
        """16 hex digits over weights and settings."""
        ...

    def answer(self, encoded: Encoded, wanted: Wanted) -> Answers:
        """Answers for all rows, in their order; what the teacher cannot give is None."""
        ...


def shared_tokens(teacher_events: int, student_events: int) -> NDArray[np.int64]:
    """Positions in the teacher's sequence of the tokens that the student has, in the student's order."""
    newest = np.arange(student_events)
    return np.concatenate([[0], 1 + newest, 1 + teacher_events + newest])


def weights_fingerprint(model: torch.nn.Module) -> str:
    """16 hex digits over all weights and percentiles of a model."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.cpu().numpy()).data)
    return digest.hexdigest()[:16]


class EventTeacher:
    """An event transformer as a teacher; rows are answered in bounded batches, in evaluation mode.

    Args:
        model: trained on the mix; of several networks the first shows its insides.
        prior_shift: what brings its logits to natural prevalence (`calibration.prior_shift`).
    """

    def __init__(self, model: Network, prior_shift: float, name: str = "teacher") -> None:
        self.model, self.prior_shift, self.name = model, prior_shift, name
        told = f"{weights_fingerprint(model)}{prior_shift!r}"
        self.fingerprint = hashlib.sha256(told.encode()).hexdigest()[:16]

    @torch.inference_mode()
    def answer(self, encoded: Encoded, wanted: Wanted) -> Answers:
        """See `Teacher`.

        Raises:
            TrainingError: the student reads events that this teacher does not.
        """
        most = self.model.config.events_per_party
        if wanted.student_events > most:
            raise TrainingError(
                f"the student reads {wanted.student_events} events of each party, its teacher only {most}",
                mend="lower student.events_per_party or raise the teacher's",
            )
        self.model.train(False)
        starts = range(0, max(1, len(encoded)), BATCH_ROWS)
        return Answers.concat(
            [self._batch(encoded.take(slice(start, start + BATCH_ROWS)), wanted) for start in starts]
        )

    def _batch(self, part: Encoded, wanted: Wanted) -> Answers:
        device = self.model.device
        output = self.model(
            torch.from_numpy(part.context).to(device),
            torch.from_numpy(part.events).float().to(device),
            output_layers=wanted.relations,
            output_hidden_states=wanted.hidden,
            output_attentions=wanted.attention,
        )
        tokens = torch.from_numpy(shared_tokens(self.model.config.events_per_party, wanted.student_events))
        inside = _inside(output, tokens.to(device), wanted)
        return Answers(
            logit=(output.logit + self.prior_shift).float().cpu().numpy(),
            typology_logits=output.typology_logits.float().cpu().numpy(),
            embedding=output.embedding.float().cpu().numpy() if wanted.embedding else None,
            **{name: tensor.half().cpu().numpy() for name, tensor in inside.items()},
        )


def _inside(output: EventTransformerOutput, tokens: torch.Tensor, wanted: Wanted) -> dict[str, torch.Tensor]:
    """What is wanted of the last layer, between the shared tokens."""
    found: dict[str, torch.Tensor] = {}
    if wanted.relations:
        mask = output.mask[:, tokens]
        found["relations"] = torch.stack(
            [relations(part[:, tokens], wanted.relation_heads, mask) for part in output.layers[-1][:3]], dim=1
        )
    if wanted.hidden:
        found["hidden"] = output.layers[-1].hidden[:, tokens]
    if wanted.attention:
        attention = output.layers[-1].attention
        assert attention is not None  # attentions were asked for
        maps = attention if wanted.by_head else attention.mean(1, keepdim=True)
        found["attention"] = maps[:, :, tokens][:, :, :, tokens]
    return found


class TreesTeacher:
    """Boosted trees, fitted once or often, as a teacher: log-odds at natural prevalence and nothing else."""

    def __init__(self, trees: BoostedTrees | CrossFittedTrees, name: str = "boosted_trees") -> None:
        self.trees, self.name = trees, name
        members = trees.members if isinstance(trees, CrossFittedTrees) else (trees,)
        told = "".join(member.booster.model_to_string() for member in members)
        self.fingerprint = hashlib.sha256(told.encode()).hexdigest()[:16]

    def answer(self, encoded: Encoded, wanted: Wanted) -> Answers:
        """See `Teacher`."""
        return Answers(logit=self.trees.score_logits(encoded.context).astype(np.float32))
