"""What a perturbation is worth: a student with and without it, on still and on drifting traffic.

    python benchmarks/dataset_perturbations.py --json perturbations.json      # all runs; resumes from the file
    python benchmarks/dataset_perturbations.py --json quick.json --quick      # minutes, not the README's figures
    python benchmarks/dataset_perturbations.py --json perturbations.json --only amlgentex --seeds 3

The student learns without a teacher from the mix that the configuration gives by default: 85 parts normal rows, 10
parts laundering known when it is built, and 5 parts synthetic rows, those of one perturbation or of all together;
the baseline `none` has its real laundering once more in their place, so that all learn in as many steps.
Every perturbation retells half of the known laundering, within its default bounds, in a replay of the training
period. MixUp and adversarial examples act on the baseline's rows. A seed chooses the normal rows, the perturbed
stories and the student's weights; a perturbation is compared with the baseline seed by seed.

Each run is one student. It is written to the file as soon as it is finished, and found there by the next start.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from feature_data import ROOT, SETS, Data, Library, Measurement
from machine import describe, machine
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import stats
from sklearn.metrics import average_precision_score

from riskdistill.augmentation import PERTURBATIONS, perturb, synthetic_anomalies
from riskdistill.augmentation.perturbation import MICROSECONDS_AN_HOUR
from riskdistill.config import MixConfig, SplitConfig, StudentConfig, TrainingConfig
from riskdistill.data.order import time_order
from riskdistill.data.schema import NORMAL, TIMESTAMP, TRANSACTIONS
from riskdistill.dataset import as_known_at, clock_unit, split_points
from riskdistill.errors import ConfigError
from riskdistill.features import Encoded, FeatureEngine, FeatureSpec
from riskdistill.models.bins import Bins
from riskdistill.models.event_transformer import EventTransformer, untrained
from riskdistill.models.label_objective import LabelObjective
from riskdistill.models.training import Trainer, TrainingRows, score_logits
from riskdistill.simulator import PRESETS, simulate
from riskdistill.simulator.config import Drift

SEEDS: Final = (7, 8, 9, 10, 11)
SIMULATED: Final = "simulated"
WORLDS: Final = ("amlgentex", SIMULATED)
BASELINE, GRAFT, ALL = "none", "graft", "all"
ON_ENCODINGS: Final[dict[str, dict[str, float]]] = {"mixup": {"mixup": 0.2}, "adversarial": {"adversarial": 0.5}}
ARMS: Final = (BASELINE, GRAFT, *PERTURBATIONS, ALL, *ON_ENCODINGS)
TOLD: Final = 0.5  # share of the known laundering that a perturbation tells anew
PACKAGES: Final = ("torch", "numpy", "pyarrow")
Ints = NDArray[np.int64]
Runs = dict[str, dict[str, dict[str, Any]]]  # by data set, arm and seed: what a run found


@dataclass(frozen=True)
class Settings:
    """What all runs of one file share; a file of other settings is refused."""

    max_rows: int = 20_000  # of the mix
    stopping_rows: int = 10_000  # normal validation rows that early stopping looks at
    test_rows: int = 200_000  # the test period's rows that are judged, from its beginning
    epochs: int = 8
    told: float = TOLD

    @classmethod
    def quick(cls) -> Settings:
        """Less of everything."""
        return cls(max_rows=3_000, stopping_rows=2_000, test_rows=15_000, epochs=3)


class World:
    """One data set with its real rows encoded once, for all arms and seeds.

    Args:
        data: with the labels that are learned from, as they become known.
        truth: bool [n], the labels to be judged by.
    """

    def __init__(self, data: Data, truth: NDArray[np.bool_], settings: Settings, seeds: Sequence[int]) -> None:
        self.data, self.truth, self.settings = data, truth, settings
        times = data.transactions["timestamp"].cast(pa.int64()).to_numpy()
        self.until, built = (pa.scalar(int(times[at])).cast(TIMESTAMP).as_py() for at in (data.first, data.second))
        self.unit = clock_unit(times)
        self.known = as_known_at(data.labels, built)
        self.bad = np.asarray(self.known["is_laundering"].to_numpy(), np.bool_)
        self.typology = self.known["typology"].to_numpy(zero_copy_only=False)
        self.spec = FeatureSpec(events_per_party=StudentConfig().events_per_party)
        normal = np.flatnonzero(~self.bad[: data.first])
        count = min(len(normal), round(MixConfig().normal * settings.max_rows))
        self.normal = {s: np.random.default_rng([s, 0]).choice(normal, count, replace=False) for s in seeds}
        self.laundering = np.flatnonzero(self.bad[: data.first])
        middle = np.arange(data.first, data.second)
        seen = np.random.default_rng(0).permutation(middle[~self.bad[middle]])[: settings.stopping_rows]
        self.stopping = np.sort(np.append(seen, middle[self.bad[middle]]))
        self.test = np.arange(data.second, min(len(data), data.second + settings.test_rows))

    @cached_property
    def encoded(self) -> tuple[Encoded, Ints]:
        """All real rows, with events for those that a run needs, and the place of each row's events."""
        wanted = np.zeros(len(self.data), np.bool_)
        for rows in (*self.normal.values(), self.laundering, self.stopping, self.test):
            wanted[rows] = True
        encoded = FeatureEngine(self.spec).encode(self.data.transactions, tokens=wanted)
        return encoded, np.cumsum(wanted) - 1

    def rows(self, rows: Ints) -> Encoded:
        """Real rows as they happened."""
        encoded, place = self.encoded
        return Encoded(encoded.context[rows], encoded.events[place[rows]])

    def made(self, arm: str, seed: int) -> tuple[Encoded, pa.Table]:
        """The synthetic rows of an arm with their labels: as many as the mix wants, or all there are."""
        rng = np.random.default_rng([seed, 1 + ARMS.index(arm)])
        past = self.data.transactions.slice(0, self.data.first), self.known.slice(0, self.data.first)
        mix = MixConfig()
        count = round(len(self.normal[seed]) / mix.normal * mix.synthetic)
        names = list(PERTURBATIONS) if arm == ALL else [arm] if arm in PERTURBATIONS else []
        options = [{"name": name, "share": self.settings.told, "among": "laundering"} for name in names]
        retold = perturb(*past, options, rng, self.until)
        grafts = synthetic_anomalies(*past, count if arm in (GRAFT, ALL) else 0, rng, self.until)
        made = pa.concat_tables([retold.transactions, grafts[0]])
        labels = pa.concat_tables([retold.labels, grafts[1]])
        learned = np.zeros(made.num_rows, np.bool_)
        learned[rng.permutation(made.num_rows)[:count]] = True
        return self._replayed(past[0], retold.replaced, made, labels, learned)

    def _replayed(
        self, past: pa.Table, replaced: pa.Array, made: pa.Table, labels: pa.Table, learned: NDArray[np.bool_]
    ) -> tuple[Encoded, pa.Table]:
        """The `learned` of the rows made, encoded where they happen and what they replace does not."""
        kept = past.filter(pc.invert(pc.is_in(past["tx_id"], value_set=replaced)))
        merged = pa.concat_tables([kept, made])
        times = merged["timestamp"].cast(pa.int64()).to_numpy()
        stamps = pa.array(times - times % self.unit).cast(TIMESTAMP)  # as coarse as the source's
        column = TRANSACTIONS.get_field_index("timestamp")
        merged = merged.set_column(column, TRANSACTIONS.field(column), stamps)
        order = time_order(merged, coarse=self.unit >= MICROSECONDS_AN_HOUR)
        place = order - kept.num_rows
        chosen = (place >= 0) & learned[np.maximum(place, 0)] if len(learned) else np.zeros(len(order), np.bool_)
        encoded = FeatureEngine(self.spec).encode(merged.take(order), tokens=chosen)
        return Encoded(encoded.context[chosen], encoded.events), labels.take(place[chosen])


def measure(world: World, arm: str, seed: int) -> dict[str, Any]:
    """Train one student, judge it on the test period; its PR-AUC, how many rows were made for it, seconds."""
    started = time.perf_counter()
    real = np.concatenate([world.normal[seed], world.laundering])
    made, told = world.made(arm, seed)
    typology = np.concatenate([world.typology[real], told["typology"].to_numpy(zero_copy_only=False)])
    names = (NORMAL, *sorted({*typology} - {NORMAL}))
    index = {name: number for number, name in enumerate(names)}
    label = np.concatenate([world.bad[real], told["is_laundering"].to_numpy()])
    rows = TrainingRows(
        encoded=Encoded.concat([world.rows(real), made]),
        label=label.astype(np.float32),
        typology=np.array([index[name] for name in typology], np.int64),
        draw=_mix(len(world.normal[seed]), len(world.laundering), len(made), np.random.default_rng([seed, 0])),
    )
    model = _student(world, rows, names, seed)
    training = TrainingConfig(epochs=world.settings.epochs, learning_rate=2e-3, patience=3, seed=seed)
    objective = LabelObjective(rows, label_smoothing=training.label_smoothing, **ON_ENCODINGS.get(arm, {}))
    stopping = world.rows(world.stopping), world.bad[world.stopping]
    best = Trainer(arm, model, rows, stopping, training).run(objective)
    scores, _ = score_logits(best.model, world.rows(world.test))
    return {
        "pr_auc": float(average_precision_score(world.truth[world.test], scores)),
        "made": len(made),
        "made_laundering": int(told["is_laundering"].to_numpy().sum()),
        "best_epoch": best.best_epoch + 1,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _mix(normal: int, laundering: int, made: int, rng: np.random.Generator) -> Ints:
    """Normal rows once; laundering and synthetic ones as often as their shares of the default mix ask for.

    Where there are few synthetic rows they are drawn no more often than laundering is, which makes up for what is
    missing, so that all arms learn in as many steps.
    """
    mix = MixConfig()
    wanted = round(normal / mix.normal * (mix.laundering + mix.synthetic))
    often = math.ceil(wanted / (laundering + made))
    of_made = min(round(normal / mix.normal * mix.synthetic), often * made)
    real = np.resize(normal + rng.permutation(laundering), max(laundering, wanted - of_made))
    return np.concatenate(
        [np.arange(normal), real, np.resize(normal + laundering + rng.permutation(made), of_made)]
    )


def _student(world: World, rows: TrainingRows, typologies: tuple[str, ...], seed: int) -> EventTransformer:
    size = StudentConfig()
    bins = Bins.of_quantiles(rows.encoded.context, size.pieces)
    return untrained(size, bins, world.spec, rows.encoded.events, typologies=typologies, seed=seed)


def drifted() -> tuple[Data, NDArray[np.bool_]]:
    """A simulated world in which the test period is not like the ones before it, and what is true of its rows."""
    base = PRESETS["demo"].model_copy(update={"laundering_share": 0.008})
    later = Drift(start_day=round(0.8 * base.days), amount_factor=1.3, new_format_share=0.3)
    simulated = simulate(base.model_copy(update={"drifts": (later,)}))
    times = simulated.transactions["timestamp"].cast(pa.int64()).to_numpy()
    data = Data(SIMULATED, simulated.transactions, simulated.labels, *split_points(times, SplitConfig()))
    return data, simulated.truth["is_laundering"].to_numpy()


class Record:
    """The runs that a file holds, written again after each.

    Raises:
        ConfigError: the file is of other settings, or no record.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path, self.settings = path, asdict(settings)
        self.runs: Runs = {}
        if path.exists():
            try:
                found = json.loads(path.read_text())
                self.runs, of = found["runs"], found["settings"]
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(
                    f"no record of runs: {error!r}", where=str(path), mend="name another file"
                ) from error
            if of != self.settings:
                raise ConfigError(
                    f"its runs were made with {of}, these are with {self.settings}",
                    where=str(path),
                    mend="name another file",
                )

    def add(self, name: str, arm: str, seed: int, run: dict[str, Any]) -> None:
        """Keep one run; a reader never sees half a file."""
        self.runs.setdefault(name, {}).setdefault(arm, {})[str(seed)] = run
        found = {"machine": machine(PACKAGES), "settings": self.settings, "runs": self.runs}
        unfinished = self.path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(found, indent=1))
        os.replace(unfinished, self.path)


def perturbations(
    library: Library, path: Path, *, quick: bool = False, only: Sequence[str] = WORLDS, seeds: int = len(SEEDS)
) -> list[Measurement]:
    """PR-AUC of the student by data set and perturbation, beside what it changes.

    Args:
        path: file of the runs; those that it holds are not done again.
        quick: few rows and epochs.
        only: data sets.
        seeds: how many.

    Raises:
        ConfigError: the file is of other settings.
    """
    torch.set_num_threads(1)
    settings = Settings.quick() if quick else Settings()
    record, chosen = Record(path, settings), SEEDS[:seeds]
    for name in only:
        data, truth = drifted() if name == SIMULATED else (library[name], library[name].label)
        world = World(data, truth, settings, chosen)
        for seed in chosen:
            for arm in ARMS:
                if str(seed) not in record.runs.get(name, {}).get(arm, {}):
                    record.add(name, arm, seed, measure(world, arm, seed))
                    print(name, seed, arm, record.runs[name][arm][str(seed)], flush=True)
    return [row for name in only for row in compared(name, record.runs[name], chosen)]


def compared(name: str, runs: dict[str, dict[str, Any]], seeds: Sequence[int]) -> list[Measurement]:
    """A line for each arm: mean PR-AUC, and the change from the baseline with a t-interval over paired seeds."""
    found = {arm: np.array([runs[arm][str(seed)]["pr_auc"] for seed in seeds]) for arm in ARMS}
    rows = []
    for arm, values in found.items():
        detail = f"seeds {values.min():.3f} to {values.max():.3f}"
        made = sum(runs[arm][str(seed)]["made"] for seed in seeds) / len(seeds)
        if arm in (*PERTURBATIONS, GRAFT, ALL) and made == 0:
            detail = "nothing here that it can change"
        elif arm != BASELINE:
            detail = f"{verdict(values - found[BASELINE])}; {made:,.0f} rows made; {detail}"
        rows.append(Measurement(f"{SETS.get(name, name)}: {arm}", float(values.mean()), "PR-AUC", detail=detail))
    return rows


def verdict(change: NDArray[np.float64]) -> str:
    """What paired changes say at 95 %, one comparison at a time.

    >>> verdict(np.array([0.02, 0.03, 0.025]))
    'helps: +0.025 (+0.013 to +0.037)'
    """
    mean = float(change.mean())
    if len(change) < 2:
        return f"not shown: {mean:+.3f} (one seed)"
    half = float(stats.sem(change) * stats.t.ppf(0.975, len(change) - 1))
    word = "helps" if mean - half > 0 else "harms" if mean + half < 0 else "not shown"
    return f"{word}: {mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})"


def main() -> None:
    """Parse the options, measure, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--json", type=Path, required=True, help="file of the runs, written after each and resumed"
    )
    options.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    options.add_argument("--cache", type=Path, help="keep the ingested tables there; default: a temporary folder")
    options.add_argument("--quick", action="store_true", help="less data and two seeds, within five minutes")
    options.add_argument(
        "--only", choices=WORLDS, help="one data set; default: both, with --quick the simulated one"
    )
    options.add_argument("--seeds", type=int, choices=range(1, len(SEEDS) + 1), help="default: 5, with --quick 2")
    chosen = options.parse_args()
    only = (chosen.only,) if chosen.only else (SIMULATED,) if chosen.quick else WORLDS
    with tempfile.TemporaryDirectory() as temporary:
        library = Library(chosen.data, chosen.cache or Path(temporary))
        seeds = chosen.seeds or (2 if chosen.quick else len(SEEDS))
        try:
            rows = perturbations(library, chosen.json, quick=chosen.quick, only=only, seeds=seeds)
        except ConfigError as error:
            options.error(str(error))
    table = Table("student", "PR-AUC", "against none, 95 %", title="What a perturbation is worth")
    for row in rows:
        table.add_row(row.name, f"{row.measured:.3f}", row.detail)
    table.caption = describe(PACKAGES)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
