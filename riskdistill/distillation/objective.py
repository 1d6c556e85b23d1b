"""The student's objective: a weighted sum of named terms against the teacher's answers on the training rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from riskdistill.augmentation.encodings import Batch, Bounds, Mixture, adversarial
from riskdistill.config import DistillationConfig, TermConfig
from riskdistill.config.distillation import INSIDE, SCORED
from riskdistill.distillation import mining, schedules, stages
from riskdistill.distillation.selection import teacher_weight
from riskdistill.distillation.terms import RELATIONS_OF_EVERY, TERMS, Heat, Setting, Taught, Term
from riskdistill.models.emphasis import scheme_weights
from riskdistill.models.event_transformer import EventTransformer, EventTransformerOutput
from riskdistill.models.experts import BALANCE_WEIGHT
from riskdistill.models.label_objective import ADVERSARIAL_REACH, ADVERSARIAL_STEPS
from riskdistill.models.training import TrainingRows, tensors

HEARD: Final = "heard_"  # before the name of a term that learns from the teacher that answered some rows alone
_ANSWERS = ("typology_logits", "relations", "attention", "hidden", "embedding")


class _Lesson(NamedTuple):
    """What a batch is taught in one term, and how much each of its rows counts; None: all alike."""

    taught: Taught
    weight: Tensor | None

    def every(self, step: int) -> _Lesson:
        """Of every so many rows."""
        return _Lesson(self.taught.every(step), None if self.weight is None else self.weight[::step])


class DistillationObjective(nn.Module):
    """Sum of the configured terms; what it learns itself (adapters, temperature, row weights) are its parameters.

    Args:
        rows: the training rows, on which `answers` were given; a label may be NaN.
        answers: has the fields of `Taught` but the label, as arrays or tensors over all rows, None where absent;
            `check(encoded)`, which refuses other rows; and `heard`, a further teacher's answers to some of the
            rows, from whose states the terms on states learn there besides, or None.
        config: terms, and how they are weighted.
        epochs: how many are planned; the schedules end there.
        prior_shift: log odds of natural traffic less those of the training mix, taken off the teacher's logits
            where these are at natural prevalence; 0 where they are on the mix's scale already.
        student_width: of the student's hidden states; terms with an adapter need it.
        scheme_power: labels of a laundering row weigh 1 / (rows of its scheme) ** power; needs `rows.scheme`.

    Raises:
        TrainingError: the answers are of other rows, or an adapter's width is not known.
        DegenerateTermError: a term cannot carry a signal on these rows.
    """

    disagreement: Tensor
    hardness: Tensor
    drawn: Tensor

    def __init__(
        self,
        rows: TrainingRows,
        answers: Any,
        config: DistillationConfig,
        *,
        epochs: int,
        label_smoothing: float,
        prior_shift: float = 0.0,
        student_width: int = 0,
        scheme_power: float = 0.0,
    ) -> None:
        super().__init__()
        answers.check(rows.encoded)
        self.rows, self.answers, self.config, self.epochs = rows, answers, config, epochs
        self.teacher_logit = np.asarray(answers.logit, np.float32) - np.float32(prior_shift)
        self.terms, setting = nn.ModuleDict(), Setting(student_width, 0, config.relation_heads, label_smoothing)
        self._place = _places(answers.heard, len(self.teacher_logit))
        for term in config.terms:
            if term.weight or term.end_weight:
                self.terms[term.name] = _made(term, setting, rows, answers)
                if answers.heard is not None and term.name in INSIDE:
                    self.terms[f"{HEARD}{term.name}"] = _made(term, setting, rows, answers.heard.answers)
        heat = config.temperature
        self.learned_heat = schedules.LearnedTemperature(heat) if heat.schedule == "learned" else None
        self.row_weights = schedules.RowWeights(len(self.teacher_logit)) if config.weights == "dynamic" else None
        balanced = config.weights == "gradient_norms"
        self.balance = schedules.GradientNormBalance(tuple(self.terms)) if balanced else None
        self.begins = stages.begins(config.stages, epochs)  # what a `Staged` objective tells of itself
        self.scored_from = next(epoch for epoch in range(epochs) if self._scored(epoch))
        self._selected = teacher_weight(self.teacher_logit, config.selection)
        scheme = rows.scheme
        self._scheme_weight = None if scheme is None else scheme_weights(scheme, rows.draw, scheme_power)
        # a row that the student has not seen yet is as hard as it is for the teacher
        self.register_buffer("disagreement", torch.from_numpy(mining.entropy(self.teacher_logit)))
        self.register_buffer("hardness", self.disagreement.clone())  # as it was when epoch `drawn` began
        self.register_buffer("drawn", torch.tensor(0))
        self._bounds = Bounds.of(rows.encoded.context, ADVERSARIAL_REACH) if config.adversarial > 0 else None

    def loss(self, model: EventTransformer, rows: NDArray[np.int64], epoch: int) -> dict[str, Tensor]:
        """See `riskdistill.models.training.Objective`."""
        context, events = tensors(self.rows.encoded.take(rows), model.device)
        taught = self.taught(rows, model.device)
        if self.config.mixup > 0:
            mixture = Mixture.drawn(len(rows), self.config.mixup)
            (context, events), taught = mixture.inputs(context, events), taught.mixed(mixture)
        on = self._on(epoch)
        names = [name for name in self.terms if name.removeprefix(HEARD) in on]
        heat = self.temperature(epoch)
        output = self._forward(model, context, events, names)
        weight = self._row_weight(output, taught, rows)
        self._note(output, taught, rows)
        lessons = self._lessons(taught, weight, rows)
        plain = self._values(names, output, lessons, heat)
        weights = self._weights(plain, model, epoch)
        terms = {name: weights[name] * plain[name] for name in names}
        if output.balance is not None:  # of a student that is a mixture of experts
            terms["balance"] = BALANCE_WEIGHT * output.balance
        if self._bounds is None or stages.ADVERSARIAL not in on:
            return terms

        lessons = self._lessons(taught, weight.detach(), rows)

        def harmed(batch: Batch) -> Tensor:
            found = self._forward(model, batch.context, batch.events, names)
            values = self._values(names, found, lessons, heat)
            return torch.stack([weights[name] * values[name] for name in names]).sum()

        batch = Batch(context, events, taught.label, _tensor(self.rows.typology, rows, model.device))
        bounds = Bounds(**{name: part.to(model.device) for name, part in vars(self._bounds).items()})
        training = model.training
        model.train(False)  # the adversary sees the whole network
        attacked = adversarial(batch, harmed, bounds, ADVERSARIAL_STEPS)
        model.train(training)
        share = self.config.adversarial
        kept = {name: (1 - share) * term for name, term in terms.items()}
        return kept | {stages.ADVERSARIAL: share * harmed(attacked)}

    def temperature(self, epoch: int) -> Heat:
        """Of the terms that soften logits, in an epoch (from 0)."""
        if self.learned_heat is not None:
            learned: Tensor = self.learned_heat(epoch, self.epochs)
            return learned
        return schedules.temperature(self.config.temperature, epoch, self.epochs)

    def draw(self, epoch: int, random: np.random.Generator) -> NDArray[np.int64]:
        """The rows of an epoch (from 0), the hard ones drawn again as `mining` says.

        What is hard is settled when an epoch begins, so that a run resumed within it draws the same rows.
        """
        if self.config.mining.by == "disagreement" and int(self.drawn) != epoch:
            self.hardness.copy_(self.disagreement)
            self.drawn.fill_(epoch)
        return mining.redraw(self.rows.draw, self.hardness.cpu().numpy(), self.config.mining.share, random)

    def difficulty(self) -> NDArray[np.float32]:
        """How hard each training row is, 0 to 1, for a curriculum: the teacher's own error."""
        return mining.error(self.teacher_logit, self.rows.label)

    def taught(self, rows: NDArray[np.int64], device: torch.device) -> Taught:
        """The teacher's answers and the labels of training rows, only those that a term reads."""
        return self._told(self.answers, self.teacher_logit, rows, rows, device, "")

    def _heard(self, rows: NDArray[np.int64], weight: Tensor) -> _Lesson:
        """The same of the teacher that was asked about some rows; the others lose their weight."""
        place, heard = self._place[rows], self.answers.heard.answers
        told = self._told(heard, heard.logit, place, rows, weight.device, HEARD)
        return _Lesson(told, weight * torch.from_numpy(place >= 0).to(weight.device))

    def _told(
        self,
        answers: Any,
        logit: NDArray[np.float32],
        places: NDArray[np.int64],
        rows: NDArray[np.int64],
        device: torch.device,
        source: str,
    ) -> Taught:
        """What a teacher's terms, whose names begin with `source`, read of its answers at these places."""
        terms = [term for name, term in self._chosen().items() if name.startswith(HEARD) == bool(source)]
        read = {name for term in terms for name in term.answers}
        taken = {name: places[::RELATIONS_OF_EVERY] if name == "relations" else places for name in _ANSWERS}
        more = {name: _tensor(getattr(answers, name), taken[name], device) for name in _ANSWERS if name in read}
        return Taught(_tensor(logit, places, device), _tensor(self.rows.label, rows, device), **more)

    def _on(self, epoch: int) -> list[str]:
        """The configured terms that are on in an epoch, and `ADVERSARIAL`."""
        named = [name for name in self.terms if not name.startswith(HEARD)]
        return stages.active([*named, stages.ADVERSARIAL], self.config.stages, epoch, self.epochs)

    def _scored(self, epoch: int) -> bool:
        """Whether a term trains the laundering logit in an epoch."""
        chosen, on = self._chosen(), self._on(epoch)
        return any(schedules.weight(chosen[name].config, epoch, self.epochs) for name in on if name in SCORED)

    def _chosen(self) -> dict[str, Term]:
        return {name: term for name, term in self.terms.items() if isinstance(term, Term)}

    def _forward(
        self, model: EventTransformer, context: Tensor, events: Tensor, names: list[str]
    ) -> EventTransformerOutput:
        looked = [self._chosen()[name] for name in names]
        output: EventTransformerOutput = model(
            context,
            events,
            output_layers=any(term.layers for term in looked),
            output_hidden_states=any(term.hidden_states for term in looked),
            output_attentions=any(term.attentions for term in looked),
        )
        return output

    def _lessons(self, taught: Taught, weight: Tensor, rows: NDArray[np.int64]) -> dict[str, _Lesson]:
        """What each term learns, and how much each row counts: as the teacher's terms weigh it, or as labels do."""
        of_labels = None if self._scheme_weight is None else _tensor(self._scheme_weight, rows, weight.device)
        lessons = {name: _Lesson(taught, of_labels if name == "labels" else weight) for name in self.terms}
        if self.answers.heard is not None:
            heard = self._heard(rows, weight)
            lessons |= dict.fromkeys((name for name in self.terms if name.startswith(HEARD)), heard)
        return lessons

    def _values(
        self, names: list[str], output: EventTransformerOutput, lessons: dict[str, _Lesson], heat: Heat
    ) -> dict[str, Tensor]:
        """Each term before its weight."""
        values = {}
        for name in names:
            step = self._chosen()[name].step
            seen, lesson = (output, lessons[name]) if step == 1 else (output.every(step), lessons[name].every(step))
            values[name] = self.terms[name](seen, lesson.taught, heat, lesson.weight)
        return values

    def _weights(self, plain: dict[str, Tensor], model: EventTransformer, epoch: int) -> dict[str, float]:
        chosen = self._chosen()
        weights = {name: schedules.weight(chosen[name].config, epoch, self.epochs) for name in plain}
        if self.balance is None:
            return weights
        factors = self.balance(plain, weights, model.encoder)
        return {name: weights[name] * factors[name] for name in plain}

    def _row_weight(self, output: EventTransformerOutput, taught: Taught, rows: NDArray[np.int64]) -> Tensor:
        selected = _tensor(self._selected, rows, taught.logit.device)
        if self.row_weights is None or not len(rows):
            return selected
        weight: Tensor = self.row_weights(output.logit, taught.logit, torch.from_numpy(rows).to(selected.device))
        return selected * weight

    def _note(self, output: EventTransformerOutput, taught: Taught, rows: NDArray[np.int64]) -> None:
        """Remember how far the student was from the teacher when it last saw these rows, at no pass of its own."""
        apart = torch.sigmoid(output.logit.detach().float()) - torch.sigmoid(taught.logit)
        self.disagreement[torch.from_numpy(rows).to(self.disagreement.device)] = apart.abs()


def _made(term: TermConfig, setting: Setting, rows: TrainingRows, answers: Any) -> Term:
    """A term for a teacher whose answers teach it something."""
    state = {"hidden_states": "hidden", "feature": "embedding"}.get(term.name)
    states = None if state is None else getattr(answers, state, None)
    width = 0 if states is None else states.shape[-1]
    made = TERMS[term.name](term, replace(setting, teacher_width=width))
    made.refuse_degenerate(rows, answers)
    return made


def _places(heard: Any, total: int) -> NDArray[np.int64]:
    """Where in its answers a teacher of some rows tells of each row, [total]; -1 where it was not asked."""
    places = np.full(total, -1, np.int64)
    if heard is not None:
        places[heard.rows] = np.arange(len(heard.rows))
    return places


def _tensor(answer: NDArray[Any], places: NDArray[np.int64], device: torch.device) -> Tensor:
    """A batch of answers as a tensor of its own, from an array or a memory map; 0 at the place -1."""
    found = np.array(answer[np.maximum(places, 0)])
    found[places < 0] = 0
    return torch.from_numpy(found).to(device)
