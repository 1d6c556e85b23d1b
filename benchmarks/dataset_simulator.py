"""How fast the simulator writes its worlds, in how much memory, and whether the bytes are the same each time.

    python benchmarks/dataset_simulator.py --json simulator.json        # needs 3 GB of disk for `large`

Each world is written by a process of its own, as `riskdistill simulate` does, so that the memory peak is its own.
Start and imports are counted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from feature_data import Measurement
from section import run_alone

PACKAGES: Final = ("numpy", "numba", "pyarrow")
SPEED, MEMORY_GIB = 300_000, 4.0  # transactions a second on two cores; a bound that no world may pass
MANY: Final = 2_000_000  # transactions of `benchmark`
VERY_MANY: Final = 50_000_000  # … of `large`
CODE: Final = """
import json, resource, sys, time
started = time.perf_counter()
from pathlib import Path
from riskdistill.simulator import PRESETS, stream, write
preset, workers, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
config, rows = PRESETS[preset], 0
def counted():
    global rows
    for part in stream(config, workers=workers):
        rows += part.transactions.num_rows
        yield part
write(counted(), folder, config)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"rows": rows, "seconds": time.perf_counter() - started, "peak": peak / 2**20}))
"""


@dataclass(frozen=True)
class Made:
    """One world: how many transactions, in how many seconds, with how much memory (GiB)."""

    rows: int
    seconds: float
    peak: float

    @property
    def speed(self) -> float:
        """Transactions a second."""
        return self.rows / self.seconds


def simulator(folder: Path, quick: bool) -> list[Measurement]:
    """Speed and memory of `benchmark` and, unless `quick`, `large`; the bytes of one and of two workers."""
    _make("tiny", 1, folder / "warm")  # compiles once
    alone, pair = (_make("benchmark", workers, folder / f"benchmark-{workers}") for workers in (1, 2))
    found = [*_told("benchmark", pair, MANY), _same(folder)]
    found.append(Measurement("benchmark with one worker", alone.speed, "tx/s", detail=f"{alone.seconds:.1f} s"))
    if not quick:
        found += _told("large", _make("large", 2, folder / "large"), VERY_MANY)
    return found


def _told(name: str, made: Made, least: int) -> list[Measurement]:
    size = f"{made.rows:,} transactions in {made.seconds:.1f} s, Parquet on disk included"
    return [
        Measurement(f"{name}: transactions", made.rows, "", least),
        Measurement(f"{name}: speed, two workers", made.speed, "tx/s", SPEED, detail=size),
        Measurement(f"{name}: peak memory", made.peak, "GiB", MEMORY_GIB, "lower"),
    ]


def _same(folder: Path) -> Measurement:
    """How many of the files that one and two workers wrote differ."""
    first, second = folder / "benchmark-1", folder / "benchmark-2"
    names = sorted(path.name for path in first.iterdir())
    differ = [name for name in names if _digest(first / name) != _digest(second / name)]
    return Measurement("files unlike between one and two workers", len(differ), f"of {len(names)}", 0, "lower")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make(preset: str, workers: int, folder: Path) -> Made:
    arguments = [sys.executable, "-c", CODE, preset, str(workers), str(folder)]
    told = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    return Made(**json.loads(told))


def main() -> None:
    """Parse the options, measure, print, write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="without `large`")
    options.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run_alone(
            "simulator", lambda: simulator(Path(folder), chosen.quick), PACKAGES, quick=chosen.quick, to=chosen.json
        )


if __name__ == "__main__":
    main()
