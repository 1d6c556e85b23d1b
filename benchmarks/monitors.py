"""The monitors on simulations with a known truth: false alarms, delays, speed of drift, and estimates of precision.

    python benchmarks/monitors.py --json monitors.json
    python benchmarks/monitors.py --quick                    # minutes: fewer runs, not the README's figures
    python benchmarks/monitors.py --only detection psi       # some sections

Every section prints what was measured beside the bar that it is held to. The rules of thumb that teams use
instead of sequential tests see the same streams. `controller` drives the whole rollback controller by single
decisions, where `false_alarms` and `detection` feed its tests with counts. All simulations are seeded; intervals
are of 95 %. `swap` starts the real service, and wants two cores and a quiet machine.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import monitoring_canary
import monitoring_controller
import monitoring_drift
import monitoring_estimates
import monitoring_harm
import monitoring_swap
from feature_data import Measurement
from section import run_sections

PACKAGES: Final = ("numpy", "scipy", "lightgbm")
Section = Callable[[], list[Measurement]]


def sections(quick: bool, cache: Path) -> dict[str, Section]:
    """What can be measured, by name, in the order in which it is."""
    return {
        "false_alarms": lambda: monitoring_harm.false_alarms(quick),
        "detection": lambda: monitoring_harm.detection(quick),
        "canary": lambda: monitoring_canary.canary(quick),
        "controller": lambda: monitoring_controller.controller(quick),
        "drift_speed": lambda: monitoring_drift.drift_speed(),
        "psi": lambda: monitoring_drift.psi(quick),
        "estimates": lambda: monitoring_estimates.estimates(quick, cache),
        "drills": lambda: monitoring_drift.drills(quick),
        "swap": lambda: monitoring_swap.swap(quick),
    }


def main() -> None:
    """Parse the options, measure, print, write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", type=Path, help="write all figures to this file, section by section")
    options.add_argument("--quick", action="store_true", help="fewer runs, within five minutes")
    options.add_argument("--only", nargs="+", metavar="SECTION", help="sections to run; default: all")
    options.add_argument(
        "--cache", type=Path, help="keep the worlds of `estimates` there; default: a temporary folder"
    )
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        cache = chosen.cache or Path(temporary)
        cache.mkdir(parents=True, exist_ok=True)
        run_sections(sections(chosen.quick, cache), chosen, PACKAGES)


if __name__ == "__main__":
    main()
