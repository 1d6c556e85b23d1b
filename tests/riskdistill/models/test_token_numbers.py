"""Numbers of events are read in percentile pieces and in waves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from riskdistill.features.spec import TOKEN_CHANNELS
from riskdistill.models.token_numbers import NUMERIC, TokenNumbers

USD = TOKEN_CHANNELS.index("log_usd")
CHANNELS = len(TOKEN_CHANNELS[NUMERIC])


def events_of(usd: np.ndarray) -> Tensor:
    """One row, its events of these logarithms of dollars; after each an absent event with a number of its own."""
    events = torch.zeros(1, 2 * len(usd), len(TOKEN_CHANNELS))
    events[0, ::2, 0] = 1.0
    events[0, ::2, USD] = torch.from_numpy(usd.astype(np.float32))
    events[0, 1::2, USD] = 1e6
    return events


def fitted(usd: np.ndarray, pieces: int = 4, frequencies: int = 0) -> TokenNumbers:
    made = TokenNumbers(pieces, frequencies)
    made.fit(events_of(usd))
    return made


def read(made: TokenNumbers, usd: float) -> Tensor:
    numbers = torch.zeros(CHANNELS)
    numbers[USD] = usd
    encoded: Tensor = made(numbers)
    assert encoded.shape == (made.size,)
    return encoded


def test_without_pieces_and_frequencies_numbers_are_only_scaled() -> None:
    encoded = read(fitted(np.arange(5.0), pieces=0), 4.0)
    assert len(encoded) == CHANNELS
    assert encoded[USD] == pytest.approx(0.8)


def test_pieces_lie_between_percentiles_of_present_events() -> None:
    made = fitted(np.arange(101.0))
    pieces = read(made, 60.0)[CHANNELS : CHANNELS + 4]
    torch.testing.assert_close(pieces, torch.tensor([1.0, 1.0, 0.4, 0.0]))


@given(st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=30), st.floats(-1e6, 1e6, width=32))
def test_any_number_is_read_as_finite_numbers(usd: list[float], asked: float) -> None:
    encoded = read(fitted(np.array(usd), frequencies=3), asked)[CHANNELS:]
    assert torch.isfinite(encoded).all()
    assert (encoded.abs() <= 1).all()


def test_waves_tell_near_numbers_apart_and_their_frequencies_are_learned() -> None:
    torch.manual_seed(0)
    made = fitted(np.arange(20.0), pieces=0, frequencies=4)
    near = read(made, 5.0) - read(made, 5.5)
    assert near[CHANNELS:].abs().max() > 1e-3
    assert made.frequency is not None
    read(made, 5.0).sum().backward()
    assert (made.frequency.grad[0] != 0).all()


def test_rows_without_events_leave_what_was_there() -> None:
    made, new = TokenNumbers(3, 2), TokenNumbers(3, 2)
    made.fit(torch.zeros(2, 4, len(TOKEN_CHANNELS)))
    for name, buffer in made.named_buffers():
        assert torch.equal(buffer, new.get_buffer(name))
