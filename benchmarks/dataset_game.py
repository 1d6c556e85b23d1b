"""How hard the simulator is to game: what one column by itself says of laundering, and what trees make of raw ones.

    python benchmarks/dataset_game.py --simulated FOLDER --json game.json

A generator gives itself away when one column tells its laundering: models then learn the generator. So each column
is judged alone, on the last two fifths by time, in two ways: by its value (either direction; a missing value once
below and once above all others), and by the share of laundering that its value had in the first three fifths (by
hundredth, where there are very many values), which also finds what is telling in the middle of a range. The better
way counts, as ROC-AUC. Labels are the simulator's truth where it tells it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from dataset_sources import LEARNED_ROWS, simulated
from feature_data import Data, Measurement
from fitted_trees import CANDIDATES, Columns, bootstrap, seeds_of, tuned
from numpy.typing import NDArray
from scipy.stats import rankdata
from section import run_alone

from riskdistill.data.columns import pc
from riskdistill.data.schema import RANGES
from riskdistill.features import FeatureEngine

TEXTS: Final = (
    "payment_format",
    *(f"{name}_{side}" for name in ("currency",) for side in ("paid", "received")),
    *(f"{side}_{name}" for name in ("bank", "country") for side in ("sender", "receiver")),
)
ORDERED: Final = ("tx_id", "sender_account", "receiver_account")  # names that may count what they name
RAW_BAR, ENGINEERED_BAR, TREES_BAR = 0.70, 0.90, 5.0
WORST: Final = 10
BINS: Final = 100
MANY: Final = 500  # distinct values; a column of more is judged by hundredth
PRIOR_ROWS: Final = 100.0  # a value seen this often is coded half by itself, half by the prevalence
NORMAL_ROWS: Final = 300_000  # AUC counts all laundering and at most so many other rows, drawn with SEED
SEED: Final = 7
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Told:
    """ROC-AUC of one column by itself.

    Attributes:
        value: by its value; the better direction.
        share: by the share of laundering that its value had before.
    """

    name: str
    value: float
    share: float

    @property
    def auc(self) -> float:
        """The better of both."""
        return max(self.value, self.share)

    def __str__(self) -> str:
        return f"{self.name} {self.auc:.3f} by {'value' if self.value >= self.share else 'share'}"


def hard_to_game(folder: Path, quick: bool) -> list[Measurement]:
    """What each raw column and each engineered feature tells alone, and trees on the raw columns together."""
    data = simulated(folder)
    raw = {**numbers(data), **codes(data)}
    told = [judged(name, values, data) for name, values in {**raw, **places(data)}.items()]
    worth = _trees(data, np.column_stack(list(raw.values())).astype(np.float32), quick)
    engine = FeatureEngine()
    context = engine.encode(data.transactions, tokens=False).context
    engineered = [judged(name, context[:, at], data) for at, name in enumerate(engine.spec.names)]
    return [
        _best("best single raw column", told, RAW_BAR),
        _best("best single feature", engineered, ENGINEERED_BAR),
        worth,
    ]


def numbers(data: Data) -> dict[str, Numbers]:
    """Raw columns with an order: amounts, times, and what is known of the accounts; missing is NaN."""
    table = data.transactions
    stamp = table["timestamp"]
    columns = {name: table[name] for name in RANGES}
    found = {name: np.asarray(column.cast("float64").to_numpy(), np.float64) for name, column in columns.items()}
    parts = {"hour": pc.hour, "minute": pc.minute, "second": pc.second, "weekday": pc.day_of_week, "day": pc.day}
    calendar = {name: np.asarray(part(stamp).to_numpy(), np.float64) for name, part in parts.items()}
    cents = {f"cents of {name}": np.round(found[name] * 100) % 100 for name in ("amount_paid", "amount_received")}
    return {**found, **calendar, **cents}


def codes(data: Data) -> dict[str, Numbers]:
    """Raw columns of texts as numbers: 0 for the most frequent of the first three fifths; missing is NaN."""
    found = {}
    for name in TEXTS:
        column = data.transactions[name].combine_chunks().dictionary_encode()
        index = np.asarray(column.indices.fill_null(-1).to_numpy(), np.int64)
        early = index[: data.first]
        counts = np.bincount(early[early >= 0], minlength=len(column.dictionary) + 1)
        rank = np.argsort(np.argsort(-counts, kind="stable"), kind="stable").astype(np.float64)
        found[name] = np.where(index < 0, np.nan, rank[index])
    return found


def places(data: Data) -> dict[str, Numbers]:
    """Where a row and its names stand: no model is given these, and they must not tell either."""
    rows = len(data)
    within = np.arange(rows) - np.searchsorted(data.seconds, data.seconds)  # among the rows of one timestamp
    day = np.floor(data.seconds / 86_400)
    begins, ends = np.searchsorted(day, day), np.searchsorted(day, day, side="right")
    names = {f"order of {name}": _order(data.transactions[name]) for name in ORDERED}
    row = np.arange(rows, dtype=np.float64)
    return {
        "row": row,
        "row within its day": (row - begins) / (ends - begins),
        "row within its timestamp": within.astype(np.float64),
        **names,
    }


def judged(name: str, values: NDArray[Any], data: Data) -> Told:
    """One column by itself, on the last two fifths."""
    values = np.asarray(values, np.float64)
    rows = _rows(data)
    late, label = values[rows], data.label[rows]
    by_value = max(_auc(np.where(np.isnan(late), missing, late), label) for missing in (-np.inf, np.inf))
    return Told(name, by_value, _auc(_shares(values, data)[rows], label))


def _best(what: str, told: Sequence[Told], bar: float) -> Measurement:
    worst = sorted(told, key=lambda one: -one.auc)[:WORST]
    detail = f"of {len(told)}: {', '.join(map(str, worst))}"
    return Measurement(f"{what}: {worst[0].name}", worst[0].auc, "ROC-AUC", bar, "lower", detail)


def _trees(data: Data, columns: Columns, quick: bool) -> Measurement:
    """PR-AUC of trees on raw columns, over the prevalence of the last fifth."""
    learned = data.latest(LEARNED_ROWS) if quick else data  # the more they learn from, the more they find
    candidates = CANDIDATES[:1] if quick else CANDIDATES
    fitted = tuned(columns[-len(learned) :], learned, seeds_of(quick), candidates)
    label = data.label[data.second :]
    prevalence = float(label.mean())
    low, high = np.nanquantile(bootstrap(label, {"raw": fitted.scores})["raw"] / prevalence, (0.025, 0.975))
    detail = (
        f"95 % {low:.2f} to {high:.2f}; learned from {learned.first:,} rows;"
        f" PR-AUC at {prevalence:.2%} ({label.sum():,} of {len(label):,}): {fitted}"
    )
    ratio = float(fitted.test.mean()) / prevalence
    return Measurement("boosted trees on raw columns", ratio, "x prevalence", TREES_BAR, "lower", detail)


def _rows(data: Data) -> NDArray[np.int64]:
    """Rows of the last two fifths: all laundering, and at most `NORMAL_ROWS` others."""
    late = np.arange(data.first, len(data))
    normal = late[~data.label[late]]
    if len(normal) > NORMAL_ROWS:
        normal = np.random.default_rng(SEED).choice(normal, NORMAL_ROWS, replace=False)
    return np.concatenate([late[data.label[late]], normal])


def _shares(values: Numbers, data: Data) -> Numbers:
    """For every row the share of laundering that its value, or its hundredth, had in the first three fifths."""
    early, label = values[: data.first], data.label[: data.first]
    edges = np.unique(early[~np.isnan(early)])
    if len(edges) > MANY:
        edges = np.unique(np.nanquantile(early, np.linspace(0, 1, BINS + 1)[1:-1]))
    bins = 1 + np.searchsorted(edges, values, side="right")
    bins[np.isnan(values)] = 0
    rows = np.bincount(bins[: data.first], minlength=len(edges) + 2)
    laundering = np.bincount(bins[: data.first], weights=label, minlength=len(edges) + 2)
    return ((laundering + PRIOR_ROWS * label.mean()) / (rows + PRIOR_ROWS))[bins]


def _auc(values: Numbers, label: NDArray[np.bool_]) -> float:
    """ROC-AUC in the better direction, from ranks (Mann and Whitney, 1947); ties count half."""
    positives = int(label.sum())
    ranks = rankdata(values)[label].sum() - positives * (positives + 1) / 2
    auc = float(ranks / (positives * (len(label) - positives)))
    return max(auc, 1 - auc)


def _order(column: Any) -> Numbers:
    """The place of each text in the alphabet of all, [n]."""
    spelled = column.combine_chunks().dictionary_encode()
    order = pc.rank(spelled.dictionary, tiebreaker="dense").to_numpy()
    return np.asarray(order[spelled.indices.to_numpy()], np.float64)


def main() -> None:
    """Parse the options, measure, print, write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--simulated", type=Path, required=True, help="folder that `riskdistill simulate` wrote")
    options.add_argument("--json", type=Path, help="write the figures to this file")
    options.add_argument("--quick", action="store_true", help="one setting of the trees, two seeds, fewer rows")
    chosen = options.parse_args()
    run_alone(
        "hard to game",
        lambda: hard_to_game(chosen.simulated, chosen.quick),
        ("lightgbm", "numpy", "scipy"),
        quick=chosen.quick,
        to=chosen.json,
    )


if __name__ == "__main__":
    main()
