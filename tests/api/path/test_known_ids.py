"""What was added is always known, few others are, and memory grows with the ids only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.path.known_ids import KnownIds


@given(st.lists(st.text(max_size=20), max_size=60), st.text(max_size=20))
def test_what_was_added_is_known(ids: list[str], other: str) -> None:
    known = KnownIds(ids)
    assert all(one in known for one in ids)
    known.add(other)
    assert other in known


def test_few_others_are_taken_for_known_through_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.path.known_ids.FIRST_IDS", 1_024)
    known = KnownIds(f"tx-{number}" for number in range(7_168))  # three full layers
    assert all(f"tx-{number}" in known for number in range(7_168))
    assert sum(f"other-{number}" in known for number in range(10_000)) < 200
    assert len(known._layers) == 3
