"""The bounded memory of rows and balances agrees with one that forgets nothing, as long as it need not forget."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.data import recent
from riskdistill.data.recent import Balances, Repeats, hashes, with_number, with_text


def hashed(*columns: list[str]) -> recent.Hashes:
    found = hashes(len(columns[0]))
    for texts in columns:
        found = with_text(found, pa.chunked_array([texts], pa.string()))
    return found


@given(st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4)), max_size=30))
def test_hashes_are_equal_where_texts_are(rows: list[tuple[str, str]]) -> None:
    found = hashed([a for a, _ in rows], [b for _, b in rows])
    for i, one in enumerate(rows):
        for j, other in enumerate(rows):
            assert (found[i] == found[j]) == (one == other)


def test_a_hash_does_not_depend_on_chunks_or_slices() -> None:
    texts = ["a", "", "é", "bank", "a"]
    whole = with_text(hashes(5), pa.chunked_array([texts]))
    parted = with_text(hashes(5), pa.chunked_array([texts[:2], texts[2:]]))
    sliced = with_text(hashes(5), pa.chunked_array([["x", *texts, "y"]]).slice(1, 5))
    assert whole.tolist() == parted.tolist() == sliced.tolist()
    assert with_text(hashes(0), pa.chunked_array([], pa.string())).tolist() == []


@given(st.lists(st.lists(st.integers(0, 12), max_size=12), max_size=5))
def test_repeats_are_found_across_stretches(stretches: list[list[int]]) -> None:
    repeats, met = Repeats(), set[int]()
    for numbers in stretches:
        rows = with_number(hashes(len(numbers)), np.array(numbers, np.int64))
        expected = []
        for number in numbers:
            expected.append(number in met)
            met.add(number)
        assert repeats.of(rows).tolist() == expected


payments = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 500)), max_size=40)


@given(payments, st.integers(0, 39), st.booleans())
def test_balances_that_add_up_are_never_contradicted_and_a_wrong_one_is(
    rows: list[tuple[int, int, int]], spoiled: int, hidden: bool
) -> None:
    holds = np.full(4, 1000.0)
    accounts, told, moved = [], [], []
    for sender, receiver, cents in rows:
        accounts.append((sender, receiver))
        told.append((holds[sender], holds[receiver]))
        moved.append((-cents / 100, cents / 100))
        if sender != receiver:
            holds[sender] -= cents / 100
            holds[receiver] += cents / 100
    keys = np.array(accounts, np.uint64).reshape(-1, 2) + np.uint64(1)
    balances, moves = np.array(told).reshape(-1, 2), np.array(moved).reshape(-1, 2)
    if hidden and len(rows):
        balances[len(rows) // 2] = np.nan  # not known in one row: what it moved still counts
    assert not Balances().contradicted(keys, balances, moves).any()
    if spoiled < len(rows) and accounts[spoiled][0] != accounts[spoiled][1]:
        sender = keys[spoiled, 0]
        followed = (keys[:spoiled] == sender) & np.isfinite(balances[:spoiled])
        followed &= (keys[:spoiled, 0] != keys[:spoiled, 1])[:, None]
        balances[spoiled, 0] += 5.0
        known = bool(followed.any() and np.isfinite(balances[spoiled, 0]))
        assert Balances().contradicted(keys, balances, moves)[spoiled, 0] == known


def test_an_account_whose_place_is_taken_is_forgotten_and_not_made_up() -> None:
    one, place = np.uint64(7), lambda key: (key * recent._SPREAD) >> recent._SHIFT
    with np.errstate(over="ignore"):
        candidates = np.arange(8, 1 << 23, dtype=np.uint64)
        other = candidates[place(candidates) == place(one)][0]
    elsewhere = np.uint64(9)
    keys = np.array([[one, elsewhere], [other, elsewhere], [one, elsewhere]])
    balances = np.array([[10.0, np.nan], [500.0, np.nan], [77.0, np.nan]])
    followed = Balances()
    assert not followed.contradicted(keys, balances, np.ones((3, 2))).any()
    assert followed.checked == 0
