"""Event tokens in words, for a page that shows which of them a model looks at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskdistill.errors import DataError
from riskdistill.features import FeatureSpec

_PARTIES: Final = ("sender", "receiver")
_AGES: Final = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def event_words(events_row: NDArray[np.floating], spec: FeatureSpec) -> list[str]:
    """What each event token of one payment stands for, as "sender 3 h ago: sent 9,450 to a new counterparty".

    Args:
        events_row: [2 * events_per_party, channels], one row of `Encoded.events`.
        spec: names the channels.

    Returns:
        Words for each token, in their order, amounts in US dollars; "" where there is no event. No account is
        named.

    Raises:
        DataError: the row has not the shape that the specification tells.
    """
    shape = 2 * spec.events_per_party, len(spec.token_channels)
    if events_row.shape != shape:
        raise DataError(f"the events of a payment are {events_row.shape}, and {shape} is due")
    flow = spec.token_channels.index("flow")
    return [
        _words(dict(zip(spec.token_channels, map(float, token), strict=True)), number // spec.events_per_party)
        if token[flow]
        else ""
        for number, token in enumerate(events_row)
    ]


def _words(event: Mapping[str, float], party: int) -> str:
    verb, towards = ("received", "from") if event["flow"] > 0 else ("sent", "to")
    amount = np.expm1(event["log_usd"])
    age = _age(np.expm1(event["log_age"]))
    return f"{_PARTIES[party]} {age}: {verb} {amount:,.0f} {towards} {_counterparty(event, _PARTIES[1 - party])}"


def _counterparty(event: Mapping[str, float], other: str) -> str:
    if event["is_other_party"]:
        return f"the {other}"
    if event["first_contact"]:
        return "a new counterparty"
    return "a shared counterparty" if event["shared_peer"] else "a known counterparty"


def _age(seconds: float) -> str:
    for size, name in _AGES:
        if round(seconds) >= size:
            return f"{seconds / size:.0f} {name} ago"
    return "just before"
