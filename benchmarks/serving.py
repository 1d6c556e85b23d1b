"""The scoring service under load, faults and hostile input: the real server, driven from another process.

    python benchmarks/serving.py --json serving.json
    python benchmarks/serving.py --quick                      # minutes: shorter runs, not the README's figures
    python benchmarks/serving.py --only single batch --keep runs/serving
    python benchmarks/serving.py --only memory --minutes 60   # an hour of traffic is held in memory, 8 GB
    python benchmarks/serving.py --only killed faults fuzz    # needs redis-server, PostgreSQL, a C compiler, root

Every section prints what was measured beside the bar that it is held to. The server has one core and whoever drives
it another. What the rate of single transactions is compared with, an endpoint of FastAPI and pydantic that does
nothing, runs in the same run on the same core. The bundle has networks of the usual size, which learned nothing:
what they cost is the same. Run it on a quiet machine with two cores; the load is written beside the figures.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import serving_speed
from feature_data import Measurement
from section import run_sections, section_options
from serving_faults import faults
from serving_killed import killed
from serving_same import same
from serving_speed import Bench
from serving_stages import stages
from serving_world import World

PACKAGES: Final = ("fastapi", "uvicorn", "pydantic", "msgspec", "onnxruntime")
KILLS: Final = 20
QUICK_KILLS: Final = 2
MINUTES: Final = 10.0
QUICK_MINUTES: Final = 1.0


def sections(chosen: argparse.Namespace, bench: Bench) -> dict[str, Callable[[], list[Measurement]]]:
    """What can be measured, by name, in the order in which it is."""
    speed, kills = serving_speed, QUICK_KILLS if chosen.quick else KILLS
    minutes = chosen.minutes or (QUICK_MINUTES if chosen.quick else MINUTES)
    return {
        "single": lambda: speed.single(bench),
        "batch": lambda: speed.batch(bench),
        "latency": lambda: speed.latency(bench),
        "bypass": lambda: speed.bypass(bench),
        "stages": lambda: stages(bench),
        "killed": lambda: killed(bench, kills),
        "faults": lambda: faults(bench),
        "fuzz": lambda: fuzz(bench),
        "start": lambda: speed.start(bench),
        "memory": lambda: speed.memory(bench, minutes),
        "same": lambda: same(bench),
    }


def fuzz(bench: Bench) -> list[Measurement]:
    """Hostile requests; Schemathesis, which makes them, is in the extra `benchmarks`, and the others do without."""
    import serving_fuzz

    return serving_fuzz.fuzz(bench)


def main() -> None:
    """Parse the options, measure, print, write."""
    options = section_options(__doc__, quick="shorter runs")
    options.add_argument("--keep", type=Path, help="keep bundle and traffic there; default: a temporary folder")
    options.add_argument(
        "--minutes", type=float, metavar="N", help="how long `memory` takes; default: 10, quick: 1"
    )
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        world = World(chosen.keep or Path(temporary) / "world")
        run_sections(sections(chosen, Bench(world, Path(temporary), chosen.quick)), chosen, PACKAGES)


if __name__ == "__main__":
    main()
