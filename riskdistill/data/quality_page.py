"""Writes the quality of a source: `quality.json` for programs, and `quality.html`, one page that stands alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from riskdistill.data.quality import QualityReport
from riskdistill.data.tables import QUALITY_FILE, QUALITY_PAGE

WIDTH: Final = 1000.0  # of a plot, in units of its own
HEIGHT: Final = 160.0
MOST_BARS: Final = 400  # days beyond that are drawn in groups


class Bar(NamedTuple):
    """A bar of a plot: its place, what it says when it is pointed at, and whether it stands out."""

    left: float
    width: float
    height: float
    told: str
    marked: bool = False


def write_quality(folder: Path, report: QualityReport) -> None:
    """Writes both files to `folder`."""
    (folder / QUALITY_FILE).write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (folder / QUALITY_PAGE).write_text(render(report), encoding="utf-8")


def render(report: QualityReport) -> str:
    """The page as text; all that comes from data is escaped."""
    environment = Environment(
        loader=PackageLoader("riskdistill.data", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    reasons = {reason: rows for check in report.checks for reason, rows in check.refused.items()}
    return environment.get_template("quality.html.j2").render(
        report=report,
        reasons=dict(sorted(reasons.items(), key=lambda item: -item[1])),
        days=_days(report),
        amounts=_amounts(report),
        busiest=max(day.rows for day in report.days),
        commonest=max(one.rows for one in report.amounts),
        width=WIDTH,
        height=HEIGHT,
    )


def _days(report: QualityReport) -> list[Bar]:
    size = -(-len(report.days) // MOST_BARS)
    groups = [report.days[start : start + size] for start in range(0, len(report.days), size)]
    told = [
        f"{group[0].day}{f' to {group[-1].day}' if len(group) > 1 else ''}: {sum(day.rows for day in group):,} "
        f"transactions, {sum(day.usd for day in group):,.0f} US dollars"
        for group in groups
    ]
    heights = [sum(day.rows for day in group) / len(group) for group in groups]
    return _bars(heights, told, [any(day.unusual for day in group) for group in groups])


def _amounts(report: QualityReport) -> list[Bar]:
    told = [f"from {one.least:,.2f} US dollars: {one.rows:,} transactions" for one in report.amounts]
    return _bars([one.rows for one in report.amounts], told, [False] * len(told))


def _bars(heights: Sequence[float], told: Sequence[str], marked: Sequence[bool]) -> list[Bar]:
    step, most = WIDTH / len(heights), max(heights)
    return [
        Bar(round(at * step, 2), round(0.85 * step, 2), round(HEIGHT * height / most, 2), text, mark)
        for at, (height, text, mark) in enumerate(zip(heights, told, marked, strict=True))
    ]
