"""The report's charts: each function returns one inline `<svg>` without outside references.

Colours are CSS variables (`--ink`, `--line`, `--student`, …) that the page defines for light and dark; lines
also differ in dashes, so that no chart needs colour to be read. Text stays text, to be searched and scaled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from io import StringIO
from typing import Any, Concatenate, Final, ParamSpec

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from riskdistill.evaluation.metrics import (
    MODELS,
    SCRATCH,
    STUDENT,
    TEACHER,
    TREES,
    MetricsReport,
    ScoredPeriod,
)
from riskdistill.evaluation.ranking import Floats, Labels, alerts_within, reliability_groups

TITLES: Final = {
    TREES: "Boosted trees",
    SCRATCH: "Student without teacher",
    STUDENT: "Student",
    TEACHER: "Teacher",
}
# Matplotlib wants real colours; these stand for CSS variables until the drawing is text.
INK, _LINE, _NORMAL = "#010101", "#020202", "#030303"
COLOURS: Final = {TREES: "#040404", SCRATCH: "#050505", STUDENT: "#060606", TEACHER: "#070707"}
DASHES: Final = {TREES: (0, (6, 2)), SCRATCH: (0, (1.5, 1.5)), STUDENT: "solid", TEACHER: (0, (9, 2, 2, 2))}
MARKERS: Final = {TREES: "s", SCRATCH: "v", STUDENT: "o", TEACHER: "D"}
_VARIABLES: Final = {
    INK: "--ink",
    _LINE: "--line",
    _NORMAL: "--normal",
    **{colour: f"--{model.replace('_', '-')}" for model, colour in COLOURS.items()},
}
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "riskdistill",  # the same report gives the same bytes
    "text.parse_math": False,  # typologies are other people's words
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": _LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
}
_PERCENT: Final = FuncFormatter(lambda value, _: f"{100 * value:g} %")
_POINTS: Final = 400  # per curve: more cannot be seen


P = ParamSpec("P")


def chart(name: str) -> Callable[[Callable[Concatenate[Any, P], None]], Callable[P, str]]:
    """Turns a function that draws on axes into one that returns SVG, whose ids `name` makes unique."""

    def decorate(draw: Callable[Concatenate[Any, P], None]) -> Callable[P, str]:
        @wraps(draw)
        def drawn(*args: P.args, **kwargs: P.kwargs) -> str:
            text = StringIO()
            with matplotlib.rc_context(_STYLE):
                figure = Figure(figsize=(5.6, 4.0), layout="constrained")
                draw(figure.subplots(), *args, **kwargs)
                no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
                figure.savefig(text, format="svg", transparent=True, metadata=no_metadata)
            return _inline(text.getvalue(), name)

        return drawn

    return decorate


def _inline(svg: str, name: str) -> str:
    """The drawing without prolog, size, style sheet and namespaces, and with the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' (xmlns(:xlink)?|version)="[^"]*"| (width|height)="[\d.]+pt"', "", svg)
    svg = re.sub(r'<style type="text/css">.*?</style>', "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace('xlink:href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg


@chart("pr")
def precision_recall(axes: Any, test: ScoredPeriod) -> None:
    """Precision against recall for every model, and the precision of alerting at random."""
    for model in _ordered(test.scores):
        alerts, caught = _curve(test.labels, test.scores[model])
        keep = _thinned(np.flatnonzero(np.diff(caught) > 0) + 1)
        axes.step(
            caught[keep] / caught[-1],
            caught[keep] / alerts[keep],
            where="pre",
            **_line(model),
            linewidth=1.8,
        )
    axes.axhline(float(test.labels.mean()), color=INK, linewidth=0.8, linestyle=":")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    percent(axes.xaxis)
    percent(axes.yaxis)
    axes.legend(loc="best")


@chart("budget")
def recall_by_budget(axes: Any, test: ScoredPeriod, budgets: Sequence[float]) -> None:
    """Recall against the share of traffic that is alerted, with the budgets and the best possible."""
    rows, laundering = len(test.labels), int(test.labels.sum())
    shares = np.geomspace(min(*budgets, 10 / rows) / 2, 1, _POINTS)
    axes.plot(shares, np.minimum(shares * rows / laundering, 1), color=INK, linewidth=0.8, linestyle=":")
    for model in _ordered(test.scores):
        alerts, caught = _curve(test.labels, test.scores[model])
        axes.plot(shares, np.interp(shares * rows, alerts, caught) / laundering, **_line(model), linewidth=1.8)
    for budget in budgets:
        axes.axvline(budget, color=INK, linewidth=0.6, alpha=0.5)
    axes.set(
        xscale="log",
        xlim=(shares[0], 1),
        ylim=(0, 1.02),
        xlabel="alerted share of traffic",
        ylabel="recall",
    )
    percent(axes.yaxis)
    decades(axes.xaxis, shares[0])
    axes.legend(loc="best")


@chart("reliability")
def reliability(axes: Any, test: ScoredPeriod, bins: int = 10) -> None:
    """Observed against predicted frequency; each point holds the same predicted amount of laundering.

    Points of equal mass would crowd at scores near 0, where almost all traffic lies. Bars are 95 % Wilson
    intervals (Wilson, 1927); a group in which none was observed is drawn at the foot of the chart.
    """
    groups = {model: reliability_groups(test.labels, test.scores[model], bins) for model in _ordered(test.scores)}
    lowest = min(part.min() for predicted, _, _, high in groups.values() for part in (predicted, high))
    foot = max(10 ** np.floor(np.log10(lowest)), 1e-6)
    for shift, (model, (predicted, low, observed, high)) in enumerate(groups.items()):
        aside = predicted * 1.03 ** (shift - 1.5)  # the models' bars would cover one another
        axes.vlines(aside, np.maximum(low, foot), high, color=COLOURS[model], linewidth=1)
        axes.plot(
            aside,
            np.maximum(observed, foot),
            color=COLOURS[model],
            marker=MARKERS[model],
            markersize=4.5,
            linestyle="none",
            label=TITLES[model],
        )
    axes.plot([foot, 1], [foot, 1], color=INK, linewidth=0.8, linestyle=":")
    axes.set(xscale="log", yscale="log", xlim=(foot, 1.1), ylim=(foot, 1.1))
    axes.set(xlabel="score (predicted frequency)", ylabel="observed frequency")
    decades(axes.xaxis, foot)
    decades(axes.yaxis, foot)
    axes.legend(loc="upper left")


@chart("scores")
def score_distribution(axes: Any, test: ScoredPeriod, budgets: Sequence[float]) -> None:
    """The student's scores for normal and for laundering transactions, with the cut of each alert budget."""
    scores = _log_odds(test.scores[STUDENT])  # spreads what lies near 0 and near 1
    ticks = np.array([1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999])
    lowest, highest = _log_odds(ticks[[0, -1]])
    edges = np.linspace(lowest, highest, 41)
    for chosen, label, colour, hatch in (
        (~test.labels, "normal", _NORMAL, None),
        (test.labels, "laundering", COLOURS[STUDENT], "////"),
    ):
        share = np.histogram(scores[chosen], edges)[0] / chosen.sum()
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.35)
        axes.stairs(share, edges, color=colour, linewidth=1.5, hatch=hatch, label=label)
    top = 1.08 * axes.get_ylim()[1]
    for budget in budgets:
        cut = np.sort(scores)[-alerts_within(budget, len(scores))]
        axes.axvline(cut, color=INK, linewidth=0.8, linestyle="--")
        axes.text(cut, top, f"{100 * budget:g} %", fontsize=8, rotation=90, ha="right", va="top")
    axes.set(xlim=(lowest, highest), ylim=(0, top), xlabel="student's score", ylabel="share of its class")
    axes.set_xticks(_log_odds(ticks), [f"{100 * tick:g} %" for tick in ticks], fontsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(_PERCENT)
    axes.legend(loc="best")


@chart("typologies")
def recall_per_typology(axes: Any, report: MetricsReport) -> None:
    """Bars of recall for each typology, the commonest on top, at the report's typology budget."""
    names = sorted(report.typology_counts, key=lambda name: (report.typology_counts[name], name))
    models = [model for model in _ordered(report.models) if model != SCRATCH]
    axes.figure.set_size_inches(11, 1.2 + 0.6 * len(names))
    places = np.arange(len(names))
    for rank, model in enumerate(reversed(models)):
        values = [report.models[model].recall_by_typology[name] for name in names]
        offset = (rank - (len(models) - 1) / 2) * 0.26
        axes.barh(places + offset, values, 0.24, color=COLOURS[model], label=TITLES[model])
        for place, value in zip(places, values, strict=True):
            axes.text(value + 0.005, place + offset, f"{100 * value:.0f} %", va="center", fontsize=8)
    told = {name: ", never learned" if name in report.dataset.left_out else "" for name in names}
    labels = [f"{name.replace('_', ' ')[:28]} ({report.typology_counts[name]}{told[name]})" for name in names]
    axes.set_yticks(places, labels)
    axes.set(xlim=(0, 1.05), xlabel=f"recall at {100 * report.typology_budget:g} % of traffic")
    axes.grid(visible=False, axis="y")
    percent(axes.xaxis)
    handles, words = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], words[::-1], loc="lower left", bbox_to_anchor=(0, 1), ncols=len(models))


def _ordered(models: Mapping[str, Any]) -> list[str]:
    return [model for model in MODELS if model in models]


def _line(model: str) -> dict[str, Any]:
    return {"color": COLOURS[model], "linestyle": DASHES[model], "label": TITLES[model]}


def _curve(labels: Labels, scores: Floats) -> tuple[Floats, Floats]:
    """Alerts and laundering caught, from 0, after each distinct score from the highest down."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True)) + 1
    caught = np.cumsum(labels[order])[ends - 1]
    return np.append(0.0, ends), np.append(0.0, caught)


def _thinned(points: NDArray[np.intp]) -> NDArray[np.intp]:
    chosen: NDArray[np.intp] = points[np.unique(np.linspace(0, len(points) - 1, _POINTS).astype(int))]
    return chosen


def _log_odds(scores: Floats) -> Floats:
    """log(p / (1 - p)), held between the scores 0.001 % and 99.9 %."""
    held = np.clip(scores, 1e-5, 0.999)
    odds: Floats = np.log(held / (1 - held))
    return odds


def percent(axis: Any) -> None:
    axis.set_major_locator(FixedLocator([0, 0.2, 0.4, 0.6, 0.8, 1]))
    axis.set_major_formatter(_PERCENT)


def decades(axis: Any, lowest: float) -> None:
    """Ticks at powers of ten, as percentages."""
    powers = range(int(np.ceil(np.log10(lowest) - 1e-9)), 1)
    axis.set_major_locator(FixedLocator([10.0**power for power in powers]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(_PERCENT)
