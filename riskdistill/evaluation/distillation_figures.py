"""Charts of `DistillationEvidence`, drawn as in `figures`: inline SVG with the page's colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from riskdistill.evaluation.distillation import AblationLine, AttentionPair, Reliability, RetentionPoint
from riskdistill.evaluation.figures import COLOURS, DASHES, INK, MARKERS, TITLES, chart, decades, percent
from riskdistill.evaluation.schemes import SchemeDetection

_CELL: Final = 13  # pixels of one attention weight
_GAP: Final = 24
_LETTER: Final = 5.6  # pixels; the mean width of a letter at 10 pixels
_FOOT: Final = 1e-6  # the lowest frequency that a chart begins at


@chart("retention")
def retention_curve(axes: Any, points: Sequence[RetentionPoint]) -> None:
    """PR-AUC relative to the teacher against compression, with 95 % intervals."""
    ordered = sorted(points, key=lambda point: point.compression)
    sizes = [point.compression for point in ordered]
    ratios = [point.against_teacher.ratio for point in ordered]
    low, high = zip(*(point.against_teacher.ratio_interval for point in ordered), strict=True)
    axes.vlines(sizes, low, high, color=COLOURS["student"], linewidth=1.2)
    axes.plot(sizes, ratios, color=COLOURS["student"], marker=MARKERS["student"])
    axes.axhline(1, color=INK, linewidth=0.8, linestyle=":")
    axes.set(xscale="log", xlabel="times fewer parameters than the teacher", ylabel="share of the teacher's PR-AUC")
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g} ×"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))


@chart("ablation")
def ablation_differences(axes: Any, lines: Sequence[AblationLine]) -> None:
    """Differences in PR-AUC from the full recipe, with 95 % intervals; the first line on top."""
    axes.figure.set_size_inches(11, 1.2 + 0.35 * len(lines))
    for place, line in enumerate(reversed(lines)):
        axes.hlines(place, *line.against_full.difference_interval, color=COLOURS["student"], linewidth=1.5)
        axes.plot(line.against_full.difference, place, color=COLOURS["student"], marker="o")
    axes.axvline(0, color=INK, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(lines)), [line.recipe[:40] for line in reversed(lines)])
    axes.set(ylim=(-0.6, len(lines) - 0.4), xlabel="PR-AUC, less that of the full recipe")


@chart("calibration")
def calibration_change(axes: Any, curves: Sequence[Reliability]) -> None:
    """Observed against predicted frequency of both models; hollow before calibration, filled after it.

    A group in which none was observed is drawn at the foot of the chart.
    """
    foot = max(min(min(curve.predicted) for curve in curves) / 2, _FOOT)
    for curve in curves:
        colour = COLOURS[curve.model]
        axes.vlines(curve.predicted, [max(low, foot) for low in curve.low], curve.high, color=colour, linewidth=0.7)
        axes.plot(
            curve.predicted,
            [max(value, foot) for value in curve.observed],
            color=colour,
            marker=MARKERS[curve.model],
            markerfacecolor=colour if curve.stage == "after" else "none",
            linestyle="none",
            clip_on=False,
            label=f"{TITLES[curve.model]}, {curve.stage}",
        )
    axes.plot([foot, 1], [foot, 1], color=INK, linewidth=0.8, linestyle=":")
    axes.set(xscale="log", yscale="log", xlim=(foot, 1.2), ylim=(foot, 1.2))
    axes.set(xlabel="score (predicted frequency)", ylabel="observed frequency")
    decades(axes.xaxis, foot)
    decades(axes.yaxis, foot)
    axes.legend(loc="upper left", fontsize=8)


@chart("detection")
def time_to_detection(axes: Any, found: Mapping[str, SchemeDetection]) -> None:
    """Share of schemes found against days since their first transaction (Kaplan-Meier)."""
    longest = max((hour for told in found.values() for hour in told.curve_hours), default=24.0) / 24
    for model, told in found.items():
        days = [0.0, *(hour / 24 for hour in told.curve_hours), longest]
        shares = [0.0, *told.curve_found]
        axes.step(
            days,
            [*shares, shares[-1]],
            where="post",
            color=COLOURS[model],
            linestyle=DASHES[model],
            label=TITLES[model],
        )
    axes.set(ylim=(0, 1.02), xlabel="days since the scheme's first transaction", ylabel="schemes found")
    percent(axes.yaxis)
    axes.legend(loc="best")


def attention_maps(pair: AttentionPair) -> Markup:
    """Both maps side by side on one scale: the stronger the colour, the more row's token looks at column's."""
    labels = [f"{number}  {token[:56]}" for number, token in enumerate(pair.tokens)]
    margin, side = 8 + _LETTER * max(map(len, labels)), _CELL * len(labels)
    strongest = max(max(map(max, pair.teacher)), max(map(max, pair.student)))
    parts = [
        Markup('<text x="{:.0f}" y="{}" font-size="10" text-anchor="end">{}</text>').format(
            margin - 6, 20 + _CELL * row + 10, label
        )
        for row, label in enumerate(labels)
    ]
    for shift, (model, weights) in enumerate((("teacher", pair.teacher), ("student", pair.student))):
        left = margin + shift * (side + _GAP)
        parts.append(Markup('<text x="{:.0f}" y="12" font-size="11">{}</text>').format(left, TITLES[model]))
        parts.append(
            Markup('<rect x="{:.0f}" y="20" width="{}" height="{}" fill="none" stroke="var(--line)"/>').format(
                left, side, side
            )
        )
        parts += [
            _cell(model, left, row, column, weight, weight / strongest)
            for row, line in enumerate(weights)
            for column, weight in enumerate(line)
        ]
        parts += [
            Markup('<text x="{:.0f}" y="{}" font-size="8" text-anchor="middle">{}</text>').format(
                left + _CELL * (column + 0.5), 30 + side, column
            )
            for column in range(len(labels))
        ]
    size = Markup('<svg viewBox="0 0 {:.0f} {}" style="max-width:{:.0f}px" role="img">').format(
        margin + 2 * side + _GAP, side + 36, 1.4 * (margin + 2 * side + _GAP)
    )
    return size + Markup("").join(parts) + Markup("</svg>")


def _cell(model: str, left: float, row: int, column: int, weight: float, strength: float) -> Markup:
    return Markup(
        '<rect x="{:.1f}" y="{}" width="{}" height="{}" fill="var(--{})" fill-opacity="{:.2f}">'
        "<title>{} looks at {}: {:.1f} %</title></rect>"
    ).format(
        left + _CELL * column, 20 + _CELL * row, _CELL - 1, _CELL - 1, model, strength, row, column, 100 * weight
    )
