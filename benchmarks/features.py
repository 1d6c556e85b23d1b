"""The feature engine on three data sets whose generators nobody here wrote: speed, memory, sameness and quality.

    python benchmarks/features.py --data ../shared/data --json features.json
    python benchmarks/features.py --quick                     # minutes: less data, not the README's figures
    python benchmarks/features.py --only replay observe       # some sections
    python benchmarks/features.py --only ablation --ablation-out docs

Every section prints what was measured beside the bar that it is held to. What we compare with, IBM's Graph Feature
Preprocessor (snapml), is measured in the same run, on the same rows in the same order. Speed is of one core. Run it
on a quiet machine; the load is written beside the figures. It needs `pip install -e .[benchmarks,redis]`, and the
section `redis` a server.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import feature_ablation
import feature_peer
import feature_quality
import feature_redis
import feature_speed
import feature_state
from feature_data import ROOT, Library, Measurement
from feature_peer import Peer
from section import run_sections, section_options

PACKAGES: Final = ("lightgbm", "numba", "numpy", "pyarrow", "snapml")
Section = Callable[[], list[Measurement]]


def sections(chosen: argparse.Namespace, folder: Path) -> dict[str, Section]:
    """What can be measured, by name, in the order in which it is."""
    library, peer = Library(chosen.data, chosen.cache or folder), Peer()
    quick = chosen.quick
    return {
        "replay": lambda: feature_speed.replay(library, peer, quick),
        "observe": lambda: feature_speed.observe(library),
        "hub": lambda: feature_speed.hub(quick),
        "start": feature_speed.start,
        "memory": lambda: feature_state.memory(quick),
        "snapshot": lambda: feature_state.snapshot(folder, quick),
        "equality": lambda: feature_state.equality(library, quick),
        "redis": lambda: feature_redis.shared_state(library, chosen.redis, quick),
        "quality": lambda: feature_quality.quality(library, peer, quick),
        "ablation": lambda: feature_ablation.ablation(library, chosen.ablation_out, quick),
    }


def main() -> None:
    """Parse the options, measure, print, write."""
    options = section_options(__doc__, quick="less data, within five minutes")
    options.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    options.add_argument("--cache", type=Path, help="keep the ingested tables there; default: a temporary folder")
    options.add_argument("--redis", default="redis://127.0.0.1:6379/15", metavar="URL", help="default: %(default)s")
    options.add_argument("--ablation-out", type=Path, help="folder of the ablation's table and plot")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run_sections(sections(chosen, Path(temporary)), chosen, PACKAGES, snapml=feature_peer.SETTINGS)


if __name__ == "__main__":
    main()
