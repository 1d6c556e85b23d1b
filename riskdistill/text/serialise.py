"""Transactions in words: the context in clauses, then the newest events of both parties, one sentence each.

    new payment, amount 9500 USD, by wire, … . sender sent 120 USD, card, 2 days ago, … . receiver received …

Events alternate between the parties, the newest first, so that a text that is cut off loses the oldest. The words
come from an encoded row alone, which knows neither account numbers nor labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from string import Formatter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskdistill.config import TextTeacherConfig
from riskdistill.data.currencies import CURRENCY_CODES
from riskdistill.errors import ConfigError
from riskdistill.features import Encoded, FeatureSpec
from riskdistill.features.rows import format_bucket
from riskdistill.features.spec import TOKEN_CHANNELS

WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
PARTIES: Final = ("sender", "receiver")
# fields of an event's clauses
EVENT_FIELDS: Final = (
    *("party", "direction", "amount", "ratio", "age", "gap", "counterparty", "contact"),
    *("peer_senders", "peer_receivers", "format", "currency"),
)
_CHANNEL: Final = {name: index for index, name in enumerate(TOKEN_CHANNELS)}
_LARGEST_LOG: Final = 80.0  # exp of more overflows where sums are taken in float32

Words = Callable[[float], str | None]  # of a finite number; None: there is no such thing


@dataclass(frozen=True)
class Serialised:
    """One transaction in words.

    Attributes:
        text: of all parts.
        spans: int64 [1 + 2 * events, 2], first character and end of each part in `text`: the context, the sender's
            events, newest first, the receiver's. Both are 0 where there is no event.
    """

    text: str
    spans: NDArray[np.int64]


class Serialiser:
    """Puts encoded transactions into words.

    Raises:
        ConfigError: a clause names an unknown field or is malformed, or more events are asked for than there are.
    """

    def __init__(self, spec: FeatureSpec, config: TextTeacherConfig) -> None:
        if config.events_per_party > spec.events_per_party:
            raise ConfigError(
                f"the text tells {config.events_per_party} events of each party, the features keep "
                f"{spec.events_per_party}",
                where="text_teacher.events_per_party",
                mend="lower it or raise features.events_per_party",
            )
        self.spec, self.events = spec, config.events_per_party
        self._templates = config.templates
        self._context = _parsed(config.templates.context, spec.names, "text_teacher.templates.context")
        self._event = _parsed(config.templates.event, EVENT_FIELDS, "text_teacher.templates.event")
        if all(fields for _, fields in self._context):
            raise ConfigError(
                "every clause has a field, so that a transaction may be left without words",
                where="text_teacher.templates.context",
                mend="add a clause without fields",
            )
        self._formats = _format_words(config.format_names)
        self._columns = {
            name: (spec.names.index(name), self._words_of(name)) for _, fields in self._context for name in fields
        }

    def __call__(self, encoded: Encoded) -> list[Serialised]:
        """All rows in words, in their order."""
        return [self._row(context, events) for context, events in zip(encoded.context, encoded.events, strict=True)]

    def _row(self, context: NDArray[np.float32], events: NDArray[np.float32]) -> Serialised:
        known = {
            name: words(float(context[column])) if math.isfinite(context[column]) else None
            for name, (column, words) in self._columns.items()
        }
        text = _told(self._context, known, self._templates.clause_joint)
        spans = np.zeros((1 + 2 * self.events, 2), np.int64)
        spans[0, 1] = len(text)
        for part, sentence in self._sentences(events.reshape(2, -1, events.shape[-1])):
            text += self._templates.part_joint
            spans[part] = len(text), len(text) + len(sentence)
            text += sentence
        return Serialised(text, spans)

    def _sentences(self, parties: NDArray[np.float32]) -> Iterator[tuple[int, str]]:
        for place in range(self.events):
            for side, party in enumerate(PARTIES):
                event = parties[side, place]
                if event[0] == 0:
                    continue
                known = {"party": party} | self._event_words(event.tolist())
                sentence = _told(self._event, known, self._templates.clause_joint)
                if sentence:
                    yield 1 + side * self.events + place, sentence

    def _event_words(self, event: list[float]) -> dict[str, str | None]:
        def words(channel: str, tell: Words) -> str | None:
            value = event[_CHANNEL[channel]]
            return tell(value) if math.isfinite(value) else None

        shared = words("shared_peer", lambda flag: "a shared counterparty" if flag else "another account")
        return {
            "direction": words("flow", lambda flow: "received" if flow > 0 else "sent"),
            "amount": words("log_usd", lambda log: _dollars(_expm1(log))),
            "ratio": words("log_usd_ratio", lambda log: _number(1 + _expm1(log))),
            "age": words("log_age", lambda log: _duration(_expm1(log))),
            "gap": words("log_gap", lambda log: _duration(_expm1(log))),
            "counterparty": words("is_other_party", lambda flag: "the other party" if flag else shared),
            "contact": words("first_contact", lambda flag: "first contact" if flag else "known contact"),
            "peer_senders": words("log_peer_senders", lambda log: _number(round(_expm1(log)))),
            "peer_receivers": words("log_peer_receivers", lambda log: _number(round(_expm1(log)))),
            "format": words("format", self._format),
            "currency": words("currency", _currency),
        }

    def _words_of(self, name: str) -> Words:
        special: dict[str, Words] = {
            "payment_format": self._format,
            "currency_paid": _currency,
            "currency_received": _currency,
            "weekday": lambda day: WEEKDAYS[int(day) % 7],
        }
        by_unit: dict[str, Words] = {
            "flag": lambda flag: "yes" if flag else "no",
            "USD": _dollars,
            "seconds": _duration,
        }
        unit = self.spec.context[self.spec.names.index(name)].unit
        return special.get(name) or by_unit.get(unit, _number)

    def _format(self, bucket: float) -> str:
        return self._formats.get(round(bucket), f"format {round(bucket)}")


def _parsed(
    clauses: tuple[str, ...], known: tuple[str, ...], where: str
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each clause with the fields that it names."""
    parsed = []
    for clause in clauses:
        try:
            pieces = list(Formatter().parse(clause))
        except ValueError as error:
            raise ConfigError(f"{clause!r} is no template: {error}", where=where) from error
        fields = tuple(name for _, name, _, _ in pieces if name is not None)
        unknown = [name for name in fields if name not in known]
        if unknown or any(spec or conversion for _, _, spec, conversion in pieces):
            raise ConfigError(
                f"{clause!r} names an unknown field" if unknown else f"{clause!r} formats a field, which is words",
                where=where,
                mend=f"fields stand in braces by name alone; known are {', '.join(known)}",
            )
        parsed.append((clause, fields))
    return tuple(parsed)


def _told(clauses: tuple[tuple[str, tuple[str, ...]], ...], known: dict[str, str | None], joint: str) -> str:
    return joint.join(
        clause.format_map(known) for clause, fields in clauses if all(known[name] is not None for name in fields)
    )


def _format_words(names: tuple[str, ...]) -> dict[int, str]:
    """Names by hash bucket; names that share a bucket are told together, as features cannot tell them apart."""
    words: dict[int, str] = {}
    for name in names:
        bucket = format_bucket(name)
        words[bucket] = f"{words[bucket]} or {name}" if bucket in words else name
    return words


def _expm1(log: float) -> float:
    return math.expm1(min(log, _LARGEST_LOG))


def _number(value: float) -> str:
    return f"{value:.0f}" if 100 <= abs(value) < 1e12 else f"{value:.3g}"


def _dollars(value: float) -> str:
    return f"{_number(value)} USD"


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{_number(round(seconds / size))} {unit}"
    return f"{_number(round(seconds))} seconds"


def _currency(index: float) -> str | None:
    place = round(index) - 1
    return CURRENCY_CODES[place] if 0 <= place < len(CURRENCY_CODES) else None
