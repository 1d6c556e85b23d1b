"""Several networks as one: their mean answers, the first shows its insides, and one file serves them all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from riskdistill.dataset import Dataset
from riskdistill.models.calibration import Calibrator
from riskdistill.models.committee import Committee
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.onnx_export import export_onnx
from riskdistill.models.onnx_model import OnnxScorer
from riskdistill.models.teacher import EventTeacher, Wanted
from riskdistill.models.training import score_logits


@pytest.fixture(scope="module")
def members(tiny_dataset: Dataset) -> list[EventTransformer]:
    return [tiny.network(tiny_dataset, tiny.CONFIG.teacher.network, seed) for seed in (1, 2, 3)]


def test_the_mean_of_the_members_answers(members: list[EventTransformer], tiny_dataset: Dataset) -> None:
    rows = tiny_dataset.test.encoded.take(slice(0, 32))
    logit, typology = score_logits(Committee(members), rows)
    each = [score_logits(member, rows) for member in members]
    np.testing.assert_allclose(logit, np.mean([one[0] for one in each], axis=0), atol=1e-6)
    np.testing.assert_allclose(typology, np.mean([one[1] for one in each], axis=0), atol=1e-6)
    assert not np.allclose(logit, each[0][0])


def test_a_student_is_shown_the_first_member_s_insides(
    members: list[EventTransformer], tiny_dataset: Dataset
) -> None:
    rows = tiny_dataset.test.encoded.take(slice(0, 16))
    wanted = Wanted(student_events=4, relation_heads=4, relations=True, attention=True, hidden=True, embedding=True)
    first, all_three = (EventTeacher(one, 0.0).answer(rows, wanted) for one in (members[0], Committee(members)))
    for name in ("relations", "attention", "hidden", "embedding"):
        np.testing.assert_array_equal(first.parts()[name], all_three.parts()[name])
    assert not np.allclose(first.logit, all_three.logit)


def test_one_file_serves_all_members(
    members: list[EventTransformer], tiny_dataset: Dataset, tmp_path: Path
) -> None:
    rows, committee = tiny_dataset.test.encoded.take(slice(0, 64)), Committee(members)
    export_onnx(committee, tmp_path / "teacher.onnx", rows)
    found = OnnxScorer(tmp_path / "teacher.onnx", Calibrator()).score(rows).logit
    np.testing.assert_allclose(found, score_logits(committee, rows)[0], atol=1e-4)
    assert committee.parameter_count() == sum(member.parameter_count() for member in members)


def test_another_member_is_another_teacher(members: list[EventTransformer]) -> None:
    one, other = (EventTeacher(Committee(some), 0.0).fingerprint for some in (members[:2], members[1:]))
    assert one != other
    assert Committee(members).device == torch.device("cpu")
