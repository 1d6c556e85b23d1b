"""How a network reads the numbers of an event: as they are, in percentile pieces, and as waves of several lengths.

One linear layer over raw logarithms sees large from small; structuring and pass-through show in *equal* amounts and
short gaps. Pieces between percentiles give resolution where events are dense; periodic embeddings give it wherever
training finds it (Gorishniy et al., "On embeddings for numerical features in tabular deep learning", 2022).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from riskdistill.features.spec import TOKEN_CHANNELS

NUMERIC: Final = slice(0, TOKEN_CHANNELS.index("format"))  # categories are the last channels
_NAMES: Final = TOKEN_CHANNELS[NUMERIC]
_LOGARITHMIC: Final = [at for at, name in enumerate(_NAMES) if name.startswith("log_")]
# Brings the logarithmic channels (seconds, dollars: up to about 16) to the size of the flags.
_SCALE: Final = [0.2 if name.startswith("log_") else 1.0 for name in _NAMES]
_SIGMA: Final = 0.1  # of the frequencies at birth: low, so that near values begin near each other
_FITTED_EVENTS: Final = 1_000_000


class TokenNumbers(nn.Module):
    """Numeric channels of events, [..., channels] -> [..., `size`].

    Args:
        pieces: between percentiles of training events, for each logarithmic channel; 0 for none.
        frequencies: of sine and cosine, for each logarithmic channel; 0 for none.
    """

    scale: Tensor
    logarithmic: Tensor
    center: Tensor
    spread: Tensor
    lower: Tensor
    inverse_width: Tensor

    def __init__(self, pieces: int, frequencies: int) -> None:
        super().__init__()
        count = len(_LOGARITHMIC)
        self.pieces = pieces
        self.size = len(_SCALE) + count * (pieces + 2 * frequencies)
        self.register_buffer("scale", torch.tensor(_SCALE))
        self.register_buffer("logarithmic", torch.tensor(_LOGARITHMIC))
        self.register_buffer("center", torch.zeros(count))
        self.register_buffer("spread", torch.ones(count))
        self.register_buffer("lower", torch.zeros(count, pieces))
        self.register_buffer("inverse_width", torch.ones(count, pieces))
        self.frequency = nn.Parameter(_SIGMA * torch.randn(count, frequencies)) if frequencies else None

    @torch.no_grad()
    def fit(self, events: Tensor) -> None:
        """Take percentiles, means and deviations from training events.

        Equal percentiles make an empty piece, which steps from 0 to 1 at once.

        Args:
            events: [n, 2 * available, channels]; absent ones are left out.
        """
        present = events[events[..., 0] != 0]
        present = present[:: max(1, len(present) // _FITTED_EVENTS)][:, _LOGARITHMIC].double()
        if not len(present):
            return
        self.center.copy_(present.mean(0))
        self.spread.copy_(present.std(0, correction=0).clamp_min(1e-3))
        if self.pieces:
            ranks = torch.linspace(0, 1, self.pieces + 1, dtype=torch.float64)
            edges = torch.from_numpy(np.quantile(present.numpy(), ranks.numpy(), axis=0)).T
            self.lower.copy_(edges[:, :-1])
            self.inverse_width.copy_(1 / edges.diff(dim=1).clamp_min(1e-6))

    def forward(self, numbers: Tensor) -> Tensor:
        parts = [numbers * self.scale]
        logarithms = numbers[..., self.logarithmic].unsqueeze(-1)
        if self.pieces:
            parts.append(((logarithms - self.lower) * self.inverse_width).clamp(0.0, 1.0).flatten(-2))
        if self.frequency is not None:
            standard = (logarithms - self.center.unsqueeze(-1)) / self.spread.unsqueeze(-1)
            phase = 2 * math.pi * self.frequency * standard.clamp(-10.0, 10.0)
            parts += [phase.sin().flatten(-2), phase.cos().flatten(-2)]
        return torch.cat(parts, dim=-1)
