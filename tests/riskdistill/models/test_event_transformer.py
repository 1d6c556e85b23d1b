"""The event transformer: what it reads, what it must not see, and that it can be stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from riskdistill.config import ModelConfig
from riskdistill.dataset import Dataset
from riskdistill.features import Encoded
from riskdistill.features.spec import FORMAT_BUCKETS, TOKEN_CHANNELS
from riskdistill.models.bins import Bins
from riskdistill.models.event_transformer import EventTransformer, EventTransformerOutput, NumberEncoding
from riskdistill.models.training import score_logits

FLOW, FORMAT, CURRENCY = (TOKEN_CHANNELS.index(name) for name in ("flow", "format", "currency"))


@pytest.fixture(scope="module", params=["teacher", "student"])
def model(request: pytest.FixtureRequest, tiny_dataset: Dataset) -> EventTransformer:
    sizes: dict[str, ModelConfig] = {"teacher": tiny.CONFIG.teacher.network, "student": tiny.CONFIG.student}
    size = sizes[request.param]
    network = tiny.network(tiny_dataset, size)
    network.train(False)
    return network


@pytest.fixture(scope="module")
def rows(tiny_dataset: Dataset) -> Encoded:
    return tiny_dataset.train.encoded.take(slice(0, 100))  # early rows: many events are absent


@torch.inference_mode()
def answers(model: EventTransformer, rows: Encoded) -> Tensor:
    output: EventTransformerOutput = model(torch.from_numpy(rows.context), torch.from_numpy(rows.events))
    return torch.cat([output.logit[:, None], output.typology_logits], dim=1)


def test_a_stored_model_answers_as_before(model: EventTransformer, rows: Encoded, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    loaded = EventTransformer.from_pretrained(tmp_path)
    loaded.train(False)
    assert loaded.config.typologies == model.config.typologies
    assert loaded.config.feature_fingerprint == model.config.feature_fingerprint
    assert torch.equal(answers(loaded, rows), answers(model, rows))


def test_missing_features_are_read_as_missing_not_as_zero(model: EventTransformer, rows: Encoded) -> None:
    empty = np.full_like(rows.context, np.nan)
    gone, zero = (answers(model, Encoded(context, rows.events)) for context in (empty, np.zeros_like(empty)))
    assert torch.isfinite(gone).all()
    assert (gone - zero).abs().max() > 1e-3


def test_extreme_features_give_finite_answers(model: EventTransformer, rows: Encoded) -> None:
    for value in (1e13, -1e13, 3e38):
        assert torch.isfinite(answers(model, Encoded(np.full_like(rows.context, value), rows.events))).all()


def test_padding_is_not_read(model: EventTransformer, rows: Encoded) -> None:
    junk = rows.events.copy()
    absent = junk[:, :, FLOW] == 0
    assert absent.any()
    assert not absent.all()
    junk[absent, 1:] = 5.0
    junk[absent, FORMAT] = FORMAT_BUCKETS - 1
    changed = answers(model, Encoded(rows.context, junk))
    torch.testing.assert_close(changed, answers(model, rows), atol=1e-6, rtol=0)


def test_events_are_read(model: EventTransformer, rows: Encoded) -> None:
    without = answers(model, Encoded(rows.context, np.zeros_like(rows.events)))
    assert (without - answers(model, rows)).abs().max() > 1e-3


def test_the_two_parties_are_told_apart(tiny_dataset: Dataset, rows: Encoded) -> None:
    model = tiny.network(tiny_dataset, tiny.CONFIG.teacher.network)
    model.train(False)
    half = rows.events.shape[1] // 2
    swapped = Encoded(rows.context, np.concatenate([rows.events[:, half:], rows.events[:, :half]], axis=1))
    torch.testing.assert_close(answers(model, swapped), answers(model, rows), atol=1e-5, rtol=0)  # so at birth
    with torch.no_grad():
        model.sides[0] += torch.linspace(-1, 1, model.config.width)
    assert (answers(model, swapped) - answers(model, rows)).abs().max() > 1e-3


def test_rows_alone_score_as_in_a_batch(model: EventTransformer, rows: Encoded) -> None:
    together = answers(model, rows)
    alone = torch.cat([answers(model, rows.take(slice(row, row + 1))) for row in range(20)])
    torch.testing.assert_close(alone, together[:20], atol=1e-5, rtol=0)
    logits, _ = score_logits(model, rows)
    np.testing.assert_allclose(logits, together[:, 0].numpy(), atol=1e-5)


def test_no_rows_have_no_scores(model: EventTransformer, rows: Encoded) -> None:
    logits, typologies = score_logits(model, rows.take(slice(0, 0)))
    assert logits.shape == (0,)
    assert typologies.shape == (0, len(model.config.typologies))


def test_a_student_reads_only_the_newest_events_of_each_party(tiny_dataset: Dataset, rows: Encoded) -> None:
    student = tiny.network(tiny_dataset, tiny.CONFIG.student)
    student.train(False)
    kept, half = tiny.CONFIG.student.events_per_party, tiny_dataset.spec.events_per_party
    events = rows.events.copy()
    for side in (0, half):
        events[:, side + kept : side + half] = 1.0
    changed = answers(student, Encoded(rows.context, events))
    assert torch.equal(changed, answers(student, rows))
    events[:, kept - 1] = 1.0
    assert not torch.equal(answers(student, Encoded(rows.context, events)), answers(student, rows))


def test_what_the_layers_did_comes_only_on_request(model: EventTransformer, rows: Encoded) -> None:
    inputs = torch.from_numpy(rows.context), torch.from_numpy(rows.events)
    plain, asked = model(*inputs), model(*inputs, output_hidden_states=True)
    assert plain.layers == ()
    few = model(*inputs, output_layers=True)
    assert few.layers[-1].hidden.shape == (len(rows), 1, model.config.width)
    torch.testing.assert_close(few.layers[-1].query, asked.layers[-1].query)
    assert len(asked.layers) == model.config.layers
    tokens = 1 + 2 * model.config.events_per_party
    for layer in asked.layers:
        assert [part.shape for part in layer[:4]] == 4 * [(len(rows), tokens, model.config.width)]
        assert layer.attention is None
    assert asked.mask.shape == (len(rows), tokens)
    assert asked.mask[:, 0].all()
    torch.testing.assert_close(asked.logit, plain.logit)


def test_attention_in_the_open_gives_the_same_scores_and_sums_to_one(
    model: EventTransformer, rows: Encoded
) -> None:
    inputs = torch.from_numpy(rows.context), torch.from_numpy(rows.events)
    asked = model(*inputs, output_attentions=True)
    torch.testing.assert_close(asked.logit, model(*inputs).logit, atol=1e-5, rtol=1e-5)
    for layer in asked.layers:
        torch.testing.assert_close(layer.attention.sum(-1), torch.ones(layer.attention.shape[:3]))
        assert (layer.attention * ~asked.mask[:, None, None, :] == 0).all()


def test_a_student_is_smaller_by_the_count_of_trained_numbers(tiny_dataset: Dataset) -> None:
    teacher, student = (
        tiny.network(tiny_dataset, size) for size in (tiny.CONFIG.teacher.network, tiny.CONFIG.student)
    )
    assert student.parameter_count() < teacher.parameter_count()
    assert student.parameter_count() == sum(p.numel() for p in student.parameters() if p.requires_grad)


# ---- encoding of numbers

columns = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40)


def encoding(*edges: float) -> NumberEncoding:
    """Of one feature, which may be unknown."""
    ends = np.array(edges, np.float32)
    pieces = len(ends) - 1
    made = NumberEncoding(1, pieces, 1)
    made.set(Bins(np.zeros(pieces, np.int64), ends[:-1], 1 / np.diff(ends), np.zeros(1, np.int64)))
    return made


@given(columns)
def test_encoding_rises_with_the_value_and_stays_in_bounds(asked: list[float]) -> None:
    encoded = encoding(-3.0, 0.0, 1.0, 50.0)(torch.tensor(sorted(asked))[:, None])
    assert encoded.shape == (len(asked), 4)
    assert ((encoded >= 0) & (encoded <= 1)).all()
    assert (encoded[:, -1] == 0).all()
    assert (encoded.diff(dim=0) >= 0).all()


def test_a_piece_is_linear_between_its_edges() -> None:
    encoded = encoding(0.0, 2.0, 10.0)(torch.tensor([[-1.0], [1.0], [4.0], [99.0]]))
    assert encoded[:, :2].tolist() == [[0, 0], [0.5, 0], [1, 0.25], [1, 1]]


def test_the_unknown_has_a_flag_and_no_pieces() -> None:
    assert encoding(0.0, 2.0, 10.0)(torch.tensor([[float("nan")]])).tolist() == [[0, 0, 1]]


def test_a_feature_that_a_training_row_does_not_see_is_wholly_gone() -> None:
    made = NumberEncoding(2, 4, 2, dropout=0.5)
    feature = np.array([0, 0, 1, 1])
    made.set(Bins(feature, np.zeros(4, np.float32), np.ones(4, np.float32), np.array([0, 1])))
    torch.manual_seed(0)
    seen = made(torch.full((200, 2), 9.0))[:, :4]
    assert {tuple(row) for row in seen.tolist()} == {(a, a, b, b) for a in (0.0, 2.0) for b in (0.0, 2.0)}
