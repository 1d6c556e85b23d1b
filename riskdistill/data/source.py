"""Opening other people's files: CSV, gzipped CSV and Parquet as a stream of numbered rows.

A file larger than memory is read a block at a time. CSV columns are all text here, so that a wrong value
is a matter of one row and not of the file; rows with too many or too few fields are kept aside with their
numbers. What makes a whole file unusable (absent, truncated, a column short) is one error that names it.

A file of corrected rows (see `reingest`) tells in the column ROW_NUMBER which rows of the source they are: they
keep those numbers, and the column is taken away.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from riskdistill.data.ahead import ahead
from riskdistill.errors import EmptyInputError, MissingColumnError, UnreadableFileError

ROW_NUMBER: Final = "riskdistill_source_row"
_BLOCK_BYTES: Final = 8 << 20
_BATCH_ROWS: Final = 1 << 16
_ENCODED: Final = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class MalformedRow:
    """A CSV row that does not have as many fields as the header."""

    number: int
    problem: str
    text: str


@dataclass(frozen=True)
class Rows:
    """A stretch of a source, in its own columns and order.

    Attributes:
        table: the rows; text throughout where the source is CSV.
        numbers: int64[n], each row's number in the source, from 1, a header not counted.
        malformed: rows of the same stretch that could not be put into columns.
    """

    table: pa.Table
    numbers: npt.NDArray[np.int64]
    malformed: tuple[MalformedRow, ...] = ()

    def where(self, mask: pa.ChunkedArray[Any]) -> Rows:
        """The rows for which `mask` (bool[n]) is true; malformed rows stay."""
        return Rows(self.table.filter(mask), self.numbers[mask.to_numpy()], self.malformed)


def locate(path: Path, *patterns: str) -> Path:
    """`path` itself if it is a file, else the one file in that folder that fits the first fitting pattern.

    Raises:
        UnreadableFileError: nothing there, no file fits, or more than one does.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise UnreadableFileError("no such file or folder", where=str(path), mend="check the path")
    for pattern in patterns:
        found = sorted(path.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(file.name for file in found)
            raise UnreadableFileError(f"several files fit: {names}", where=str(path), mend="name the file itself")
    raise UnreadableFileError(
        f"the folder holds none of {', '.join(patterns)}", where=str(path), mend="name the file itself"
    )


def column_names(path: Path, delimiter: str = ",") -> list[str]:
    """The columns of a CSV or Parquet file; a repeated name gets .1, .2, … as pandas has it.

    Raises:
        UnreadableFileError: not a file of its kind.
        EmptyInputError: a CSV file without a header.
    """
    with _as_unreadable(path):
        if _is_parquet(path):
            with pq.ParquetFile(path) as file:
                return list(file.schema_arrow.names)
        with open_text(path) as lines:
            header = next(csv.reader(lines, delimiter=delimiter), None)
    if not header:
        raise EmptyInputError("the file is empty", where=str(path), mend="check that the export finished")
    names: list[str] = []
    for name in (name.strip() for name in header):
        repeats = sum(known == name or known.startswith(f"{name}.") for known in names)
        names.append(f"{name}.{repeats}" if name in names else name)
    return names


def read_rows(
    path: Path, required: Iterable[str], delimiter: str = ",", repeated: Collection[str] = ()
) -> Iterator[Rows]:
    """Streams a CSV, gzipped CSV or Parquet file in blocks, rows in file order; the next block is read meanwhile.

    Args:
        path: the file; its first bytes and its suffix tell what it is.
        required: columns that the file must have; others are kept too.
        delimiter: between the fields of a CSV file.
        repeated: columns of a CSV file with few distinct values, to be dictionary-encoded (see
            `columns.by_distinct`).

    Raises:
        MissingColumnError: naming the missing and the present columns.
        UnreadableFileError: truncated, not the format that it claims, not UTF-8, or absent.
        EmptyInputError: no rows.
    """
    present = column_names(path, delimiter)
    missing = [name for name in dict.fromkeys(required) if name not in present]
    if missing:
        raise MissingColumnError(
            f"no column {', '.join(map(repr, missing))}; the file has {', '.join(map(repr, present))}",
            where=str(path),
            mend="check the format name, or use format 'mapping' and name the columns",
        )
    with _as_unreadable(path):
        empty = True
        rows_of = _parquet_rows(path) if _is_parquet(path) else _csv_rows(path, present, delimiter, repeated)
        for rows in ahead(rows_of):
            empty = False
            yield _as_numbered(rows) if ROW_NUMBER in present else rows
    if empty:
        raise EmptyInputError("the file has no rows", where=str(path), mend="check that the export finished")


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """The lines of a UTF-8 text file, gzipped or not, with or without a byte order mark.

    Raises:
        UnreadableFileError: damaged, not UTF-8, or absent.
    """
    with _as_unreadable(path), path.open("rb") as raw, gzip.open(raw) if _is_gzip(path) else raw as plain:
        yield io.TextIOWrapper(plain, encoding="utf-8-sig", newline="")


@contextmanager
def _as_unreadable(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise UnreadableFileError("not UTF-8 text", where=str(path), mend="save it as UTF-8") from error
    except (pa.ArrowException, OSError, EOFError, csv.Error) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        mend = "save it as UTF-8" if "UTF8" in told else "fetch the file again, or name its true format"
        raise UnreadableFileError(told, where=str(path), mend=mend) from error


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _is_parquet(path: Path) -> bool:
    return path.suffix == ".parquet" or _first_bytes(path) == b"PAR1"


def _is_gzip(path: Path) -> bool:
    return path.suffix == ".gz" or _first_bytes(path).startswith(b"\x1f\x8b")


def _parquet_rows(path: Path) -> Iterator[Rows]:
    first = 1
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS):
            if batch.num_rows:
                numbers = np.arange(first, first + batch.num_rows, dtype=np.int64)
                yield Rows(pa.Table.from_batches([batch]), numbers)
                first += batch.num_rows


def _csv_rows(path: Path, names: list[str], delimiter: str, repeated: Collection[str]) -> Iterator[Rows]:
    malformed: list[MalformedRow] = []

    def set_aside(row: Any) -> Literal["skip"]:
        problem = f"row has {row.actual_columns} fields where the header has {row.expected_columns}"
        malformed.append(MalformedRow(row.number - 1, problem, row.text))  # Arrow counts the header
        return "skip"

    stream: Any = pa.OSFile(str(path), "rb")
    with pa.CompressedInputStream(stream, "gzip") if _is_gzip(path) else stream as stream:
        reader = pacsv.open_csv(
            stream,
            # threads would lose the row numbers
            pacsv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES, column_names=names, skip_rows=1),
            pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=set_aside),
            pacsv.ConvertOptions(
                column_types={name: _ENCODED if name in repeated else pa.string() for name in names},
                strings_can_be_null=False,
            ),
        )
        first = 1
        for batch in reader:
            numbers = _number(batch.num_rows, first, malformed)
            first = int(numbers[-1]) + 1 if len(numbers) else first
            passed = tuple(row for row in malformed if row.number < first)
            del malformed[: len(passed)]
            yield Rows(pa.Table.from_batches([batch]), numbers, passed)
    if malformed:
        yield Rows(_no_rows(names), np.empty(0, np.int64), tuple(malformed))


def _as_numbered(rows: Rows) -> Rows:
    """The rows under the numbers that they tell."""
    numbers = rows.table[ROW_NUMBER].cast(pa.int64()).to_numpy()
    return Rows(rows.table.drop_columns([ROW_NUMBER]), numbers, rows.malformed)


def _number(count: int, first: int, malformed: list[MalformedRow]) -> npt.NDArray[np.int64]:
    """The source numbers of the next `count` good rows, the next row of any kind being `first`."""
    skipped = np.array([row.number for row in malformed], dtype=np.int64)
    good_before = skipped - first - np.arange(len(skipped))
    position = np.arange(count, dtype=np.int64)
    return first + position + np.searchsorted(good_before, position, side="right")


def _no_rows(names: list[str]) -> pa.Table:
    return pa.table({name: pa.array([], pa.string()) for name in names})
