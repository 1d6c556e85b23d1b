"""The specification: what a bundle says of its features."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError
from small_engines import NAMES, SMALL

from riskdistill.features import FeatureSpec
from riskdistill.features.record import RING
from riskdistill.features.spec import window_name


def test_names_are_unique_and_every_one_has_a_meaning() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(feature.meaning and feature.unit and feature.group for feature in SMALL.context)


def test_groups_hold_every_column_once() -> None:
    columns = [column for members in SMALL.groups.values() for column in members]
    assert sorted(columns) == list(range(len(NAMES)))


def test_windows_name_their_features() -> None:
    names = FeatureSpec(windows=(90.0, 5_400.0, 40 * 86_400.0)).names
    assert {"sender_in_count_90s", "receiver_out_banks_90m", "sender_in_deviation_40d"} <= set(names)
    assert not any(name.endswith("_28d") for name in names)


@pytest.mark.parametrize(
    ("seconds", "name"), [(86_400.0, "1d"), (3_600.0, "1h"), (60.0, "1m"), (59.0, "59s"), (0.5, "0.5s")]
)
def test_a_window_is_called_by_its_largest_whole_unit(seconds: float, name: str) -> None:
    assert window_name(seconds) == name


@pytest.mark.parametrize(
    "changes",
    [
        {"windows": ()},
        {"windows": (0.0, 60.0)},
        {"windows": (60.0, 60.0)},
        {"windows": (3_600.0, 60.0)},
        {"windows": (float("nan"),)},
        {"windows": (60.0, float("nan"))},
        {"windows": (float("inf"),)},
        {"windows": tuple(range(1, 10))},
        {"forget_after_days": 27.9},
        {"forget_after_days": float("nan")},
        {"events_per_party": 0},
        {"events_per_party": RING + 1},
        {"max_hops": 0},
        {"forget_after_days": float("inf")},
        {"window": (60.0,)},
        {"token_channels": ("flow",)},
        {"record_version": 1},
    ],
)
def test_a_specification_without_sense_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        FeatureSpec(**changes)


def test_the_fingerprint_tells_specifications_apart_and_survives_json() -> None:
    assert FeatureSpec.told(json.loads(SMALL.model_dump_json())).fingerprint == SMALL.fingerprint
    others = [
        FeatureSpec(),
        FeatureSpec(events_per_party=4, max_hops=3),
        FeatureSpec(events_per_party=4, windows=(60.0,)),
        FeatureSpec(events_per_party=4, forget_after_days=30.0),
    ]
    assert len({SMALL.fingerprint, *(other.fingerprint for other in others)}) == 5
