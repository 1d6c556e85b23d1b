"""The rows to learn from: shares of normal, laundering and synthetic rows, drawn again until the shares are met.

A mix shifts the prior; `models.calibration.prior_shift` corrects scores for it. Hard negatives shift it unevenly
besides, which only the calibration on the validation period mends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskdistill.augmentation.rows import codes
from riskdistill.config import MixConfig
from riskdistill.dataset.clock import Ints
from riskdistill.dataset.labels import Bools
from riskdistill.features import Encoded
from riskdistill.models.training import TrainingRows


@dataclass(frozen=True)
class Labelled:
    """Encoded rows [n] with what is known of them: label bool [n], typology and scheme object [n].

    Attributes:
        told: bool [n], whether a network is told the label.
        reviewed: bool [n], whether the label is an investigator's verdict.
    """

    encoded: Encoded
    label: Bools
    typology: NDArray[np.object_]
    scheme: NDArray[np.object_]
    told: Bools
    reviewed: Bools


def beside_laundering(transactions: pa.Table, label: Bools) -> Bools:
    """bool [n]: normal rows, one of whose accounts launders in a greater share of its rows than all rows are.

    They are the hard negatives: all that tells them from laundering is the payment itself. A hub that launderers
    use as everybody does is no such account.
    """
    sides = ("sender", "receiver")
    words = [
        pa.concat_arrays([transactions[f"{side}_{word}"].combine_chunks() for side in sides])
        for word in ("bank", "account")
    ]
    account = codes(words)[0].reshape(2, -1)  # one number for each account, [sender or receiver, row]
    rows = np.bincount(account.ravel())
    launders = np.bincount(account[:, label].ravel(), minlength=len(rows)) > label.mean() * rows
    return np.asarray(launders[account].any(axis=0) & ~label, np.bool_)


def choose(label: Bools, hard: Bools, mix: MixConfig, rng: np.random.Generator) -> Bools:
    """bool [n]: training rows in the mix: all laundering, and as many normal rows as their share allows.

    Args:
        hard: bool [n], the normal rows of which `mix.hard_negatives` of the chosen ones are taken, as far as there
            are so many; the rest are drawn from all others alike.
    """
    normal = np.flatnonzero(~label)
    count = min(len(normal), round(mix.normal * mix.max_rows))
    near = np.flatnonzero(hard)
    hardest = rng.choice(near, min(len(near), round(mix.hard_negatives * count)), replace=False)
    others = np.setdiff1d(normal, hardest, assume_unique=True)
    chosen = label.copy()
    chosen[hardest] = True
    chosen[rng.choice(others, count - len(hardest), replace=False)] = True
    return chosen


def left_over(chosen: Bools, count: int, rng: np.random.Generator) -> Bools:
    """bool [n]: `count` of the rows that are not chosen, or all of them where there are fewer."""
    rest = np.flatnonzero(~chosen)
    untold = np.zeros_like(chosen)
    untold[rng.choice(rest, min(len(rest), count), replace=False)] = True
    return untold


def mixed(
    real: Labelled, synthetic: Labelled, typologies: tuple[str, ...], mix: MixConfig, rng: np.random.Generator
) -> TrainingRows:
    """The rows of the mix; laundering and synthetic rows are drawn again until they make up their shares."""
    label = np.concatenate([real.label, synthetic.label]).astype(np.float32)
    told = np.concatenate([real.told, synthetic.told])
    label[~told] = np.nan
    typology = np.concatenate([real.typology, synthetic.typology])
    index = {name: number for number, name in enumerate(typologies)}
    normal = np.flatnonzero(~real.label & real.told)
    rows = len(normal) / mix.normal  # the size of the mix that its normal rows allow
    laundering = _draw(np.flatnonzero(real.label), round(rows * mix.laundering), rng)
    made = _draw(len(real.label) + np.arange(len(synthetic.label)), round(rows * mix.synthetic), rng)
    return TrainingRows(
        encoded=Encoded.concat([real.encoded, synthetic.encoded]),
        label=label,
        typology=np.where(told, [index[name] for name in typology], -1),
        draw=np.concatenate([normal, laundering, made]),
        unlabelled=np.flatnonzero(~told),
        reviewed=np.flatnonzero(real.reviewed & real.told),
        scheme=_numbered(np.concatenate([real.scheme, synthetic.scheme])),
    )


def _numbered(schemes: NDArray[np.object_]) -> Ints | None:
    """A number for each scheme, -1 for none; None where no scheme is known at all."""
    named = np.array([scheme is not None for scheme in schemes], np.bool_)
    if not named.any():
        return None
    numbers = np.full(len(schemes), -1, np.int64)
    numbers[named] = np.unique(schemes[named].astype(str), return_inverse=True)[1]
    return numbers


def _draw(rows: Ints, count: int, rng: np.random.Generator) -> Ints:
    """`count` of `rows`, each as often as the others; all of them at least once where there are more."""
    if len(rows) == 0:
        return rows
    whole, rest = divmod(max(count, len(rows)), len(rows))
    return np.concatenate([np.tile(rows, whole), rng.choice(rows, rest, replace=False)])
