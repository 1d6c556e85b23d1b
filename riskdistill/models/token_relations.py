"""How tokens relate: which events share a counterparty, a party, or are with the other party of the payment.

A token tells what an event was. Fan-in, layering and round trips lie between events: the network sees them because
each kind of relation between two tokens has a learned bias in the attention (Shaw et al., "Self-attention with
relative position representations", 2018; Ying et al., "Do transformers really perform badly for graph
representation?", 2021; Lin et al., "FraudGT", 2024). Counterparties are compared and never identified, so that
nothing is learned of any one account.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from riskdistill.features.spec import TOKEN_CHANNELS

RELATIONS: Final = ("same counterparty", "shared counterparty", "same party", "between the two")
_PEER, _OTHER = TOKEN_CHANNELS.index("peer"), TOKEN_CHANNELS.index("is_other_party")


def token_relations(events: Tensor) -> Tensor:
    """Which of `RELATIONS` holds between any two tokens; at most one does.

    Of two events: the same counterparty, within one party's history; the same counterparty in both histories; one
    party's history with different counterparties. Of the context and an event: the event is between the two parties
    of the payment being scored.

    Args:
        events: [n, 2, K, channels], of the sender and of the receiver.

    Returns:
        1 or 0, [n, relations, 1 + 2 K, 1 + 2 K]; of an absent event it means nothing.
    """
    per_party = events.shape[2]
    peer = events[..., _PEER].flatten(1)
    alike = peer.unsqueeze(2) == peer.unsqueeze(1)
    side = torch.arange(2 * per_party, device=events.device) // per_party
    within = side.unsqueeze(1) == side
    among = torch.stack([alike & within, alike & ~within, ~alike & within], dim=1).to(events.dtype)
    between = (events[..., _OTHER].flatten(1) > 0.5).to(events.dtype)
    # the context is the first token: its row, and its column
    of_context = nn.functional.pad(between.unsqueeze(1), (1, 0, 0, 2 * per_party))
    of_context = of_context + of_context.transpose(1, 2)
    return torch.cat([nn.functional.pad(among, (1, 0, 1, 0)), of_context.unsqueeze(1)], dim=1)
