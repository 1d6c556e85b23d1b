"""Numbers in words: a feature's value with its unit, as a reader of a case file would write it."""

from __future__ import annotations

from typing import Final

import numpy as np

_BARE: Final = frozenset({"ratio", "log ratio", "index", "bucket"})
_PERIODS: Final = ((86_400.0, "day", "days"), (3_600.0, "h", "h"), (60.0, "min", "min"), (1.0, "s", "s"))


def value_words(value: float, unit: str, *, bare: bool = False) -> str:
    """A value with its unit; `bare` leaves the unit out.

    >>> value_words(14, "payments"), value_words(1, "payments"), value_words(0.957, "share")
    ('14 payments', '1 payment', '96 %')
    >>> value_words(9450.4, "USD"), value_words(259_200, "seconds"), value_words(7_200, "seconds")
    ('9,450 USD', '3 days', '2 h')
    >>> value_words(float("nan"), "USD"), value_words(1.0, "flag"), value_words(2.5, "ratio")
    ('none', 'yes', '2.50')
    """
    if np.isnan(value):
        return "none"
    if unit == "flag":
        return "yes" if value else "no"
    if unit == "seconds":
        return period(value)
    if unit == "share":
        return f"{100 * value:.0f} %"
    number = _number(value)
    if bare or unit in _BARE:
        return number
    return f"{number} {_singular(unit) if number == '1' else unit}"


def period(seconds: float) -> str:
    """A length of time in its largest fitting unit, with a decimal below ten.

    >>> period(129_600), period(5_400), period(20 * 86_400), period(0)
    ('1.5 days', '1.5 h', '20 days', '0 s')
    """
    for size, one, many in _PERIODS:
        count = seconds / size
        if count >= 1 or size == 1:
            number = _trimmed(count) if size > 1 and count < 10 else f"{count:,.0f}"
            return f"{number} {one if number == '1' else many}"
    raise AssertionError("the last unit takes what is left")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or float(value).is_integer() else f"{value:,.2f}"


def _trimmed(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _singular(unit: str) -> str:
    return f"{unit.removesuffix('ies')}y" if unit.endswith("ies") else unit.removesuffix("s")
