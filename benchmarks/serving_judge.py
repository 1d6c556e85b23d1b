"""Judges answers to hostile requests: what no answer may be, whatever was sent (`serving_fuzz` sends it)."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

LENDS_TEACHER: Final = "/v2/models/teacher/infer"
TEACHER_LIMITS: Final = ("the teacher is late", "the teacher has enough to do")  # a late call keeps its place


class Operation(Protocol):
    """An operation of the OpenAPI document, as Schemathesis has it."""

    label: str
    path: str
    definition: Any

    def validate_response(self, response: Any) -> Any: ...


@dataclass
class Judge:
    """Looks at answers and keeps what is wrong with them.

    Attributes:
        secrets: what no answer to a bad request may hold.
        cases: how many answers it saw, by status.
        limited: how many 503 are of the teacher's deadline.
        found: what was wrong, by kind.
    """

    secrets: tuple[str, ...]
    cases: Counter[int] = field(default_factory=Counter)
    limited: int = 0
    found: dict[str, list[str]] = field(default_factory=dict)

    def see(self, operation: Operation, answer: Any, sent: object) -> None:
        """One answer (of httpx or Schemathesis) to what was `sent` to `operation`."""
        status, text = answer.status_code, answer.content.decode("utf-8", "replace")
        self.cases[status] += 1
        what = f"{operation.label} {status}: {str(sent)[:200]!r} -> {text[:300]!r}"
        if status >= 500 and status != 503:
            self._add("server error", what)
        if status == 503:
            if operation.path == LENDS_TEACHER and any(limit in text for limit in TEACHER_LIMITS):
                self.limited += 1
            else:
                self._add("unavailable", what)
        if str(status) not in operation.definition.raw["responses"]:
            self._add("undocumented", what)
        if status >= 400:
            if not _is_problem(text):
                self._add("no problem document", what)
            self.look_through(text, what)
        try:
            operation.validate_response(answer)
        except BaseExceptionGroup as failures:  # Schemathesis' own is one
            self._add("schema", f"{what}: {'; '.join(str(one) for one in failures.exceptions)[:300]}")

    def look_through(self, text: str, what: str) -> None:
        """Whether `text` gives something away."""
        if "Traceback" in text:
            self._add("traceback", what)
        if any(secret in text for secret in self.secrets):
            self._add("leak", what)

    def _add(self, kind: str, what: str) -> None:
        self.found.setdefault(kind, []).append(what)


def _is_problem(text: str) -> bool:
    try:
        document = json.loads(text)
    except ValueError:
        return False
    return isinstance(document, dict) and str(document.get("type", "")).startswith("urn:riskdistill:problem:")
