"""What each group of features is worth: PR-AUC without it, and with it alone beside the raw columns.

Written as a page with a table and a plot. Everything is fitted with one candidate, the slowest learner, so that the
figures differ by their columns only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
from feature_data import SETS, Data, Library, Measurement
from feature_quality import judged_on
from fitted_trees import CANDIDATES, RAW, SEEDS, fit, spread
from machine import describe
from matplotlib.axes import Axes
from numpy.typing import NDArray

from riskdistill.features import FeatureEngine, FeatureSpec

CANDIDATE: Final = CANDIDATES[0]
PAGE: Final = "feature-ablation.md"
PICTURE: Final = "feature-ablation.png"
INK, CLEAR, UNCLEAR = "#222222", "#35618f", "#b9c7d6"  # of changes that all seeds agree on, and of others
BySeed = NDArray[np.float64]


@dataclass(frozen=True)
class Ablation:
    """PR-AUC by seed on one data set.

    Attributes:
        whole, raw: with all features, and with what a transaction says by itself.
        without: less a group, by group; groups of which the source tells nothing are left out.
        alone: with what a transaction says by itself and a group, by group.
    """

    whole: BySeed
    raw: BySeed
    without: dict[str, BySeed]
    alone: dict[str, BySeed]


def ablation(library: Library, out: Path | None, quick: bool) -> list[Measurement]:
    """PR-AUC by group of features; the page and the plot are written to the folder `out`, if given."""
    found = {SETS[data.name]: _measure(data, SEEDS[:2]) for data in judged_on(library, quick)}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / PAGE).write_text(_page(found))
        _plot(found, out / PICTURE)
    rows = []
    for name, one in found.items():
        rows += [_row(f"{name}: all features", one.whole), _row(f"{name}: raw columns", one.raw)]
        for group, values in one.without.items():
            change = f"change of {_told(values - one.whole, '+')}"
            rows.append(_row(f"{name}: without {group}", values, change))
        rows += [_row(f"{name}: raw columns and {group}", values) for group, values in one.alone.items()]
    return rows


def groups() -> dict[str, tuple[int, ...]]:
    """Columns of the context vector by kind of feature, the sender's and the receiver's together."""
    columns: dict[str, tuple[int, ...]] = {}
    for group, members in FeatureSpec().groups.items():
        kind = group.removeprefix("sender ").removeprefix("receiver ")
        columns[kind] = (*columns.get(kind, ()), *members)
    return columns


def _measure(data: Data, seeds: Sequence[int]) -> Ablation:
    context = FeatureEngine().encode(data.transactions, tokens=False).context
    own = range(RAW.stop)

    def pr_auc(columns: Sequence[int]) -> BySeed:
        return fit(context[:, list(columns)], data, CANDIDATE, seeds).test

    everything = range(context.shape[1])
    told = {name: columns for name, columns in groups().items() if not np.isnan(context[:, columns]).all()}
    return Ablation(
        whole=pr_auc(everything),
        raw=pr_auc(own),
        without={name: pr_auc([at for at in everything if at not in columns]) for name, columns in told.items()},
        alone={name: pr_auc([*own, *columns]) for name, columns in told.items() if columns[0] not in own},
    )


def _row(name: str, values: BySeed, change: str = "") -> Measurement:
    detail = f"seeds {spread(values)}"
    return Measurement(name, float(values.mean()), "PR-AUC", detail=f"{change}; {detail}" if change else detail)


def _page(found: dict[str, Ablation]) -> str:
    seeds = len(next(iter(found.values())).whole)
    lines = [
        "# What each group of features is worth",
        "",
        "PR-AUC of LightGBM on the last fifth by time: how it changes when a group of features is left out, and",
        "what it is when that group alone stands beside the raw columns, which are what a transaction says by",
        f"itself. Each figure is the mean over {seeds} seeds, in brackets the smallest and the largest. A change",
        "within the spread of the seeds says nothing, and groups overlap: what one tells, others tell in part. The",
        "sender's and the receiver's features of a kind are one group. A dash: the source tells nothing of it.",
        f"All with {CANDIDATE.num_leaves} leaves, rate {CANDIDATE.learning_rate} and"
        f" {CANDIDATE.feature_fraction:.0%} of the columns a tree; the validation fifth ends the growing.",
        "",
        f"![PR-AUC by group of features]({PICTURE})",
        "",
        "## Left out",
        "",
        *_header(found, "left out"),
        _line("nothing", len(FeatureSpec().context), [_told(one.whole) for one in found.values()]),
        *(_line(name, len(columns), _changes(found, name)) for name, columns in groups().items()),
        "",
        "## Alone beside the raw columns",
        "",
        *_header(found, "raw columns and"),
        _line("nothing", RAW.stop, [_told(one.raw) for one in found.values()]),
        *(
            _line(name, RAW.stop + len(columns), [_told(one.alone[name]) for one in found.values()])
            for name, columns in groups().items()
            if columns[0] >= RAW.stop
        ),
        "",
        f"`python benchmarks/features.py --only ablation --ablation-out docs`; {describe(('lightgbm',))}.",
        "",
    ]
    return "\n".join(lines)


def _changes(found: dict[str, Ablation], group: str) -> list[str]:
    return [_told(one.without[group] - one.whole, "+") if group in one.without else "–" for one in found.values()]


def _header(found: dict[str, Ablation], first: str) -> tuple[str, str]:
    return f"| {first} | columns | {' | '.join(found)} |", f"|---|---:|{'---:|' * len(found)}"


def _line(name: str, columns: int, cells: list[str]) -> str:
    return f"| {name} | {columns} | {' | '.join(cells)} |"


def _told(values: BySeed, sign: str = "") -> str:
    """The mean, and the smallest and the largest.

    >>> _told(np.array([0.5, 0.25]))
    '0.375 (0.250 to 0.500)'
    """
    return f"{values.mean():{sign}.3f} ({values.min():{sign}.3f} to {values.max():{sign}.3f})"


def _plot(found: dict[str, Ablation], path: Path) -> None:
    names = list(groups())
    further = [name for name, columns in groups().items() if columns[0] >= RAW.stop]
    size = 4.2 * len(found), 7.6
    figure, axes = plt.subplots(2, len(found), figsize=size, sharey="row", squeeze=False)
    for column, (name, one) in enumerate(found.items()):
        above, below = axes[:, column]
        _bars(above, {group: values - one.whole for group, values in one.without.items()}, names)
        above.set_title(f"{name}\nall features: {one.whole.mean():.3f}", fontsize=10)
        above.set_xlabel("change of PR-AUC when left out")
        _bars(below, one.alone, further, start=float(one.raw.mean()))
        below.axvline(one.whole.mean(), color=INK, linestyle="--", linewidth=1)
        below.set_xlabel("PR-AUC beside the raw columns\nfrom these alone; dashed: all features")
    for first in axes[:, 0]:
        first.invert_yaxis()  # shared along the row
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _bars(axis: Axes, values: dict[str, BySeed], names: list[str], start: float = 0.0) -> None:
    """A bar from `start` to the mean of each group that is told, a line from its smallest to its largest."""
    for name, one in values.items():
        place = names.index(name)
        agreed = one.max() < start or one.min() > start
        axis.barh(place, one.mean() - start, left=start, color=CLEAR if agreed else UNCLEAR)
        axis.plot([one.min(), one.max()], [place, place], color=INK, linewidth=1.2)
    axis.axvline(start, color=INK, linewidth=0.8)
    axis.set_yticks(range(len(names)), names)
    axis.locator_params(axis="x", nbins=5)
    axis.grid(axis="x", alpha=0.3)
