"""`riskdistill labels export` writes what cases say, as known at a moment."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_decisions import PAID, decided

from pipelines.cli import main
from pipelines.label_file import LabelFile
from riskdistill.data.ingest import ingest, load_canonical
from riskdistill.data.schema import LABELS
from riskdistill.data.transaction import to_table
from riskdistill.storage.cases import CaseLog, Finding


@pytest.fixture
def url(tmp_path: Path) -> str:
    address = f"sqlite:///{tmp_path}/decisions.db"
    log = CaseLog(address)
    for tx_id, outcome, day in (("t1", "laundering", 2), ("t2", "false_alert", 2), ("t1", "false_alert", 9)):
        finding = Finding([tx_id], outcome, datetime(2026, 1, day, tzinfo=UTC))  # type: ignore[arg-type]
        log.record(finding, decided=decided("t1", "t2"), typologies=(), actor="ann")
    log.close()
    return address


def verdicts(path: Path) -> dict[str, bool]:
    """As `monitor watch --labels` reads them."""
    return {tx_id: outcome.laundering for tx_id, outcome in LabelFile(path)().items()}


def test_labels_are_canonical_and_as_known_at_the_moment(
    url: str, tmp_path: Path, done: Callable[..., str]
) -> None:
    out = tmp_path / "labels.parquet"
    said = done("labels", "export", "--cases", url, "--out", str(out), "--as-known-at", "2026-01-03T00:00:00Z")
    assert "2 labels, 1 of them laundering" in said
    assert pq.read_schema(out) == LABELS
    assert verdicts(out) == {"t1": True, "t2": False}
    done("labels", "export", "--cases", url, "--out", str(out))
    assert verdicts(out) == {"t1": False, "t2": False}


def test_with_transactions_each_of_them_gets_a_label_that_a_reader_of_canonical_tables_takes(
    url: str, tmp_path: Path, done: Callable[..., str]
) -> None:
    paid = [decided(name)[name].transaction for name in ("t1", "t2", "t3", "t4")]
    pq.write_table(to_table(paid), tmp_path / "transactions.parquet")
    older = [("t3", True, "cycle", "s7"), ("t2", True, "cycle", "s7")]  # a case says otherwise of t2, later
    known = [dict(zip(LABELS.names, (*row, PAID), strict=True)) for row in older]
    pq.write_table(pa.Table.from_pylist(known, LABELS), tmp_path / "labels.parquet")
    options = ("--cases", url, "--input", tmp_path, "--out", tmp_path / "labels.parquet")
    for _ in range(2):  # told twice it says the same
        said = done("labels", "export", *options, "--as-known-at", "2026-01-03T00:00:00Z")
        assert "4 labels, 2 of them laundering" in said
        ingest(tmp_path, tmp_path / "ingested", format="canonical")
        labels = load_canonical(tmp_path / "ingested")[1].to_pylist()
        assert {row["tx_id"]: row["scheme_id"] for row in labels} == {
            "t1": "c1",
            "t2": None,
            "t3": "s7",
            "t4": None,
        }
    assert not list(tmp_path.glob("*.unfinished"))


def test_labels_in_the_folder_that_are_none_are_refused_and_stay_as_they_are(
    url: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    pq.write_table(to_table([decided("t1")["t1"].transaction]), tmp_path / "transactions.parquet")
    wrong = pa.table({name: ["x"] for name in LABELS.names})
    pq.write_table(wrong, tmp_path / "labels.parquet")
    told = refused("labels", "export", "--cases", url, "--input", tmp_path, "--out", tmp_path / "labels.parquet")
    assert f"{tmp_path}/labels.parquet: not canonical labels" in told
    assert pq.read_table(tmp_path / "labels.parquet").equals(wrong)


@pytest.mark.parametrize("moment", ["yesterday", "2026-01-03T00:00:00"])
def test_a_moment_that_is_none_is_refused(url: str, moment: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["labels", "export", "--cases", url, "--as-known-at", moment]) == 1
    assert "--as-known-at" in capsys.readouterr().err
