"""Trained weights in a bundle: they come back as they were, and know new typologies without forgetting old ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny

from riskdistill.dataset import Dataset
from riskdistill.errors import BundleDamagedError
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.kept_networks import load_network, network_files, retold, same_architecture
from riskdistill.models.training import score_logits


@pytest.fixture
def network(tiny_dataset: Dataset) -> EventTransformer:
    return tiny.network(tiny_dataset, tiny.CONFIG.student)


@pytest.fixture
def bundle(network: EventTransformer, tmp_path: Path) -> Path:
    (tmp_path / "bundle").mkdir()
    network.save_pretrained(tmp_path / "models" / "student")
    network_files(tmp_path / "models", ("student",), tmp_path / "bundle")
    return tmp_path / "bundle"


def test_a_network_comes_back_as_it_was(network: EventTransformer, bundle: Path, tiny_dataset: Dataset) -> None:
    loaded = load_network(bundle, "student")
    assert loaded is not None
    rows = tiny_dataset.test.encoded
    for one, other in zip(score_logits(loaded, rows), score_logits(network, rows), strict=True):
        np.testing.assert_array_equal(one, other)
    assert same_architecture(loaded, tiny.CONFIG.student, tiny_dataset.spec.fingerprint)
    assert load_network(bundle, "teacher") is None


def test_another_size_or_other_features_are_another_architecture(
    network: EventTransformer, tiny_dataset: Dataset
) -> None:
    size, features = tiny.CONFIG.student, tiny_dataset.spec.fingerprint
    assert not same_architecture(network, size.model_copy(update={"layers": 2}), features)
    assert not same_architecture(network, size, "0" * 16)
    assert same_architecture(network, size.model_copy(update={"pieces": 7, "dropout": 0.3}), features)


def test_weights_of_another_network_are_refused(bundle: Path, tiny_dataset: Dataset) -> None:
    other = tiny.network(tiny_dataset, tiny.CONFIG.teacher)
    other.save_pretrained(bundle.parent / "models" / "student")
    (bundle / "student_network.safetensors").write_bytes(
        (bundle.parent / "models" / "student" / "model.safetensors").read_bytes()
    )
    with pytest.raises(BundleDamagedError, match="do not fit"):
        load_network(bundle, "student")


def test_a_network_told_of_new_typologies_ranks_as_before_and_thinks_them_unlikely(
    network: EventTransformer, tiny_dataset: Dataset
) -> None:
    old = tiny_dataset.typologies
    names = ("normal", "a_new_one", *old[1:])
    told = retold(network, tiny.CONFIG.student, names, "f" * 16, shift=0.25)
    rows = tiny_dataset.test.encoded
    (before, kinds), (after, new_kinds) = score_logits(network, rows), score_logits(told, rows)
    np.testing.assert_allclose(after, before + 0.25, atol=1e-5)
    np.testing.assert_allclose(new_kinds[:, [0, *range(2, len(names))]], kinds, atol=1e-5)
    np.testing.assert_array_equal(new_kinds[:, 1], np.float32(-6.0))
    assert (told.config.dataset_fingerprint, told.config.typologies) == ("f" * 16, list(names))
    assert network.config.typologies == list(old)
