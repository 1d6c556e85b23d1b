"""Ingest of a file in AMLworld's format: rows a second, memory, and whether every bad row is kept.

    python benchmarks/dataset_ingest.py                # five million rows
    python benchmarks/dataset_ingest.py --quick        # two million
    python benchmarks/dataset_ingest.py --json ingest.json

The file is made here: the columns, spellings and repetitions of HI-Small (half a million accounts, 30,000 banks,
times by the minute), its patterns file beside it, and about one row in a thousand spoiled in one of six ways. Each
way of reading it runs in a process of its own, so that the time holds everything and the memory is its own.
The peers do far less: pandas reads the file and writes it as Parquet, and checks nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from feature_data import ROOT, Measurement
from machine import describe, machine
from numpy.typing import NDArray

from riskdistill.data.currencies import CODE_BY_NAME

ROWS: Final = 5_000_000
QUICK_ROWS: Final = 2_000_000
SPOILED: Final = 0.001  # share of rows
SPEED_BAR: Final = 500_000  # rows a second
MEMORY_BAR: Final = 2.0  # GiB
PACKAGES: Final = ("pyarrow", "pandas", "numpy")
HEADER: Final = (
    "Timestamp,From Bank,Account,To Bank,Account,Amount Received,Receiving Currency,Amount Paid,"
    "Payment Currency,Payment Format,Is Laundering\n"
)
_ACCOUNTS, _BANKS, _DAYS = 500_000, 30_000, 10
_CURRENCIES: Final = tuple(CODE_BY_NAME)[:15]
_FORMATS: Final = ("Cheque", "Credit Card", "ACH", "Cash", "Reinvestment", "Wire", "Bitcoin")
_CHUNK: Final = 500_000
_CUT: Final = b",CUT\n"  # stands for a line that ends before its last field
_PEERS: Final = {
    "pandas, C engine": "pd.read_csv(source)",
    "pandas, pyarrow engine": "pd.read_csv(source, engine='pyarrow')",
}


@dataclass(frozen=True)
class Made:
    """A file that was made to be read.

    Attributes:
        file: `*_Trans.csv`, with its patterns beside it.
        whole: the same rows without the spoiled ones, which the peers could not read.
        spoiled: int64, the numbers of the bad rows, counted from 1.
    """

    file: Path
    whole: Path
    rows: int
    spoiled: NDArray[np.int64]


def make(folder: Path, rows: int, seed: int = 0) -> Made:
    """Write the file, its patterns, and a copy without bad rows."""
    rng = np.random.default_rng(seed)
    banks = np.sort(rng.zipf(1.3, _ACCOUNTS) % _BANKS)  # of each account; few banks have most of them
    minutes = np.sort(rng.integers(0, _DAYS * 1440, rows))
    file, whole = folder / "Made_Trans.csv", folder / "whole.csv"
    spoiled = []
    with file.open("wb") as out, whole.open("wb") as peers, file.with_name("Made_Patterns.txt").open("w") as listed:
        out.write(HEADER.encode())
        peers.write(HEADER.replace("To Bank,Account", "To Bank,Account.1").encode())  # one cannot repeat a name
        for start in range(0, rows, _CHUNK):
            columns = _columns(rng, banks, minutes[start : start + _CHUNK])
            _list_patterns(columns, listed)
            bad = np.flatnonzero(rng.random(len(columns["Timestamp"])) < SPOILED)
            peers.write(_lines({name: np.delete(column, bad) for name, column in columns.items()}))
            _spoil(columns, bad)
            out.write(_lines(columns).replace(_CUT, b"\n"))
            spoiled.append(start + bad + 1)
    return Made(file, whole, rows, np.concatenate(spoiled))


def _columns(
    rng: np.random.Generator, banks: NDArray[np.int64], minutes: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    rows = len(minutes)
    sender = np.minimum(_ACCOUNTS - 1, rng.pareto(1.2, rows) * _ACCOUNTS / 50).astype(np.int64)
    receiver = np.where(rng.random(rows) < 0.12, sender, rng.integers(0, _ACCOUNTS, rows))
    paid = np.round(rng.lognormal(7.0, 2.5, rows) + 0.01, 2)
    currency = rng.choice(len(_CURRENCIES), rows, p=_usual(len(_CURRENCIES)))
    other = np.where(rng.random(rows) < 0.014, rng.integers(0, len(_CURRENCIES), rows), currency)
    clock = np.datetime64("2022-09-01T00:00") + minutes
    names, accounts = np.array(_CURRENCIES, object), np.array([f"8{n:08X}" for n in range(_ACCOUNTS)], object)
    codes = np.array([f"0{bank:05d}" if bank % 3 else str(bank) for bank in range(_BANKS)], object)
    stamps = np.array([str(one).replace("-", "/").replace("T", " ") for one in np.unique(clock)], object)
    return {
        "Timestamp": stamps[np.unique(clock, return_inverse=True)[1]],
        "From Bank": codes[banks[sender]],
        "Account": accounts[sender],
        "To Bank": codes[banks[receiver]],
        "Account.1": accounts[receiver],
        "Amount Received": _spelled(np.where(other == currency, paid, np.round(paid * 1.1, 2))),
        "Receiving Currency": names[other],
        "Amount Paid": _spelled(paid),
        "Payment Currency": names[currency],
        "Payment Format": np.array(_FORMATS, object)[rng.choice(len(_FORMATS), rows, p=_usual(len(_FORMATS)))],
        "Is Laundering": np.where(rng.random(rows) < 0.001, "1", "0").astype(object),
    }


def _usual(count: int) -> NDArray[np.float64]:
    share = 1.0 / np.arange(1, count + 1)
    return share / share.sum()


def _spelled(amounts: NDArray[np.float64]) -> NDArray[Any]:
    return np.asarray(pa.array(amounts).cast(pa.string()).to_numpy(zero_copy_only=False))


def _list_patterns(columns: dict[str, NDArray[Any]], listed: Any) -> None:
    """Six in ten laundering rows, ten to a scheme, as the published patterns file has them."""
    laundering = np.flatnonzero(columns["Is Laundering"] == "1")
    for scheme in np.array_split(laundering[: int(0.62 * len(laundering))], max(1, len(laundering) // 16)):
        lines = [",".join(column[row] for column in columns.values()) for row in scheme]
        print("BEGIN LAUNDERING ATTEMPT - FAN-OUT:  Max 10-degree Fan-Out", *lines, sep="\n", file=listed)
        print("END LAUNDERING ATTEMPT - FAN-OUT\n", file=listed)


def _spoil(columns: dict[str, NDArray[Any]], bad: NDArray[np.int64]) -> None:
    """One fault for each row of `bad`, in turn."""
    faults = (
        ("Amount Paid", "n/a"),
        ("Amount Received", "-5.00"),
        ("Timestamp", "2022/13/45 00:00"),
        ("Payment Currency", "Doubloon"),
        ("Account", ""),
        ("Is Laundering", _CUT.decode().strip(",\n")),
    )
    for kind, (name, value) in enumerate(faults):
        columns[name][bad[kind :: len(faults)]] = value


def _lines(columns: dict[str, NDArray[Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()})
    pacsv.write_csv(table, sink, pacsv.WriteOptions(include_header=False, quoting_style="none"))
    return bytes(sink.getvalue())


def ingest_speed(folder: Path, quick: bool) -> list[Measurement]:
    """Make the file in `folder` and read it in every way, one after another.

    Args:
        folder: for all that is made: more than a gigabyte for five million rows.
        quick: two million rows. The start of the process weighs more on them, and speed is not held to its bar.
    """
    made = make(folder, QUICK_ROWS if quick else ROWS)
    out = folder / "canonical"
    ours = _in_a_process(_INGEST.format(source=str(made.file), out=str(out)))
    refused = pq.read_table(out / "quarantine.parquet", columns=["source_row"])["source_row"].to_numpy()
    size = f"{made.rows:,} rows, {made.file.stat().st_size / 1e6:,.0f} MB"
    wrong = len(np.setxor1d(refused, made.spoiled))
    told = f"{len(refused):,} in quarantine, {len(made.spoiled):,} spoiled"
    bar = None if quick else SPEED_BAR
    measured = [
        Measurement("ingest", made.rows / ours.seconds, "rows/s", bar, detail=f"{size}; {ours}"),
        Measurement("ingest, peak memory", ours.memory, "GiB", MEMORY_BAR, "lower"),
        Measurement("bad rows missed or good rows refused", wrong, "rows", 0, "lower", detail=told),
    ]
    for name, how in _PEERS.items():
        peer = _in_a_process(_PEER.format(source=str(made.whole), out=str(folder / "peer.parquet"), how=how))
        detail = f"{peer}, {peer.memory:.1f} GiB; without the bad rows, and nothing is checked"
        measured.append(Measurement(f"{name}, to Parquet", made.rows / peer.seconds, "rows/s", detail=detail))
    return measured


@dataclass(frozen=True)
class Process:
    """What a process took: seconds from its start to its end, of processor time, and GiB of memory at most."""

    seconds: float
    processor: float
    memory: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.processor:.1f} s of processor time"


def _in_a_process(code: str) -> Process:
    """Run `code` in a new Python, start and imports included in what it takes."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code + _TELL], cwd=ROOT, check=True, capture_output=True, text=True
    )
    seconds = time.perf_counter() - started
    told = json.loads(done.stdout.splitlines()[-1])
    return Process(seconds, told["processor"], told["kibibytes"] / 2**20)


_INGEST: Final = """
from pathlib import Path
from riskdistill.data.ingest import ingest
ingest(Path({source!r}), Path({out!r}), format="amlworld")
"""
_PEER: Final = """
import pandas as pd
source = {source!r}
{how}.to_parquet({out!r})
"""
# VmHWM is of this process alone, where getrusage would tell the memory of the one that started it, if larger
_TELL: Final = """
import json, time
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({"processor": time.process_time(), "kibibytes": int(status["VmHWM"].split()[0])}))
"""


def main() -> None:
    """Parse the options, measure, print, write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="two million rows")
    options.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = ingest_speed(Path(folder), chosen.quick)
    for row in rows:
        bar = "" if row.bar is None else f"{'>=' if row.better == 'higher' else '<='} {row.bar:,.0f}"
        print(f"{row.name:<42} {row.measured:>12,.1f} {row.unit:<7} {bar:<12} {row.detail}")
    print(f"{describe(PACKAGES)}; load {machine(())['load']}")
    if chosen.json:
        found = {"machine": machine(PACKAGES), "quick": chosen.quick, "ingest": [row.as_json() for row in rows]}
        chosen.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
