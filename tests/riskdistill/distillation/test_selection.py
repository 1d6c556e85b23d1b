"""Which rows the teacher's terms weigh in full."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from riskdistill.config import SelectionConfig
from riskdistill.distillation.selection import teacher_weight

logits = arrays.arrays(np.float32, st.integers(1, 60), elements=st.floats(-20, 20, width=32))


@given(logits)
def test_by_default_every_row_counts(logit: NDArray[np.float32]) -> None:
    assert (teacher_weight(logit, SelectionConfig()) == 1).all()


@given(logits, st.floats(0.01, 1), st.floats(0, 1))
def test_the_surest_share_of_either_side_counts_in_full(
    logit: NDArray[np.float32], confident: float, otherwise: float
) -> None:
    weight = teacher_weight(logit, SelectionConfig(confident=confident, otherwise=otherwise))
    assert set(weight.tolist()) <= {1.0, float(np.float32(otherwise))}
    for side in (logit > 0, logit <= 0):
        chosen, rest = np.abs(logit[side & (weight == 1)]), np.abs(logit[side & (weight < 1)])
        if side.any() and otherwise < 0.99:
            assert len(chosen) == np.ceil(confident * side.sum())
        if len(chosen) and len(rest):
            assert chosen.min() >= rest.max()


def test_few_laundering_rows_are_not_crowded_out_by_many_sure_normal_ones() -> None:
    logit = np.array([-9.0] * 90 + [1.0] * 10, np.float32)
    assert teacher_weight(logit, SelectionConfig(confident=0.5))[-10:].sum() == 5
