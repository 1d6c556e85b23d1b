"""The report's files: complete, self-contained, escaped, the same for the same figures."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from riskdistill.config import ExperimentConfig
from riskdistill.evaluation import report as report_module
from riskdistill.evaluation.metrics import (
    MODELS,
    DatasetFacts,
    MetricsReport,
    ModelFacts,
    PeriodFacts,
    ScoredPeriod,
    evaluate,
)
from riskdistill.evaluation.report import render, write_report

CONFIG = ExperimentConfig(name="tiny")
NASTY = "<script>alert('$x_1$')</script>"
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Checks nesting, and collects ids, references and words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in ("href", "src"):
                self.references.append(str(value))
            self.references += re.findall(r"url\(([^)]*)\)", value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def scored(rows: int = 600, models: tuple[str, ...] = MODELS, flat: bool = False) -> ScoredPeriod:
    random = np.random.default_rng(4)
    labels = random.random(rows) < 0.1
    labels[0] = True
    scores = {
        model: np.full(rows, 0.1) if flat else 1 / (1 + np.exp(3 - 3 * labels - random.normal(size=rows)))
        for model in models
    }
    return ScoredPeriod(
        name="test", labels=labels, typologies=random.choice(["fan_in", NASTY], rows), scores=scores
    )


def measured(period: ScoredPeriod, student_size: int = 5_000, left_out: tuple[str, ...] = ()) -> MetricsReport:
    part = PeriodFacts(
        rows=len(period.labels),
        laundering=int(period.labels.sum()),
        start=datetime(2026, 1, 1, tzinfo=UTC),
        end=datetime(2026, 1, 9, tzinfo=UTC),
    )
    dataset = DatasetFacts(
        name="tiny & <b>", fingerprint="f00d", train=part, validation=part, test=part, left_out=left_out
    )
    facts = {
        model: ModelFacts(
            parameters=100_000 if model == "teacher" else student_size, bytes=9_000, rows_per_second=1e4
        )
        for model in period.scores
    }
    return evaluate(period, period, facts, dataset, CONFIG.evaluation)


@pytest.fixture(scope="module")
def text() -> str:
    period = scored()
    return render(measured(period), period, CONFIG, {"teacher": "beef", "note": NASTY})


def test_a_left_out_typology_is_told_apart() -> None:
    period = scored()
    report = measured(period, left_out=("fan_in",))
    page = render(report, period, CONFIG, {})
    count, recall = report.typology_counts["fan_in"], report.models["student"].recall_by_typology["fan_in"]
    assert f"No fan in was trained or validated on. Of its {count} transactions" in page
    assert f"the student finds {100 * recall:.1f} %" in page
    assert f"fan in ({count}, never learned)" in page
    assert MetricsReport.model_validate_json(report.model_dump_json()) == report
    plain = render(measured(period), period, CONFIG, {})
    assert "never learned" not in plain
    assert "was trained or validated on" not in plain


def test_both_files_are_written_and_nothing_else(tmp_path: Path) -> None:
    period = scored()
    report = measured(period)
    page = write_report(tmp_path, report, period, CONFIG, {})
    assert page == tmp_path / "report" / "index.html"
    assert {path.name for path in page.parent.iterdir()} == {"index.html", "metrics.json"}
    assert MetricsReport.model_validate_json((page.parent / "metrics.json").read_bytes()) == report
    assert json.loads((page.parent / "metrics.json").read_text())["compression"] == 20


def test_page_is_well_formed_and_stands_alone(text: str) -> None:
    page = Page(text)
    assert not page.tags & {"script", "link", "img", "iframe"}
    assert "http" not in text
    assert len(page.ids) == len(set(page.ids))
    assert {reference.removeprefix("#") for reference in page.references} <= set(page.ids)


def test_what_comes_from_data_is_escaped(text: str) -> None:
    words = " ".join(Page(text).words)
    assert "tiny & <b>" in words
    assert NASTY in words
    assert NASTY not in text


def test_page_holds_every_section(text: str) -> None:
    words = " ".join(Page(text).words)
    for expected in (
        "Retention",
        "Compression",
        "Speed-up",
        "Boosted trees",
        "Student without teacher",
        "PR-AUC",
        "Recall, 0.5 % alerted",
        "Precision and recall",
        "fan in",
        "beef",
        "f00d",
        "relation_heads: 4",
        "transactions among 600",
    ):
        assert expected in words


def test_colours_are_the_pages_own(text: str) -> None:
    assert not re.search(r"#(0\d)\1{2}", text)
    used = set(re.findall(r"var\((--[a-z-]+)\)", text))
    defined = set(re.findall(r"(--[a-z-]+):", text))
    assert used <= defined


def test_same_figures_give_the_same_bytes(text: str) -> None:
    period = scored()
    assert render(measured(period), period, CONFIG, {"teacher": "beef", "note": NASTY}) == text


def test_verdicts_say_whether_the_bars_are_met() -> None:
    period = scored()
    small, large = (Page(render(measured(period, size), period, CONFIG, {})).words for size in (5_000, 50_000))
    assert small.count("bar met") == large.count("bar met") + 1
    assert large.count("below the bar") == small.count("below the bar") + 1


def test_gain_that_may_be_nothing_is_called_so() -> None:
    period = scored()
    same = ScoredPeriod(
        name="test",
        labels=period.labels,
        typologies=period.typologies,
        scores=dict.fromkeys(MODELS, period.scores["student"]),
    )
    words = " ".join(Page(render(measured(same), same, CONFIG, {})).words)
    assert "does not show that the teacher helped" in words
    assert "That is few" in words


def test_what_early_exits_save_is_told_where_there_are_any() -> None:
    period = scored()
    plain = measured(period)
    student = plain.models["student"].model_copy(update={"layers_saved": 0.375})
    exiting = plain.model_copy(update={"models": {**plain.models, "student": student}})
    words = [" ".join(Page(render(report, period, CONFIG, {})).words) for report in (plain, exiting)]
    assert "saved by early exits" not in words[0]
    assert re.search(r"saved by early exits\s.*37\.5 %", words[1])


@pytest.mark.parametrize("flat", [False, True], ids=["ranked", "all scores equal"])
def test_page_can_be_made_of_student_and_teacher_alone(flat: bool) -> None:
    period = scored(models=("student", "teacher"), flat=flat)
    words = " ".join(Page(render(measured(period), period, CONFIG, {})).words)
    assert "Boosted trees" not in words
    assert "Learning from the teacher" not in words


def test_scores_at_the_ends_of_the_scale_can_be_drawn() -> None:
    period = scored()
    extreme = ScoredPeriod(
        name="test",
        labels=period.labels,
        typologies=period.typologies,
        scores=dict.fromkeys(MODELS, period.labels.astype(float)),
    )
    assert "100.0 %" in render(measured(extreme), extreme, CONFIG, {})


def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    period = scored(models=("student", "teacher"))
    page = write_report(tmp_path, measured(period), period, CONFIG, {})
    before = page.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(report_module.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(tmp_path, measured(period), period, CONFIG, {"new": "x"})
    assert page.read_bytes() == before
