"""What a run tells of its distillation: the student beside its teacher, on the test period, for people to read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.served import Served
from pipelines.teachers import Teachers
from riskdistill.config import ExperimentConfig
from riskdistill.dataset import Dataset, Period
from riskdistill.evaluation.agreement import (
    Agreement,
    Disagreement,
    agreement,
    most_disagreeing,
    notable_features,
)
from riskdistill.evaluation.comparison import resample
from riskdistill.evaluation.distillation import (
    AttentionPair,
    DistillationEvidence,
    Model,
    Stage,
    attention_pair,
    measure_reliability,
)
from riskdistill.evaluation.distillation_report import write_distillation_report
from riskdistill.evaluation.event_words import event_words
from riskdistill.evaluation.metrics import SCRATCH, STUDENT, TEACHER, TREES, ScoredPeriod
from riskdistill.evaluation.schemes import SchemeDetection, SchemeRows, alerted_within, detection
from riskdistill.models.calibration import Calibrator
from riskdistill.models.committee import Committee, Network
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.onnx_model import Scorer
from riskdistill.models.teacher import shared_tokens
from riskdistill.models.training import score_logits

EXAMPLES: Final = 8  # payments on which teacher and student disagree most
SCHEMES_DRAWN: Final = 2
Scores = NDArray[np.float64]
_MODELS: Final[tuple[Model, Model]] = (TEACHER, STUDENT)


def write_evidence(
    dataset: Dataset,
    test: ScoredPeriod,
    served: Served,
    config: ExperimentConfig,
    out: Path,
) -> Path:
    """Measure, and write `report/distillation.html` and its JSON; returns the page."""
    budgets = config.evaluation.budgets
    main_first = sorted(budgets, key=lambda budget: budget != config.evaluation.typology_budget)
    runs = {name: [test.scores[name]] for name in (TEACHER, STUDENT, SCRATCH, TREES)}
    members = _members(served.teachers, dataset.test)
    runs |= {name: [scores] for name, scores in members.items()}
    measured = resample(test.labels, scheme_names(dataset.test), runs, seed=config.seed)
    pairs = [(STUDENT, TEACHER), (STUDENT, SCRATCH), (STUDENT, TREES), (TEACHER, TREES)]
    pairs += [(TEACHER, name) for name in members]  # does the ensemble beat each of them?
    raw: Mapping[str, Scores] = {name: _uncalibrated(served.scorers[name], dataset.test) for name in _MODELS}
    stages: tuple[tuple[Stage, Mapping[str, Scores]], ...] = (("before", raw), ("after", test.scores))
    evidence = DistillationEvidence(
        name=config.name,
        dataset=dataset.fingerprint,
        comparisons=tuple(measured.compare(first, second) for first, second in pairs),
        agreement=_agreement(dataset, test, budgets),
        reliability=tuple(
            measure_reliability(test.labels, scores[name], model=name, stage=stage)
            for name in _MODELS
            for stage, scores in stages
        ),
        detection={
            name: tuple(_detection(dataset, test.scores[name], budget) for budget in main_first) for name in _MODELS
        },
        attention=tuple(_attention(dataset, _shown(served.teachers.event), served.students[STUDENT].model)),
    )
    return write_distillation_report(out, evidence)


def _members(teachers: Teachers, test: Period) -> dict[str, Scores]:
    """Each member of the ensemble that teaches, on the test period; log-odds rank as scores do."""
    return {
        "cross-fitted trees": teachers.trees.score_logits(test.encoded.context),
        "event transformer": score_logits(teachers.event, test.encoded)[0],
    }


def _shown(teacher: Network) -> EventTransformer:
    """The network whose attention is drawn: of several the first, which students learn relations from."""
    return teacher.first if isinstance(teacher, Committee) else teacher


def _agreement(dataset: Dataset, test: ScoredPeriod, budgets: tuple[float, ...]) -> Agreement:
    """Who alerts what, and the payments on which they differ most, named by their place in the test period."""
    teacher, student = test.scores[TEACHER], test.scores[STUDENT]
    context = dataset.test.encoded.context
    examples = [
        Disagreement(
            reference=f"test row {row + 1:,}",
            teacher=float(teacher[row]),
            student=float(student[row]),
            laundering=bool(test.labels[row]),
            typology=str(dataset.test.typology[row]),
            features=notable_features(context, dataset.spec, int(row)),
        )
        for row in most_disagreeing(teacher, student, EXAMPLES)
    ]
    return agreement(test.labels, teacher, student, budgets, examples)


def _uncalibrated(scorer: Scorer, period: Period) -> Scores:
    """Probabilities as they would be without the calibration fold: corrected for the prior alone."""
    prior = Calibrator(prior_shift=scorer.calibrator.prior_shift)
    return prior(scorer.score_all(period.encoded).logit)


def _detection(dataset: Dataset, scores: Scores, budget: float) -> SchemeDetection:
    test, label = dataset.test, dataset.test.label
    usd = test.encoded.context[label, dataset.spec.names.index("amount_usd")]
    rows = SchemeRows(
        scheme=scheme_names(test)[label],
        typology=test.typology[label].astype(str),
        time=test.time[label],
        usd=np.nan_to_num(usd.astype(np.float64)),
    )
    return detection(rows, alerted_within(scores, budget)[label], budget)


def scheme_names(period: Period) -> NDArray[np.str_]:
    """The scheme of each laundering row, "" of others; laundering that belongs to none is a scheme of its own."""
    names = np.full(len(period), "", object)
    for row in np.flatnonzero(period.label):
        names[row] = period.scheme[row] if period.scheme[row] is not None else f"row {row}"
    return names.astype(np.str_)


@torch.inference_mode()
def _attention(dataset: Dataset, teacher: EventTransformer, student: EventTransformer) -> list[AttentionPair]:
    """The last payments of the test period's largest schemes, as both models look at them."""
    test, pairs = dataset.test, []
    names, counts = np.unique([name for name in test.scheme[test.label] if name is not None], return_counts=True)
    for name in names[np.argsort(-counts, kind="stable")][:SCHEMES_DRAWN]:
        row = int(np.flatnonzero((test.scheme == name) & test.label)[-1])
        one = test.encoded.take(slice(row, row + 1))
        context, events = torch.from_numpy(one.context), torch.from_numpy(one.events).float()
        views = [model(context, events, output_attentions=True) for model in (teacher, student)]
        maps = [view.layers[-1].attention[0].mean(0) for view in views]
        read = student.config.events_per_party
        tokens = torch.from_numpy(shared_tokens(teacher.config.events_per_party, read))
        half = one.events.shape[1] // 2
        told = event_words(one.events[0], dataset.spec)
        words = ["this payment", *told[:read], *told[half : half + read]]
        there = views[1].mask[0]
        pairs.append(
            attention_pair(
                f"{test.typology[row]}, scheme of {counts[list(names).index(name)]} payments, its last one",
                [word for word, present in zip(words, there.tolist(), strict=True) if present],
                maps[0][tokens][:, tokens][there][:, there].numpy(),
                maps[1][there][:, there].numpy(),
            )
        )
    return pairs
