"""Votes that are independent, and pairs that are close in time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monitoring.pairing import KEPT, Nearest, Votes

SIDES = st.lists(st.booleans(), max_size=60)


def test_an_account_votes_once_a_day_and_each_for_itself() -> None:
    votes = Votes()
    cast = [("a", 1), ("b", 1), ("a", 1), ("a", 2), ("a", 2)]
    assert [votes.first(account, day) for account, day in cast] == [True, True, False, True, False]


def test_decisions_out_of_order_around_midnight_give_no_second_vote() -> None:
    votes = Votes()
    assert [votes.first("a", day) for day in (1, 2, 1, 2, 1)] == [True, True, False, False, False]


def test_a_day_that_is_forgotten_has_no_votes_left() -> None:
    votes = Votes()
    assert all(votes.first("a", day) for day in range(1, KEPT + 2))
    assert not votes.first("b", 1)
    assert votes.first("b", KEPT + 1)


def test_neighbours_are_paired_and_the_accuseds_comes_first() -> None:
    pairs = Nearest[str]()
    assert pairs.add(True, "old") is None
    assert pairs.add(True, "new") is None
    assert pairs.add(False, "other") == ("new", "other")
    assert pairs.add(False, "next") is None, "the old one waits no longer"
    assert pairs.add(True, "last") == ("last", "next")


@given(SIDES, st.integers(1, 5))
def test_each_item_is_in_one_pair_at_most_and_beside_one_of_the_other_side(sides: list[bool], room: int) -> None:
    pairs, found = Nearest[int](room), []
    for place, side in enumerate(sides):
        if pair := pairs.add(side, place):
            found.append(pair)
    paired = [place for pair in found for place in pair]
    assert len(paired) == len(set(paired))
    assert all(sides[mine] and not sides[other] for mine, other in found)


@given(SIDES, st.integers(1, 5))
def test_no_more_pairs_straddle_a_moment_than_there_is_room(sides: list[bool], room: int) -> None:
    pairs = Nearest[int](room)
    found = [pair for place, side in enumerate(sides) if (pair := pairs.add(side, place))]
    for moment in range(len(sides)):
        assert sum(min(pair) < moment <= max(pair) for pair in found) <= room
