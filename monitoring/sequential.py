"""Tests that may be looked at as often as one likes without losing their false-alarm rate.

Each test keeps an e-process: the wealth of a gambler who bets that harm is going on, at odds that are fair or
unfavourable as long as it is not. While there is no harm, the chance that the wealth *ever* reaches 1/alpha
is at most alpha (Ville's inequality), whatever the number of looks. A fixed-sample p-value has no such
property: a cumulative z-test looked at 288 times a day alarms on a third of healthy days.

The bets are mixed over effect sizes, from barely harmful to disastrous (mixture SPRT: Robbins, Annals of
Mathematical Statistics 41, 1970; Johari, Koomen, Pekelis and Walsh, Operations Research 70(3), 2022; bets:
Waudby-Smith and Ramdas, JRSS B 86(1), 2024), and over the look at which harm began, so that a long healthy past
does not hide a late fault (Shin, Ramdas and Rinaldo, "E-detectors", 2023). Each further effect in the mixture costs
power, so there are few, a step apart that loses little between them. Harm begins most often with the release: the
first step has a weight of 0.37, step t of about 0.7/(t ln² t), of which there is no end and the sum is 1. A step is
one look, or as many as the caller says: whoever looks more often within a step sees more of the same e-process.

Counts may be arrays of one shape: then as many independent tests run side by side (segments, and simulations).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from riskdistill.errors import ConfigError, DataError

_Array = NDArray[np.float64]
_STAKES: Final = np.array([0.04, 0.1, 0.2, 0.35, 0.55, 0.8, 0.95])  # shares of the largest that cannot go broke
_ODDS: Final = np.array([1.25, 1.5, 1.9, 2.6, 4.0, 8.0, 30.0])  # odds beyond the limit, as ratios to it


def later(step: int) -> float:
    """Weight of all starts of harm after `step`: 1 before the first step, and falling to 0 slowly."""
    return float(1 / np.log2(step + 2))


class _MixtureTest:
    """An e-process mixed over effects (last axis) and over the step with which harm began."""

    def __init__(self, effects: int) -> None:
        self.steps = 0
        self.now: _Array = np.ones(())  # the e-value after the last look
        self.peak: _Array = np.ones(())  # the largest so far
        self._log_wealth: _Array = np.full(effects, -np.inf)
        self._step: int | None = None

    def rejected(self, alpha: ArrayLike) -> NDArray[np.bool_]:
        """Whether 'no harm' was rejected at any look so far, at false-alarm rate `alpha` (of each test)."""
        return np.asarray(self.peak * np.asarray(alpha, np.float64) >= 1)

    def _begins(self, step: int | None) -> bool:
        """Whether a look is the first of its step; without a number each is."""
        begins, self._step = step is None or step != self._step, step
        if begins:
            self.steps += 1
        return begins

    def _bet(self, log_factor: _Array, *, begins: bool) -> _Array:
        """Multiply the wealth by one look's likelihood ratios, shape (..., effects); return the e-value."""
        if begins:
            start = np.log(later(self.steps - 1) - later(self.steps))
            self._log_wealth = np.logaddexp(self._log_wealth, start)
        self._log_wealth = self._log_wealth + log_factor
        mixed = logsumexp(self._log_wealth, axis=-1) - np.log(self._log_wealth.shape[-1])
        self.now = np.asarray(np.exp(np.minimum(mixed, 700.0)) + later(self.steps))
        self.peak = np.maximum(self.peak, self.now)
        return self.now


class _PayoffTest(_MixtureTest):
    """'The mean payoff is not above 0', for outcomes of a few kinds with a known payoff each.

    Args:
        payoffs: of each kind, a number or one for each test.
        stakes: bets as shares of the largest stake that cannot go broke; shape (..., effects).
    """

    def __init__(self, payoffs: Sequence[ArrayLike], stakes: _Array) -> None:
        self.effects = stakes.shape[-1]
        super().__init__(self.effects)
        values = np.stack(np.broadcast_arrays(*payoffs)).astype(np.float64)
        self._log_growth = np.log1p(values[..., None] * stakes / -values.min(0)[..., None])  # (kinds, ..., effects)

    def log_factor(self, *counts: ArrayLike) -> _Array:
        """Log of what each bet on these counts, one of each kind, multiplies its wealth by.

        Raises:
            DataError: a count is none.
        """
        kinds = [np.asarray(count, dtype=np.float64) for count in counts]
        if not all((np.isfinite(kind) & (kind >= 0)).all() for kind in kinds):
            raise DataError("counts must be finite and not negative", where="sequential test")
        return sum(
            (kind[..., None] * growth for kind, growth in zip(kinds, self._log_growth, strict=True)), np.zeros(())
        )

    def _see(self, *counts: ArrayLike, step: int | None) -> _Array:
        return self._bet(self.log_factor(*counts), begins=self._begins(step))


class RateTest(_PayoffTest):
    """'The rate of successes is at most `limit`', for trials one after another; one limit, or one for each test.

    Example:
        >>> test = RateTest(0.02)
        >>> bool(test.update(successes=20, trials=1_000) < 2)
        True
        >>> _ = test.update(successes=60, trials=1_000)
        >>> bool(test.rejected(0.01))
        True
    """

    def __init__(self, limit: ArrayLike) -> None:
        rate = np.asarray(limit, np.float64)
        if not ((rate > 0) & (rate < 1)).all():
            raise ConfigError(f"the limit is {rate}", mend="choose one between 0 and 1")
        beyond = rate[..., None] / (1 - rate[..., None]) * _ODDS
        rates = beyond / (1 + beyond)  # the bet on rate p stakes (p - limit) / (1 - limit)
        super().__init__((1 - rate, -rate), (rates - rate[..., None]) / (1 - rate[..., None]))

    def update(self, successes: ArrayLike, trials: ArrayLike, step: int | None = None) -> _Array:
        """Add the trials of one look; the e-value after it. Looks with the same number are one `step`."""
        return self._see(successes, np.asarray(trials) - np.asarray(successes), step=step)


class PairedRateTest(_PayoffTest):
    """'A's rate is at most `margin` times B's', where both judge the same items.

    Items where neither fires say nothing. Without agreement it is the test of p <= margin / (1 + margin) on
    the discordant pairs; agreements count too, so that two models that mostly agree are not told apart by the
    few items where they differ.
    """

    def __init__(self, margin: ArrayLike) -> None:
        ratio = _margin(margin)
        super().__init__((1.0, -ratio, 1.0 - ratio), _STAKES)

    def update(self, only_a: ArrayLike, only_b: ArrayLike, both: ArrayLike, step: int | None = None) -> _Array:
        """Add the items of one look on which A alone, B alone, or both fired; the e-value after it."""
        return self._see(only_a, only_b, both, step=step)


class MatchedPairsTest(RateTest):
    """'The odds of success in A are at most `margin` times those in B', for two separate samples.

    An item of A is matched with one of B that is near it in time (`monitoring.pairing`), whatever the two turn out
    to be. Among the pairs with one success, it is A's in at most margin / (1 + margin) of cases: whatever the base
    rate is, and however it moves.
    """

    def __init__(self, margin: float) -> None:
        super().__init__(_margin(margin) / (1 + margin))

    def match(self, only_a: ArrayLike, only_b: ArrayLike, step: int | None = None) -> _Array:
        """Add the pairs of one look in which A's item alone, or B's alone, is a success; the e-value after it."""
        return self.update(only_a, np.asarray(only_a) + np.asarray(only_b), step)


class EitherTest(_MixtureTest):
    """'In every step at least one of two hypotheses holds', each of which has a test of its own.

    Which of the two holds may change from step to step. In a step the bets on a pair of effects, one of each test,
    grow by the *smaller* of the two factors. That is at most the factor of the hypothesis that holds, whose
    expectation is at most 1: so the wealth is below a supermartingale also within the step, and reaches 1/alpha at
    any look with a chance of at most alpha (Ville), however the two tests depend on each other. The smaller of two
    e-values has no such property here: it joins what spoke against the one hypothesis at one time with what speaks
    against the other at another.
    """

    def __init__(self, first: _PayoffTest, second: _PayoffTest) -> None:
        super().__init__(first.effects * second.effects)
        self._first, self._second = first, second
        self._sums: tuple[_Array, _Array] = (np.zeros(()), np.zeros(()))  # of the step so far
        self._smaller: _Array = np.zeros(())

    def update(self, first: Sequence[ArrayLike], second: Sequence[ArrayLike], step: int | None = None) -> _Array:
        """Add the counts of one look, those of either test; the e-value after it."""
        if begins := self._begins(step):
            self._sums, self._smaller = (np.zeros(()), np.zeros(())), np.zeros(())
        self._sums = (
            self._sums[0] + self._first.log_factor(*first),
            self._sums[1] + self._second.log_factor(*second),
        )
        smaller = np.minimum(self._sums[0][..., :, None], self._sums[1][..., None, :])
        smaller = smaller.reshape(*smaller.shape[:-2], -1)
        growth, self._smaller = smaller - self._smaller, smaller
        return self._bet(growth, begins=begins)


def _margin(margin: ArrayLike) -> _Array:
    ratio = np.asarray(margin, np.float64)
    if not (ratio >= 1).all():
        raise ConfigError(f"the margin is {ratio}", mend="choose one of at least 1")
    return ratio
