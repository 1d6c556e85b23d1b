"""The hash chain: one spelling for each payload, and no entry that can change unseen."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.storage.chain import GENESIS, canonical_json, link

values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
payloads = st.dictionaries(st.text(), values | st.lists(values) | st.dictionaries(st.text(), values))


@given(payloads)
def test_a_payload_has_one_spelling_and_is_read_back(payload: dict[str, object]) -> None:
    body = canonical_json(payload)
    assert json.loads(body) == payload
    assert canonical_json(dict(reversed(payload.items()))) == body
    assert "\n" not in body


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_json_cannot_say_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"score": number})


@given(st.lists(payloads, min_size=2, max_size=5, unique_by=canonical_json), st.data())
def test_any_change_of_an_entry_or_of_the_order_changes_the_last_link(
    entries: list[dict[str, object]], data: st.DataObject
) -> None:
    def last(chain: list[dict[str, object]]) -> str:
        digest = GENESIS
        for payload in chain:
            digest = link(digest, canonical_json(payload))
        return digest

    place = data.draw(st.integers(0, len(entries) - 1))
    changed: dict[str, object] = {"": [canonical_json(entries[place])]}
    assert len(last(entries)) == len(GENESIS)
    assert last(entries[:place] + entries[place + 1 :]) != last(entries)
    assert last([*entries[:place], changed, *entries[place + 1 :]]) != last(entries)
    assert last(entries[::-1]) != last(entries)
