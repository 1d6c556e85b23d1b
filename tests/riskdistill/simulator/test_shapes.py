"""Shapes on paper keep the rules of money: none is paid on before it came, and no more than came."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.data.schema import UNLISTED
from riskdistill.simulator.methods import LATER, SHAPES, TYPOLOGIES, adapted, origins, staged
from riskdistill.simulator.shapes import CASH_DESK, EXCHANGE, Legs, cycle, fan_in, fan_out, scatter_gather

seeds = st.integers(0, 2**32 - 1)
ALL = sorted(SHAPES | LATER)
# the instalments of a loan come out of the borrower's other money
MIDDLEMEN = sorted(set(ALL) - {UNLISTED, "loan_back"})


def drawn(shape: str, seed: int) -> Legs:
    return (SHAPES | LATER)[shape](np.random.default_rng(seed))


def sound(legs: Legs) -> bool:
    """Every member takes part, nobody pays the own account, and there is something to pay."""
    parties = {int(party) for party in (*legs.sender, *legs.receiver)}
    members = parties - {CASH_DESK, EXCHANGE} == set(range(legs.members))
    return members and bool(
        (legs.sender != legs.receiver).all() and (legs.amount > 0).all() and (legs.time >= 0).all()
    )


def never_more_than_came(legs: Legs) -> bool:
    """Of each middleman: who pays before receiving anything is where the money sets out, and is not one."""
    for member in range(legs.members):
        into, out = legs.receiver == member, legs.sender == member
        if not into.any() or not out.any() or legs.time[out].min() < legs.time[into].min():
            continue
        if legs.amount[out].sum() > legs.amount[into].sum() * (1 + 1e-9):
            return False
    return True


@pytest.mark.parametrize("shape", ALL)
@given(seed=seeds)
def test_every_member_takes_part_and_nobody_pays_himself(shape: str, seed: int) -> None:
    legs = drawn(shape, seed)
    assert sound(legs)
    assert set(legs.roles) <= set(range(legs.members))


@pytest.mark.parametrize("shape", MIDDLEMEN)
@given(seed=seeds)
def test_middlemen_pay_on_less_than_they_got_after_they_got_it(shape: str, seed: int) -> None:
    assert never_more_than_came(drawn(shape, seed))


@pytest.mark.parametrize("shape", ALL)
@given(seed=seeds)
def test_stages_add_placement_and_integration_without_breaking_the_scheme(shape: str, seed: int) -> None:
    plain, whole = drawn(shape, seed), staged(np.random.default_rng(seed), shape)
    assert sound(whole)
    assert len(whole) >= len(plain)
    if shape in MIDDLEMEN:
        assert never_more_than_came(whole)


@pytest.mark.parametrize("shape", ALL)
@given(seed=seeds, adaptation=st.floats(0.05, 1))
def test_adapted_schemes_are_slower_with_more_hops_and_still_sound(
    shape: str, seed: int, adaptation: float
) -> None:
    legs = drawn(shape, seed)
    changed = adapted(np.random.default_rng(seed), legs, adaptation)
    assert sound(changed)
    assert changed.members >= legs.members
    assert changed.time.max() >= legs.time.max()
    assert sum(origins(changed).values()) == pytest.approx(sum(origins(legs).values()))


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


def test_typologies_are_named_once_and_fit_a_byte() -> None:
    assert len(set(TYPOLOGIES)) == len(TYPOLOGIES) == len(SHAPES) + len(LATER)
    assert len(TYPOLOGIES) < 127
