"""Hard negatives: normal rows beside known laundering, as many as asked for, and no laundering among them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.config import MixConfig
from riskdistill.dataset.mix import beside_laundering, choose

flags = st.lists(st.booleans(), min_size=2, max_size=60)


def payments(pairs: list[tuple[str, str]]) -> pa.Table:
    """From and to accounts written as bank:number."""
    sides = {"sender": [one for one, _ in pairs], "receiver": [other for _, other in pairs]}
    return pa.table(
        {
            f"{side}_{word}": [account.split(":")[place] for account in accounts]
            for side, accounts in sides.items()
            for place, word in enumerate(("bank", "account"))
        }
    )


def test_beside_laundering_are_normal_rows_that_share_an_account_with_it() -> None:
    pairs = [("b:1", "b:2"), ("b:1", "b:3"), ("b:4", "b:2"), ("b:3", "b:4"), ("c:1", "c:2"), ("b:2", "b:1")]
    label = np.array([True, False, False, False, False, True])
    assert beside_laundering(payments(pairs), label).tolist() == [False, True, True, False, False, False]


@given(flags, st.floats(0, 1), st.integers(1, 80), st.integers(0, 5))
def test_as_many_hard_negatives_are_chosen_as_asked_for(
    bad: list[bool], share: float, most: int, seed: int
) -> None:
    label = np.array(bad)
    rng = np.random.default_rng(seed)
    hard = ~label & (rng.random(len(label)) < 0.4)
    mix = MixConfig(max_rows=most, hard_negatives=share)
    chosen = choose(label, hard, mix, rng)
    normal = min(int((~label).sum()), round(mix.normal * most))
    assert chosen[label].all()
    assert (chosen & ~label).sum() == normal
    assert (chosen & hard).sum() >= min(hard.sum(), round(share * normal))
    assert share < 1 or (chosen & hard).sum() == min(hard.sum(), normal)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_same_seed_chooses_the_same(share: float) -> None:
    label, hard = np.arange(100) % 10 == 0, np.arange(100) % 10 == 1
    mix = MixConfig(max_rows=40, hard_negatives=share)
    one, other = (choose(label, hard, mix, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(one, other)
