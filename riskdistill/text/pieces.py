"""Word pieces of serialised transactions, each with the part of the text that it belongs to, in padded batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskdistill.text.serialise import Serialised

NO_PART = -1  # special pieces, joints and padding


@dataclass(frozen=True)
class Pieces:
    """One text as the model reads it.

    Attributes:
        ids: int64 [pieces].
        part: int64 [pieces], row of `Serialised.spans` that the piece lies in, or NO_PART.
    """

    ids: NDArray[np.int64]
    part: NDArray[np.int64]


class PieceBatch(NamedTuple):
    """Texts padded on the right to one length.

    Attributes:
        ids: int64 [n, pieces].
        mask: int64 [n, pieces], 0 where padded.
        part: int64 [n, pieces].
    """

    ids: Tensor
    mask: Tensor
    part: Tensor

    def to(self, device: torch.device) -> PieceBatch:
        """The same batch elsewhere."""
        return PieceBatch(*(tensor.to(device) for tensor in self))


def cut(tokenizer: Any, rows: Sequence[Serialised], max_tokens: int) -> list[Pieces]:
    """Cut texts into at most `max_tokens` pieces each, with a fast Hugging Face tokenizer."""
    if not rows:
        return []
    told = tokenizer(
        [row.text for row in rows], truncation=True, max_length=max_tokens, return_offsets_mapping=True
    )
    return [
        Pieces(np.asarray(ids, np.int64), _parts(np.asarray(offsets, np.int64), row.spans))
        for ids, offsets, row in zip(told["input_ids"], told["offset_mapping"], rows, strict=True)
    ]


def _parts(offsets: NDArray[np.int64], spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """The part that each piece [pieces, 2] overlaps; byte-level pieces may begin with the blank before it."""
    start, end = offsets[:, :1], offsets[:, 1:]
    overlap = np.minimum(end, spans[:, 1]) - np.maximum(start, spans[:, 0])
    part = overlap.argmax(axis=1)
    return np.where(overlap.max(axis=1) > 0, part, NO_PART)


def collate(pieces: Sequence[Pieces], padding: int) -> PieceBatch:
    """Pad texts on the right with the id `padding`."""
    longest = max(len(text.ids) for text in pieces)
    ids = torch.full((len(pieces), longest), padding)
    part = torch.full((len(pieces), longest), NO_PART)
    mask = torch.zeros(len(pieces), longest, dtype=torch.int64)
    for row, text in enumerate(pieces):
        length = len(text.ids)
        ids[row, :length], part[row, :length] = torch.from_numpy(text.ids), torch.from_numpy(text.part)
        mask[row, :length] = 1
    return PieceBatch(ids, mask, part)


def by_length(pieces: Sequence[Pieces], batch_size: int) -> list[NDArray[np.int64]]:
    """Rows in batches of texts of like length, the longest first, which saves padding."""
    order = np.argsort([-len(text.ids) for text in pieces], kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
