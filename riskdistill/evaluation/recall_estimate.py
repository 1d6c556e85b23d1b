"""How much laundering the alerts miss, from reviewed samples of what was let pass.

Every decision below the line is drawn by itself with a recorded probability, so the laundering in a stratum (one
such probability) that comes to light is a binomial draw of all of it: Horvitz and Thompson (1952) divide what was
found by the probability of finding it. Reviewing takes samples in random order, so a stratum that is reviewed in
part counts as drawn with a smaller probability. The interval inverts the binomial exactly (Clopper and Pearson,
1934), which holds where nothing was found too; several strata share the error evenly (Bonferroni), so together it
is 95 % or more.

What alerts found is counted, not estimated: recall is of laundering found so far plus what is estimated below the
line. Alerts that nobody has settled are in neither, and are stated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from scipy.special import bdtr, bdtrc  # scipy.stats takes most of a second to import

CONFIDENCE: Final = 0.95


@dataclass(frozen=True)
class Stratum:
    """Samples that were drawn with one probability.

    Attributes:
        share: the probability of being drawn.
        drawn: how many were.
        settled: how many of them a case found to be laundering or not.
        laundering: how many of these are.
    """

    share: float
    drawn: int
    settled: int
    laundering: int


@dataclass(frozen=True)
class RecallEstimate:
    """None where it is not known; intervals are of 95 %.

    Attributes:
        detected: alerts that a case found to be laundering.
        open_alerts: alerts that no case has settled; they are left out.
        missed: laundering below the line, estimated, in transactions; None until each stratum has a settled sample.
        missed_low, missed_high: its interval.
        recall: detected / (detected + missed).
        recall_low, recall_high: its interval, given what was detected.
        strata: what it rests on.
    """

    detected: int
    open_alerts: int
    missed: float | None
    missed_low: float
    missed_high: float | None
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    strata: tuple[Stratum, ...]


def estimate_recall(detected: int, open_alerts: int, strata: Sequence[Stratum]) -> RecallEstimate:
    """The estimate for `detected` laundering alerts and the samples of all strata."""
    error = (1 - CONFIDENCE) / max(1, len(strata))
    missed, low, high = (0.0, 0.0, 0.0) if strata else (None, 0.0, None)
    for stratum in strata:
        chance = stratum.share * stratum.settled / stratum.drawn if stratum.drawn else 0.0
        if chance == 0:
            missed = high = None
            continue
        missed = None if missed is None else missed + stratum.laundering / chance
        lowest, highest = totals(stratum.laundering, chance, error)
        low += lowest
        high = None if high is None else high + highest
    return RecallEstimate(
        detected=detected,
        open_alerts=open_alerts,
        missed=missed,
        missed_low=low,
        missed_high=high,
        recall=None if missed is None else _share(detected, missed),
        recall_low=0.0 if high is None else _share(detected, high),
        recall_high=_share(detected, low) if strata else None,
        strata=tuple(strata),
    )


def totals(found: int, chance: float, error: float) -> tuple[int, int]:
    """Smallest and largest total of which `found` may have come to light, each by `chance`.

    Args:
        found: how many came to light.
        chance: of each, above 0 and at most 1.
        error: how often at most the true total may lie outside.

    >>> totals(0, 0.01, 0.05), totals(3, 1.0, 0.05)
    ((0, 367), (3, 3))
    """
    tail = error / 2
    low = _first(lambda total: bdtrc(found - 1, total, chance) > tail, found)
    high = _first(lambda total: bdtr(found, total, chance) <= tail, found) - 1
    return low, high


def _first(holds: Callable[[int], bool], start: int) -> int:
    """The smallest total from `start` on for which a test that stays true once it is true holds."""
    step = 1
    while not holds(start + step - 1):
        step *= 2
    below, above = start + step // 2 - 1, start + step - 1
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if holds(middle) else (middle, above)
    return above


def _share(detected: int, missed: float) -> float | None:
    return detected / (detected + missed) if detected + missed > 0 else None
