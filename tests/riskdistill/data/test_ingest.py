"""Ingest: every row is accounted for, tables are in order of time, and a failure leaves nothing behind."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskdistill.data import ingest as ingest_module
from riskdistill.data import source
from riskdistill.data.ingest import IngestSummary, ingest, load_canonical, read_transactions
from riskdistill.data.schema import ACCOUNT_FIELDS
from riskdistill.errors import (
    ConfigError,
    DataError,
    EmptyInputError,
    UnknownFormatError,
    UnreadableFileError,
)

HEADER = "step,type,amount,nameOrig,oldbalanceOrg,newbalanceOrig,nameDest,oldbalanceDest,newbalanceDest,isFraud"
SHARED = Path(__file__).parents[3].parent / "shared" / "data"


def paysim(folder: Path, rows: list[str]) -> Path:
    file = folder / "log.csv"
    file.write_text("\n".join([HEADER, *rows]) + "\n")
    return file


def row(step: object, amount: object = 1, fraud: object = 0) -> str:
    return f"{step},TRANSFER,{amount},a,0,0,b,0,0,{fraud}"


rows = st.one_of(
    st.builds(row, st.integers(0, 50), st.sampled_from([1, 2.5, -1, "x"]), st.sampled_from([0, 1, "?"])),
    st.just("1,2"),
)


@settings(deadline=None, max_examples=40)
@given(lines=st.lists(rows, max_size=40))
def test_every_row_is_accepted_or_set_aside_or_beyond_the_limit(
    lines: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("ingest")
    limit = datetime(2017, 1, 2, 12, tzinfo=UTC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "_BLOCK_BYTES", 128)
        seen: list[int] = []
        usable = row(0)
        file = paysim(folder, [usable, *lines])
        summary = ingest(file, folder / "out", format="paysim", until=limit, progress=seen.append)
    assert summary.rows_read == len(lines) + 1 == seen[-1]
    assert summary.rows_read == summary.accepted + summary.quarantined + summary.set_up + summary.beyond_until
    transactions, labels = load_canonical(folder / "out")
    quarantine = pq.read_table(folder / "out" / "quarantine.parquet")
    assert (transactions.num_rows, quarantine.num_rows) == (summary.accepted, summary.quarantined)
    assert labels["tx_id"].equals(transactions["tx_id"])
    times = transactions["timestamp"].to_pylist()
    assert times == sorted(times)
    assert all(time < limit for time in times)


def test_a_source_that_is_in_order_is_not_sorted_again(tmp_path: Path) -> None:
    assert not ingest(paysim(tmp_path, [row(1), row(1), row(2)]), tmp_path / "a", format="paysim").sorted_here
    assert ingest(paysim(tmp_path, [row(2), row(1)]), tmp_path / "b", format="paysim").sorted_here


def test_the_summary_is_written_beside_the_tables(tmp_path: Path) -> None:
    file = paysim(tmp_path, [row(1, fraud=1), row(2, -5), row(3, -6), row(4)])
    summary = ingest(file, tmp_path / "out", format="paysim")
    assert IngestSummary.model_validate_json((tmp_path / "out" / "ingest.json").read_text()) == summary
    assert summary.quarantined_by_reason == {"amount_paid is negative": 2}
    assert summary.by_typology == {"normal": 1, "unlisted": 1}
    assert (summary.positives, summary.first.hour, summary.last.hour) == (1, 1, 4)
    raw = pq.read_table(tmp_path / "out" / "quarantine.parquet").to_pylist()[0]["raw"]
    assert json.loads(raw)["amount"] == "-5"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "ingest.json",
        "labels.parquet",
        "quality.html",
        "quality.json",
        "quarantine.parquet",
        "transactions.parquet",
        "truth.parquet",
    ]


def test_the_files_are_the_same_bytes_however_many_threads_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_BLOCK_BYTES", 512)
    file = paysim(tmp_path, [row(step % 50, -1 if step % 7 == 0 else step) for step in range(200)])
    ingest(file, tmp_path / "several", format="paysim")
    threads = pa.cpu_count()
    pa.set_cpu_count(1)
    try:
        for module in (source, ingest_module):
            monkeypatch.setattr(module, "ahead", iter)
        ingest(file, tmp_path / "one", format="paysim")
    finally:
        pa.set_cpu_count(threads)
    several, one = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("several", "one")
    )
    assert several == one


def test_a_failure_leaves_the_earlier_tables_as_they_were(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ingest(paysim(tmp_path, [row(1)]), out, format="paysim")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    broken = tmp_path / "cut.parquet"
    broken.write_bytes((out / "transactions.parquet").read_bytes()[:-30])
    with pytest.raises(DataError):
        ingest(broken, out, format="paysim")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_source_without_a_usable_row_says_why(tmp_path: Path) -> None:
    with pytest.raises(EmptyInputError, match="none of 2 rows is usable; most often: amount_paid is negative"):
        ingest(paysim(tmp_path, [row(1, -1), row(1, -2)]), tmp_path / "out", format="paysim")
    with pytest.raises(EmptyInputError, match="the file has no rows"):
        ingest(paysim(tmp_path, []), tmp_path / "out", format="paysim")
    assert list((tmp_path / "out").iterdir()) == []


def test_mistakes_in_the_call_are_found_before_anything_is_made(tmp_path: Path) -> None:
    file = paysim(tmp_path, [row(1)])
    with pytest.raises(UnknownFormatError):
        ingest(file, tmp_path / "out", format="paysimm")
    with pytest.raises(ConfigError, match="add a UTC offset"):
        ingest(file, tmp_path / "out", format="paysim", until=datetime(2017, 1, 1))
    assert not (tmp_path / "out").exists()


def test_tables_from_before_the_optional_columns_load_and_read_with_nulls_in_them(tmp_path: Path) -> None:
    ingest(paysim(tmp_path, [row(1)]), tmp_path / "out", format="paysim")
    now, labels = load_canonical(tmp_path / "out")
    pq.write_table(now.drop_columns([*ACCOUNT_FIELDS]), tmp_path / "out" / "transactions.parquet")
    assert load_canonical(tmp_path / "out") == (now, labels)
    assert read_transactions(tmp_path / "out")[0] == now
    pq.write_table(now.drop_columns(["amount_paid"]), tmp_path / "out" / "transactions.parquet")
    with pytest.raises(UnreadableFileError, match="not canonical: column 'amount_paid': it is missing"):
        load_canonical(tmp_path / "out")


def test_only_a_finished_and_undamaged_folder_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="run ingest first"):
        load_canonical(tmp_path)
    ingest(paysim(tmp_path, [row(1)]), tmp_path / "out", format="paysim")
    labels = tmp_path / "out" / "labels.parquet"
    labels.write_bytes((tmp_path / "out" / "transactions.parquet").read_bytes())
    with pytest.raises(UnreadableFileError, match="not canonical"):
        load_canonical(tmp_path / "out")
    labels.write_bytes(b"PAR1")
    with pytest.raises(UnreadableFileError, match="run ingest again"):
        load_canonical(tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "folder", "until", "counts"),
    [
        ("amlworld", "amlworld-hard", None, (36_595, 36_595, 5_177, 5_177 - 3_209)),
        ("amlworld", "amlworld-hard", datetime(2022, 9, 10, tzinfo=UTC), (36_595, 33_702, 4_080, 1_813)),
        ("amlsim", "amlsim-10k", None, (197_905, 197_905, 671, 0)),
        ("amlgentex", "amlgentex-5k", None, (553_579, 548_579, 2_130, 0)),
    ],
)
def test_real_sets_are_read_whole(
    tmp_path: Path, name: str, folder: str, until: datetime | None, counts: tuple[int, int, int, int]
) -> None:
    if not (SHARED / folder).is_dir():
        pytest.skip(f"the real set {folder} is not beside the repository in ../shared/data")
    summary = ingest(SHARED / folder, tmp_path, format=name, until=until)
    unlisted = summary.by_typology.get("unlisted", 0)
    assert (summary.rows_read, summary.accepted, summary.positives, unlisted) == counts
    assert summary.quarantined == 0
