"""A mismatch is named when, and only when, ours is further from a peer than the peers are from each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_quantities import QUANTITIES, Floats, Quantity
from dataset_realism import AMLGENTEX, AMLWORLD, CAUSES, OURS, PEERS, Comparison, page, told
from dataset_realism_plot import plot
from made_up import chain

AMOUNTS = QUANTITIES[0]


def compared(ours: Floats, world: Floats, gentex: Floats, quantity: Quantity = AMOUNTS) -> Comparison:
    values = {OURS: ours, AMLWORLD: world, AMLGENTEX: gentex}
    pairs = ((OURS, AMLWORLD), (OURS, AMLGENTEX), PEERS)
    told_by_both = [pair for pair in pairs if len(values[pair[0]]) and len(values[pair[1]])]
    return Comparison(quantity, values, {pair: (values[pair[0]], values[pair[1]]) for pair in told_by_both})


def test_ours_between_the_peers_is_no_mismatch() -> None:
    low, high = np.arange(1000.0), np.arange(500.0, 1500.0)
    between = compared(np.arange(250.0, 1250.0), low, high)
    assert not any(between.mismatched(peer) for peer in PEERS)


def test_ours_beyond_the_peers_is_named_with_both_medians_and_a_cause() -> None:
    beyond = compared(np.arange(5000.0, 6001.0), np.arange(1001.0), np.arange(1001.0))
    assert all(beyond.mismatched(peer) for peer in PEERS)
    text = page([beyond], [chain()])
    assert "Ours: $5,500 ($5,100, $5,900); AMLworld: $500 ($100, $900) (distance 1.00" in text
    assert CAUSES["laundering", "amounts"][AMLWORLD] in text
    assert "**1.00** | **1.00** | 0.00" in text


def test_what_chance_brings_is_no_mismatch() -> None:
    few = compared(np.array([2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]))
    assert few.distance((OURS, AMLWORLD)) == pytest.approx(1 / 3)
    assert not few.mismatched(AMLWORLD)


def test_a_peer_that_does_not_tell_has_no_distance_and_leaves_a_fixed_limit() -> None:
    alone = compared(np.arange(20_000.0), np.arange(5_000.0, 25_000.0), np.empty(0))
    assert alone.distance((OURS, AMLGENTEX)) is None
    assert not alone.mismatched(AMLGENTEX)
    assert alone.limit(AMLWORLD) == pytest.approx(0.1)
    assert alone.mismatched(AMLWORLD)


def test_every_quantity_that_a_peer_tells_has_a_cause() -> None:
    assert set(CAUSES) == {(quantity.of, quantity.title) for quantity in QUANTITIES}


@pytest.mark.parametrize(
    ("scale", "value", "expected"),
    [
        ("seconds", 30.0, "30 s"),
        ("seconds", 9_000.0, "2.5 h"),
        ("seconds", 129_600.0, "1.5 days"),
        ("dollars", 1234.4, "$1,234"),
        ("share", 0.9, "0.90 x"),
        ("hour", 14.0, "14:00"),
        ("count", 7.0, "7"),
    ],
)
def test_values_are_told_in_the_unit_that_people_use(scale: str, value: float, expected: str) -> None:
    quantity = next(quantity for quantity in QUANTITIES if quantity.scale == scale)
    assert told(value, quantity) == expected


def test_the_picture_is_drawn_also_where_a_source_does_not_tell(tmp_path: Path) -> None:
    source = chain()
    panels = [
        (one, {OURS: one.measure(source), AMLWORLD: np.empty(0)}, {AMLWORLD: None, AMLGENTEX: 0.5})
        for one in QUANTITIES
    ]
    plot(panels, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
