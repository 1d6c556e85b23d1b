"""A typology left out: in no row that is learned from or validated on, and all of it in the test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tiny

from riskdistill.config import ExperimentConfig
from riskdistill.dataset import Dataset, build_dataset, synthetic
from riskdistill.dataset.labels import of_typologies
from riskdistill.dataset.synthetic import Past
from riskdistill.features import FeatureEngine

Tables = tuple[pa.Table, pa.Table]


@pytest.fixture(scope="module")
def name(tiny_dataset: Dataset) -> str:
    """A typology that training, validation or both know, and the test has."""
    tested = set(tiny_dataset.test.typology[tiny_dataset.test.label])
    common = [name for name in tiny_dataset.typologies[1:] if name in tested]
    assert common
    return common[0]


@pytest.fixture(scope="module")
def built(tiny_tables: Tables, name: str) -> tuple[Dataset, list[Past]]:
    config = ExperimentConfig.model_validate({**tiny.CONFIG.model_dump(), "split": {"leave_out": (name,)}})
    pasts: list[Past] = []
    original = synthetic.perturb

    def watched(transactions: pa.Table, labels: pa.Table, *rest: Any) -> Any:
        pasts.append(Past(transactions, labels, np.zeros(0, np.bool_), rest[-1]))
        return original(transactions, labels, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "perturb", watched)
        return build_dataset(*tiny_tables, config), pasts


def test_no_row_of_it_is_learned_from_or_validated_on(
    built: tuple[Dataset, list[Past]], name: str, tiny_tables: Tables, tiny_dataset: Dataset
) -> None:
    dataset, pasts = built
    of_it = of_typologies(tiny_tables[1], [name])
    part = dataset.rows["part"].to_pylist()
    out = np.array(part) == "left_out"
    assert out.any()
    np.testing.assert_array_equal(out, of_it & (np.array(part) != "test"))
    assert name not in dataset.typologies
    assert name not in dataset.validation.typology
    assert name not in dataset.synthetic["typology"].to_pylist()
    assert len(pasts) == 1  # nothing is made from it either
    assert not of_typologies(pasts[0].labels, [name]).any()
    assert not set(pasts[0].transactions["tx_id"].to_pylist()) & set(
        tiny_tables[0]["tx_id"].filter(out).to_pylist()
    )
    assert len(dataset.train_label) < len(tiny_dataset.train_label)
    assert len(dataset.train_context) == len(dataset.train_label) == part.count("train")


def test_the_test_keeps_it(built: tuple[Dataset, list[Past]], name: str, tiny_dataset: Dataset) -> None:
    dataset, _ = built
    np.testing.assert_array_equal(dataset.test.label, tiny_dataset.test.label)
    assert dataset.test.typology.tolist() == tiny_dataset.test.typology.tolist()
    assert (dataset.test.typology == name).any()
    assert dataset.left_out == (name,)


def test_what_is_left_out_happened_all_the_same(
    built: tuple[Dataset, list[Past]], tiny_tables: Tables, tiny_dataset: Dataset
) -> None:
    """The other rows have the features of the real stream, in which these payments were made."""
    dataset, _ = built
    part = np.array(dataset.rows["part"].to_pylist())
    plain = FeatureEngine(dataset.spec).encode(tiny_tables[0])
    np.testing.assert_array_equal(dataset.train_context, plain.context[part == "train"])
    np.testing.assert_array_equal(dataset.validation.encoded.context, plain.context[part == "validation"])
    np.testing.assert_array_equal(dataset.validation.encoded.events, plain.events[part == "validation"])
    np.testing.assert_array_equal(dataset.test.encoded.events, tiny_dataset.test.encoded.events)
