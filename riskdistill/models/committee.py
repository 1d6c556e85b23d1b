"""Networks that began from different seeds and answer together.

Their mean ranks better than one of them, and varies less from run to run (Lakshminarayanan et al., "Simple and
scalable predictive uncertainty estimation using deep ensembles", 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from riskdistill.models.event_transformer import EventTransformer, EventTransformerConfig, EventTransformerOutput


class Committee(nn.Module):
    """Answers as an `EventTransformer` does: logits are the members' means, all else is the first member's.

    Args:
        members: alike in all but their weights.
    """

    def __init__(self, members: Sequence[EventTransformer]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    @property
    def all(self) -> list[EventTransformer]:
        """Its members."""
        return [cast(EventTransformer, member) for member in self.members]

    @property
    def first(self) -> EventTransformer:
        """The member whose insides are shown."""
        return self.all[0]

    @property
    def config(self) -> EventTransformerConfig:
        """Of every member."""
        return cast(EventTransformerConfig, self.first.config)

    @property
    def device(self) -> torch.device:
        """Where the members are."""
        return self.first.device

    def forward(
        self,
        context: Tensor,
        events: Tensor,
        output_layers: bool = False,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> EventTransformerOutput:
        """See `EventTransformer.forward`."""
        shown: EventTransformerOutput = self.first(
            context, events, output_layers, output_hidden_states, output_attentions
        )
        told = [shown, *(member(context, events) for member in self.all[1:])]
        return shown._replace(
            logit=torch.stack([one.logit for one in told]).mean(0),
            typology_logits=torch.stack([one.typology_logits for one in told]).mean(0),
        )

    def parameter_count(self) -> int:
        """Trained parameters of all members."""
        return sum(member.parameter_count() for member in self.all)


Network = EventTransformer | Committee
