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


@dataclass(frozen=True)
class Mixture:
    """Towards which other row of a batch each row is moved.

    Attributes:
        share: float32 [n], the share of itself that a row keeps, at least a half.
        other: int64 [n], the other row.
    """

    share: Tensor
    other: Tensor

    @classmethod
    def drawn(cls, n: int, alpha: float) -> Mixture:
        """A mixture of n rows, of the distribution Beta(alpha, alpha); draws from PyTorch's random state."""
        share = torch.distributions.Beta(alpha, alpha).sample((n,))
        return cls(torch.maximum(share, 1 - share), torch.randperm(n))

    def between(self, values: Tensor) -> Tensor:
        """Values [n, ...] of the rows, each moved towards the other row's."""
        share = self.share.to(values).reshape(-1, *[1] * (values.ndim - 1))
        return torch.lerp(values[self.other.to(values.device)], values, share)

    def inputs(self, context: Tensor, events: Tensor) -> tuple[Tensor, Tensor]:
        """Context and events moved, but where a number is missing on either side, in an event that only one of the
        two rows has, and in categories."""
        moved_context, moved_events = self.between(context), self.between(events)
        stays = moved_context.isnan()
        stays[:, _CATEGORIES] = True
        absent = (events[..., :1] == 0) | (events[self.other.to(events.device)][..., :1] == 0)
        event_stays = absent.expand_as(events).clone()
        event_stays[..., _CATEGORY_CHANNELS] = True
        return torch.where(stays, context, moved_context), torch.where(event_stays, events, moved_events)


def mixup(batch: Batch, alpha: float, typologies: int) -> Batch:
    """Each row moved towards another one of the batch, and its label as much (Zhang et al., "mixup", 2018).

    Args:
        alpha: above 0; the larger, the further rows are moved.
        typologies: how many classes there are.
    """
    mixture = Mixture.drawn(len(batch.label), alpha)
    typology = torch.nn.functional.one_hot(batch.typology, typologies).to(batch.label.dtype)
    return Batch(
        *mixture.inputs(batch.context, batch.events), mixture.between(batch.label), mixture.between(typology)
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
