"""Teachers, students and their peers on three data sets whose generators nobody here wrote.

    python benchmarks/distillation.py --data ../shared/data --keep runs/distillation --json distillation.json
    python benchmarks/distillation.py --quick                     # minutes: one data set, few rows and epochs
    python benchmarks/distillation.py --only quality_amlworld teachers

Split 60/20/20 by time; features from what came strictly before; teachers tuned on the earlier half of validation,
all models calibrated on the later half, judged on the last fifth. The peers are tuned and judged in the same run.
`--keep` holds what was trained, so that a stopped run goes on. It needs `pip install -e .[benchmarks]`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Final

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded: threads that spin starve each other

import feature_peer
from distillation_ablation import ablation, retention
from distillation_quality import peers, quality
from distillation_recipe import killed, recipe
from distillation_speed import speed, step
from distillation_student import exits, int8, pruning
from distillation_teachers import sizes, teachers
from distillation_text import text
from distillation_world import STUDENT_SEEDS, Options, World
from feature_data import ROOT, Library, Measurement
from feature_peer import Peer
from section import run_sections, section_options

from pipelines.progress import Steps

PACKAGES: Final = ("torch", "onnxruntime", "lightgbm", "snapml")


def sections(options: Options) -> dict[str, Callable[[], list[Measurement]]]:
    """What can be measured, by name, in the order in which it is."""
    world = cache(lambda name: World(name, options))
    known: dict[str, Callable[[], list[Measurement]]] = {}
    for name in options.names:
        for section in (quality, peers, sizes):
            known[f"{section.__name__}_{name}"] = partial(_of, section, world, name)
    # on one of natural rates, and on the smallest, which has the most laundering: it tells small differences apart
    for name in options.names[:2]:
        for section in (retention, int8, exits, speed):
            known[f"{section.__name__}_{name}"] = partial(_of, section, world, name)
    for section in (pruning, recipe):
        known[section.__name__] = partial(_of, section, world, options.names[0])
    for section in (step, killed, text, ablation, teachers):
        known[section.__name__] = partial(_of, section, world, "amlworld")
    return known


def _of(
    section: Callable[[World], list[Measurement]], world: Callable[[str], World], name: str
) -> list[Measurement]:
    return section(world(name))


def main() -> None:
    """Parse the options, measure, print, write."""
    options = section_options(__doc__, quick="amlworld only, fewer rows and epochs")
    options.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    options.add_argument("--keep", type=Path, help="folder of what is trained; default: a temporary one")
    options.add_argument("--seeds", type=int, default=len(STUDENT_SEEDS), help="of students, at most; default: all")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary, Steps() as steps:
        folder = chosen.keep or Path(temporary)
        library = Library(chosen.data, folder / "canonical")
        known = sections(Options(chosen.data, library, Peer(), folder, chosen.quick, steps, chosen.seeds))
        run_sections(known, chosen, PACKAGES, snapml=feature_peer.SETTINGS)


if __name__ == "__main__":
    main()
