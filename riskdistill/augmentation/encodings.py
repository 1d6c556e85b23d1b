"""Augmentation of rows that are encoded already: MixUp, and adversarial examples inside allowed bounds.

Both act on a batch while a network learns. No account did what such a row says: these are no transactions, only
places in the input where the network should stay sensible.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskdistill.features.spec import TOKEN_CHANNELS, TRANSACTION_FEATURES

# a number between two of these names a third thing
_CATEGORIES: Final = [at for at, feature in enumerate(TRANSACTION_FEATURES) if feature.unit in ("bucket", "index")]
_CATEGORY_CHANNELS: Final = [TOKEN_CHANNELS.index(name) for name in ("flow", "format", "currency", "peer")]


@dataclass(frozen=True)
class Batch:
    """Encoded rows and what they are to be taught.

    Attributes:
        context, events: see `riskdistill.features.Encoded`; float32.
        label: float32 [n], the probability of laundering.
        typology: int64 [n], class indices, or float32 [n, typologies], probabilities.
    """

    context: Tensor
    events: Tensor
    label: Tensor
    typology: Tensor


def mixup(batch: Batch, alpha: float, typologies: int) -> Batch:
    """Each row moved towards another one of the batch, and its label as much (Zhang et al., "mixup", 2018).

    A row keeps a share of itself, of the distribution Beta(alpha, alpha) or the rest of it, whichever is larger.
    Where a number is missing on either side, in an event that only one of the two has, and in categories, it stays
    as it is. Draws from PyTorch's random state.

    Args:
        alpha: above 0; the larger, the further rows are moved.
        typologies: how many classes there are.
    """
    n = len(batch.label)
    share = torch.distributions.Beta(alpha, alpha).sample((n,)).to(batch.label.dtype)
    share = torch.maximum(share, 1 - share)
    other = torch.randperm(n)
    theirs = batch.context[other]
    context = torch.lerp(theirs, batch.context, share[:, None])
    stays = context.isnan()
    stays[:, _CATEGORIES] = True
    events = torch.lerp(batch.events[other], batch.events, share[:, None, None])
    event_stays = ((batch.events[..., :1] == 0) | (batch.events[other][..., :1] == 0)).expand_as(events).clone()
    event_stays[..., _CATEGORY_CHANNELS] = True
    typology = torch.nn.functional.one_hot(batch.typology, typologies).to(batch.label.dtype)
    return Batch(
        context=torch.where(stays, batch.context, context),
        events=torch.where(event_stays, batch.events, events),
        label=torch.lerp(batch.label[other], batch.label, share),
        typology=torch.lerp(typology[other], typology, share[:, None]),
    )


@dataclass(frozen=True)
class Bounds:
    """How far an adversary may move the features of a context vector.

    Attributes:
        reach: [features], the most that a feature may move; 0 where it only takes whole numbers.
        lower, upper: [features], the range observed, which no feature may leave.
    """

    reach: Tensor
    lower: Tensor
    upper: Tensor

    @classmethod
    def of(cls, context: NDArray[np.float32], share: float) -> Bounds:
        """The bounds of training rows [n, features]: `share` of each feature's interquartile range.

        Counts, flags and categories only take whole numbers and stay; so do features that are nowhere known.
        """
        known = np.where(np.isnan(context).all(axis=0), np.float32(0), context)
        low, first, third, high = np.nanquantile(known, (0, 0.25, 0.75, 1), axis=0).astype(np.float32)
        whole = (np.isnan(known) | (known == np.round(known))).all(axis=0)
        reach = np.where(whole, 0, share * (third - first)).astype(np.float32)
        return cls(*(torch.from_numpy(part) for part in (reach, low, high)))

    def within(self, context: Tensor, moved: Tensor) -> Tensor:
        """`moved` [n, features] brought back to where rows at `context` may go."""
        near = torch.minimum(torch.maximum(moved, context - self.reach), context + self.reach)
        return torch.minimum(torch.maximum(near, self.lower), self.upper)


def adversarial(batch: Batch, loss: Callable[[Batch], Tensor], bounds: Bounds, steps: int = 1) -> Batch:
    """The batch with its context vectors moved to where the loss is higher, events and labels as they were.

    Each of `steps` steps follows the gradient's sign: one is the fast gradient sign method (Goodfellow et al.,
    "Explaining and harnessing adversarial examples", 2015), more are projected gradient ascent (Madry et al.,
    "Towards deep learning models resistant to adversarial attacks", 2018). What is missing stays missing.

    Args:
        loss: of a batch, one number; its parameters get no gradient here.
    """
    moved = batch.context
    for _ in range(steps):
        moved = moved.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(replace(batch, context=moved)), moved)
        step = moved.detach() + gradient.sign() * bounds.reach / steps
        moved = torch.where(gradient == 0, moved.detach(), bounds.within(batch.context, step))
    return replace(batch, context=moved)
