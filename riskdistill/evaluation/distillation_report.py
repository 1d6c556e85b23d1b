"""Writes the evidence of distillation, `distillation.json` for programs and `distillation.html` for people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from markupsafe import Markup

from riskdistill.evaluation import distillation_figures as figures
from riskdistill.evaluation.comparison import Comparison
from riskdistill.evaluation.distillation import DistillationEvidence
from riskdistill.evaluation.report import templates, write_whole


def write_distillation_report(folder: Path, evidence: DistillationEvidence) -> Path:
    """Writes both files under `folder/report`; each appears whole or not at all.

    Returns:
        The page's path.
    """
    target = folder / "report"
    target.mkdir(parents=True, exist_ok=True)
    write_whole(target / "distillation.json", evidence.model_dump_json(indent=2) + "\n")
    return write_whole(target / "distillation.html", render(evidence))


def render(evidence: DistillationEvidence) -> str:
    """The page as text, with a section for every part that was measured; all words are escaped."""
    drawings = {
        "retention": Markup(figures.retention_curve(evidence.retention)) if evidence.retention else "",
        "ablation": Markup(figures.ablation_differences(evidence.ablation)) if evidence.ablation else "",
        "reliability": Markup(figures.calibration_change(evidence.reliability)) if evidence.reliability else "",
        "detection": Markup(figures.time_to_detection({m: told[0] for m, told in evidence.detection.items()}))
        if evidence.detection
        else "",
        "attention": [(p.title, p.correlation, figures.attention_maps(p)) for p in evidence.attention],
    }
    template = templates().get_template("distillation.html.j2")
    return template.render(evidence=evidence, verdicts=list(_verdicts(evidence)), **drawings)


def _verdicts(evidence: DistillationEvidence) -> Iterator[str]:
    """Every comparison in a sentence, those without a result included."""
    for comparison in (
        *evidence.comparisons,
        *(line.against_none for line in evidence.ablation),
        *(line.against_full for line in evidence.ablation),
    ):
        if comparison.first != comparison.second:
            yield _sentence(comparison)


def _sentence(comparison: Comparison) -> str:
    low, high = comparison.difference_interval
    seeds = f"{comparison.seeds} seeds" if comparison.seeds > 1 else "one seed, so another may move it"
    return (
        f"{comparison.first} against {comparison.second}: PR-AUC {comparison.difference:+.3f} "
        f"(95 % interval {low:+.3f} to {high:+.3f}; {seeds}): {comparison.verdict}."
    )
