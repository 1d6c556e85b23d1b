"""The catalogue of sentences: data in `catalogue.yaml`, read, checked and fitted to one feature specification."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import isnan
from pathlib import Path
from string import Formatter
from typing import Final

import yaml
from pydantic import BaseModel, ConfigDict, Field

from riskdistill.errors import ConfigError
from riskdistill.features import FeatureSpec
from riskdistill.features.spec import window_name
from riskdistill.reasons.past import FACTS, PARTIES
from riskdistill.reasons.words import period, value_words

FILE: Final = Path(__file__).with_name("catalogue.yaml")


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str
    text: str
    when: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(ge=1)
    phrases: tuple[_Told, ...]


@dataclass(frozen=True)
class Phrase:
    """One sentence, of one party and one window where it has such.

    Attributes:
        group: the feature group that it explains.
        text: with `{name}` or `{name:bare}` where a value goes.
        when, unless: what must be above 0, and what must be 0.
    """

    group: str
    text: str
    when: tuple[str, ...]
    unless: tuple[str, ...]

    @cached_property
    def filled(self) -> tuple[str, ...]:
        """Names of the values that stand in the text."""
        return tuple(name for _, name, _, _ in Formatter().parse(self.text) if name is not None)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all values that it depends on, each once."""
        return tuple(dict.fromkeys((*self.filled, *self.when, *self.unless)))

    def applies(self, values: Mapping[str, float]) -> bool:
        """Whether it is true of `values`: all that it names is known, and its conditions hold."""
        for name in self.names:  # loops, for an alert asks some fifty phrases while its caller waits
            if isnan(values[name]):
                return False
        for name in self.when:
            if values[name] <= 0:
                return False
        return not self.unless or all(values[name] == 0 for name in self.unless)

    def fill(self, values: Mapping[str, float], units: Mapping[str, str]) -> str:
        """The sentence with `values` in it."""
        parts = []
        for before, name, form, _ in Formatter().parse(self.text):
            parts.append(before)
            if name is not None:
                parts.append(value_words(values[name], units[name], bare=form == "bare"))
        return "".join(parts)


@dataclass(frozen=True)
class Catalogue:
    """The sentences that fit one specification, by group, in the order of the file.

    Attributes:
        version: of the file; goes into every decision.
        units: of everything that a sentence may name.
    """

    version: str
    phrases: Mapping[str, tuple[Phrase, ...]]
    units: Mapping[str, str]

    @classmethod
    def of(cls, spec: FeatureSpec) -> Catalogue:
        """The catalogue of this package for the features and windows of `spec`.

        Raises:
            ConfigError: a sentence names what does not exist; a test keeps that from happening.
        """
        return _fitted(spec)


@lru_cache(maxsize=8)  # of one specification per bundle kept warm
def _fitted(spec: FeatureSpec) -> Catalogue:
    told = _File.model_validate(yaml.safe_load(FILE.read_text(encoding="utf-8")))
    units = {feature.name: feature.unit for feature in (*spec.context, *FACTS)}
    groups = {feature.group for feature in (*spec.context, *FACTS)}
    phrases: dict[str, list[Phrase]] = {}
    for one in told.phrases:
        for phrase in _expanded(one, spec.windows):
            unknown = [name for name in phrase.names if name not in units]
            if unknown or phrase.group not in groups:
                raise ConfigError(
                    f"no feature {', '.join(unknown)}" if unknown else f"no group {phrase.group}",
                    where=f"{FILE.name}: {one.text}",
                    mend="name features of the specification (riskdistill features)",
                )
            phrases.setdefault(phrase.group, []).append(phrase)
    return Catalogue(str(told.version), {group: tuple(some) for group, some in phrases.items()}, units)


def _expanded(told: _Told, windows: Iterable[float]) -> list[Phrase]:
    """One phrase for each party and window that the sentence leaves open; the longest window first."""
    pieces = (told.group, told.text, *told.when, *told.unless)
    parties = PARTIES if any("<party>" in piece for piece in pieces) else ("",)
    spans = sorted(windows, reverse=True) if any("<window>" in piece for piece in pieces) else [0.0]
    made = []
    for party in parties:
        for span in spans:

            def put(text: str, party: str = party, span: float = span) -> str:
                text = text.replace("<party>", party).replace("_<window>", f"_{window_name(span)}")
                return text.replace("<window>", period(span))

            made.append(
                Phrase(put(told.group), put(told.text), tuple(map(put, told.when)), tuple(map(put, told.unless)))
            )
    return made
