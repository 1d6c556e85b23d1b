"""The job that searches the student's size: prepares the dataset, fits the teachers, tries sizes.

OUT/search/front.json     the sizes that none beats in both score and latency
OUT/search/student.yaml   the best of them, to paste into an experiment
OUT/search/KEY/search.db  the study; KEY says which data, teachers and choices it belongs to

The teachers are those that `run` with the same `--out` would fit, and it takes them over.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import yaml

from monitoring.pages import write_whole
from pipelines.datasets import prepare
from pipelines.networks import Workshop, stopping_rows
from pipelines.progress import Steps
from pipelines.students import School
from pipelines.teachers import Teachers, fit_teachers
from pipelines.text_teacher import check_text_teacher, wanted_of_text
from riskdistill.config import ExperimentConfig, SearchConfig, StudentConfig
from riskdistill.distillation.teacher_cache import TeacherCache
from riskdistill.errors import ConfigError
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.training import Trainer
from riskdistill.student.search import Candidate, front
from riskdistill.student.search import search as search_sizes

TIMED_ROWS = 64


@dataclass(frozen=True)
class SearchResult:
    """What was found, the best score first, and where it is written."""

    front: tuple[Candidate, ...]
    figures: Path
    snippet: Path


def search(
    config: ExperimentConfig, source: Path, out: Path, steps: Steps, *, command: str, rows: Path | None = None
) -> SearchResult:
    """Try sizes until `config.search.trials` were tried, those of a stopped search included.

    Args:
        config, source, out, steps, command, rows: as for `run.run`.

    Raises:
        RiskDistillError: see the parts, e.g. TrainingError where no size is within the latency.
    """
    offered = offered_choices(config)
    check_text_teacher(config)
    dataset = prepare(config, source, out, steps, command=command, rows=rows).dataset
    for name in ("models", "checkpoints"):
        (out / name).mkdir(exist_ok=True)
    workshop = Workshop(dataset, out, steps)
    teachers = fit_teachers(config, workshop)
    folder = out / "search" / _key(config, offered, teachers, workshop)
    folder.mkdir(parents=True, exist_ok=True)
    trials = _Trials(config, teachers, workshop)
    sample = dataset.validation.encoded.take(slice(0, TIMED_ROWS))
    found = front(search_sizes(config.student, offered, trials.build, trials.train, sample, folder))

    figures, snippet = out / "search" / "front.json", out / "search" / "student.yaml"
    write_whole(figures, json.dumps([asdict(candidate) for candidate in found], indent=1) + "\n")
    best = config.student.model_dump(exclude_defaults=True) | found[0].choices
    write_whole(snippet, yaml.safe_dump({"student": best}, sort_keys=False))
    return SearchResult(found, figures, snippet)


def offered_choices(config: ExperimentConfig) -> SearchConfig:
    """The search with those choices alone that the experiment allows.

    Raises:
        ConfigError: none of a kind is left.
    """
    heads = config.distillation.relation_heads
    kept = min(config.features.events_per_party, config.teacher.events_per_party)
    if config.text_teacher is not None and wanted_of_text(config.distillation, config.student).inside:
        kept = min(kept, config.text_teacher.events_per_party)
    matched = config.distillation.by_head
    left = {
        "events_per_party": tuple(events for events in config.search.events_per_party if events <= kept),
        "width": tuple(width for width in config.search.width if width % heads == 0),
        "heads": tuple(own for own in config.search.heads if not matched or own == config.teacher.heads),
    }
    for name, choices in left.items():
        if not choices:
            raise ConfigError(
                f"no choice fits the {kept} events that teachers read, their {config.teacher.heads} heads, or "
                f"distillation.relation_heads {heads}",
                where=f"search.{name}",
                mend="offer one that does",
            )
    return config.search.model_copy(update=left)


class _Trials:
    """Makes and briefly trains the networks that are tried."""

    def __init__(self, config: ExperimentConfig, teachers: Teachers, workshop: Workshop) -> None:
        self.config, self.workshop, self.school = config, workshop, School(teachers, workshop)
        self.training = config.student_training.model_copy(
            # one epoch is no time for a curriculum
            update={"epochs": 1, "rows_per_epoch": config.search.rows, "curriculum": "none"}
        )
        self.distillation = config.distillation.settled()  # nor for stages or schedules
        tuning, _ = workshop.dataset.validation.halves()
        self.judged_on = stopping_rows(tuning, self.training.seed)
        self.answers = cache(self._answers)

    def build(self, size: StudentConfig) -> EventTransformer:
        """An untrained network."""
        return self.workshop.untrained(size, self.school.bins(size), self.training.seed)

    def train(self, size: StudentConfig) -> float:
        """PR-AUC on the tuning half of validation, after one short epoch."""
        answers = self.answers(size.events_per_party)
        objective = self.school.objective(size, self.training, self.distillation, answers)
        step = self.workshop.steps.step(f"student {size.width} x {size.layers}")
        rows = self.workshop.dataset.train
        trainer = Trainer(
            "candidate",
            self.build(size),
            rows,
            self.judged_on,
            self.training,
            progress=lambda _stage, done, total, _best: step.at(done, total),
        )
        score = trainer.run(objective).best_score
        step.done(f"validation PR-AUC {score:.3f}")
        return score

    def _answers(self, events_per_party: int) -> TeacherCache:
        """Terms inside the network read the tokens that both models have, so as many as the student reads."""
        size = self.config.student.model_copy(update={"events_per_party": events_per_party})
        return self.school.answers(size, self.distillation)


def _key(config: ExperimentConfig, offered: SearchConfig, teachers: Teachers, workshop: Workshop) -> str:
    """Of all that a trial depends on; more trials go on in the same study."""
    parts = (
        workshop.dataset.fingerprint,
        config.student.model_dump_json(),
        config.student_training.model_dump_json(),
        config.distillation.model_dump_json(),
        offered.model_dump_json(exclude={"trials"}),
    )
    digest = hashlib.sha256("".join(parts).encode())
    digest.update(teachers.taught[config.distillation.answers].tobytes())
    return digest.hexdigest()[:12]
