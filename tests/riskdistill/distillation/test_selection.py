"""Strong supervision goes to the rows of which the teacher is surest, on either side of a half."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from riskdistill.config import SelectionConfig
from riskdistill.distillation.mining import entropy
from riskdistill.distillation.selection import teacher_weight

logits = arrays.arrays(np.float32, st.integers(0, 40), elements=st.floats(-30, 30, width=32))
shares = st.floats(0.01, 1)


def test_every_row_has_full_weight_unless_told_otherwise() -> None:
    assert teacher_weight(np.linspace(-3, 3, 9, dtype=np.float32), SelectionConfig()).tolist() == [1.0] * 9


def test_the_few_rows_of_laundering_are_not_crowded_out() -> None:
    logit = np.array([-9, -8, -7, -6, -5, -4, 0.5, 0.2], np.float32)
    found = teacher_weight(logit, SelectionConfig(confident=0.5, otherwise=0.25))
    assert found.tolist() == [1, 1, 1, 0.25, 0.25, 0.25, 1, 0.25]


@given(logits, shares, st.floats(0, 1))
def test_each_side_keeps_its_share_of_rows(logit: np.ndarray, share: float, otherwise: float) -> None:
    found = teacher_weight(logit, SelectionConfig(confident=share, otherwise=0.5 * otherwise))
    for side in (logit > 0, logit <= 0):
        assert (found[side] == 1).sum() == np.ceil(share * side.sum())
    assert set(found.tolist()) <= {1.0, float(np.float32(0.5 * otherwise))}


@given(logits, shares)
def test_who_is_chosen_is_surer_than_who_is_not(logit: np.ndarray, share: float) -> None:
    found = teacher_weight(logit, SelectionConfig(confident=share))
    for side in (logit > 0, logit <= 0):
        chosen, others = entropy(logit[side & (found == 1)]), entropy(logit[side & (found == 0)])
        assert not len(others) or chosen.max() <= others.min() + 1e-7
