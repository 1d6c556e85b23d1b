"""Datasets, measured in one run: the simulator, its realism and transfer, perturbations, and ingest.

    python benchmarks/datasets.py --data ../shared/data --json datasets.json --out docs
    python benchmarks/datasets.py --quick                       # minutes: less data, not the README's figures
    python benchmarks/datasets.py --only simulator game         # some sections

Each section is a script of its own too, whose docstring says what is measured and how. `perturbations` trains some
180 students, an hour or more; it goes on from its record (--record) where it was stopped. Use a quiet machine.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dataset_game import hard_to_game
from dataset_ingest import ingest_speed
from dataset_perturbations import perturbations
from dataset_realism import realism
from dataset_simulator import simulator
from dataset_transfer import transfer
from feature_data import ROOT, Library, Measurement
from section import run_sections, section_options

from riskdistill.simulator import PRESETS, stream, write

PACKAGES: Final = ("torch", "lightgbm", "numpy", "pyarrow")
Section = Callable[[], list[Measurement]]


def sections(chosen: argparse.Namespace, folder: Path) -> dict[str, Section]:
    """What can be measured, by name, in the order in which it is."""
    library, quick = Library(chosen.data, chosen.cache or folder), chosen.quick
    preset = "demo" if quick else "benchmark"

    def simulated() -> Path:
        out = folder / preset
        if not out.exists():
            write(stream(PRESETS[preset], workers=2), out, PRESETS[preset])
        return out

    return {
        "simulator": lambda: simulator(folder / "simulator", quick),
        "ingest": lambda: ingest_speed(folder, quick),
        "game": lambda: hard_to_game(simulated(), quick),
        "realism": lambda: realism(library, simulated(), chosen.out, quick),
        "transfer": lambda: transfer(library, simulated(), quick),
        "perturbations": lambda: perturbations(library, chosen.record or folder / "record.json", quick=quick),
    }


def main() -> None:
    """Parse the options, measure, print, write."""
    options = section_options(__doc__, quick="less data, within five minutes")
    options.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    options.add_argument("--cache", type=Path, help="keep the ingested tables there; default: a temporary folder")
    options.add_argument("--out", type=Path, help="folder of the page and the picture of realism")
    options.add_argument("--record", type=Path, help="file of the perturbations' runs, to go on from")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run_sections(sections(chosen, Path(temporary)), chosen, PACKAGES)


if __name__ == "__main__":
    main()
