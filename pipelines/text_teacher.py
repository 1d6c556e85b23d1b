"""The text teacher of a run: a language model that reads only what the other teachers are least sure of.

rows to ask → fine-tuning on earlier payments → answers → a second gate, over all members → those rows told anew

A language model answers few rows a second, so it teaches and is never served: the teacher behind the bypass stays
the ensemble of the others. What students learn of attention and states, they learn from it too, on the rows of the
mix that it was asked about. It learns from real rows of the earlier half of the training period and is asked about
rows of the later half, so that none of its answers is of a row that it has learned from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.networks import Workshop
from riskdistill import __version__
from riskdistill.config import DistillationConfig, ExperimentConfig, StudentConfig, TextTeacherConfig
from riskdistill.data.schema import NORMAL
from riskdistill.dataset import Dataset
from riskdistill.dataset.build import feature_engine
from riskdistill.distillation.teacher_cache import Heard, TeacherCache, ask, wanted_by
from riskdistill.errors import ConfigError, RiskDistillError, TrainingError
from riskdistill.features import Encoded
from riskdistill.models.calibration import prior_shift
from riskdistill.models.ensemble import Gate, Logits
from riskdistill.models.teacher import Wanted
from riskdistill.models.training import TrainingRows
from riskdistill.text.fine_tuning import FineTuned, FineTuner
from riskdistill.text.pieces import cut
from riskdistill.text.serialise import Serialised, Serialiser
from riskdistill.text.teacher import TextTeacher
from riskdistill.text.text_model import TextModel

NAME = "text_teacher"
_SHORT: Final = Serialised("payment", np.array([[0, 7]]))
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Others:
    """What the other teachers say.

    Attributes:
        gate: that combines them.
        tuning: [members, n], log-odds of the earlier half of validation.
        mix: [members, n], log-odds of the rows of the mix.
    """

    gate: Gate
    tuning: Logits
    mix: Logits


@dataclass(frozen=True)
class Consulted:
    """A fitted text teacher.

    Attributes:
        taught: float32 [rows of the mix], the ensemble's log-odds, with the text teacher's where it was asked.
        rows: of the mix, that it was asked about, ascending.
    """

    teacher: TextTeacher
    taught: NDArray[np.float32]
    rows: Ints

    def heard(self, workshop: Workshop, wanted: Wanted) -> Heard:
        """What it answers of those rows; asked once and kept."""
        return Heard(
            self.rows, _answers(self.teacher, workshop, workshop.dataset.train.encoded.take(self.rows), wanted)
        )


@dataclass(frozen=True)
class Asked:
    """The rows that the text teacher answers, by their places, ascending: of the tuning half, and of the mix."""

    tuning: Ints
    mix: Ints


def check_text_teacher(config: ExperimentConfig) -> None:
    """Refuse a text teacher that could not be fitted here; its model is loaded and asked once for that, and let go.

    Raises:
        ConfigError: a template, the model or a package that it needs is wrong or not there, or the model cannot
            read a text.
        TrainingError: the relation heads of the student's loss do not divide the model's width.
    """
    if config.text_teacher is None:
        return
    spec = feature_engine(config.features).spec
    Serialiser(spec, config.text_teacher)
    try:
        model = TextModel.build(config.text_teacher, [NORMAL])
        model.score(cut(model.tokenizer, [_SHORT], config.text_teacher.max_tokens))
    except RiskDistillError:
        raise
    except Exception as error:  # what is not made for text alone fails in ways of its own
        raise ConfigError(
            f"{config.text_teacher.model!r} cannot read a text: {error}",
            where="text_teacher.model",
            mend="name an encoder or a causal model of text",
        ) from error
    TextTeacher(model, spec, 0.0).check(wanted_of_text(config.distillation, config.student))


def teach_with_text(config: TextTeacherConfig, workshop: Workshop, others: Others, wanted: Wanted) -> Consulted:
    """Fit the text teacher, and let it and the others tell anew what it was asked about.

    Args:
        wanted: what students will ask of it, so that one pass answers all.

    Raises:
        TrainingError: there is too little laundering to fine-tune it or to weigh its answers.
    """
    dataset = workshop.dataset
    tuning, _ = dataset.validation.halves()
    taught = others.gate.combine(others.mix, dataset.train.encoded).astype(np.float32)
    asked = _asked(dataset, others.gate.combine(others.tuning, tuning.encoded), taught, config.rows)
    rows, label = tuning.encoded.take(asked.tuning), tuning.label[asked.tuning]
    if label.all() or not label.any():
        raise TrainingError(
            f"the {len(label)} rows of validation that the other teachers are least sure of have one label",
            mend="raise text_teacher.rows",
        )
    teacher, tuned = _fine_tuned(config, workshop)

    of_tuning = _answers(teacher, workshop, rows, Wanted()).logit
    mixed = dataset.train.encoded.take(asked.mix)
    of_mix = _answers(teacher, workshop, mixed, wanted).logit
    before = others.tuning[:, asked.tuning]
    without = Gate.fit(others.gate.members, before, rows, label)
    gate = Gate.fit([*without.members, teacher.name], np.vstack([before, of_tuning]), rows, label)
    taught[asked.mix] = gate.combine(np.vstack([others.mix[:, asked.mix], of_mix]), mixed)
    losses = {"with": gate.kept_loss, "without": without.kept_loss}
    workshop.steps.step("text teacher's weight").done(
        losses_told({f"{way} them": loss for way, loss in losses.items()})
    )
    told = {"asked": {"validation": len(rows), "mix": len(mixed)}, "log_loss": losses, **vars(tuned)}
    (workshop.out / "models" / NAME / "training.json").write_text(json.dumps(told, indent=1))
    return Consulted(teacher, taught, asked.mix)


def wanted_of_text(distillation: DistillationConfig, student: StudentConfig) -> Wanted:
    """What such a student asks of the text teacher besides logits; nothing where no term reads states."""
    wanted = wanted_by(distillation, student.events_per_party)
    return wanted if wanted.inside else Wanted()


def _answers(teacher: TextTeacher, workshop: Workshop, rows: Encoded, wanted: Wanted) -> TeacherCache:
    step = workshop.steps.step("text teacher's answers")
    found = ask(
        teacher,
        rows,
        wanted,
        folder=workshop.out / "checkpoints" / "answers",
        spec=workshop.dataset.spec.fingerprint,
        progress=step.at,
    )
    step.done()
    return found


def _asked(dataset: Dataset, tuning: NDArray[np.float64], taught: NDArray[np.float32], count: int) -> Asked:
    """Of the tuning half, and of the mix's real rows of later payments, those of least sure answers.

    Args:
        tuning, taught: log-odds of the others' ensemble, of the tuning half and of the mix.
    """
    later = np.flatnonzero(dataset.mixed_from >= _middle(dataset))
    return Asked(_least_sure(tuning, count), later[_least_sure(taught[later], count)])


def _least_sure(logit: NDArray[np.floating], count: int) -> Ints:
    """Places, ascending, of the `count` answers of greatest entropy, which falls with the size of the log-odds."""
    return np.sort(np.argsort(np.abs(logit), kind="stable")[:count])


def _middle(dataset: Dataset) -> int:
    """The first row of the training period that the text teacher may be asked about."""
    return len(dataset.train_label) // 2


def _learned(dataset: Dataset) -> TrainingRows:
    """The mix's real rows of earlier payments; a synthetic row could retell a later one."""
    train = dataset.train
    place = dataset.mixed_from[train.draw]
    draw = train.draw[(place >= 0) & (place < _middle(dataset))]
    if len(np.unique(train.label[draw])) < 2:
        raise TrainingError(
            "the text teacher needs laundering and normal rows in the earlier half of the training period",
            mend="give a longer history, or leave text_teacher out",
        )
    return replace(train, draw=draw)


def _fine_tuned(config: TextTeacherConfig, workshop: Workshop) -> tuple[TextTeacher, FineTuned]:
    """Fine-tuned, or taken from its checkpoint, and saved below `models`."""
    dataset = workshop.dataset
    rows = _learned(dataset)
    shift = prior_shift(dataset.prevalence, float(rows.label[rows.draw].mean()))
    step = workshop.steps.step("text teacher")

    def show(stage: str, done: int, total: int, best: float) -> None:
        step.at(done, total, f"best validation PR-AUC {best:.3f}" if best >= 0 else "first epoch")

    model = TextModel.build(config, dataset.typologies)
    untrained = TextTeacher(model, dataset.spec, shift)  # stands for settings, base model and features
    tuning, _ = dataset.validation.halves()
    tuner = FineTuner(
        model,
        untrained.serialiser,
        rows,
        (tuning.encoded, tuning.label),
        checkpoint=workshop.out / "checkpoints" / f"{NAME}-{digest_of(untrained, dataset)}.pt",
        progress=show,
    )
    tuned = tuner.run()
    laundering = int(tuner.validation[1].sum())
    step.done(
        f"PR-AUC {tuned.best_pr_auc:.3f} in epoch {tuned.best_epoch + 1}, "
        f"on {len(tuner.validation[1]):,} rows of validation, {laundering:,} of them laundering"
    )
    teacher = TextTeacher(model, dataset.spec, shift)
    teacher.save(workshop.out / "models" / NAME)
    return teacher, tuned


def digest_of(untrained: TextTeacher, dataset: Dataset) -> str:
    """12 hex digits over all that decides what becomes of a text teacher that learns from rows of a dataset."""
    told = f"{dataset.fingerprint}{untrained.fingerprint}{__version__}"
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def losses_told(losses: Mapping[str, float | None]) -> str:
    """A gate's out-of-fold log losses in words, by what they are of."""
    if None in losses.values():
        return "out-of-fold log loss cannot be told: laundering lies in one block of time"
    return "out-of-fold log loss " + ", ".join(f"{loss:.5f} {of}" for of, loss in losses.items())
