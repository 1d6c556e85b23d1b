"""Writes what was measured: `report/metrics.json` for programs and `report/index.html` for people.

The page stands alone: no script, no outside reference, light and dark. It says in sentences whether the bars
are met and what the figures do not show.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from riskdistill.config.schema import ExperimentConfig
from riskdistill.evaluation import figures
from riskdistill.evaluation.figures import TITLES
from riskdistill.evaluation.metrics import MODELS, MetricsReport, ModelMetrics, ScoredPeriod

RETENTION_BAR: Final = 0.97  # what the project asks of a student: share of the teacher's PR-AUC,
COMPRESSION_BAR: Final = 10.0  # times fewer parameters,
SPEEDUP_BAR: Final = 10.0  # times the rows per second
FEW: Final = 100  # laundering transactions, below which a figure is called uncertain


class Card(NamedTuple):
    """One headline figure and its verdict."""

    title: str
    figure: str
    met: bool
    verdict: str


class Line(NamedTuple):
    """One measure in the table: a text for each model, and which of them are best."""

    title: str
    texts: list[str]
    best: list[bool]


class Chart(NamedTuple):
    """One figure with the words that tell how to read it."""

    title: str
    caption: str
    svg: Markup


def write_report(
    folder: Path,
    report: MetricsReport,
    test: ScoredPeriod,
    config: ExperimentConfig,
    provenance: Mapping[str, str],
) -> Path:
    """Writes `folder/report/metrics.json` and `folder/report/index.html`; each appears whole or not at all.

    Args:
        folder: the run's folder.
        report: the figures.
        test: the scores that they were measured on, for the curves.
        config: the experiment, printed in full.
        provenance: what else made the run (fingerprints, versions, times), printed as given.

    Returns:
        The page's path.
    """
    target = folder / "report"
    target.mkdir(parents=True, exist_ok=True)
    write_whole(target / "metrics.json", report.model_dump_json(indent=2) + "\n")
    return write_whole(target / "index.html", render(report, test, config, provenance))


def render(
    report: MetricsReport, test: ScoredPeriod, config: ExperimentConfig, provenance: Mapping[str, str]
) -> str:
    """The page as text; all that comes from data or configuration is escaped."""
    names = [name for name in MODELS if name in report.models]
    dataset = report.dataset
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            report=report,
            config=config,
            cards=_cards(report),
            models=[TITLES[name] for name in names],
            groups=_table([report.models[name] for name in names], report),
            charts=_charts(report, test, config),
            typologies=Markup(figures.recall_per_typology(report)),
            periods={"train": dataset.train, "validation": dataset.validation, "test": dataset.test},
            caveats=list(_caveats(report)),
            provenance=provenance,
            settings=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False),
        )
    )


def templates() -> Environment:
    """The pages' templates; what they print is escaped, and a name that nobody gave is an error."""
    return Environment(
        loader=PackageLoader("riskdistill.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _cards(report: MetricsReport) -> list[Card]:
    low, high = report.retention_interval
    student, teacher = report.models["student"], report.models["teacher"]
    retained = report.retention >= RETENTION_BAR
    return [
        Card(
            "Retention",
            f"{100 * report.retention:.1f} %",
            retained,
            f"The student keeps {100 * report.retention:.1f} % of the teacher's PR-AUC "
            f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %); the bar is {100 * RETENTION_BAR:.0f} %.",
        ),
        Card(
            "Compression",
            f"{report.compression:.1f} ×",
            report.compression >= COMPRESSION_BAR,
            f"{student.parameters:,} parameters do the work of {teacher.parameters:,}; "
            f"the bar is {COMPRESSION_BAR:.0f} times fewer.",
        ),
        Card(
            "Speed-up",
            f"{report.speedup:.1f} ×",
            report.speedup >= SPEEDUP_BAR,
            f"{student.rows_per_second:,.0f} rows a second on one thread against "
            f"{teacher.rows_per_second:,.0f}; the bar is {SPEEDUP_BAR:.0f} times.",
        ),
    ]


def _table(models: list[ModelMetrics], report: MetricsReport) -> dict[str, list[Line]]:
    """The table's lines, in groups."""

    def line(
        title: str,
        value: Callable[[ModelMetrics], float],
        text: Callable[[float], str] = "{:.3f}".format,
        best: Callable[[list[float]], float] = max,
    ) -> Line:
        values = [value(model) for model in models]
        texts = [text(number) for number in values]
        return Line(title, texts, [shown == text(best(values)) for shown in texts])

    def precision(budget: str) -> Callable[[ModelMetrics], float]:
        return lambda model: model.precision_at_budget[budget]

    def recall(budget: str) -> Callable[[ModelMetrics], float]:
        return lambda model: model.recall_at_budget[budget]

    budgets = list(models[0].recall_at_budget)
    interval = Line(
        "95 % interval",
        ["{:.3f} to {:.3f}".format(*model.pr_auc_interval) for model in models],
        [False] * len(models),
    )
    return {
        "Ranking": [
            line("PR-AUC", lambda model: model.pr_auc),
            interval,
            line("ROC-AUC", lambda model: model.roc_auc),
            line("F1 at validation's threshold", lambda model: model.f1),
        ],
        "At the alert budget": [
            *(line(f"Precision, {_share(budget)} alerted", precision(budget), _percent) for budget in budgets),
            *(line(f"Recall, {_share(budget)} alerted", recall(budget), _percent) for budget in budgets),
            line(f"Recall at {_share(report.fpr)} false positives", lambda model: model.recall_at_fpr, _percent),
        ],
        "Calibration and cost": [
            line("Expected calibration error", lambda model: model.ece, "{:.2g}".format, min),
            line("Parameters", lambda model: model.parameters, "{:,.0f}".format, min),
            line("Size on disk", lambda model: model.bytes, _size, min),
            line("Rows a second, one thread", lambda model: model.rows_per_second, "{:,.0f}".format),
            *_exits(models),
        ],
    }


def _exits(models: Sequence[ModelMetrics]) -> list[Line]:
    """What early exits save, where a model has any."""
    saved = [model.layers_saved for model in models]
    if all(share is None for share in saved):
        return []
    texts = ["none" if share is None else _percent(share) for share in saved]
    return [Line("Layer evaluations saved by early exits", texts, [share is not None for share in saved])]


def _charts(report: MetricsReport, test: ScoredPeriod, config: ExperimentConfig) -> list[Chart]:
    budgets = config.evaluation.budgets
    return [
        Chart(
            "Precision and recall",
            "How much of what is alerted is laundering, as more of the laundering is caught. "
            "Dotted: alerts at random.",
            Markup(figures.precision_recall(test)),
        ),
        Chart(
            "Recall for an alert budget",
            "How much laundering a team catches that can review a given share of traffic. Dotted: the best "
            f"possible. Vertical lines: {', '.join(_share(budget) for budget in budgets)}.",
            Markup(figures.recall_by_budget(test, budgets)),
        ),
        Chart(
            "Do scores mean what they say?",
            "On the dotted line, a score of 20 % is laundering in 20 of 100 cases. Every point holds a tenth "
            "of the laundering that the model predicts; bars are 95 % intervals.",
            Markup(figures.reliability(test)),
        ),
        Chart(
            "The student's scores",
            "Where the two classes lie. Dashed lines: the score above which each alert budget is used up.",
            Markup(figures.score_distribution(test, budgets)),
        ),
    ]


def _caveats(report: MetricsReport) -> Iterator[str]:
    """What a reader should know before believing the figures."""
    test = report.dataset.test
    if report.distillation_gain is not None and report.distillation_gain_interval is not None:
        low, high = report.distillation_gain_interval
        verdict = (
            "the interval holds zero, so this run does not show that the teacher helped"
            if low <= 0 <= high
            else "the interval does not hold zero"
        )
        yield (
            f"Learning from the teacher changed the student's PR-AUC by {report.distillation_gain:+.3f} "
            f"against the same student without it (95 % interval {low:+.3f} to {high:+.3f}): {verdict}."
        )
    if report.trees_ratio is not None and report.trees_ratio_interval is not None:
        low, high = report.trees_ratio_interval
        yield (
            f"The student reaches {100 * report.trees_ratio:.1f} % of the PR-AUC of boosted trees on the "
            f"same features (95 % interval {100 * low:.1f} to {100 * high:.1f} %)."
        )
    few = " That is few: differences within the intervals are noise." if test.laundering < FEW else ""
    yield f"The test period holds {test.laundering:,} laundering transactions among {test.rows:,}.{few}"
    for name in report.dataset.left_out:
        student = report.models["student"].recall_by_typology[name]
        yield (
            f"No {name.replace('_', ' ')} was trained or validated on. Of its {report.typology_counts[name]:,} "
            f"transactions in the test period the student finds {_percent(student)} at "
            f"{_share(report.typology_budget)} of traffic: what a typology that nobody has seen may expect."
        )
    rare = [name for name, count in report.typology_counts.items() if count < 10]
    if rare:
        yield f"Fewer than ten laundering transactions each, so read with care: {', '.join(rare)}."
    yield (
        "Intervals redraw transactions one by one (200 times). Transactions of one scheme stand and fall "
        "together, so the true uncertainty is larger."
    )
    yield "One split and one seed: another seed moves the figures too."
    yield (
        "Periods follow one another in time, and a transaction's features use only what came strictly before "
        "it. F1 thresholds and calibration were chosen on the validation period, at natural prevalence."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _share(share: float | str) -> str:
    return f"{100 * float(share):g} %"


def _size(count: float) -> str:
    return f"{count / 1e6:,.2f} MB" if count >= 1e6 else f"{count / 1e3:,.0f} kB"


def write_whole(path: Path, text: str) -> Path:
    """Writes beside `path` and renames, so that a reader never sees half a file."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
    return path
