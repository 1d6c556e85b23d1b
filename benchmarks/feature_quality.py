"""What features are worth to boosted trees: PR-AUC on the last fifth, the candidates tuned alike for every column.

Split 60/20/20 by time, all labels known, natural prevalence, no row left out. For each choice of columns every
candidate is fitted with every seed; the candidate with the best mean PR-AUC on the validation fifth counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from feature_data import SETS, Data, Library, Measurement
from feature_peer import Peer
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from riskdistill.config import BoostedTreesConfig, TreeCandidate
from riskdistill.evaluation.ranking import bootstrap_pr_auc
from riskdistill.features import FeatureEngine
from riskdistill.features.spec import TRANSACTION_FEATURES
from riskdistill.models.boosted_trees import fit_trees

CANDIDATES: Final = BoostedTreesConfig().candidates
SEEDS: Final = (7, 8, 9)
ABSOLUTE_BARS: Final = {"amlworld": 0.89, "amlsim": 0.96}
RATIO_BARS: Final = {"amlgentex": 1.6}
RAW: Final = slice(0, len(TRANSACTION_FEATURES))  # what the transaction says by itself
Columns = NDArray[np.float32]


@dataclass(frozen=True)
class Fitted:
    """One candidate, fitted with every seed.

    Attributes:
        validation, test: PR-AUC by seed.
        scores: float64 [seeds, test rows].
    """

    candidate: TreeCandidate
    validation: NDArray[np.float64]
    test: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __str__(self) -> str:
        chosen = f"{self.candidate.num_leaves} leaves, rate {self.candidate.learning_rate}"
        return f"seeds {spread(self.test)}; {chosen}; validation {self.validation.mean():.3f}"


def quality(library: Library, peer: Peer, quick: bool) -> list[Measurement]:
    """Our features against the transaction's own columns, alone and with the peer's graph features."""
    seeds = seeds_of(quick)
    return [row for data in judged_on(library, quick) for row in _quality(data, peer, seeds)]


def seeds_of(quick: bool) -> tuple[int, ...]:
    """Which seeds every candidate is fitted with."""
    return SEEDS[:2] if quick else SEEDS


def spread(values: NDArray[np.float64]) -> str:
    """Smallest to largest.

    >>> spread(np.array([0.5, 0.25]))
    '0.250 to 0.500'
    """
    return f"{values.min():.3f} to {values.max():.3f}"


def judged_on(library: Library, quick: bool) -> Iterator[Data]:
    """The data sets that models are fitted on."""
    return iter([library["amlworld"]]) if quick else iter(library)


def _quality(data: Data, peer: Peer, seeds: Sequence[int]) -> list[Measurement]:
    name = SETS[data.name]
    context = FeatureEngine().encode(data.transactions, tokens=False).context
    made, raw = peer.features(data), context[:, RAW]
    forms = {"dates": made.graph, "ages": made.with_ages(data.seconds)}
    theirs = {form: _tuned(np.column_stack([raw, graph]), data, seeds) for form, graph in forms.items()}
    form = max(theirs, key=lambda form: float(theirs[form].validation.mean()))
    fitted = {"raw columns": _tuned(raw, data, seeds), "snapml": theirs[form], "ours": _tuned(context, data, seeds)}
    draws = _bootstrap(data, fitted)
    rows = []
    for what, found in fitted.items():
        label = f"raw columns + snapml, times as {form}" if what == "snapml" else what
        bar = ABSOLUTE_BARS.get(data.name) if what == "ours" else None
        detail = f"95 % {_middle(draws[what])}; {found}"
        rows.append(Measurement(f"{name}: {label}", float(found.test.mean()), "PR-AUC", bar, detail=detail))
    ratio = float(fitted["ours"].test.mean() / fitted["snapml"].test.mean())
    detail = (
        f"95 % {_middle(draws['ours'] / draws['snapml'])}; {int(data.label[data.second :].sum())} positives in test"
    )
    rows.append(Measurement(f"{name}: ours / snapml", ratio, "x", RATIO_BARS.get(data.name), detail=detail))
    return rows


def _tuned(columns: Columns, data: Data, seeds: Sequence[int]) -> Fitted:
    """The candidate with the best mean validation PR-AUC."""
    fitted = [fit(columns, data, candidate, seeds) for candidate in CANDIDATES]
    return max(fitted, key=lambda found: float(found.validation.mean()))


def fit(columns: Columns, data: Data, candidate: TreeCandidate, seeds: Sequence[int]) -> Fitted:
    """Fit one candidate on `columns` [n, features] of all rows of a data set."""
    columns = np.ascontiguousarray(columns)
    train, middle, last = np.split(np.arange(len(data)), [data.first, data.second])
    config = BoostedTreesConfig(candidates=(candidate,))
    validation, test, scores = [], [], []
    for seed in seeds:
        learned, tuned_on = ((columns[part], data.label[part]) for part in (train, middle))
        trees = fit_trees(learned, tuned_on, config, seed=seed)
        scores.append(trees.score_logits(columns[last]))
        validation.append(trees.validation_pr_auc)
        test.append(float(average_precision_score(data.label[last], scores[-1])))
    return Fitted(candidate, np.array(validation), np.array(test), np.array(scores))


def _bootstrap(data: Data, fitted: dict[str, Fitted]) -> dict[str, NDArray[np.float64]]:
    """PR-AUC by draw of test rows, the mean over seeds; the draws are paired."""
    scores = {f"{what} {seed}": row for what, found in fitted.items() for seed, row in enumerate(found.scores)}
    draws = bootstrap_pr_auc(data.label[data.second :], scores)
    return {
        what: np.mean([draws[f"{what} {seed}"] for seed in range(len(found.scores))], axis=0)
        for what, found in fitted.items()
    }


def _middle(draws: NDArray[np.float64]) -> str:
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return f"{low:.3f} to {high:.3f}"
