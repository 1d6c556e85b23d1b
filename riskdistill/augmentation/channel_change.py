"""The same payments through another channel."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from riskdistill.augmentation.perturbation import Conserved, Perturbation
from riskdistill.augmentation.rows import codes, derived, pc, stories


class ChannelChange(Perturbation):
    """A payment's format becomes another one that ordinary traffic uses between such parties, as often as it does.

    Such parties: they hold the same two currencies, are at one bank or at two, in one country or in two. Payments
    of a story that are alike in this and in their format change alike. A story in which nothing can change is not
    told anew.
    """

    conserves: ClassVar[frozenset[Conserved]] = frozenset(
        {"amount", "total", "count", "accounts", "shape", "time_order", "gaps", "times"}
    )

    name: Literal["channel_change"] = "channel_change"

    def apply(
        self, transactions: pa.Table, labels: pa.Table, rng: np.random.Generator, ordinary: pa.Table
    ) -> tuple[pa.Table, pa.Table]:
        """The perturbed copies and their labels, as `Perturbation.apply` says."""
        story, given = stories(labels), transactions.num_rows
        both = pa.concat_tables([transactions, ordinary])
        kind, _ = codes(_relation(both))
        formats = both["payment_format"].combine_chunks().dictionary_encode()
        used = formats.indices.to_numpy().astype(np.int64)
        count = np.zeros((int(kind.max(initial=-1)) + 1, len(formats.dictionary)))
        np.add.at(count, (kind[given:], used[given:]), 1)
        weight = count[kind[:given]]
        weight[np.arange(given), used[:given]] = 0
        reached = np.cumsum(weight, axis=1)
        drawn = rng.random(int(story.max(initial=-1)) + 1)[story, None] * reached[:, -1:]
        changes = reached[:, -1] > 0 if given else np.zeros(0, np.bool_)
        new = np.where(changes, (reached <= drawn).sum(axis=1), used[:given])
        rows = np.flatnonzero(np.isin(story, story[changes]))
        return derived(
            self.name, transactions, labels, rows, payment_format=formats.dictionary.take(pa.array(new[rows]))
        )


def _relation(transactions: pa.Table) -> list[Any]:
    """What makes parties alike, as text columns."""
    same = [
        pc.equal(transactions[f"sender_{word}"], transactions[f"receiver_{word}"]) for word in ("bank", "country")
    ]
    currencies = [transactions[f"currency_{word}"] for word in ("paid", "received")]
    return [column.combine_chunks() for column in (*currencies, *(flag.cast(pa.string()) for flag in same))]
