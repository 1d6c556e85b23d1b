"""Tests that may be looked at as often as one likes without losing their false-alarm rate.

Each test keeps an e-process: the wealth of a gambler who bets that harm is going on, at odds that are fair or
unfavourable as long as it is not. While there is no harm, the chance that the wealth *ever* reaches 1/alpha
is at most alpha (Ville's inequality), whatever the number of looks. A fixed-sample p-value has no such
property: a cumulative z-test looked at 288 times a day alarms on a third of healthy days.

The bets are mixed over effect sizes, from barely harmful to disastrous (mixture SPRT: Robbins, Annals of
Mathematical Statistics 41, 1970; Johari, Koomen, Pekelis and Walsh, Operations Research 70(3), 2022; bets:
Waudby-Smith and Ramdas, JRSS B 86(1), 2024), and over the look at which harm began, with weight 1/(t(t + 1))
on look t, so that a long healthy past does not hide a late fault (Shin, Ramdas and Rinaldo, "E-detectors",
2023).

Counts may be arrays of one shape: then as many independent tests run side by side (simulations do that).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, logsumexp

from riskdistill.errors import ConfigError, DataError

_Array = NDArray[np.float64]
_EFFECTS: Final = np.geomspace(0.001, 0.95, 32)  # bets, as shares of the largest stake that cannot go broke
_ODDS: Final = np.geomspace(1.05, 50.0, 32)  # odds ratios beyond the margin


class _MixtureTest:
    """An e-process mixed over effects (last axis) and over the look at which harm began."""

    def __init__(self, effects: int) -> None:
        self.looks = 0
        self.peak: _Array = np.ones(())
        self._log_wealth: _Array = np.full(effects, -np.inf)

    def rejected(self, alpha: float) -> NDArray[np.bool_]:
        """Whether 'no harm' was rejected at any look so far, at false-alarm rate `alpha`."""
        return np.asarray(self.peak >= 1 / alpha)

    def _bet(self, log_factor: _Array) -> _Array:
        """Multiply the wealth by one look's likelihood ratios, shape (..., effects); return the e-value."""
        self.looks += 1
        start = -np.log(self.looks) - np.log(self.looks + 1)
        self._log_wealth = np.logaddexp(self._log_wealth, start) + log_factor
        mixed = logsumexp(self._log_wealth, axis=-1) - np.log(self._log_wealth.shape[-1])
        e_value = np.exp(np.minimum(mixed, 700.0)) + 1 / (self.looks + 1)
        self.peak = np.maximum(self.peak, e_value)
        return np.asarray(e_value)


class _PayoffTest(_MixtureTest):
    """'The mean payoff is not above 0', for outcomes of a few kinds with a known payoff each."""

    def __init__(self, payoffs: Sequence[float]) -> None:
        super().__init__(len(_EFFECTS))
        values = np.asarray(payoffs)
        self._log_growth = np.log1p(np.outer(values, _EFFECTS / -values.min()))  # (kinds, effects)

    def _see(self, *counts: ArrayLike) -> _Array:
        kinds = np.stack(np.broadcast_arrays(*(np.asarray(count, dtype=np.float64) for count in counts)), -1)
        if not (np.isfinite(kinds) & (kinds >= 0)).all():
            raise DataError("counts must be finite and not negative", where="sequential test")
        return self._bet(kinds @ self._log_growth)


class RateTest(_PayoffTest):
    """'The rate of successes is at most `limit`', for trials one after another.

    Example:
        >>> test = RateTest(0.02)
        >>> bool(test.update(successes=20, trials=1_000) < 2)
        True
        >>> _ = test.update(successes=60, trials=1_000)
        >>> bool(test.rejected(0.01))
        True
    """

    def __init__(self, limit: float) -> None:
        if not 0 < limit < 1:
            raise ConfigError(f"the limit is {limit}", mend="choose one between 0 and 1")
        super().__init__((1 - limit, -limit))

    def update(self, successes: ArrayLike, trials: ArrayLike) -> _Array:
        """Add the trials of one look; the e-value after it."""
        return self._see(successes, np.asarray(trials) - np.asarray(successes))


class PairedRateTest(_PayoffTest):
    """'A's rate is at most `margin` times B's', where both judge the same items.

    Items where neither fires say nothing. Without agreement it is the test of p <= margin / (1 + margin) on
    the discordant pairs; agreements count too, so that two models that mostly agree are not told apart by the
    few items where they differ.
    """

    def __init__(self, margin: float) -> None:
        if not margin >= 1:
            raise ConfigError(f"the margin is {margin}", mend="choose one of at least 1")
        super().__init__((1.0, -margin, 1.0 - margin))

    def update(self, only_a: ArrayLike, only_b: ArrayLike, both: ArrayLike) -> _Array:
        """Add the items of one look on which A alone, B alone, or both fired; the e-value after it."""
        return self._see(only_a, only_b, both)


class TwoSampleTest(_MixtureTest):
    """'The odds of success in A are at most `margin` times those in B', for two separate samples.

    Each look is conditioned on its total of successes, which leaves Fisher's noncentral hypergeometric
    distribution: exact at any size, and free of the unknown base rate.
    """

    def __init__(self, margin: float) -> None:
        if not margin >= 1:
            raise ConfigError(f"the margin is {margin}", mend="choose one of at least 1")
        super().__init__(len(_ODDS))
        self._log_odds = np.log(margin) + np.log(np.concatenate(([1.0], _ODDS)))  # the null first

    def update(self, successes_a: int, trials_a: int, successes_b: int, trials_b: int) -> _Array:
        """Add the two samples of one look; the e-value after it."""
        if not (0 <= successes_a <= trials_a and 0 <= successes_b <= trials_b):
            raise DataError("successes must lie between 0 and the trials", where="sequential test")
        total = successes_a + successes_b
        possible = np.arange(max(0, total - trials_b), min(total, trials_a) + 1)
        ways = _log_choose(trials_a, possible) + _log_choose(trials_b, total - possible)
        log_norm = logsumexp(ways + self._log_odds[:, None] * possible, axis=1)
        log_likelihood = successes_a * self._log_odds - log_norm
        return self._bet(log_likelihood[1:] - log_likelihood[0])


def _log_choose(n: int, k: NDArray[np.int64]) -> _Array:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))
