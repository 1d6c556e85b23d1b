"""The dataset step: its folder, its command, and that a run uses what it left."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny

from pipelines.datasets import make_dataset
from pipelines.progress import Steps
from riskdistill.config import ExperimentConfig, load_config
from riskdistill.data.schema import LABELS
from riskdistill.dataset import DatasetCard
from riskdistill.features import FeatureEngine


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("experiment") / "tiny.yaml"
    fields = tiny.CONFIG.model_dump(mode="json", exclude_unset=True) | {"source": {"format": "canonical"}}
    path.write_text(json.dumps(fields))  # JSON is YAML
    return path


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every replay from here on."""
    rows: list[int] = []
    original = FeatureEngine.encode

    def watched(engine: FeatureEngine, transactions: Any, **options: Any) -> Any:
        rows.append(len(transactions))
        return original(engine, transactions, **options)

    monkeypatch.setattr(FeatureEngine, "encode", watched)
    return rows


def read(folder: Path) -> DatasetCard:
    return DatasetCard.model_validate_json((folder / "dataset" / "card.json").read_text())


def test_the_command_writes_card_parts_and_cache(
    experiment: Path, simulated: Path, tmp_path: Path, done: Callable[..., str]
) -> None:
    told = done("dataset", experiment, "--input", simulated, "--out", tmp_path, "--set", "split.purge_days=1")
    card = read(tmp_path)
    folder = tmp_path / "dataset"
    assert card.fingerprint in told
    assert f"parts {folder}" in told
    ids: list[str] = []
    for name, part in card.parts.items():
        table = pq.read_table(folder / f"{name}.parquet")
        assert table.num_rows == part.rows
        assert sum(table["is_laundering"].to_pylist()) == part.laundering
        ids += table["tx_id"].to_pylist()
    unused = pq.read_table(folder / "unused.parquet")
    assert unused.num_rows == sum(card.in_no_part.values()) > 0
    ids += unused["tx_id"].to_pylist()
    assert len(set(ids)) == len(ids) == card.source.rows
    drawn = pq.read_table(folder / "train.parquet")["drawn"].to_pylist()
    assert sum(drawn) == card.mix.drawn["normal"] + card.mix.drawn["laundering"]
    synthetic = pq.read_table(folder / "synthetic.parquet")
    assert synthetic.schema.equals(LABELS)
    assert synthetic.num_rows == card.mix.different["synthetic"]
    assert card.fingerprint in (folder / "card.md").read_text()
    assert len(list((folder / "cache").glob("*.rows"))) == 2
    assert not list(folder.glob(".*"))


def test_the_card_s_command_builds_it_again(
    experiment: Path, simulated: Path, tmp_path: Path, done: Callable[..., str], replays: list[int]
) -> None:
    done("dataset", experiment, "--input", simulated, "--out", tmp_path, "--set", "mix.hard_negatives=0.25")
    first, replayed = read(tmp_path), len(replays)
    assert replayed == 2
    assert load_config(tmp_path / "dataset" / "config.yaml").mix.hard_negatives == 0.25
    program, *arguments = shlex.split(first.rebuild)
    assert program == "riskdistill"
    done(*arguments)
    assert read(tmp_path) == first
    assert len(replays) == replayed  # all rows came from the cache


def test_a_shared_cache_serves_another_folder(
    experiment: Path, simulated: Path, tmp_path: Path, done: Callable[..., str], replays: list[int]
) -> None:
    for name in ("one", "other"):
        done("dataset", experiment, "--input", simulated, "--out", tmp_path / name, "--cache", tmp_path / "cache")
    assert len(replays) == 2
    assert not (tmp_path / "other" / "dataset" / "cache").exists()


def test_a_damaged_cache_is_told_and_made_again(
    experiment: Path, simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config(experiment)
    with Steps() as steps:
        before, _ = make_dataset(config, simulated, tmp_path, steps)
    for file in (tmp_path / "dataset" / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    capsys.readouterr()
    with Steps() as steps:
        after, _ = make_dataset(config, simulated, tmp_path, steps)
    assert capsys.readouterr().err.count("encoded again") == 2
    assert after.fingerprint == before.fingerprint


def test_the_truth_of_the_source_judges(
    simulated: Path, tiny_tables: tuple[pa.Table, pa.Table], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    transactions, labels = tiny_tables
    truth = labels.set_column(1, LABELS.field(1), pa.array([True] * labels.num_rows))
    truth = truth.set_column(2, LABELS.field(2), pa.array(["cycle"] * labels.num_rows))
    for name, table in (("transactions", transactions), ("labels", labels), ("truth", truth)):
        pq.write_table(table, source / f"{name}.parquet")
    config = ExperimentConfig.model_validate({**tiny.CONFIG.model_dump(), "source": {"format": "canonical"}})
    with Steps() as steps:
        dataset, card = make_dataset(config, source, tmp_path / "out", steps)
    assert dataset.test.label.all()
    assert not dataset.train_label.all()
    assert card.parts["test"].true == len(dataset.test)


def test_a_source_without_labels_is_refused(
    experiment: Path,
    tiny_tables: tuple[pa.Table, pa.Table],
    tmp_path: Path,
    refused: Callable[..., str],
) -> None:
    pq.write_table(tiny_tables[0], tmp_path / "transactions.parquet")
    told = refused("dataset", experiment, "--input", tmp_path, "--out", tmp_path / "out")
    assert told.startswith("0 rows of labels for ")
    assert not (tmp_path / "out" / "dataset" / "card.json").exists()
