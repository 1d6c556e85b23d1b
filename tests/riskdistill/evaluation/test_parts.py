"""Parts of the traffic, measured at a threshold."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.evaluation.parts import Part, Share, measure_parts
from riskdistill.evaluation.ranking import wilson

LABEL = np.array([1, 1, 1, 1, 0, 0, 0, 0], np.bool_)
ALERT = np.array([1, 1, 1, 0, 1, 0, 0, 0], np.bool_)
SCHEME = np.array(["a", "a", "b", "c", "", "", "", ""])


def measured(**parts: list[int]) -> dict[str, Part]:
    rows = {name: np.isin(np.arange(8), places) for name, places in parts.items()}
    return {part.name: part for part in measure_parts(LABEL, SCHEME, ALERT, rows)}


def test_each_part_is_counted_and_what_there_is_nothing_of_is_none() -> None:
    parts = measured(all=list(range(8)), front=[0, 1, 4], quiet=[3], clean=[5, 6], nothing=[])
    whole = parts["all"]
    assert (whole.rows, whole.laundering, whole.schemes, whole.alerts) == (8, 4, 3, 4)
    assert whole.precision == whole_share(0.75, 4)
    assert whole.recall == whole_share(0.75, 3)
    assert parts["front"].precision == whole_share(2 / 3, 3)
    assert parts["front"].recall == whole_share(1.0, 1)  # both payments are of one scheme
    assert (parts["quiet"].precision, parts["quiet"].recall) == (None, whole_share(0.0, 1))
    assert (parts["clean"].precision, parts["clean"].recall) == (None, None)
    assert (parts["nothing"].rows, parts["nothing"].schemes, parts["nothing"].recall) == (0, 0, None)


def whole_share(value: float, trials: int) -> Share:
    low, high = wilson(value, trials)
    return Share(value, (float(low), float(high)))


def test_payments_of_one_scheme_are_one_proof() -> None:
    """Twenty payments: of one scheme all are found, of another none. They are two proofs, not twenty."""
    label, found = np.ones(20, np.bool_), np.arange(20) < 10
    everything = {"all": np.ones(20, np.bool_)}
    (two,) = measure_parts(label, np.where(found, "a", "b"), found, everything)
    (twenty,) = measure_parts(label, np.arange(20).astype(str), found, everything)
    assert two.recall is not None
    assert twenty.recall is not None
    assert two.recall.value == twenty.recall.value == 0.5
    assert two.recall.interval[0] < 0.1 < 0.29 < twenty.recall.interval[0] < 0.31


def test_without_laundering_there_is_no_recall() -> None:
    nothing = np.zeros(3, np.bool_)
    (part,) = measure_parts(nothing, np.array(["", "", ""]), np.ones(3, np.bool_), {"all": ~nothing})
    assert (part.precision, part.recall) == (whole_share(0.0, 3), None)


@given(st.integers(0, 50), st.integers(1, 50))
def test_limits_hold_the_share_and_stay_shares(seen: int, more: int) -> None:
    n = seen + more
    low, high = wilson(seen / n, n)
    assert 0 <= low <= seen / n <= high <= 1
