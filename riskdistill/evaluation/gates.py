"""The gates between a retrained model and its release: each a figure, a bar and a verdict.

Both models are judged on the same rows, which neither has learned from. Differences are paired over draws of whole
schemes (`evaluation.comparison.draws`), so that a scheme of many payments is not taken for as many proofs.

Recall and forgetting are promises that no more than the bar is lost, so both are held to the lower end of the
interval: what cannot be told from a greater loss is not passed. The floor takes the typology that lost most, and
the worst of many differences lies below zero by chance alone: its measured loss is strict already, and by its
lower end hardly a challenger as good as the champion would pass.

Where there are too few schemes, a gate is not judged, and what is not judged is not passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from riskdistill.config import GatesConfig
from riskdistill.errors import DataError
from riskdistill.evaluation.comparison import draws
from riskdistill.evaluation.metrics import Interval
from riskdistill.evaluation.ranking import Floats, Labels, alerts_within

Rows = NDArray[np.int64]  # places of rows

DRAWS: Final = 1_000
RETRAINING: Final = (
    "retraining"  # the key of a retraining's figures, gates among them, in the evidence of a release
)


class Gate(BaseModel):
    """One question to a challenger.

    Attributes:
        figure: what was measured; it has to be at or above `bar`, or at or below it, as `better` says.
        detail: the two figures behind it, and what they were measured on.
        judged: whether there was enough to measure it on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    figure: float
    bar: float
    better: Literal["higher", "lower"]
    detail: str
    judged: bool = True

    @property
    def passed(self) -> bool:
        """Whether it was judged, and the bar is met."""
        return self.judged and (self.figure >= self.bar if self.better == "higher" else self.figure <= self.bar)

    @property
    def verdict(self) -> Literal["passed", "failed", "not judged"]:
        """What people are told."""
        if not self.judged:
            return "not judged"
        return "passed" if self.passed else "failed"


@dataclass(frozen=True)
class Contest:
    """Champion and challenger on the same rows.

    Attributes:
        label: bool [n]; typology: object [n]; scheme: [n], a name for each laundering row.
        champion, challenger: float64 [n], calibrated scores.
        known: typologies that the champion was taught.
        budget: share of the rows that is alerted.
        reasons: share of the reasons that both give for the same alerts; reasoned: how many alerts.
        calibration: calibration error of the champion and of the challenger, on all rows of the period: without the
            schemes that were learned, laundering is rarer than either has to expect.
        latency: microseconds for one row, the champion's first; size: bytes, the same.
    """

    label: Labels
    typology: NDArray[np.object_]
    scheme: NDArray[np.generic]
    champion: Floats
    challenger: Floats
    known: frozenset[str]
    budget: float
    reasons: float
    reasoned: int
    calibration: tuple[float, float]
    latency: tuple[float, float]
    size: tuple[int, int]


@dataclass(frozen=True)
class Change:
    """Recall of the challenger less the champion's, with the middle 95 % of the draws."""

    before: float
    after: float
    interval: Interval
    rows: int
    schemes: int

    @property
    def difference(self) -> float:
        """What was measured."""
        return self.after - self.before

    @property
    def told(self) -> str:
        """Both figures and the interval, in words."""
        low, high = self.interval
        return (
            f"{self.before:.1%} to {self.after:.1%} of {self.rows} payments in {self.schemes} schemes "
            f"({100 * low:+.1f} to {100 * high:+.1f} points)"
        )


def judge(contest: Contest, bars: GatesConfig, seed: int = 7) -> tuple[Gate, ...]:
    """Put all questions to the challenger.

    Raises:
        DataError: the rows hold no laundering.
    """
    names = sorted(contest.known)
    each = [contest.label & (contest.typology == name) for name in names]
    old = contest.label & np.isin(contest.typology.astype(str), names)
    whole, remembered, *typologies = recall_changes(contest, [contest.label, old, *each], seed)
    return (
        _kept("recall at the alert budget", whole, bars.recall_margin, bars.schemes, contest.budget),
        _kept("old typologies together", remembered, bars.forgetting, bars.schemes, contest.budget),
        _floor(dict(zip(names, typologies, strict=True)), bars),
        _ratio("latency of one row", contest.latency, bars.latency, "µs"),
        _ratio("size of the student", contest.size, bars.size, "bytes"),
        _calibration(contest, bars),
        Gate(
            name="reasons that both give",
            figure=contest.reasons,
            bar=bars.reasons,
            better="higher",
            detail=f"shared, of all that either gives for {contest.reasoned} alerts",
        ),
    )


def recall_changes(contest: Contest, parts: Sequence[Labels], seed: int = 7) -> list[Change]:
    """How recall at the alert budget changes, over each of `parts`, bool [n], of the laundering rows.

    A part without a row changes by nothing.

    Raises:
        DataError: the rows hold no laundering.
    """
    if not contest.label.any():
        raise DataError("the rows to judge on hold no laundering", mend="wait for more cases, or give older data")
    scores = contest.champion, contest.challenger
    counts = np.ones(len(contest.label), np.int64)
    heads = [_head(score, contest.budget, seed) for score in scores]
    rows = [np.flatnonzero(part) for part in parts]
    measured = [_recalls(head, counts, rows, contest.budget) for head in heads]
    drawn = np.array(
        [
            [_recalls(head, counts, rows, contest.budget) for head in heads]
            for counts in draws(contest.label, contest.scheme, DRAWS, seed)
        ]
    )
    low, high = np.quantile(drawn[:, 1] - drawn[:, 0], (0.025, 0.975), axis=0)
    return [
        Change(
            before=float(measured[0][number]),
            after=float(measured[1][number]),
            interval=(float(low[number]), float(high[number])),
            rows=len(mine),
            schemes=len(np.unique(contest.scheme[mine])),
        )
        for number, mine in enumerate(rows)
    ]


def _head(score: Floats, budget: float, seed: int) -> Rows:
    """The rows with the highest scores, equal ones in random order: more than any draw alerts."""
    order = np.lexsort((np.random.default_rng(seed).permutation(len(score)), -score))
    return order[: 4 * alerts_within(budget, len(score)) + 1_000]


def _recalls(head: Rows, counts: NDArray[np.int64], parts: Sequence[Rows], budget: float) -> list[float]:
    """Recall over the rows of each part when every row stands there `counts` times."""
    here = counts[head]
    before = np.cumsum(here) - here
    alerted = np.zeros(len(counts), np.int64)
    alerted[head] = np.clip(alerts_within(budget, int(counts.sum())) - before, 0, here)
    found = []
    for part in parts:
        due = int(counts[part].sum())
        found.append(float(alerted[part].sum() / due) if due else 0.0)
    return found


def _kept(name: str, change: Change, margin: float, schemes: int, budget: float) -> Gate:
    """Recall may not go down by more than `margin`, by the lower end of its change."""
    judged = change.schemes >= schemes
    few = "" if judged else f"not judged on fewer than {schemes} schemes; "
    return Gate(
        name=name,
        figure=change.interval[0],
        bar=-margin,
        better="higher",
        detail=f"{few}lower end of the change; {change.told}, {budget:.2%} alerted",
        judged=judged,
    )


def _floor(typologies: Mapping[str, Change], bars: GatesConfig) -> Gate:
    """The typology that loses most, among those that the champion knows and that have enough schemes there."""
    enough = {name: change for name, change in typologies.items() if change.schemes >= bars.typology_schemes}
    worst = min(enough, key=lambda name: enough[name].difference, default=None)
    told = f"{len(enough)} of {len(typologies)} known typologies have {bars.typology_schemes} schemes"
    return Gate(
        name="worst old typology",
        figure=0.0 if worst is None else enough[worst].difference,
        bar=-bars.typology_floor,
        better="higher",
        detail=f"not judged; {told}" if worst is None else f"{worst} changes worst: {enough[worst].told}; {told}",
        judged=worst is not None,
    )


def _ratio(name: str, figures: tuple[float, float], bar: float, unit: str) -> Gate:
    before, after = figures
    told = f"times the champion's; {before:,.0f} {unit} to {after:,.0f} {unit}"
    return Gate(name=name, figure=after / before, bar=bar, better="lower", detail=told)


def _calibration(contest: Contest, bars: GatesConfig) -> Gate:
    before, after = contest.calibration
    return Gate(
        name="calibration error",
        figure=after - before,
        bar=bars.calibration,
        better="lower",
        detail=f"change; {before:.4f} to {after:.4f}, on all rows of the period",
    )
