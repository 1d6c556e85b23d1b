"""Writing a folder of tables: a change that was cut short is finished, never half there for good."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from riskdistill.data import tables
from riskdistill.data.ingest import ingest, load_canonical
from riskdistill.data.tables import SCHEMAS, SUMMARY_FILE, finish_publishing
from riskdistill.errors import UnreadableFileError

HEADER = "step,type,amount,nameOrig,oldbalanceOrg,newbalanceOrig,nameDest,oldbalanceDest,newbalanceDest,isFraud"


def source(folder: Path, rows: int) -> Path:
    file = folder / f"{rows}.csv"
    lines = [f"{step},TRANSFER,1,a,0,0,b,0,0,0" for step in range(rows)]
    file.write_text("\n".join([HEADER, *lines]) + "\n")
    return file


@pytest.mark.parametrize("moved", range(1, 2 + len(SCHEMAS) + 3))
def test_a_stop_while_files_are_moved_is_mended_by_the_next_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    out, calls = tmp_path / "out", 0
    ingest(source(tmp_path, 3), out, format="paysim")
    replace = os.replace

    def stopped(made: Path, place: Path) -> None:
        nonlocal calls
        calls += 1
        if calls > moved:
            raise KeyboardInterrupt
        replace(made, place)

    with monkeypatch.context() as patch:
        patch.setattr(tables.os, "replace", stopped)
        if moved < 1 + len(SCHEMAS) + 3:
            with pytest.raises(KeyboardInterrupt):
                ingest(source(tmp_path, 5), out, format="paysim")
            with pytest.raises(UnreadableFileError, match=r"no ingest\.json"):  # rather than half of each
                load_canonical(out)
        else:
            ingest(source(tmp_path, 5), out, format="paysim")
    finish_publishing(out)
    transactions, labels = load_canonical(out)
    assert (transactions.num_rows, labels.num_rows) == (5, 5)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*SCHEMAS, SUMMARY_FILE, "quality.json", "quality.html"]
    )


def test_where_nothing_is_ready_nothing_moves(tmp_path: Path) -> None:
    finish_publishing(tmp_path)
    assert list(tmp_path.iterdir()) == []
