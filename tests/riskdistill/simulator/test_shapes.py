"""Shapes on paper keep the rules of money: none is paid on before it came, and no more than came."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.data.schema import UNLISTED
from riskdistill.simulator.shapes import CASH_DESK, SHAPES, Legs, cycle, fan_in, fan_out, scatter_gather

seeds = st.integers(0, 2**32 - 1)
MIDDLEMEN = sorted(set(SHAPES) - {UNLISTED})


def drawn(shape: str, seed: int) -> Legs:
    return SHAPES[shape](np.random.default_rng(seed))


@pytest.mark.parametrize("shape", SHAPES)
@given(seed=seeds)
def test_every_member_takes_part_and_nobody_pays_himself(shape: str, seed: int) -> None:
    legs = drawn(shape, seed)
    parties = set(legs.sender) | set(legs.receiver)
    assert parties - {CASH_DESK} == set(range(legs.members))
    assert (legs.sender != legs.receiver).all()
    assert (legs.amount > 0).all()
    assert (legs.time >= 0).all()


@pytest.mark.parametrize("shape", MIDDLEMEN)
@given(seed=seeds)
def test_middlemen_pay_on_less_than_they_got_after_they_got_it(shape: str, seed: int) -> None:
    """Who pays before receiving anything is where the money sets out, and is not a middleman."""
    legs = drawn(shape, seed)
    for member in range(legs.members):
        into, out = legs.receiver == member, legs.sender == member
        if not into.any() or not out.any() or legs.time[out].min() < legs.time[into].min():
            continue
        paid_on = legs.amount[out].sum()
        assert paid_on <= legs.amount[into].sum() * (1 + 1e-9)


@given(seed=seeds)
def test_named_shapes_have_their_outline(seed: int) -> None:
    def rng() -> np.random.Generator:
        return np.random.default_rng(seed)

    assert len(set(fan_out(rng()).sender)) == 1
    assert len(set(fan_in(rng()).receiver)) == 1
    ring = cycle(rng())
    assert sorted(ring.sender) == sorted(ring.receiver) == list(range(ring.members))
    both = scatter_gather(rng())
    assert (both.sender == 0).sum() == (both.receiver == 1).sum() == both.members - 2
