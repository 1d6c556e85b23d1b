"""The event transformer: one `PreTrainedModel`, of which teacher and student are two sizes.

    context [n, F] ─ pieces between fixed edges ─ MLP ────────┐
                                                              ├─► [context, sender's events, receiver's events]
    events [n, 2K, C] ─ channels + format + currency + side ──┘            │ encoder layers (pre-norm), whose
                                                                           │ attention knows how tokens relate
                                                                           ▼
                                              read-out at the context position ─► laundering logit, typologies

Numbers enter as piecewise-linear encodings between edges that `models.bins` chose, which makes the network
indifferent to their scale and gives NaN a place of its own.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from riskdistill.config import ModelConfig
from riskdistill.data.currencies import CURRENCY_CODES
from riskdistill.data.schema import NORMAL, UNLISTED
from riskdistill.features.spec import FORMAT_BUCKETS, TOKEN_CHANNELS, FeatureSpec
from riskdistill.models.bins import Bins
from riskdistill.models.experts import MixtureOfExperts, balance, feed_forward
from riskdistill.models.token_numbers import NUMERIC, TokenNumbers
from riskdistill.models.token_relations import RELATIONS, token_relations

_FORMAT, _CURRENCY = TOKEN_CHANNELS.index("format"), TOKEN_CHANNELS.index("currency")


class EventTransformerConfig(PretrainedConfig):
    """Sizes of an event transformer.

    Attributes:
        features: length of the context vector.
        events_per_party: tokens of each party that the model reads, the newest first.
        feature_dropout: share of the context features that a training row does not see, drawn anew for each row.
        pieces: of the context features' piecewise-linear encoding, all features together.
        flags: context features that may be unknown.
        context_width: hidden width of the context's MLP.
        token_pieces: percentile pieces of each logarithmic channel of an event.
        periodic: frequencies of each logarithmic channel of an event.
        attention_width: of the queries, keys and values, all heads together; 0: the same as `width`.
        feedforward_width: hidden width of the feed-forward blocks; 0: `feedforward` times `width`.
        counterparty_relations: whether attention knows which events share a counterparty.
        experts: feed-forward blocks of each layer, of which a transaction uses two.
        typologies: names of the typology classes, the first being "normal".
        feature_fingerprint: of the `FeatureSpec` that the inputs follow.
        dataset_fingerprint: of the dataset that the weights were trained on; its card tells what was in it.
    """

    model_type = "riskdistill_event_transformer"

    features: int = 1
    events_per_party: int = 24
    width: int = 64
    layers: int = 2
    heads: int = 4
    feedforward: int = 4
    dropout: float = 0.1
    feature_dropout: float = 0.3
    pieces: int = 1
    flags: int = 0
    context_width: int = 128
    token_pieces: int = 0
    periodic: int = 0
    counterparty_relations: bool = False
    experts: int = 1
    attention_width: int = 0
    feedforward_width: int = 0
    typologies: list[str] = field(default_factory=lambda: [NORMAL, UNLISTED])
    feature_fingerprint: str = ""
    dataset_fingerprint: str = ""

    def __post_init__(self, **kwargs: Any) -> None:  # transformers makes a dataclass of it
        self.attention_width = self.attention_width or self.width
        self.feedforward_width = self.feedforward_width or self.feedforward * self.width
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]


class LayerView(NamedTuple):
    """What one encoder layer did, for terms of distillation that look inside.

    Attributes:
        query, key, value: [n, tokens, width], all heads side by side.
        hidden: [n, tokens, width], after the feed-forward block; [n, 1, width] where the first token alone was due.
        attention: [n, heads, tokens, tokens], rows sum to 1; only where attentions were asked for.
        gates: [n, experts], rows sum to 1; only where there is more than one expert.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    hidden: Tensor
    attention: Tensor | None = None
    gates: Tensor | None = None

    def every(self, step: int) -> LayerView:
        """Of every so many rows, beginning with the first."""
        return LayerView(
            query=self.query[::step],
            key=self.key[::step],
            value=self.value[::step],
            hidden=self.hidden[::step],
            attention=None if self.attention is None else self.attention[::step],
            gates=None if self.gates is None else self.gates[::step],
        )


class EventTransformerOutput(NamedTuple):
    """What the network says of a batch.

    Attributes:
        logit: [n], of laundering, on the training mix's scale.
        typology_logits: [n, typologies].
        embedding: [n, width], what the heads read.
        mask: bool [n, tokens], true where there is a token: the context, the sender's events, the receiver's.
        layers: one view for each encoder layer, the first layer first; empty unless asked for.
        balance: how unevenly the batch uses the experts, mean over the layers; only in training a mixture.
    """

    logit: Tensor
    typology_logits: Tensor
    embedding: Tensor
    mask: Tensor
    layers: tuple[LayerView, ...] = ()
    balance: Tensor | None = None

    def every(self, step: int) -> EventTransformerOutput:
        """Of every so many rows, beginning with the first."""
        views = [view.every(step) for view in self.layers]
        return EventTransformerOutput(
            logit=self.logit[::step],
            typology_logits=self.typology_logits[::step],
            embedding=self.embedding[::step],
            mask=self.mask[::step],
            layers=tuple(views),
            balance=self.balance,
        )


class NumberEncoding(nn.Module):
    """Piecewise-linear encoding of numbers between fixed edges: [n, F] -> [n, pieces + flags].

    A piece is 0 below its lower edge, 1 above its upper one, and linear inside; all of a feature's pieces are 0
    where it is unknown (NaN), and its flag, if it has one, is 1.
    """

    feature: Tensor
    lower: Tensor
    inverse_width: Tensor
    missing: Tensor

    def __init__(self, features: int, pieces: int, flags: int, dropout: float = 0.0) -> None:
        super().__init__()
        # whole features, as trees grow on a share of the columns: single pieces would give each other away
        self.seen = nn.Dropout(dropout)
        self.features = features
        self.register_buffer("feature", torch.zeros(pieces, dtype=torch.long))
        self.register_buffer("lower", torch.zeros(pieces))
        self.register_buffer("inverse_width", torch.ones(pieces))
        self.register_buffer("missing", torch.zeros(flags, dtype=torch.long))

    @torch.no_grad()
    def set(self, bins: Bins) -> None:
        """Take the edges that `bins` has; there must be as many pieces and flags."""
        for name in ("feature", "lower", "inverse_width", "missing"):
            self.get_buffer(name).copy_(torch.from_numpy(getattr(bins, name)))

    def forward(self, values: Tensor) -> Tensor:
        unknown = torch.isnan(values)
        filled = torch.where(unknown, torch.zeros_like(values), values)
        steps = ((filled[:, self.feature] - self.lower) * self.inverse_width).clamp(0.0, 1.0)
        steps = steps * (~unknown).to(steps.dtype)[:, self.feature]
        encoded = torch.cat([steps, unknown[:, self.missing].to(steps.dtype)], dim=1)
        if self.training and self.seen.p > 0:
            kept = self.seen(torch.ones_like(filled))
            encoded = encoded * torch.cat([kept[:, self.feature], kept[:, self.missing]], dim=1)
        return encoded


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and feed-forward, [n, tokens, width] -> the same, with its Q, K and V."""

    def __init__(self, config: EventTransformerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(config.width)
        self.projection = nn.Linear(config.width, 3 * config.attention_width)
        self.output = nn.Linear(config.attention_width, config.width)
        inner = config.feedforward_width
        self.feedforward = (
            feed_forward(config.width, inner)
            if config.experts == 1
            else MixtureOfExperts(config.width, inner, config.experts)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, hidden: Tensor, bias: Tensor, first_only: bool = False, attentions: bool = False
    ) -> LayerView:
        """`bias` is added to the attention's logits, [n, 1 or heads, 1 or tokens, tokens].

        With `first_only` the hidden states are [n, 1, width]: the last layer is read at its first token alone.

        With `attentions` the attention is worked out in the open, which the fused kernel never does.
        """
        query, key, value = self.projection(self.attention_norm(hidden)).chunk(3, dim=-1)
        asking, bias = (query[:, :1], bias[:, :, :1]) if first_only else (query, bias)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (asking, key, value))
        attention = None
        if attentions:
            attention = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias, -1)
            mixed = attention @ v
        else:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        # a copy, as the kernels that an export may choose from lay out their answers differently
        mixed = mixed.transpose(1, 2).clone(memory_format=torch.contiguous_format).flatten(2)
        hidden = hidden[:, : q.shape[2]] + self.dropout(self.output(mixed))
        gates = None
        if isinstance(self.feedforward, MixtureOfExperts):
            gates = self.feedforward.gates(hidden)
            told = self.feedforward.mix(hidden, gates)
        else:
            told = self.feedforward(hidden)
        return LayerView(query, key, value, hidden + self.dropout(told), attention, gates)


class EventTransformer(PreTrainedModel):
    """Scores transactions from their context vector and both parties' recent events."""

    config_class = EventTransformerConfig
    base_model_prefix = "encoder"
    main_input_name = "context"

    def __init__(self, config: EventTransformerConfig) -> None:
        super().__init__(config)
        width = config.width
        self.numbers = NumberEncoding(config.features, config.pieces, config.flags, config.feature_dropout)
        self.context = nn.Sequential(
            nn.Linear(config.pieces + config.flags, config.context_width),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.LayerNorm(config.context_width),
            nn.Linear(config.context_width, width),
        )
        self.token_numbers = TokenNumbers(config.token_pieces, config.periodic)
        self.channels = nn.Linear(self.token_numbers.size, width)
        self.formats = nn.Embedding(FORMAT_BUCKETS, width)
        self.currencies = nn.Embedding(len(CURRENCY_CODES) + 1, width)
        self.sides = nn.Parameter(torch.zeros(2, 1, width))
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.relation_bias = (
            nn.Parameter(torch.zeros(config.layers, config.heads, len(RELATIONS)))
            if config.counterparty_relations
            else None
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1 + len(config.typologies))
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            std = 0.02 if isinstance(module, nn.Embedding) else module.weight.shape[1] ** -0.5
            nn.init.trunc_normal_(module.weight, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(
        self,
        context: Tensor,
        events: Tensor,
        output_layers: bool = False,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> EventTransformerOutput:
        """
        Args:
            context: float [n, features]; NaN allowed.
            events: float [n, 2 * available, channels]; the newest `events_per_party` of each party are read.
            output_layers: whether to return what every layer did; of the last one's hidden states the first alone,
                as nothing else of them is read.
            output_hidden_states: the same, with all hidden states of the last layer.
            output_attentions: the same, with attention maps too.
        """
        hidden, mask = self.embed(context, events)
        biases = self.attention_biases(events, mask)
        whole = output_hidden_states or output_attentions
        views = []
        for depth, (layer, bias) in enumerate(zip(self.encoder, biases, strict=True), start=1):
            view = layer(hidden, bias, depth == len(self.encoder) and not whole, output_attentions)
            hidden = view.hidden
            views.append(view)
        embedding = self.norm(hidden[:, 0])
        logits = self.head(embedding)
        gates = [view.gates for view in views if view.gates is not None] if self.training else []
        return EventTransformerOutput(
            logit=logits[:, 0],
            typology_logits=logits[:, 1:],
            embedding=embedding,
            mask=mask,
            layers=tuple(views) if output_layers or whole else (),
            balance=torch.stack([balance(used) for used in gates]).mean() if gates else None,
        )

    def embed(self, context: Tensor, events: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [n, tokens, width] as the first layer reads them, and which are there, bool [n, tokens]."""
        hidden = self.context(self.numbers(context)).unsqueeze(1)
        events = self._read(events)
        tokens = self.channels(self.token_numbers(events[..., NUMERIC]))
        tokens = tokens + self.formats(events[..., _FORMAT].long()) + self.currencies(events[..., _CURRENCY].long())
        hidden = torch.cat([hidden, (tokens + self.sides).flatten(1, 2)], dim=1)
        present = (events[..., 0] != 0).flatten(1)
        return hidden, torch.cat([torch.ones_like(present[:, :1]), present], dim=1)

    def attention_biases(self, events: Tensor, mask: Tensor) -> list[Tensor]:
        """What each layer adds to its attention's logits, [n, 1 or heads, 1 or tokens, tokens].

        Args:
            events: as for `forward`.
            mask: as `embed` returns it.
        """
        absent = torch.where(mask, 0.0, -1e4)[:, None, None, :]
        if self.relation_bias is None:
            return [absent] * len(self.encoder)
        # relations last: ONNX Runtime multiplies no rows by a matrix, but not a matrix by no rows
        relations = token_relations(self._read(events)).permute(0, 2, 3, 1)
        return [(relations @ bias.T).permute(0, 3, 1, 2) + absent for bias in self.relation_bias]

    def _read(self, events: Tensor) -> Tensor:
        """Of the events [n, 2 * available, channels] those that the model reads, [n, 2, K, channels]."""
        read: Tensor = events.unflatten(1, (2, -1))[:, :, : self.config.events_per_party]
        return read

    def fit_encodings(self, bins: Bins, events: NDArray[np.float32]) -> None:
        """Set what is taken from training rows rather than learned.

        Args:
            bins: edges of the context features; as many pieces and flags as the config says.
            events: [n, 2 * available, channels], of the training rows.
        """
        self.numbers.set(bins)
        self.token_numbers.fit(torch.from_numpy(events))

    def parameter_count(self) -> int:
        """Trained parameters; the edges are data."""
        return sum(parameter.numel() for parameter in self.parameters())


def untrained(
    size: ModelConfig,
    bins: Bins,
    spec: FeatureSpec,
    events: NDArray[np.float32],
    *,
    typologies: tuple[str, ...],
    dataset_fingerprint: str = "",
    seed: int = 0,
) -> EventTransformer:
    """A new event transformer that reads numbers between the edges of `bins`; a seed gives the same weights.

    Args:
        events: [n, 2 * available, channels], of the training rows.
    """
    torch.manual_seed(seed)
    model = EventTransformer(
        EventTransformerConfig(
            features=len(spec.context),
            typologies=list(typologies),
            feature_fingerprint=spec.fingerprint,
            dataset_fingerprint=dataset_fingerprint,
            **size.model_dump() | {"pieces": len(bins.feature), "flags": len(bins.missing)},
        )
    )
    model.fit_encodings(bins, events)
    return model
