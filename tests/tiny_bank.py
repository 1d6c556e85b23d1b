"""A small bank whose champion was trained on its first weeks: what retraining and the whole loop start from."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from tiny_runs import config_with

from pipelines.bundle_store import keep
from pipelines.datasets import prepare
from pipelines.progress import Steps
from pipelines.retrain import Retrained, Retraining, retrain
from pipelines.run import furnished, judge_and_bundle, taught_student
from pipelines.teachers import fit_teachers
from riskdistill.bundle import Bundle
from riskdistill.config import ExperimentConfig
from riskdistill.provenance import Provenance
from riskdistill.simulator import PRESETS, Simulated, simulate, write
from riskdistill.storage.releases import ReleaseLog

TRAINED, NOW, DAYS = 50, 80, 90  # the champion learns before the first day, and is retrained on the second
WORLD = PRESETS["tiny"].model_copy(update={"accounts": 300, "days": DAYS, "seed": 1, "laundering_share": 0.06})
_WHO: dict[str, Any] = {"actor": "ann", "reason": "a test"}
# the networks here learn nearly nothing, and few schemes judge: what the gates say is tested where they are
EVERYTHING_PASSES = {
    "recall_margin": 1.0,
    "forgetting": 1.0,
    "schemes": 1,
    "typology_floor": 1.0,
    "typology_schemes": 1,
    "calibration": 1.0,
    "latency": 100.0,
    "size": 10.0,
    "reasons": 0.0,
}


def settings(**gates: float) -> ExperimentConfig:
    """The bank's experiment: a retraining keeps the teacher, which is the quickest."""
    retraining = {"mode": "student", "gates": EVERYTHING_PASSES | gates}
    return config_with({"retraining": retraining, "serving": {"review": {"budget": 0.05}}})


class Bank(NamedTuple):
    """The whole traffic, folders of it before the champion and until the retraining, and of what is made."""

    world: Simulated
    before: Path
    now: Path
    out: Path
    champion: Bundle

    def log(self, name: str) -> ReleaseLog:
        """A new release log whose champion is the bank's."""
        log = ReleaseLog(f"sqlite:///{self.out}/{name}.db")
        release = log.register(keep(self.champion, self.out / "bundles"), self.champion.version, **_WHO)
        log.promote(release.release_id, **_WHO, evidence={})
        return log

    def retrained(self, log: ReleaseLog, **changes: Any) -> Retrained:
        with Steps() as steps:
            asked = Retraining(self.now, self.out / "retrained", self.out / "bundles", **changes)
            return retrain(log, asked, steps)


def between(table: pa.Table, times: pa.ChunkedArray[Any], first: int, last: int) -> pa.Table:
    """The rows of `table` from the beginning of one day of the world to that of another; `times` are theirs."""
    begin, end = (pa.scalar(WORLD.start + timedelta(days=day), times.type) for day in (first, last))
    return table.filter(pc.and_(pc.greater_equal(times, begin), pc.less(times, end)))


def founded(out: Path) -> Bank:
    """Simulate the bank and train its champion, below `out`."""
    world, config = simulate(WORLD), settings()
    before = _written(world, TRAINED, out / "before")
    with Steps() as steps:
        prepared = prepare(config, before, out / "first", steps, command="a test")
        workshop = furnished(out / "first", config, prepared.dataset, steps)
        teachers = fit_teachers(config, workshop)
        student = {"student": taught_student(teachers, config, workshop)}
        made = Provenance.of(config, prepared.dataset)
        bundle = judge_and_bundle(config, prepared, workshop, teachers, student, made).bundle
    return Bank(world, before, _written(world, NOW, out / "now"), out, bundle)


def _written(world: Simulated, until: int, folder: Path) -> Path:
    times = world.transactions["timestamp"]
    tables = (world.transactions, world.labels, world.truth)
    write([Simulated(*(between(table, times, 0, until) for table in tables))], folder, WORLD)
    return folder
