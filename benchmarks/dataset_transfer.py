"""What trees learned from our simulator find in other generators' traffic, without one label of theirs.

    python benchmarks/dataset_transfer.py --simulated FOLDER --json transfer.json

Trained on the simulator's first three fifths (the latest 400,000 rows of them), chosen and stopped on its next
fifth, judged on the last fifth of `amlgentex-5k` and of `amlworld-hard` (days 1 to 9). First both sources are
brought to what they share (`riskdistill.dataset.cross`): the coarser clock, with rows of one stamp in the order
that ingest gives to those of a coarse clock; an optional column that one of them lacks is taken from the other;
payment formats and currencies are left out, for their numbers mean nothing elsewhere. Then the trees learn from one
of two forms of the features:

- as they are;
- as shares: each value as the share of its own source's first three fifths that lies below it, a quantile transform
  per source. Sources differ in prices, currency and pace, so that what is unusual in one is usual in another.

Which form counts is settled without labels: the one whose distributions lie nearer in source and target. (The rule
was written after both forms had been tried on these targets, on an earlier simulator.) The other form stands
beside, as do the transaction's own columns, and trees that learned from the target's own labels.
Intervals are of draws of single test rows; the payments of a scheme are not independent, so the truth is wider.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from dataset_sources import LEARNED_ROWS, simulated
from feature_data import ROOT, SETS, Data, Library, Measurement
from fitted_trees import CANDIDATES, RAW, SEEDS, Columns, Fitted, bootstrap, tuned
from numpy.typing import NDArray
from section import run_alone

from riskdistill.config import FeaturesConfig, SplitConfig, TreeCandidate
from riskdistill.dataset import Side, Tables, cross_generator, shared_features, split_points
from riskdistill.features import FeatureSpec

BARS: Final = {"amlgentex": 5.0, "amlworld": 1.5}  # times the prevalence
ITSELF: Final = "the target itself, features as they are"
FEATURES: Final = FeaturesConfig(events_per_party=FeatureSpec().events_per_party)


def transfer(library: Library, folder: Path, quick: bool) -> list[Measurement]:
    """PR-AUC over prevalence by target and by what the trees had learned from.

    Args:
        folder: what `riskdistill simulate` wrote.
        quick: one setting of the trees, one seed.
    """
    seeds, candidates = (SEEDS[:1], CANDIDATES[:1]) if quick else (SEEDS, CANDIDATES)
    source = simulated(folder)
    return [row for name, bar in BARS.items() for row in _transfer(source, library[name], bar, seeds, candidates)]


def shares(columns: Columns, reference: Columns) -> Columns:
    """Each value [n, features] as the share of its column in `reference` [m, features] that lies below it, 0 to 1.

    Of equal values half counts as below. A missing value stays missing and counts nowhere; so does all of a column
    that the reference does not have.
    """
    told = np.full_like(columns, np.nan)
    for at in range(columns.shape[1]):
        known = np.sort(reference[~np.isnan(reference[:, at]), at])
        here = ~np.isnan(columns[:, at])
        if len(known):
            values = columns[here, at]
            below, up_to = (np.searchsorted(known, values, side) for side in ("left", "right"))
            told[here, at] = (below + up_to) / (2 * len(known))
    return told


def _transfer(
    source: Data, target: Data, bar: float, seeds: Sequence[int], candidates: Sequence[TreeCandidate]
) -> list[Measurement]:
    sides = cross_generator(
        Tables(source.transactions, source.labels), Tables(target.transactions, target.labels), FEATURES
    )
    shared = shared_features(*sides)
    ours, theirs = (side.context for side in sides)
    source, target = (_resplit(data.name, side) for data, side in zip((source, target), sides, strict=True))
    own_columns = shared < RAW.stop
    label, last = target.label[target.second :], theirs[target.second :, shared]
    known = ours[: source.first, shared], theirs[: target.first, shared]
    latest = source.latest(LEARNED_ROWS)
    recent = ours[-len(latest) :, shared]
    forms = {"as they are": (recent, last), "as shares": (shares(recent, known[0]), shares(last, known[1]))}
    apart = {form: _apart(learned[: latest.first], judged) for form, (learned, judged) in forms.items()}
    best = min(apart, key=lambda form: apart[form])
    fitted = {
        f"our simulator, features {form}": tuned(learned, latest, seeds, candidates, (judged, label))
        for form, (learned, judged) in forms.items()
    }
    learned, judged = (np.ascontiguousarray(columns[:, own_columns]) for columns in forms[best])
    fitted[f"our simulator, own columns {best}"] = tuned(learned, latest, seeds, candidates, (judged, label))
    fitted[ITSELF] = tuned(theirs, target, seeds, candidates)
    kept = fitted[f"our simulator, features {best}"].test.mean() / fitted[ITSELF].test.mean()
    name = SETS[target.name]
    told = ", ".join(f"{form} {far:.2f}" for form, far in apart.items())
    detail = f"{best} counts; source and target lie apart, in widths of a feature: {told}"
    return [
        *_rows(name, label, fitted, {f"our simulator, features {best}": bar}),
        Measurement(f"{name}: learned from our simulator / from itself", float(kept), "x", detail=detail),
    ]


def _apart(learned: Columns, judged: Columns) -> float:
    """How far a feature's distributions lie apart, in widths of the one learned from; the median over features.

    Wasserstein's distance between the middle 98 %, by hundredths; the width is that of this middle.
    """
    quantiles = np.linspace(0.01, 0.99, 99)
    both = [~np.isnan(columns).all(axis=0) for columns in (learned, judged)]
    known = both[0] & both[1]
    ours, theirs = (np.nanquantile(columns[:, known], quantiles, axis=0) for columns in (learned, judged))
    width = ours[-1] - ours[0]
    far = np.abs(ours - theirs).mean(axis=0)
    return float(np.median(far[width > 0] / width[width > 0]))


def _rows(
    name: str, label: NDArray[np.bool_], fitted: dict[str, Fitted], bars: dict[str, float]
) -> list[Measurement]:
    prevalence = float(label.mean())
    draws = bootstrap(label, {what: found.scores for what, found in fitted.items()})
    rows = []
    for what, found in fitted.items():
        low, high = np.nanquantile(draws[what] / prevalence, (0.025, 0.975))
        detail = f"95 % {low:.2f} to {high:.2f}; PR-AUC {found.test.mean():.3f}; {found}"
        ratio = float(found.test.mean()) / prevalence
        rows.append(
            Measurement(f"{name}: learned from {what}", ratio, "x prevalence", bars.get(what), detail=detail)
        )
    return rows


def _resplit(name: str, side: Side) -> Data:
    """One side with its 60/20/20 periods on the shared clock."""
    return Data(name, side.tables.transactions, side.tables.labels, *split_points(side.times, SplitConfig()))


def main() -> None:
    """Parse the options, measure, print, write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--simulated", type=Path, required=True, help="folder that `riskdistill simulate` wrote")
    options.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the targets")
    options.add_argument("--json", type=Path, help="write the figures to this file")
    options.add_argument("--quick", action="store_true", help="one setting of the trees, one seed")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        library = Library(chosen.data, Path(cache))
        run_alone(
            "transfer",
            lambda: transfer(library, chosen.simulated, chosen.quick),
            ("lightgbm", "numpy"),
            quick=chosen.quick,
            to=chosen.json,
        )


if __name__ == "__main__":
    main()
