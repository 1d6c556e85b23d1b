"""Labels for the watch: read again when the file changes, and kept when it cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from monitoring.labels import Outcome
from pipelines.label_file import LabelFile
from riskdistill.errors import DataError, UnreadableFileError


def rewrite(path: Path, text: str, at: int) -> None:
    path.write_text(text)
    os.utime(path, (at, at))


def test_labels_are_read_again_when_the_file_changes_and_kept_when_it_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    rewrite(path, "tx_id,is_laundering\na,True\nb,0\n", at=1_000)
    labels = LabelFile(path)
    assert labels() == {"a": Outcome(True), "b": Outcome(False)}
    rewrite(path, "tx_id,is_laundering\na,True\nb,0\nc,1\n", at=2_000)
    assert labels()["c"] == Outcome(True)
    rewrite(path, "tx_id,is_laundering\na,perhaps\n", at=3_000)
    assert labels()["c"].laundering
    path.unlink()
    assert labels()["c"].laundering


def test_canonical_labels_are_labels(tmp_path: Path, tiny_tables: tuple[pa.Table, pa.Table]) -> None:
    pq.write_table(tiny_tables[1], tmp_path / "labels.parquet")
    known = LabelFile(tmp_path / "labels.parquet")()
    assert len(known) == tiny_tables[1].num_rows
    assert sum(told.laundering for told in known.values()) == sum(tiny_tables[1]["is_laundering"].to_pylist())


def test_a_file_without_labels_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError):
        LabelFile(tmp_path / "absent.csv")
    rewrite(tmp_path / "wrong.csv", "tx_id,is_laundering\na,perhaps\n", at=1)
    with pytest.raises(DataError, match="is_laundering of transaction a is perhaps"):
        LabelFile(tmp_path / "wrong.csv")


def test_the_watch_takes_labels(done: Callable[..., str], service_folder: Path, simulated: Path) -> None:
    logs = [f"sqlite:///{service_folder}/{name}.db" for name in ("releases", "decisions")]
    options = ("--labels", simulated / "labels.parquet", "--looks", 1, "--dry-run")
    told = done("monitor", "watch", "--releases", logs[0], "--decisions", logs[1], *options)
    assert told == "1 none no harm is shown"
