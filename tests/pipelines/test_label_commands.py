"""`riskdistill labels export` writes what cases say, as known at a moment."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made_decisions import decided

from pipelines.cli import main
from pipelines.label_file import LabelFile
from riskdistill.data.schema import LABELS
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


def test_labels_are_canonical_and_as_known_at_the_moment(
    url: str, tmp_path: Path, done: Callable[..., str]
) -> None:
    out = tmp_path / "labels.parquet"
    said = done("labels", "export", "--cases", url, "--out", str(out), "--as-known-at", "2026-01-03T00:00:00Z")
    assert "2 labels, 1 of them laundering" in said
    assert pq.read_schema(out) == LABELS
    assert LabelFile(out)() == {"t1": True, "t2": False}  # what `monitor watch --labels` reads
    done("labels", "export", "--cases", url, "--out", str(out))
    assert LabelFile(out)() == {"t1": False, "t2": False}


@pytest.mark.parametrize("moment", ["yesterday", "2026-01-03T00:00:00"])
def test_a_moment_that_is_none_is_refused(url: str, moment: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["labels", "export", "--cases", url, "--as-known-at", moment]) == 1
    assert "--as-known-at" in capsys.readouterr().err
