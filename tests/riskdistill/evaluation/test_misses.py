"""Error analysis: what is missed and falsely alerted is counted where it is, and says what to make more of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.evaluation.misses import REST, SHOWN, TYPOLOGY, ErrorAnalysis, amount_bands, analyse

LABEL = np.array([True, True, True, False, False, False, False, False, False, False])
KIND = np.array(["cycle", "cycle", "micro", *["normal"] * 7], object)


def analysis(scores: list[float], **slices: list[str]) -> ErrorAnalysis:
    cuts = {TYPOLOGY: KIND, **{name: np.array(values, object) for name, values in slices.items()}}
    return analyse("b" * 16, np.array(scores), LABEL, 0.3, cuts)


def test_each_part_tells_its_misses_and_its_false_alerts() -> None:
    found = analysis([0.9, 0.8, 0.1, 0.7, *[0.2] * 6], format=["wire"] * 3 + ["cash"] * 7)
    assert (found.rows, found.laundering, found.recall) == (10, 3, pytest.approx(2 / 3))
    micro, cycle = found.of(TYPOLOGY)  # the most missed first
    assert (micro.value, micro.missed, micro.recall) == ("micro", 1, 0.0)
    assert (cycle.value, cycle.missed, cycle.recall, cycle.rows) == ("cycle", 0, 1.0, 2)
    wire, cash = found.of("format")
    assert (wire.value, wire.alerts, wire.false_alerts) == ("wire", 2, 0)
    assert (cash.value, cash.alerts, cash.false_alerts, cash.recall) == ("cash", 1, 1, None)


def test_what_is_missed_entirely_is_made_as_often_as_allowed_and_what_is_found_as_ever() -> None:
    assert analysis([0.9, 0.8, 0.1, 0.7, *[0.2] * 6]).emphasis(4.0) == {"micro": 4.0}
    half = analysis([0.9, 0.1, 0.8, 0.7, *[0.2] * 6])
    assert half.emphasis(3.0) == {"cycle": 2.0}


def test_without_laundering_nothing_is_emphasised() -> None:
    found = analyse("b", np.array([0.1, 0.2]), np.zeros(2, np.bool_), 0.5, {TYPOLOGY: np.array(["normal"] * 2)})
    assert (found.recall, found.emphasis(4.0), found.of(TYPOLOGY)) == (None, {}, ())


def test_no_rows_give_no_lines() -> None:
    nothing = np.empty(0)
    assert analyse("b", nothing, nothing.astype(np.bool_), 0.5, {"format": nothing.astype(object)}).lines == ()


def test_many_values_stand_together_behind_the_worst() -> None:
    names = np.array([f"bank {number}" for number in range(40)], object)
    scores = np.linspace(1, 0, 40)
    found = analyse("b", scores, np.zeros(40, np.bool_), 0.5, {"bank": names}).of("bank")
    assert len(found) == SHOWN + 1
    assert (found[-1].value, found[-1].rows) == (REST, 40 - SHOWN)


def test_every_typology_is_told_however_many_there_are() -> None:
    label, names = np.ones(40, np.bool_), np.array([f"shape {number}" for number in range(40)], object)
    found = analyse("b", np.linspace(1, 0, 40), label, 0.5, {TYPOLOGY: names})
    assert len(found.of(TYPOLOGY)) == 40
    assert found.emphasis(2.0) == {f"shape {number}": 2.0 for number in range(20, 40)}


def test_bands_of_amounts_hold_their_lower_end() -> None:
    assert list(amount_bands(np.array([99.9, 100.0, 49_999.0, 50_000.0]))) == [
        "below 100",
        "100 to 1,000",
        "10,000 to 50,000",
        "more",
    ]


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.sampled_from("abc")), min_size=1, max_size=40))
def test_lines_of_a_slice_add_up_to_the_whole(rows: list[tuple[float, bool, str]]) -> None:
    scores, label, value = (np.array(column) for column in zip(*rows, strict=True))
    found = analyse("b", scores, label, 0.25, {"part": value.astype(object)})
    lines = found.of("part")
    assert sum(line.rows for line in lines) == len(rows)
    assert sum(line.laundering for line in lines) == found.laundering
    assert sum(line.alerts for line in lines) == pytest.approx(max(1, round(0.25 * len(rows))))
