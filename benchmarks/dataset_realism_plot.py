"""The picture of the realism benchmark: one small panel per distribution, all sources in each, on one page.

Amounts, times and counts are drawn as the share of values up to a point, in which the distance between two sources
is the largest vertical gap; hours and days as the share of payments in each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
from dataset_quantities import Floats, Quantity
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator, PercentFormatter

from riskdistill.features.record import DAY, HOUR

COLOURS: Final = {"ours": "#1f4e9c", "AMLworld": "#d9731a", "AMLGentex": "#2f8f5b"}
WIDTHS: Final = {"ours": 2.2, "AMLworld": 1.4, "AMLGentex": 1.4}
INK: Final = "#333333"
PLATE: Final = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.0}
COLUMNS: Final = 4
HEADINGS: Final = {"laundering": "Laundering payments", "normal": "Normal payments", "schemes": "Schemes"}
RANGES: Final = {
    "dollars": (1.0, 1e6),
    "multiples": (0.01, 100.0),
    "share": (0.3, 3.0),
    "seconds": (10.0, 60 * DAY),
    "count": (0.9, 100.0),
}
TICKS: Final = {
    "dollars": {1.0: "$1", 100.0: "$100", 1e4: "$10k", 1e6: "$1m"},
    "multiples": {0.01: "0.01 x", 0.1: "0.1 x", 1.0: "1 x", 10.0: "10 x", 100.0: "100 x"},
    "share": {0.3: "0.3 x", 0.5: "0.5 x", 1.0: "1 x", 2.0: "2 x", 3.0: "3 x"},
    "seconds": {60.0: "1 min", HOUR: "1 h", DAY: "1 d", 30 * DAY: "30 d"},
    "count": {1.0: "1", 3.0: "3", 10.0: "10", 30.0: "30", 100.0: "100"},
    "hour": {float(hour): f"{hour}:00" for hour in (0, 6, 12, 18)},
    "day": {float(day): str(day) for day in (1, 8, 15, 22, 29)},
}
Panel = tuple[Quantity, dict[str, Floats], dict[str, float | None]]  # what, values and distances by source


def plot(panels: list[Panel], path: Path) -> None:
    """Draw the panels group by group, each group from a new row on, and write a PNG."""
    groups = [[panel for panel in panels if panel[0].of == of] for of in HEADINGS]
    cells = [members[at : at + COLUMNS] for members in groups for at in range(0, len(members), COLUMNS)]
    figure, axes = plt.subplots(len(cells), COLUMNS, figsize=(15, 3.15 * len(cells)))
    figure.subplots_adjust(left=0.04, right=0.985, top=0.955, bottom=0.03, wspace=0.2, hspace=0.48)
    told = ""
    for row, members in zip(axes, cells, strict=True):
        if told != members[0][0].of:
            told = members[0][0].of
            row[0].text(-0.1, 1.24, HEADINGS[told], transform=row[0].transAxes, fontsize=14, fontweight="bold")
        for axis, panel in zip(row, members, strict=False):
            _draw(axis, *panel)
        for axis in row[len(members) :]:
            axis.set_axis_off()
    _legend(next(axis for axis in axes.ravel() if not axis.axison))
    figure.savefig(path, dpi=100, facecolor="white")
    plt.close(figure)


def _draw(axis: Axes, quantity: Quantity, values: dict[str, Floats], distances: dict[str, float | None]) -> None:
    calendar = quantity.scale in ("hour", "day")
    told = {name: one for name, one in values.items() if len(one)}
    for name, one in reversed(told.items()):  # ours on top
        style = {"color": COLOURS[name], "linewidth": WIDTHS[name]}
        if calendar:
            numbers, counts = np.unique(one, return_counts=True)
            axis.step(numbers, counts / len(one), where="mid", **style)
        else:
            low, high = RANGES[quantity.scale]
            points = np.sort(np.clip(one, low, None))
            shares = np.arange(1, len(points) + 1) / len(points)
            axis.step([low, *points, high * 10], [0, *shares, 1], where="post", **style)
    _scale(axis, quantity)
    axis.set_title(quantity.title, fontsize=11, loc="left", color=INK)
    known = [(peer, far) for peer, far in distances.items() if far is not None]
    for place, (peer, far) in enumerate(known):
        at = {"x": 0.985, "y": (0.9 if calendar else 0.16) - 0.11 * place, "s": f"{far:.2f}"}
        axis.text(
            **at, transform=axis.transAxes, ha="right", fontsize=11, weight="bold", color=COLOURS[peer], bbox=PLATE
        )


def _scale(axis: Axes, quantity: Quantity) -> None:
    ticks = TICKS[quantity.scale]
    if quantity.scale in ("hour", "day"):
        axis.set_ylim(0, axis.get_ylim()[1] * 1.1)
    else:
        axis.set_xscale("log")
        axis.set_xlim(*RANGES[quantity.scale])
        axis.set_ylim(0, 1.02)
    axis.xaxis.set_major_locator(FixedLocator(list(ticks)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FixedFormatter(list(ticks.values())))
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=9, colors=INK)


def _legend(axis: Axes) -> None:
    """The legend, and how to read a panel, in an empty cell."""
    handles = [plt.Line2D([], [], color=COLOURS[name], linewidth=WIDTHS[name] + 0.6) for name in COLOURS]
    axis.legend(handles, COLOURS, loc="upper left", frameon=False, fontsize=13)
    reading = (
        "Curves: share of values up to a point.\nHours, days: share of payments in each.\n"
        "Numbers: distance of ours from the peer\nof that colour, 0 (the same) to 1 (apart)."
    )
    axis.text(0.02, 0.42, reading, transform=axis.transAxes, va="top", fontsize=10.5, color=INK)
