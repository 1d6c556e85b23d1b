"""What a service answers, as objects; and what it refuses, as the errors that it raised there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from riskdistill.errors import (
    AuthenticationError,
    ConflictError,
    NotFoundError,
    RiskDistillError,
    TransactionError,
    UnavailableError,
)
from riskdistill.storage.decisions import Action, Band, Route

Model = TypeVar("Model", bound=BaseModel)
_BY_STATUS: Final[dict[int, type[RiskDistillError]]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFoundError,
    422: TransactionError,
    429: UnavailableError,
    503: UnavailableError,
}
_MEND: Final = re.compile(r"(?P<what>.*) \(mend: (?P<mend>.*)\)", re.DOTALL)


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer service may say more


class Reason(_Said):
    """Why a transaction was flagged: a catalogue code, its words, and its effect on the student's logit."""

    code: str
    text: str
    effect: float


class Answer(_Said):
    """The decision on one transaction. `score` is a calibrated probability; `latency_ms` is the service's own."""

    decision_id: str
    tx_id: str
    score: float
    band: Band
    action: Action
    route: Route
    reasons: tuple[Reason, ...]
    bundle_version: str
    latency_ms: float


class Readiness(_Said):
    """What a service serves that is ready."""

    bundle_version: str
    release_id: str | None = None
    teacher: bool = False
    challenger_release: str | None = None
    canary_share: float = 0.0


class _Item(_Said):
    decision: Answer | None = None
    problem: dict[str, Any] | None = None


class _Batch(_Said):
    results: list[_Item]


def problem_error(status: int, document: Mapping[str, Any]) -> RiskDistillError:
    """The error that a problem document (RFC 9457) tells of: of the class with its title, else of its status."""
    kind = _BY_TITLE.get(str(document.get("title"))) or _BY_STATUS.get(status, RiskDistillError)
    detail = str(document.get("detail") or document.get("title") or f"status {status}")
    parts = _MEND.fullmatch(detail)
    what, mend = (parts["what"], parts["mend"]) if parts else (detail, "")
    return kind(what, where=str(document.get("instance", "")), mend=mend)


def _titles(kind: type[RiskDistillError]) -> dict[str, type[RiskDistillError]]:
    found = {kind.title: kind}
    for below in kind.__subclasses__():
        found |= _titles(below)
    return found


_BY_TITLE: Final = _titles(RiskDistillError)


def checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    try:
        document = response.json()
    except ValueError:  # of a proxy, perhaps
        document = None
    raise problem_error(response.status_code, document if isinstance(document, dict) else {})


def read_batch(response: httpx.Response) -> list[Answer | ConflictError]:
    return [_answer_of(item) for item in read(_Batch, response).results]


def _answer_of(item: _Item) -> Answer | ConflictError:
    if item.decision is not None:
        return item.decision
    error = problem_error(422, item.problem or {})
    return error if isinstance(error, ConflictError) else ConflictError(str(error))


def read(kind: type[Model], response: httpx.Response) -> Model:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        raise UnavailableError(
            f"the answer is none of this version's ({error.errors()[0]['msg']})",
            where=str(response.url),
            mend="check the address; use the client of the service's version",
        ) from error
