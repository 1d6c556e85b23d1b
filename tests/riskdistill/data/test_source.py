"""Opening files: numbering, malformed rows, and files that cannot be used as a whole."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskdistill.data import columns, source
from riskdistill.data.source import ROW_NUMBER, column_names, locate, read_rows
from riskdistill.errors import EmptyInputError, MissingColumnError, UnreadableFileError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@settings(deadline=None, max_examples=40)
@given(lines=st.lists(st.sampled_from(["1,2", "1", "1,2,3", '"a\nb",2']), min_size=1, max_size=60))
def test_every_csv_row_comes_out_once_under_its_own_number(
    lines: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.mktemp("csv") / "x.csv", "\n".join(["a,b", *lines]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "_BLOCK_BYTES", 32)
        stretches = list(read_rows(path, ["a"]))
    good = [int(number) for rows in stretches for number in rows.numbers]
    bad = [row.number for rows in stretches for row in rows.malformed]
    expected = [number for number, line in enumerate(lines, start=1) if line.count(",") == 1]
    assert good == expected
    assert bad == [number for number in range(1, len(lines) + 1) if number not in expected]


def test_gzip_byte_order_mark_and_repeated_columns_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress("\ufeffBank,Account,Bank2,Account\n1,x,2,y\n".encode()))
    (rows,) = read_rows(path, ["Account", "Account.1"])
    assert rows.table.to_pylist() == [{"Bank": "1", "Account": "x", "Bank2": "2", "Account.1": "y"}]


def test_parquet_rows_are_numbered_across_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_BATCH_ROWS", 3)
    pq.write_table(pa.table({"a": range(8)}), tmp_path / "x.parquet")
    numbers = np.concatenate([rows.numbers for rows in read_rows(tmp_path / "x.parquet", ["a"])])
    assert numbers.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_missing_column_is_named_beside_those_that_are_there(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "a,b\n1,2\n")
    with pytest.raises(MissingColumnError, match=r"no column 'c'; the file has 'a', 'b'"):
        list(read_rows(path, ["a", "c"]))


@pytest.mark.parametrize("text", ["", "\n", "a,b\n"])
def test_an_empty_file_is_said_to_be_empty(tmp_path: Path, text: str) -> None:
    with pytest.raises(EmptyInputError):
        list(read_rows(write(tmp_path / "x.csv", text), ["a"] if text.strip() else []))


def test_an_empty_parquet_table_is_said_to_be_empty(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "x.parquet")
    with pytest.raises(EmptyInputError):
        list(read_rows(tmp_path / "x.parquet", ["a"]))


def truncated_parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": range(1000)}), sink)
    return sink.getvalue().to_pybytes()[:-40]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.parquet", truncated_parquet()),
        ("cut", truncated_parquet()),
        ("text.parquet", b"a,b\n1,2\n"),
        ("empty.parquet", b""),
        ("cut.csv.gz", gzip.compress(b"a,b\n" + bytes(range(48, 58)) * 9999)[:-30]),
        ("plain.csv.gz", b"a,b\n1,2\n"),
        ("latin.csv", "a,b\né,2\n".encode("latin-1")),
        ("latin-header.csv", "é,b\n1,2\n".encode("latin-1")),
    ],
)
def test_a_damaged_file_is_one_error_that_names_it(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError) as caught:
        list(read_rows(path, ["a"]))
    assert caught.value.where == str(path)
    assert "\n" not in str(caught.value)
    assert caught.value.mend


def test_a_folder_stands_for_the_one_file_that_fits(tmp_path: Path) -> None:
    file = write(tmp_path / "x_Trans.csv", "a\n1\n")
    assert locate(tmp_path, "*.parquet", "*_Trans.csv*") == file
    assert column_names(locate(file, "*")) == ["a"]
    write(tmp_path / "y_Trans.csv", "a\n1\n")
    with pytest.raises(UnreadableFileError, match=r"several files fit: x_Trans\.csv, y_Trans\.csv"):
        locate(tmp_path, "*_Trans.csv*")
    with pytest.raises(UnreadableFileError, match=r"none of \*\.parquet"):
        locate(tmp_path, "*.parquet")
    with pytest.raises(UnreadableFileError, match="no such file"):
        locate(tmp_path / "absent")


def test_repeated_columns_are_encoded_and_say_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "a,b\nx, 1\ny,2\nx,?\n")
    (plain,), (encoded,) = read_rows(path, ["a"]), read_rows(path, ["a"], repeated=["a", "b"])
    assert pa.types.is_dictionary(encoded.table["a"].type)
    assert encoded.table.to_pylist() == plain.table.to_pylist()
    for function in (columns.text, columns.number):
        assert (
            columns.by_distinct(function, encoded.table["b"]).to_pylist() == function(plain.table["b"]).to_pylist()
        )
    assert columns.by_distinct(columns.text, plain.table["b"]).to_pylist() == ["1", "2", "?"]


def test_corrected_rows_keep_their_numbers_in_the_source(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", f"{ROW_NUMBER},a\n70,x\n12,y\n")
    (rows,) = read_rows(path, ["a"])
    assert rows.numbers.tolist() == [70, 12]
    assert rows.table.to_pylist() == [{"a": "x"}, {"a": "y"}]
