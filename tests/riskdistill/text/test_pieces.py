from __future__ import annotations

from typing import Any

import numpy as np

from riskdistill.text.pieces import NO_PART, Pieces, by_length, collate, cut
from riskdistill.text.serialise import Serialised


def test_each_piece_belongs_to_the_part_of_its_characters_and_what_is_cut_off_to_none(tokenizer: Any) -> None:
    told = Serialised("ab. cde", np.array([[0, 2], [4, 7], [0, 0]]))
    (whole,) = cut(tokenizer, [told], 16)
    assert whole.part.tolist() == [0, 0, NO_PART, NO_PART, 1, 1, 1]
    (short,) = cut(tokenizer, [told], 3)
    assert short.part.tolist() == [0, 0, NO_PART]
    assert short.ids.tolist() == whole.ids[:3].tolist()


def test_batches_hold_every_row_once_with_like_lengths_and_pad_on_the_right() -> None:
    pieces = [Pieces(np.arange(length), np.zeros(length, np.int64)) for length in (2, 7, 1, 6)]
    batches = by_length(pieces, 2)
    assert [rows.tolist() for rows in batches] == [[1, 3], [0, 2]]
    ids, mask, part = collate([pieces[row] for row in batches[1]], padding=9)
    assert ids.tolist() == [[0, 1], [0, 9]]
    assert mask.tolist() == [[1, 1], [1, 0]]
    assert part.tolist() == [[0, 0], [0, NO_PART]]
