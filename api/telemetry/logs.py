"""What the service tells on standard error: one line a happening, as text or as JSON.

    {"time": "2026-03-01T09:30:00.123456Z", "level": "warning", "event": "request_failed",
     "logger": "api.telemetry.watch", "message": "a request could not be answered", "request_id": "…",
     "trace_id": "…", "route": "/v1/score"}

No line holds an account id, a body, a key, or the text of an unexpected exception, which may quote any of them:
of such an exception its type and the places that it went through are told. A request is named by its
`X-Request-ID`, if it sent a sound one, else by an id made when it is first needed; answers with a 5xx status
carry it.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

from starlette.types import Scope

from api.settings import LogFormat
from api.telemetry import tracing
from riskdistill.errors import RiskDistillError

REQUEST: Final[ContextVar[Scope | None]] = ContextVar("request", default=None)
_SOUND_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_NAME: Final = "riskdistill.request_id"
_Caught = tuple[type[BaseException], BaseException, TracebackType | None]


def logger(name: str) -> logging.Logger:
    """The logger of a module of the service."""
    return logging.getLogger(name)


def fields(event: str, **known: Any) -> dict[str, Any]:
    """The `extra` of a log call: what happened, in one fixed word, and figures about it."""
    return {"event": event, "known": known}


def request_id(scope: Scope) -> str:
    """The id of a request: what it sent, or one of its own."""
    known: str | None = scope.get(_NAME)
    if known is None:
        sent = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), "")
        known = scope[_NAME] = sent if _SOUND_ID.fullmatch(sent) else secrets.token_hex(8)
    return known


def about(error: Exception) -> str:
    """What a line may tell of `error`: only the type of one that is not of riskdistill's tree."""
    return str(error) if isinstance(error, RiskDistillError) else type(error).__name__


class _Safe(logging.Formatter):
    """Formats no message of an exception that is not of riskdistill's tree."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is the library's
        caught: _Caught = ei
        return _frames(caught[1])

    def line(self, record: logging.LogRecord) -> dict[str, Any]:
        """What is told of `record`, in the order in which it is told."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")[:-6] + "Z",
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "message"),
            "logger": record.name,
            "message": record.getMessage(),
        }
        scope = REQUEST.get()
        if scope is not None:
            told["request_id"] = request_id(scope)
        if (trace := tracing.trace_id()) is not None:
            told["trace_id"] = trace
        told |= getattr(record, "known", {})
        if record.exc_info and record.exc_info[1] is not None:
            told["error"] = self.formatException(record.exc_info)
        return told


class JsonLines(_Safe):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line that tells `record`."""
        return json.dumps(self.line(record), default=str, ensure_ascii=False)


class TextLines(_Safe):
    """For a person at a terminal: time, level, message, and the figures behind it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line that tells `record`."""
        told = self.line(record)
        head = f"{told.pop('time')} {told.pop('level'):7} {told.pop('message')}"
        error = told.pop("error", "")
        for name in ("logger", "event"):
            told.pop(name)
        known = " ".join(f"{name}={value}" for name, value in told.items())
        return " ".join(filter(None, [head, known])) + (f"\n{error}" if error else "")


@contextmanager
def to_stderr(form: LogFormat) -> Iterator[None]:
    """Tells what the service and its server log on standard error, while it lasts."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for chatty in ("httpx", "alembic"):  # every call to a teacher; every plugin that migrations load
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def _frames(error: BaseException | None) -> str:
    """Types and places of an exception and of what led to it, the last first."""
    told: list[str] = []
    while error is not None and len(told) < 8:
        text = f": {error}" if isinstance(error, RiskDistillError) else ""
        places = [f"  {one.filename}:{one.lineno} {one.name}" for one in traceback.extract_tb(error.__traceback__)]
        told += ["\n".join([f"{type(error).__module__}.{type(error).__qualname__}{text}", *places])]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(told)
