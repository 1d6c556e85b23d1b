"""Retraining when launderers come up with something new: a simulated bank, its champion, and the challenger.

    python benchmarks/retraining.py --keep runs/retraining --json retraining.json
    python benchmarks/retraining.py --quick        # half the accounts

A champion learns before day `NEW_ON`, from which on some launderers split their money into swarms of small payments
(the simulator's typology `micro`). On day `NOW` it is retrained as `riskdistill retrain` does it, from labels as a
bank has them by then: late, incomplete, partly wrong. Both students are then judged by the truth on the days after,
which nothing has seen, at one alert budget; intervals of 95 % are over whole schemes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded: threads that spin starve each other

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feature_data import ROOT, Measurement
from section import run_alone

from pipelines.bundle_store import keep
from pipelines.contest import budget_of
from pipelines.datasets import prepare
from pipelines.progress import Steps
from pipelines.retrain import Retrained, Retraining, retrain
from pipelines.run import furnished, judge_and_bundle, taught_student
from pipelines.teachers import fit_teachers
from riskdistill.bundle import Bundle
from riskdistill.config import ExperimentConfig, load_config
from riskdistill.data.schema import NORMAL
from riskdistill.evaluation.gates import Change, Contest, recall_changes
from riskdistill.evaluation.metrics import STUDENT
from riskdistill.features import Encoded
from riskdistill.provenance import Provenance
from riskdistill.simulator import PRESETS, Drift, Simulated, SimulationConfig, simulate
from riskdistill.simulator import write as write_simulated
from riskdistill.storage.releases import ReleaseLog

NEW: Final = "micro"
NEW_ON, NOW, DAYS = 90, 210, 240
PACKAGES: Final = ("torch", "lightgbm", "onnxruntime", "numpy")
BLIND, SEEN, FORGOTTEN = 0.20, 0.70, -0.02  # bars: recall before and after; change on the old typologies
# Laundering is some 3 % of this traffic: a team that reviews less could not find it all.
SETTINGS: Final = (
    "serving.review.budget=0.05",
    "evaluation.typology_budget=0.05",
    "boosted_trees.candidates.0.rounds=200",
)


@dataclass(frozen=True)
class World:
    """The bank's traffic, and where its two days lie in it."""

    config: SimulationConfig
    simulated: Simulated

    @classmethod
    def made(cls, quick: bool) -> World:
        """A bank of 3,000 accounts, or 1,500."""
        drift = (Drift(start_day=NEW_ON, new_typology=NEW),)
        changes = {"accounts": 1_500 if quick else 3_000, "days": DAYS, "drifts": drift}
        config = PRESETS["demo"].model_copy(update=changes)
        return cls(config, simulate(config))

    def day(self, number: int) -> datetime:
        """When a day begins."""
        return self.config.start + timedelta(days=number)

    def until(self, day: int, folder: Path) -> Path:
        """The transactions before a day, with all that is ever recorded of them, as files."""
        times = self.simulated.transactions["timestamp"]
        before = pc.less(times, pa.scalar(self.day(day), times.type))
        tables = (self.simulated.transactions, self.simulated.labels, self.simulated.truth)
        write_simulated([Simulated(*(table.filter(before) for table in tables))], folder, self.config)
        return folder


def retraining(folder: Path, quick: bool) -> list[Measurement]:
    """What the students of champion and challenger find of the new typology and of the old ones."""
    world = World.made(quick)
    config = load_config(ROOT / "configs" / "demo.yaml", SETTINGS)
    log = ReleaseLog(f"sqlite:///{folder.absolute()}/releases.db")
    with Steps() as steps:
        champion = _champion(log, world, config, folder, steps)
        source = world.until(NOW, folder / "now")
        asked = Retraining(source, folder / "retrained", folder / "bundles", now=world.day(NOW))
        result = retrain(log, asked, steps)
    new, old, contest = _judged(world, champion, Bundle.load(result.bundle, teacher=False), config)
    return [*_told(new, old, contest), *_gates(result)]


def _champion(log: ReleaseLog, world: World, config: ExperimentConfig, folder: Path, steps: Steps) -> Bundle:
    """Trained before anything new happens, and promoted; on a second call, the one that is there."""
    release = log.champion()
    if release is None:
        bundle = _first(world.until(NEW_ON, folder / "before"), config, folder / "champion", steps)
        who = {"actor": "benchmark", "reason": "the first"}
        registered = log.register(keep(bundle, folder / "bundles"), bundle.version, **who)
        release = log.promote(registered.release_id, **who, evidence={})
    return Bundle.load(Path(release.bundle_path), teacher=False)


def _first(source: Path, config: ExperimentConfig, out: Path, steps: Steps) -> Bundle:
    """As `riskdistill run` makes it, without what that compares it with."""
    prepared = prepare(config, source, out, steps, command="benchmarks/retraining.py")
    workshop = furnished(out, config, prepared.dataset, steps)
    teachers = fit_teachers(config, workshop)
    students = {STUDENT: taught_student(teachers, config, workshop)}
    made = Provenance.of(config, prepared.dataset)
    return judge_and_bundle(config, prepared, workshop, teachers, students, made).bundle


def _judged(
    world: World, champion: Bundle, challenger: Bundle, config: ExperimentConfig
) -> tuple[Change, Change, Contest]:
    """Recall on the days after `NOW`, by the truth: of the new typology, and of all others."""
    table, truth = world.simulated.transactions, world.simulated.truth
    later = pc.greater_equal(table["timestamp"], pa.scalar(world.day(NOW), table["timestamp"].type)).to_numpy()
    encoded = champion.engine().encode(table, tokens=later)
    rows, told = Encoded(encoded.context[later], encoded.events), truth.filter(pa.array(later))
    label = told["is_laundering"].to_numpy()
    typology = told["typology"].to_numpy(zero_copy_only=False)
    own = pc.coalesce(told["scheme_id"], told["tx_id"]).to_numpy(zero_copy_only=False).astype(str)
    contest = Contest(
        label=label,
        typology=typology,
        scheme=own,
        champion=champion.student.score_all(rows).score,
        challenger=challenger.student.score_all(rows).score,
        known=frozenset(set(typology) - {NEW, NORMAL}),
        budget=budget_of(config),
        reasons=1.0,
        reasoned=0,
        calibration=(0.0, 0.0),
        latency=(1.0, 1.0),
        size=(1, 1),
    )
    new, old = recall_changes(contest, [label & (typology == NEW), label & (typology != NEW)])
    return new, old, replace(contest, label=label)


def _told(new: Change, old: Change, contest: Contest) -> list[Measurement]:
    schemes = len(np.unique(contest.scheme[contest.label & (contest.typology == NEW)]))
    low, high = (100 * end for end in old.interval)
    return [
        Measurement(
            f"student's recall on {NEW} before",
            new.before,
            "",
            BLIND,
            "lower",
            f"{new.rows} payments of {schemes} schemes",
        ),
        Measurement(f"student's recall on {NEW} after", new.after, "", SEEN, "higher", new.told),
        Measurement(
            "change of recall on the other typologies",
            old.after - old.before,
            "",
            FORGOTTEN,
            "higher",
            f"{old.told}; 95 %: {low:+.1f} to {high:+.1f} points",
        ),
    ]


def _gates(result: Retrained) -> list[Measurement]:
    """What the retraining's own gates said, on labels as known."""
    return [
        Measurement(f"gate: {gate.name}", gate.figure, "", gate.bar, gate.better, gate.detail)
        for gate in result.gates
    ]


def main() -> None:
    """Parse the options, measure, print, write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="half the accounts")
    options.add_argument("--keep", type=Path, help="folder for what is trained; a stopped run goes on")
    options.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        measure: Callable[[], list[Measurement]] = partial(retraining, folder, chosen.quick)
        run_alone("retraining", measure, PACKAGES, quick=chosen.quick, to=chosen.json)


if __name__ == "__main__":
    main()
