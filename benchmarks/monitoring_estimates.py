"""Estimated against realised precision in the weeks after drift, on the worlds of `monitoring_worlds`.

`monitoring.performance` sees what a service would store, and estimates each week's precision at its end. Weeks of
one world share its model, its schemes and its past, so intervals are of worlds: Student's for mean errors, and for
coverage Korn and Graubard's (Survey Methodology 24, 1998), the exact one at the number of weeks that would tell as
much if they were independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from os import sched_getaffinity
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from feature_data import Measurement
from monitoring_worlds import DAYS, FIRST, KINDS, Place, decided
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy import stats

from monitoring.estimates import Estimate
from monitoring.performance import measure_performance

WORLDS: Final = 5  # of each kind
FIRST_SEED: Final = 1_000  # nothing of the estimator was settled on these worlds


class Week(NamedTuple):
    """One week after drift began."""

    realised: float
    estimated: Estimate
    alerts: int

    @property
    def within(self) -> bool:
        return self.estimated.low <= self.realised <= self.estimated.high

    @property
    def error(self) -> float:
        """In points."""
        return 100 * abs(self.estimated.combined - self.realised)


def estimates(quick: bool, cache: Path) -> list[Measurement]:
    """Mean error and coverage over the weeks after drift began, of all worlds and of each kind."""
    places = [
        Place(kind, FIRST_SEED * (1 + number) + world)  # no two share what came before drift
        for world in range(1 if quick else WORLDS)
        for number, kind in enumerate(KINDS)
    ]
    with ProcessPoolExecutor(len(sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        work = pool.map(partial(weeks, cache=cache), places)
        worlds = list(track(work, "worlds", len(places), console=Console(stderr=True)))
    rows = [*_errors(worlds), *_coverage(worlds)]
    for kind in KINDS:
        of_kind = [world for place, world in zip(places, worlds, strict=True) if place.kind == kind]
        share, told = _within(of_kind)
        error = np.mean([week.error for world in of_kind for week in world])
        rows.append(
            Measurement(f"  {kind}: mean error", float(error), "points", detail=f"{share:.1f} % within; {told}")
        )
    return rows


def weeks(place: Place, cache: Path) -> list[Week]:
    """What was estimated and what was realised, of each week after drift began in a world."""
    rows, start = decided(place, cache), place.config.start
    found = []
    for window in measure_performance(rows, start + timedelta(days=DAYS), days=7.0).windows:
        if window.estimated is not None and window.start >= start + timedelta(days=FIRST):
            begin, end = (round(moment.timestamp() * 1e6) for moment in (window.start, window.end))
            label = rows.label[rows.alert & (rows.time > begin) & (rows.time <= end)]  # all are known in the end
            found.append(Week(float(label.mean()), window.estimated, len(label)))
    return found


def _errors(worlds: Sequence[Sequence[Week]]) -> list[Measurement]:
    every = [week for world in worlds for week in world]
    realised = [week.realised for week in every]
    shown = f"{len(every)} weeks of {len(worlds)} worlds, precision {min(realised):.2f} to {max(realised):.2f}"
    rows = []
    for name in ("combined", "confidence", "weighted"):
        errors = [[100 * abs(getattr(week.estimated, name) - week.realised) for week in world] for world in worlds]
        means = np.array([np.mean(world) for world in errors])
        half = float(stats.t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means)))
        largest = max(max(world) for world in errors)
        bar = 3.0 if name == "combined" else None
        detail = f"± {half:.1f}; largest {largest:.1f}; {shown}"
        rows.append(
            Measurement(f"mean error of the estimate, {name}", float(means.mean()), "points", bar, "lower", detail)
        )
    chance = (
        100
        * np.sqrt(2 / np.pi)
        * np.mean([np.sqrt(one.realised * (1 - one.realised) / one.alerts) for one in every])
    )
    rows.append(
        Measurement("what chance alone makes of it", float(chance), "points", detail="binomial, these weeks")
    )
    return rows


def _coverage(worlds: Sequence[Sequence[Week]]) -> list[Measurement]:
    width = 50 * float(np.mean([week.estimated.high - week.estimated.low for world in worlds for week in world]))
    share, told = _within(worlds)
    detail = f"{told}; ± {width:.1f} points on average"
    return [
        Measurement("realised within the 95 % interval, at least", share, "%", 90.0, "higher", detail),
        Measurement("realised within the 95 % interval, at most", share, "%", 98.0, "lower", detail),
    ]


def _within(worlds: Sequence[Sequence[Week]]) -> tuple[float, str]:
    """Percent of the weeks within their interval, and in words with its own 95 % interval."""
    hits, sizes = np.array([(sum(week.within for week in world), len(world)) for world in worlds]).T
    low, high = clustered(hits, sizes)
    return float(
        100 * hits.sum() / sizes.sum()
    ), f"{hits.sum()} of {sizes.sum()} weeks, 95 % {low:.1%} to {high:.1%}"


def clustered(hits: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[float, float]:
    """95 % interval of the share of `hits` where those of one cluster are alike, by cluster."""
    total, clusters = float(sizes.sum()), len(sizes)
    share = float(hits.sum() / total)
    variance = clusters / max(clusters - 1, 1) * float(((hits - share * sizes) ** 2).sum()) / total**2
    effective = min(total, share * (1 - share) / variance) if variance > 0 else total
    found = share * effective
    return (
        float(stats.beta.ppf(0.025, found, effective - found + 1)) if found > 0 else 0.0,
        float(stats.beta.ppf(0.975, found + 1, effective - found)) if found < effective else 1.0,
    )
