"""The general phase: an event transformer learns what traffic is like, from rows without labels.

    fields      guess the fields of events that were hidden from it          (masked modelling: BERT, 2019)
    features    guess the context features that were hidden from it
    following   guess the transaction's amount and time from the events alone
    contrast    tell which two halves are of one account's history           (CoLES, Babaev et al., 2022)

Everything to be guessed is a class: a category, or the quantile bin of a number. What is hidden is overwritten by a
value that no event has, so that the network knows where to guess. The heads that guess belong to the objective and
are thrown away with it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from riskdistill.config.training import PretrainingConfig
from riskdistill.data.currencies import CURRENCY_CODES
from riskdistill.features import Encoded
from riskdistill.features.spec import FORMAT_BUCKETS, TOKEN_CHANNELS, TRANSACTION_FEATURES
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.training import TrainingRows, tensors


class _Field(NamedTuple):
    """One thing that is told of an event; hidden and guessed as a whole.

    Attributes:
        guessed: the channel whose value is to be guessed.
        beside: channels that would give it away.
        classes: how many whole numbers, from 0, it takes; 0 for a number that is guessed in quantile bins.
    """

    guessed: str
    beside: tuple[str, ...] = ()
    classes: int = 0


_FIELDS: Final = (
    _Field("flow", classes=2),
    _Field("log_usd", beside=("log_usd_ratio",)),
    _Field("log_age", beside=("log_gap",)),
    _Field("is_other_party", classes=2),
    _Field("shared_peer", classes=2),
    _Field("first_contact", classes=2),
    _Field("log_peer_senders"),
    _Field("log_peer_receivers"),
    _Field("format", classes=FORMAT_BUCKETS),
    _Field("currency", classes=len(CURRENCY_CODES) + 1),
)
_AGE_FIELD: Final = [field.guessed for field in _FIELDS].index("log_age")
_FLOW, _GAP = TOKEN_CHANNELS.index("flow"), TOKEN_CHANNELS.index("log_gap")
# What is written over a channel: -1, as no logarithm or flag is below 0, or what is named here. No bucket is 0, and
# a flow that is not 0 keeps the event there.
_HIDDEN: Final = {"flow": 0.5, "format": 0.0, "currency": 0.0}
# These are relative to the transaction being scored and would tell its amount and time.
_RELATIVE: Final = [TOKEN_CHANNELS.index(name) for name in ("log_usd_ratio", "log_age")]
_AMOUNT: Final = [feature.name for feature in TRANSACTION_FEATURES].index("amount_usd")
JUDGED_ROWS = 2_048


def unlabelled(encoded: Encoded, at_most: int, seed: int) -> TrainingRows:
    """Rows for the general phase, drawn at random if there are more than `at_most`; their labels mean nothing.

    The caller sees to it that they are of the training period.
    """
    draw = np.sort(np.random.default_rng(seed).permutation(len(encoded))[:at_most])
    nothing = np.zeros(len(encoded))
    return TrainingRows(encoded, nothing.astype(np.float32), nothing.astype(np.int64), draw)


def hide(events: Tensor, masked: Tensor) -> Tensor:
    """The events with the masked fields overwritten, and with what would give them away.

    Args:
        events: [n, 2, K, channels], of both parties, newest first.
        masked: bool [n, 2, K, fields].
    """
    channels = torch.zeros_like(events, dtype=torch.bool)
    for at, field in enumerate(_FIELDS):
        for name in (field.guessed, *field.beside):
            channels[..., TOKEN_CHANNELS.index(name)] |= masked[..., at]
    # the gap of the event after it, added to that one's age, would tell an event's age
    channels[:, :, :-1, _GAP] |= masked[:, :, 1:, _AGE_FIELD]
    return _overwritten(events, channels)


def _overwritten(events: Tensor, channels: Tensor) -> Tensor:
    """The events with a value that no event has in the given channels, bool [n, 2, K, channels]."""
    values = events.new_tensor([_HIDDEN.get(name, -1.0) for name in TOKEN_CHANNELS])
    return torch.where(channels & (events[..., :1] != 0), values, events)


def _alone(events: Tensor) -> Tensor:
    """The events without what tells of the transaction being scored."""
    channels = torch.zeros_like(events, dtype=torch.bool)
    channels[..., _RELATIVE] = True
    return _overwritten(events, channels)


class PretrainingObjective(nn.Module):
    """See the module. An objective for `Trainer`, trained along with the network.

    Args:
        model: the network that will be trained.
        rows: rows of the training period; their labels are not read.
    """

    def __init__(self, model: EventTransformer, rows: TrainingRows, config: PretrainingConfig) -> None:
        super().__init__()
        self.rows, self.config = rows, config
        self.weights = {
            name: weight
            for name in ("fields", "features", "following", "contrast")
            if (weight := getattr(config, name)) > 0
        }
        self.per_party = model.config.events_per_party
        drawn = rows.encoded.take(rows.draw)
        self._edges = self._field_edges(drawn.events)
        self.register_buffer("feature_edges", _quantiles(drawn.context, config.bins).T.contiguous())
        width, classes = model.config.width, [len(edges) + 1 for edges in self._edges]
        self.guess_fields = nn.Linear(width, sum(classes))
        self.guess_features = nn.Linear(width, drawn.context.shape[1] * config.bins)
        self.guess_following = nn.Linear(width, config.bins + classes[_AGE_FIELD])
        self.compared = nn.Linear(width, width)

    feature_edges: Tensor

    def _field_edges(self, events: NDArray[np.float32]) -> list[Tensor]:
        """For each field the values between its classes."""
        there = events[events[..., 0] != 0]
        edges = []
        for field in _FIELDS:
            if field.classes:
                low = 0.0 if field.guessed == "flow" else 0.5  # flow is -1 or 1
                edges.append(torch.arange(field.classes - 1, dtype=torch.float32) + low)
            else:
                column = there[:, TOKEN_CHANNELS.index(field.guessed)]
                edges.append(_quantiles(column[:, None], self.config.bins)[:, 0].contiguous())
        return edges

    def loss(self, model: EventTransformer, rows: NDArray[np.int64], epoch: int) -> dict[str, Tensor]:
        """See `riskdistill.models.training.Objective`."""
        return self._terms(model, self.rows.encoded.take(rows))

    @torch.no_grad()
    def judge(self, model: EventTransformer, held_out: Encoded) -> float:
        """Minus the loss on rows that are not trained on, the same fields hidden every time."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            terms = self._terms(model, held_out.take(slice(0, JUDGED_ROWS)))
        return -float(sum(terms.values()))

    def _terms(self, model: EventTransformer, encoded: Encoded) -> dict[str, Tensor]:
        context, events = tensors(encoded, model.device)
        events = events.unflatten(1, (2, -1))[:, :, : self.per_party]
        terms: dict[str, Tensor] = {}
        if "fields" in self.weights or "features" in self.weights:
            terms |= self._masked(model, context, events)
        if "following" in self.weights:
            terms["following"] = self._following(model, context, events)
        if "contrast" in self.weights:
            terms["contrast"] = self._contrast(model, context, events)
        return {name: weight * terms[name] for name, weight in self.weights.items()}

    def field_classes(self, events: Tensor) -> list[Tensor]:
        """int64 [..., K] for each field: what is to be guessed of `events` [..., K, channels]."""
        return [
            torch.bucketize(events[..., TOKEN_CHANNELS.index(field.guessed)].contiguous(), edges.to(events.device))
            for field, edges in zip(_FIELDS, self._edges, strict=True)
        ]

    def _feature_classes(self, context: Tensor) -> Tensor:
        """int64 [n, features]; of NaN 0, which nobody is asked to guess."""
        return (context.unsqueeze(-1) > self.feature_edges).sum(-1)

    def _masked(self, model: EventTransformer, context: Tensor, events: Tensor) -> dict[str, Tensor]:
        there = (events[..., 0] != 0).unsqueeze(-1)
        masked = (_random((*events.shape[:3], len(_FIELDS)), events) < self.config.mask) & there
        features = (_random(context.shape, context) < self.config.mask) & ~context.isnan()
        hidden = _hidden(model, context.masked_fill(features, float("nan")), hide(events, masked))
        guesses = self.guess_fields(hidden[:, 1:]).split([len(edges) + 1 for edges in self._edges], dim=-1)
        fields = [
            nn.functional.cross_entropy(guess[asked], classes.flatten(1)[asked], reduction="sum")
            for guess, classes, asked in zip(
                guesses, self.field_classes(events), masked.flatten(1, 2).unbind(-1), strict=True
            )
        ]
        guessed = self.guess_features(hidden[:, 0]).unflatten(1, (context.shape[1], self.config.bins))
        told = nn.functional.cross_entropy(
            guessed[features], self._feature_classes(context)[features], reduction="sum"
        )
        return {
            "fields": torch.stack(fields).sum() / masked.sum().clamp_min(1),
            "features": told / features.sum().clamp_min(1),
        }

    def _following(self, model: EventTransformer, context: Tensor, events: Tensor) -> Tensor:
        """What the sender does next: the amount, and the time since its newest event where there is one."""
        hidden = _hidden(model, torch.full_like(context, float("nan")), _alone(events))
        amount, age = self.guess_following(hidden[:, 0]).tensor_split((self.config.bins,), dim=-1)
        known = events[:, 0, 0, _FLOW] != 0
        ages = self.field_classes(events[:, 0, :1])[_AGE_FIELD][:, 0]
        waited = nn.functional.cross_entropy(age[known], ages[known], reduction="sum") / known.sum().clamp_min(1)
        return nn.functional.cross_entropy(amount, self._feature_classes(context)[:, _AMOUNT]) + waited

    def _contrast(self, model: EventTransformer, context: Tensor, events: Tensor) -> Tensor:
        """InfoNCE between two halves of one party's events, the other rows' halves being the negatives."""
        n, _, kept, _ = events.shape
        side = _random((n, 2), events).argsort(1) == 0  # one party of each row
        there = (events[..., 0] != 0) & side.unsqueeze(-1)
        shuffled = (_random(there.shape, events) + 2.0 * ~there).flatten(1).argsort(1).argsort(1)
        halves = [there & ((shuffled % 2) == part).view(n, 2, kept) for part in (0, 1)]
        enough = there.flatten(1).sum(1) >= 2
        blank = torch.full_like(context, float("nan")).repeat(2, 1)
        chosen = torch.cat(halves)
        hidden = _hidden(model, blank, _alone(events).repeat(2, 1, 1, 1) * chosen.unsqueeze(-1))[:, 1:]
        weight = chosen.flatten(1).unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * weight).sum(1) / weight.sum(1).clamp_min(1)
        one, other = nn.functional.normalize(self.compared(pooled), dim=-1).chunk(2)
        alike = one[enough] @ other[enough].T / self.config.contrast_temperature
        same = torch.arange(len(alike), device=alike.device)
        both = nn.functional.cross_entropy(alike, same, reduction="sum") + nn.functional.cross_entropy(
            alike.T, same, reduction="sum"
        )
        return both / max(1, 2 * len(alike))


def _hidden(model: EventTransformer, context: Tensor, events: Tensor) -> Tensor:
    """Last hidden states [n, 1 + 2 K, width] for events [n, 2, K, channels], at the scale that heads read."""
    normed: Tensor = model.norm(model(context, events.flatten(1, 2), output_hidden_states=True).layers[-1].hidden)
    return normed


def _random(shape: tuple[int, ...], like: Tensor) -> Tensor:
    return torch.rand(shape, device=like.device)


def _quantiles(values: NDArray[np.float32], bins: int) -> Tensor:
    """float32 [bins - 1, columns]: the inner quantiles of each column, NaN aside; 0 where all are NaN."""
    known = np.where(np.isnan(values).all(axis=0), np.float32(0), values) if len(values) else values[:0]
    if not len(known):
        return torch.zeros(bins - 1, values.shape[1])
    ranks = np.linspace(0, 1, bins + 1)[1:-1]
    return torch.from_numpy(np.nanquantile(known, ranks, axis=0).astype(np.float32))
