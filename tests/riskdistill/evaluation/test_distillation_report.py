"""The page of distillation: every part that was measured, no more, and no word that breaks it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from riskdistill.errors import DataError
from riskdistill.evaluation.agreement import Disagreement, agreement
from riskdistill.evaluation.comparison import resample
from riskdistill.evaluation.distillation import (
    AblationLine,
    DistillationEvidence,
    RetentionPoint,
    attention_pair,
    measure_reliability,
)
from riskdistill.evaluation.distillation_report import render, write_distillation_report
from riskdistill.evaluation.schemes import SchemeRows, alerted_within, detection

HOSTILE = "<script>alert('$x$')</script>&"
ROWS = 3_000


@pytest.fixture(scope="module")
def evidence() -> DistillationEvidence:
    draws = np.random.default_rng(3)
    labels = draws.random(ROWS) < 0.05
    schemes = draws.integers(0, 30, ROWS)

    def scores(strength: float) -> np.ndarray:
        return 1 / (1 + np.exp(4 - strength * labels - draws.normal(size=ROWS)))

    strengths = {"teacher": 4.0, "5 times": 3.9, "10 times": 3.6, "40 times": 3.0, HOSTILE: 3.6, "no teacher": 2.8}
    runs = {name: [scores(value) for _ in range(3)] for name, value in strengths.items()}
    told = resample(labels, schemes, runs, resamples=60)
    teacher, student = runs["teacher"][0], runs["10 times"][0]
    example = Disagreement(
        reference="test row 7",
        teacher=0.9,
        student=0.1,
        laundering=True,
        typology=HOSTILE,
        features=("amount paid, at the rate of its day: 9,450 USD (above 98 % of payments)",),
    )
    rows = SchemeRows(
        schemes[labels],
        np.array(["fan_in", "cycle", HOSTILE])[schemes[labels] % 3],
        draws.integers(0, 10**12, labels.sum()),
        draws.random(labels.sum()),
    )
    tokens = ["context", *(f"sender: {hours} h ago, sent 9,450 {HOSTILE}" for hours in range(8))]
    return DistillationEvidence(
        name="tiny",
        dataset=HOSTILE,
        retention=tuple(
            RetentionPoint(
                compression=size,
                pr_auc=told.estimate(f"{size} times"),
                against_teacher=told.compare(f"{size} times", "teacher"),
            )
            for size in (5, 10, 40)
        ),
        ablation=tuple(
            AblationLine(
                recipe=name,
                pr_auc=told.estimate(name),
                against_full=told.compare(name, "10 times"),
                against_none=told.compare(name, "no teacher"),
            )
            for name in ("10 times", HOSTILE, "no teacher")
        ),
        comparisons=(told.compare("10 times", "teacher"),),
        agreement=agreement(labels, teacher, student, (0.01, 0.05), [example]),
        reliability=(
            measure_reliability(labels, student**0.5, model="student", stage="before"),
            measure_reliability(labels, student, model="student", stage="after"),
            measure_reliability(labels, teacher, model="teacher", stage="after"),
        ),
        detection={
            "teacher": (detection(rows, alerted_within(teacher, 0.01)[labels], 0.01),),
            "student": (detection(rows, np.zeros(labels.sum(), bool), 0.01),),
        },
        attention=(attention_pair(HOSTILE, tokens, draws.random((9, 9)) ** 4, draws.random((9, 9)) ** 4),),
    )


def test_every_part_has_its_section_and_negative_results_stay(evidence: DistillationEvidence) -> None:
    page = render(evidence)
    assert page.count("<h2>") == 7
    assert "these runs do not show that" in page
    assert "0 of 30" in page  # the student finds no scheme


def test_charts_hold_no_formula_that_a_browser_would_not_draw(evidence: DistillationEvidence) -> None:
    assert "mathdefault" not in render(evidence)


def test_other_peoples_words_are_escaped(evidence: DistillationEvidence) -> None:
    page = render(evidence)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_what_was_not_measured_has_no_section() -> None:
    page = render(DistillationEvidence(name="empty", dataset="none"))
    assert "<h2>" not in page
    assert "<svg" not in page


def test_the_record_is_read_back_as_it_was_written(evidence: DistillationEvidence, tmp_path: Path) -> None:
    page = write_distillation_report(tmp_path, evidence)
    assert sorted(path.name for path in page.parent.iterdir()) == ["distillation.html", "distillation.json"]
    assert DistillationEvidence.model_validate_json((page.parent / "distillation.json").read_text()) == evidence


def test_a_model_looks_at_what_it_looks_at() -> None:
    weights = np.random.default_rng(0).random((4, 4))
    assert attention_pair("a", "abcd", weights, 3 * weights).correlation == pytest.approx(1)
    assert attention_pair("a", "abcd", weights, np.ones((4, 4))).correlation == 0


@pytest.mark.parametrize("wrong", [np.ones((3, 4)), np.zeros((4, 4)), -np.ones((4, 4)), np.full((4, 4), np.nan)])
def test_what_is_no_attention_map_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(DataError, match="attention"):
        attention_pair("a", "abcd", np.ones((4, 4)), wrong)
