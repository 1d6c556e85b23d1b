"""Every sentence names what exists, and reads well with typical values, with extreme ones and with none."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.errors import ConfigError
from riskdistill.features import FeatureSpec
from riskdistill.reasons import Catalogue, catalogue
from riskdistill.reasons.past import FACTS
from riskdistill.reasons.words import value_words

SPECS = (FeatureSpec(), FeatureSpec(windows=(5_400.0, 90 * 86_400.0), events_per_party=4))
PHRASES = [
    pytest.param(spec, phrase, id=f"{number} {phrase.text[:40]}")
    for number, spec in enumerate(SPECS)
    for phrases in Catalogue.of(spec).phrases.values()
    for phrase in phrases
]


@pytest.mark.parametrize(("spec", "phrase"), PHRASES)
def test_a_sentence_names_features_that_exist_and_fills(spec: FeatureSpec, phrase: catalogue.Phrase) -> None:
    fitted = Catalogue.of(spec)
    assert set(phrase.names) <= {*spec.names, *(fact.name for fact in FACTS)}
    for value in (0.0, 1.0, 14.0, 1e13, float("nan")):
        told = phrase.fill(dict.fromkeys(phrase.names, value), fitted.units)
        assert told
        assert not re.search(r"[<>{}]|nan", told), told
    assert not phrase.names or not phrase.applies(dict.fromkeys(phrase.names, float("nan")))
    values = dict.fromkeys(phrase.names, 2.0) | dict.fromkeys(phrase.unless, 0.0)
    assert phrase.applies(values)


@pytest.mark.parametrize("spec", SPECS)
def test_every_group_of_features_has_sentences(spec: FeatureSpec) -> None:
    assert set(Catalogue.of(spec).phrases) == {*spec.groups, "sender events", "receiver events"}


def test_the_sentence_of_the_issue_reads_as_it_is_asked_for() -> None:
    values = {
        "receiver_past_new_received": 14.0,
        "receiver_past_new_payers": 12.0,
        "receiver_past_new_span": 3 * 86_400.0,
        "receiver_past_sent_on": 0.957,
        "receiver_past_sent_on_within": 7_200.0,
    }
    fitted = Catalogue.of(SPECS[0])
    assert fitted.phrases["receiver events"][0].fill(values, fitted.units) == (
        "the receiver received 14 payments from 12 new senders in 3 days, "
        "and sent on 96 % of what it received within 2 h"
    )


@pytest.mark.parametrize(
    ("text", "said"), [("{no_such_feature} of them", "no feature no_such_feature"), ("{amount_usd", "expected '}'")]
)
def test_a_sentence_that_cannot_be_told_is_found_when_the_catalogue_is_read(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "catalogue.yaml"
    file.write_text(f'version: 1\nphrases:\n  - group: amount\n    text: "{text}"\n')
    monkeypatch.setattr(catalogue, "FILE", file)
    with pytest.raises((ConfigError, ValueError), match=said):
        Catalogue.of(FeatureSpec(events_per_party=3))


@given(st.floats(width=32), st.sampled_from(sorted(set(Catalogue.of(SPECS[0]).units.values()))))
def test_any_number_in_any_unit_has_words(value: float, unit: str) -> None:
    if np.isinf(value):
        return
    told = value_words(value, unit)
    assert told.strip()
    assert "nan" not in told
