"""The feature specification as a page for people: every feature by group, with its unit and meaning."""

from __future__ import annotations

from itertools import groupby

from riskdistill.features.record import ACCOUNT, KNOWN, RING, UPSTREAM
from riskdistill.features.spec import FeatureSpec

_OPENING = """# Features

{count} numbers for every transaction, in this order, from what came strictly before it. `NaN` means that there is
no such thing yet, or that the source does not say. Made by `riskdistill features --out docs/features.md`.

What is remembered of an account has {bytes:,} bytes, and the work per transaction has a constant bound, whatever
came before:

- the last {ring} events, in which all windows and "recent" (28 days) are counted: of an account with more events in
  a window, the last {ring} count;
- the last {known} counterparties, by direction, for what a pair did before: of a busier account, those met last;
- the newest {upstream} accounts whose money arrived, directly or through up to five hops, within 14 days;
- totals, means and decayed flows over its whole life. An account without an event for {forget:,.0f} days is as new.

A payment stamped before the account's newest event counts as happening at that event's time: scored on all that had
arrived. Ties count in order of arrival. The same transaction id among the sender's last {ring} events counts once.
Amounts are in US dollars at the rate of their day.

| typology | seen by |
|---|---|
| fan-in, fan-out | `…_in_peers_…`, `…_out_peers_…` of either party, `…_first_share` |
| gather-scatter, scatter-gather | `relays`, `returns`, `common_…`, `…_through_7d`, `…_stay` |
| bipartite, stack | `copayers`, `copayees`, `…_peer_…`; layers by `upstream_depth`, `chain` |
| cycle | `cycle_hops`, `cycle_gap`, `cycle_ratio`, `…_in_matched` |
| structuring | `below_limit`, `…_below_limit_share`, `…_repeats` |
"""


def markdown(spec: FeatureSpec) -> str:
    """The page of a specification."""
    opening = _OPENING.format(
        count=len(spec.context),
        bytes=ACCOUNT.itemsize,
        ring=RING,
        known=KNOWN,
        upstream=UPSTREAM,
        forget=spec.forget_after_days,
    )
    parts = [opening]
    for group, features in groupby(spec.context, key=lambda feature: feature.group):
        rows = [f"| `{feature.name}` | {feature.unit} | {feature.meaning} |" for feature in features]
        parts.append(
            "\n".join([f"## {group.capitalize()}", "", "| feature | unit | meaning |", "|---|---|---|", *rows])
        )
    return "\n".join(part + "\n" for part in parts)
