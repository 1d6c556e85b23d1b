"""Made rows: of the training period alone, in the place of what they were made from, on the source's clock."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tiny

from riskdistill.augmentation import Perturbed, perturb
from riskdistill.dataset import DAY, build, build_dataset, synthetic
from riskdistill.dataset.clock import microseconds, on_the_clock
from riskdistill.features import FeatureEngine

Tables = tuple[pa.Table, pa.Table]


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> list[pa.Table]:
    """What the feature engines of a build were given: the real rows, then those with made ones among them."""
    given: list[pa.Table] = []

    class Recording(FeatureEngine):
        def encode(self, transactions: pa.Table, **options: Any) -> Any:
            given.append(transactions)
            return super().encode(transactions, **options)

    monkeypatch.setattr(build, "FeatureEngine", Recording)
    return given


def test_synthetic_rows_are_made_from_and_placed_in_the_training_period_only(
    tiny_tables: Tables, replayed: list[pa.Table], cuts: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced: list[str] = []

    def watched(*arguments: Any) -> Perturbed:
        told = perturb(*arguments)
        replaced.extend(told.replaced.to_pylist())
        return told

    monkeypatch.setattr(synthetic, "perturb", watched)
    build_dataset(*tiny_tables, tiny.CONFIG)
    real, merged = replayed
    first = cuts[0]
    assert real.equals(tiny_tables[0])
    assert merged.num_rows > first
    times = microseconds(merged)
    assert (np.diff(times) >= 0).all()
    assert times[-1] < microseconds(real)[first]
    known, happened = set(real["tx_id"].to_pylist()[:first]), merged["tx_id"].to_pylist()
    made = [tx_id for tx_id in happened if tx_id not in known]
    grafted = [tx_id for tx_id in made if "~graft" in tx_id]
    retold = {tx_id.rpartition("~")[0] for tx_id in made} - {tx_id.rpartition("~")[0] for tx_id in grafted}
    assert made
    assert not retold & set(happened)  # a copy takes the place of its source
    assert known - set(happened) == set(replaced)


def test_synthetic_rows_keep_off_the_gap(
    tiny_tables: Tables, replayed: list[pa.Table], cuts: tuple[int, int]
) -> None:
    build_dataset(*tiny_tables, tiny.configured(split={"purge_days": 2.0}))
    real, merged = replayed
    assert microseconds(merged)[-1] < microseconds(real)[cuts[0]] - 2 * DAY


def test_synthetic_rows_are_stamped_as_coarsely_as_the_source(
    tiny_tables: Tables, replayed: list[pa.Table]
) -> None:
    build_dataset(on_the_clock(tiny_tables[0], DAY), tiny_tables[1], tiny.CONFIG)
    merged = replayed[1]
    assert not (microseconds(merged) % DAY).any()
    place = np.array(["~" in tx_id for tx_id in merged["tx_id"].to_pylist()])
    days = np.split(place, np.flatnonzero(np.diff(microseconds(merged))) + 1)
    within = np.concatenate([np.linspace(0, 1, len(day)) for day in days])
    assert abs(within[place].mean() - 0.5) < 0.1  # not after the real rows of their day


def test_a_mix_without_synthetic_rows_makes_none(tiny_tables: Tables, replayed: list[pa.Table]) -> None:
    mix = {"normal": 0.9, "laundering": 0.1, "synthetic": 0.0, "max_rows": 1_000}
    build_dataset(*tiny_tables, tiny.configured(mix=mix, perturbations=[]))
    assert [table.num_rows for table in replayed] == [tiny_tables[0].num_rows, 0]
