"""`riskdistill dataset`: a card, a split, and encoded rows that a run finds again."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tiny
import yaml

from pipelines.cli import main
from riskdistill.data.ingest import load_canonical
from riskdistill.features import FeatureEngine


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    settings = tiny.CONFIG.model_dump(mode="json", exclude_unset=True) | {"source": {"format": "canonical"}}
    path.write_text(yaml.safe_dump(settings))
    return path


def build(config: Path, simulated: Path, out: Path, *options: str) -> int:
    return main(["dataset", str(config), "--input", str(simulated), "--out", str(out), *options])


def test_a_dataset_has_a_card_and_says_of_every_transaction_which_part_it_is_in(
    config: Path, simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert build(config, simulated, out, "--set", "split.purge_days=1") == 0
    split = pq.read_table(out / "dataset" / "split.parquet").to_pandas()
    transactions, _ = load_canonical(out / "canonical")
    assert split["tx_id"].tolist() == transactions["tx_id"].to_pylist()
    assert {"train", "validation", "test", "purged"} <= set(split["part"])
    card = json.loads((out / "dataset" / "card.json").read_text())
    told = (out / "dataset" / "card.md").read_text()
    assert card["fingerprint"] in told
    assert f"riskdistill dataset {config} --input {simulated} --out {out} --set split.purge_days=1" in told
    assert str(out / "dataset" / "card.md") in capsys.readouterr().out.replace("\n", "")


def test_the_second_time_and_from_another_folder_nothing_is_replayed(
    config: Path, simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = ("--rows", str(tmp_path / "rows"))
    assert build(config, simulated, tmp_path / "one", *shared) == 0
    monkeypatch.setattr(FeatureEngine, "encode", lambda *_, **__: pytest.fail("replayed"))
    assert build(config, simulated, tmp_path / "two", *shared) == 0
    cards = [json.loads((tmp_path / name / "dataset" / "card.json").read_text()) for name in ("one", "two")]
    assert cards[0]["fingerprint"] == cards[1]["fingerprint"]


def test_a_split_that_leaves_nothing_is_refused_in_one_line(
    config: Path, simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(config, simulated, tmp_path / "out", "--set", "split.purge_days=400") == 1
    error = capsys.readouterr().err
    assert "a gap of 400 days leaves no rows to learn from" in error
    assert not (tmp_path / "out" / "dataset" / "card.json").exists()
