from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from riskdistill.config import TextTeacherConfig, TextTemplates
from riskdistill.data.currencies import CURRENCY_CODES
from riskdistill.errors import ConfigError
from riskdistill.features import Encoded, FeatureSpec
from riskdistill.features.rows import format_bucket
from riskdistill.features.spec import TOKEN_CHANNELS
from riskdistill.text.serialise import Serialiser

SPEC = FeatureSpec(events_per_party=2)
CONFIG = TextTeacherConfig(events_per_party=2)
FLOATS = st.floats(width=32)


def one_row(context: dict[str, float], events: dict[int, dict[str, float]]) -> Encoded:
    numbers = np.full((1, len(SPEC.names)), np.nan, np.float32)
    for name, value in context.items():
        numbers[0, SPEC.names.index(name)] = value
    tokens = np.zeros((1, 4, len(TOKEN_CHANNELS)), np.float32)
    for place, channels in events.items():
        for channel, value in channels.items():
            tokens[0, place, TOKEN_CHANNELS.index(channel)] = value
    return Encoded(numbers, tokens)


def test_a_transaction_is_told_with_its_context_and_events_newest_first_and_unknown_things_are_left_out() -> None:
    currency = float(1 + CURRENCY_CODES.index("EUR"))
    wire = float(format_bucket("wire"))
    sent = {"flow": -1.0, "log_usd": np.log1p(250.0), "log_age": np.log1p(3 * 86_400.0), "format": wire}
    received = {"flow": 1.0, "log_usd": np.log1p(40.0), "format": wire, "is_other_party": 1.0}
    row = one_row(
        {"amount_usd": 9_500.0, "weekday": 4.0, "hour": 13.0, "currency_paid": currency},
        {0: sent, 2: received, 3: sent},
    )
    (told,) = Serialiser(SPEC, CONFIG)(row)
    context, *events = (told.text[start:end] for start, end in told.spans)
    assert context == "new payment, amount 9500 USD, in EUR, on Friday at 13 h"
    assert events[0] == "sender sent 250 USD, wire, 3 days ago, another account, known contact"
    assert events[1] == ""  # no such event
    assert events[2] == "receiver received 40 USD, wire, 0 seconds ago, the other party, known contact"
    assert told.text == ". ".join([context, events[0], events[2], events[3]])


@settings(max_examples=60)
@given(
    context=arrays(np.float32, (1, len(SPEC.names)), elements=FLOATS),
    events=arrays(np.float32, (1, 4, len(TOKEN_CHANNELS)), elements=FLOATS),
)
def test_any_row_is_told_and_spans_cover_the_words_of_their_part_alone(
    context: np.ndarray, events: np.ndarray
) -> None:
    (told,) = Serialiser(SPEC, CONFIG)(Encoded(context, events))
    assert told.text.startswith("new payment")
    present = [place for place in range(4) if told.spans[1 + place, 1] > 0]
    assert set(present) <= set(np.flatnonzero(events[0, :, 0] != 0))
    covered = np.zeros(len(told.text), int)
    for start, end in told.spans:
        covered[start:end] += 1
    assert covered.max() == 1
    assert "".join(np.array(list(told.text))[covered == 0]) == ". " * len(present)
    for place in present:
        words = told.text[slice(*told.spans[1 + place])]
        assert not words.startswith("receiver" if place < 2 else "sender")
    assert "nan" not in told.text
    assert "inf" not in told.text


@pytest.mark.parametrize(
    ("templates", "told"),
    [
        ({"context": ("new", "{no_such}")}, "amount_usd"),
        ({"event": ("{account}",)}, "counterparty"),
        ({"context": ("new", "{amount_usd:.2f}")}, "by name alone"),
        ({"context": ("new", "{amount_usd")}, "no template"),
        ({"context": ("{amount_usd}",)}, "without fields"),
    ],
)
def test_a_bad_template_is_refused_with_what_is_known(templates: dict[str, tuple[str, ...]], told: str) -> None:
    config = TextTeacherConfig(events_per_party=2, templates=TextTemplates.model_validate(templates))
    with pytest.raises(ConfigError, match=told):
        Serialiser(SPEC, config)


def test_more_events_than_the_features_keep_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"text_teacher\.events_per_party"):
        Serialiser(SPEC, TextTeacherConfig(events_per_party=3))


def test_formats_that_share_a_bucket_are_told_together_and_others_by_number() -> None:
    config = TextTeacherConfig(events_per_party=2, format_names=tuple(f"name{place}" for place in range(60)))
    serialiser = Serialiser(SPEC, config)
    twin = next(place for place in range(1, 60) if format_bucket(f"name{place}") == format_bucket("name0"))
    (told,) = serialiser(one_row({"payment_format": float(format_bucket("name0"))}, {}))
    assert f"by name0 or name{twin}" in told.text
    (other,) = Serialiser(SPEC, config.model_copy(update={"format_names": ()}))(
        one_row({"payment_format": 9.0}, {})
    )
    assert "by format 9" in other.text
