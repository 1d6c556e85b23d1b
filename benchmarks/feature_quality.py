"""What features are worth to boosted trees: PR-AUC on the last fifth, the candidates tuned alike for every column.

How they are split, tuned and fitted is told in `fitted_trees`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from feature_data import SETS, Data, Library, Measurement
from feature_peer import Peer
from fitted_trees import RAW, bootstrap, middle, seeds_of, tuned

from riskdistill.features import FeatureEngine

ABSOLUTE_BARS: Final = {"amlworld": 0.89, "amlsim": 0.96}
RATIO_BARS: Final = {"amlgentex": 1.6}


def quality(library: Library, peer: Peer, quick: bool) -> list[Measurement]:
    """Our features against the transaction's own columns, alone and with the peer's graph features."""
    seeds = seeds_of(quick)
    return [row for data in judged_on(library, quick) for row in _quality(data, peer, seeds)]


def judged_on(library: Library, quick: bool) -> Iterator[Data]:
    """The data sets that models are fitted on."""
    return iter([library["amlworld"]]) if quick else iter(library)


def _quality(data: Data, peer: Peer, seeds: Sequence[int]) -> list[Measurement]:
    name = SETS[data.name]
    context = FeatureEngine().encode(data.transactions, tokens=False).context
    made, raw = peer.features(data), context[:, RAW]
    forms = {"dates": made.graph, "ages": made.with_ages(data.seconds)}
    theirs = {form: tuned(np.column_stack([raw, graph]), data, seeds) for form, graph in forms.items()}
    form = max(theirs, key=lambda form: float(theirs[form].validation.mean()))
    fitted = {"raw columns": tuned(raw, data, seeds), "snapml": theirs[form], "ours": tuned(context, data, seeds)}
    draws = bootstrap(data.label[data.second :], {what: found.scores for what, found in fitted.items()})
    rows = []
    for what, found in fitted.items():
        label = f"raw columns + snapml, times as {form}" if what == "snapml" else what
        bar = ABSOLUTE_BARS.get(data.name) if what == "ours" else None
        detail = f"95 % {middle(draws[what])}; {found}"
        rows.append(Measurement(f"{name}: {label}", float(found.test.mean()), "PR-AUC", bar, detail=detail))
    ratio = float(fitted["ours"].test.mean() / fitted["snapml"].test.mean())
    detail = (
        f"95 % {middle(draws['ours'] / draws['snapml'])}; {int(data.label[data.second :].sum())} positives in test"
    )
    rows.append(Measurement(f"{name}: ours / snapml", ratio, "x", RATIO_BARS.get(data.name), detail=detail))
    return rows
