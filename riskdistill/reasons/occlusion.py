"""What moved a score: groups of features, and past payments of both parties, taken away one at a time.

Occlusion (Covert et al., "Explaining by removing", 2021): a group is set to its typical values, or an event taken
away, the model scores all versions in one batch, and the fall of the logit is the effect. A second batch asks the
same of the features behind each sentence that could tell a strong group, so that the words name what moved the
score, and of each past payment. The same row under the same bundle always gets the same reasons: effects are
rounded before they are ordered, and equal ones keep the order of the specification. Where a student has early
exits, its rule for short histories is left out: an effect is of the events, not of an exit taken without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from riskdistill.evaluation.event_words import event_words
from riskdistill.features import Encoded, FeatureSpec
from riskdistill.models.onnx_model import Scorer
from riskdistill.reasons.catalogue import Catalogue, Phrase
from riskdistill.reasons.past import PARTIES, past_facts
from riskdistill.reasons.words import value_words
from riskdistill.student.exit_scorer import EarlyExitScorer

MATERIAL: Final = 0.05  # effects on the logit below this are not reasons
_DIGITS: Final = 4  # that effects are rounded to


class Explainable(Protocol):
    """Whose scores are explained: a bundle, or what will be one (see `riskdistill.bundle.Bundle`)."""

    @property
    def spec(self) -> FeatureSpec: ...
    @property
    def student(self) -> Scorer: ...
    @property
    def typical(self) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Reason:
    """One reason.

    Attributes:
        code: the feature group, or "sender events" / "receiver events", or "sender event 3" of a past payment.
        text: in words.
        effect: how much it raised the logit.
    """

    code: str
    text: str
    effect: float


@dataclass(frozen=True)
class Explanation:
    """Why one row has its score.

    Attributes:
        reasons: the strongest, the strongest first; empty where nothing raised the score.
        past: past payments of the two parties that raised it most by themselves, the strongest first.
        facts: every value that the reasons name, by feature or fact.
        catalogue: version of the sentences.
    """

    reasons: tuple[Reason, ...]
    past: tuple[Reason, ...]
    facts: Mapping[str, float]
    catalogue: str


def explain(bundle: Explainable, encoded: Encoded, limit: int = 3, model: Scorer | None = None) -> Explanation:
    """Why one row has the score that it has.

    Args:
        bundle: whose features, and whose student if no `model` is named.
        encoded: exactly one row.
        limit: how many reasons and how many past payments at most.
        model: another model on the same features, such as the bundle's teacher.
    """
    catalogue, plan = Catalogue.of(bundle.spec), _Plan.of(bundle.spec)
    rows = _Rows(bundle, encoded, _without_short_rule(model or bundle.student))
    half, codes = bundle.spec.events_per_party, plan.codes
    chosen = _strongest(rows.effects(plan.groups), limit)

    values = dict(zip(bundle.spec.names, encoded.context[0].tolist(), strict=True))
    for party in PARTIES:
        if f"{party} events" in {codes[index] for index, _ in chosen}:
            values |= past_facts(encoded.events[0], bundle.spec, party)
    tellable = [_tellable(bundle, catalogue, codes[index], values) for index, _ in chosen]
    present = np.flatnonzero(encoded.events[0, :, 0]).tolist()
    finer = [
        [plan.column_of[name] for name in phrase.names if name in plan.column_of]
        for phrases in tellable
        for phrase in phrases
    ]
    effects = rows.effects(_Taken.of(columns=finer, events=[[place] for place in present]))
    reasons: list[Reason] = []
    facts: dict[str, float] = {}
    start = 0
    for (index, effect), phrases in zip(chosen, tellable, strict=True):
        own = effects[start : start + len(phrases)]
        start += len(phrases)
        phrase = phrases[int(np.argmax(own))]  # the first of equal ones
        reasons.append(Reason(codes[index], _told(bundle, catalogue, phrase, values), effect))
        facts |= {name: round(float(values[name]), 6) for name in phrase.names}
    past = _strongest(effects[len(finer) :], limit)
    told = np.zeros_like(encoded.events[0])
    for index, _ in past:
        told[present[index]] = encoded.events[0, present[index]]
    words = event_words(told, bundle.spec)
    return Explanation(
        tuple(reasons),
        tuple(
            Reason(f"{PARTIES[place // half]} event {place % half + 1}", words[place], effect)
            for place, effect in ((present[index], effect) for index, effect in past)
        ),
        facts,
        catalogue.version,
    )


@dataclass(frozen=True)
class _Taken:
    """What is taken away of one row, in so many versions of it.

    Attributes:
        versions: how many.
        columns: the version and the place of each context column that is set to its typical value.
        events: the version and the place of each event that is emptied.
    """

    versions: int
    columns: tuple[list[int], list[int]]
    events: tuple[list[int], list[int]]

    @classmethod
    def of(cls, columns: Sequence[Sequence[int]], events: Sequence[Sequence[int]]) -> _Taken:
        """A version without each of these sets of columns, then one without each of these sets of events."""
        return cls(len(columns) + len(events), _placed(columns, 0), _placed(events, len(columns)))


class _Plan(NamedTuple):
    """What explaining a row needs of its specification.

    Attributes:
        codes: of all reasons, in the order of the versions in `groups`.
        groups: the row without each group of features, and without the events of each party.
        column_of: by feature.
    """

    codes: tuple[str, ...]
    groups: _Taken
    column_of: Mapping[str, int]

    @classmethod
    @lru_cache(maxsize=8)  # of one specification per bundle kept warm
    def of(cls, spec: FeatureSpec) -> _Plan:
        half = spec.events_per_party
        codes = (*spec.groups, *(f"{party} events" for party in PARTIES))
        taken = _Taken.of(list(spec.groups.values()), [range(half), range(half, 2 * half)])
        return cls(codes, taken, {name: column for column, name in enumerate(spec.names)})


class _Rows:
    """One row, and how its logit falls when parts of it are taken away."""

    def __init__(self, bundle: Explainable, encoded: Encoded, model: Scorer) -> None:
        self._typical, self._encoded, self._model = bundle.typical, encoded, model

    def effects(self, taken: _Taken) -> NDArray[np.float64]:
        """Fall of the logit in each version of the row, rounded."""
        if not taken.versions:
            return np.empty(0)
        context = np.repeat(self._encoded.context, taken.versions + 1, axis=0)  # the first stays whole
        events = np.repeat(self._encoded.events, taken.versions + 1, axis=0)
        versions, columns = taken.columns
        context[versions, columns] = self._typical[columns]
        events[taken.events] = 0.0
        logits = self._model.score(Encoded(context, events)).logit
        falls: NDArray[np.float64] = np.asarray(logits[0] - logits[1:], np.float64)
        return falls.round(_DIGITS)


def _placed(taken: Sequence[Sequence[int]], before: int) -> tuple[list[int], list[int]]:
    """The version of everything that is taken away, and its place there: to be taken in one step."""
    versions = [version for version, places in enumerate(taken, start=before + 1) for _ in places]
    return versions, list(chain.from_iterable(taken))


def _without_short_rule(model: Scorer) -> Scorer:
    """Without it, or a row would leave earlier because its events were taken away."""
    return model.by_score_alone() if isinstance(model, EarlyExitScorer) else model


def _strongest(effects: NDArray[np.float64], limit: int) -> list[tuple[int, float]]:
    order = sorted(range(len(effects)), key=lambda index: (-effects[index], index))
    return [(index, float(effects[index])) for index in order[:limit] if effects[index] >= MATERIAL]


def _tellable(
    bundle: Explainable, catalogue: Catalogue, code: str, values: Mapping[str, float]
) -> tuple[Phrase, ...]:
    """The sentences of a group that are true of `values`; where there is none, one for each feature."""
    phrases = tuple([phrase for phrase in catalogue.phrases.get(code, ()) if phrase.applies(values)])
    if code not in bundle.spec.groups:  # events: the first that applies, for its facts are no features
        party = code.removesuffix(" events")
        return phrases[:1] or (Phrase(code, f"the order and amounts of the {party}'s recent payments", (), ()),)
    if phrases:
        return phrases
    names = [bundle.spec.names[column] for column in bundle.spec.groups[code]]
    known = tuple(Phrase(code, "", (name,), ()) for name in names if not np.isnan(values[name]))
    return known or (Phrase(code, f"nothing is known of: {code}", (), ()),)


def _told(bundle: Explainable, catalogue: Catalogue, phrase: Phrase, values: Mapping[str, float]) -> str:
    if phrase.text:
        return phrase.fill(values, catalogue.units)
    column = bundle.spec.names.index(phrase.when[0])
    feature, typical = bundle.spec.context[column], float(bundle.typical[column])
    value = value_words(values[feature.name], feature.unit)
    return f"{feature.meaning}: {value} (typically {value_words(typical, feature.unit)})"
