"""Every error answer is an RFC 9457 problem document; this is the one place that makes them.

| raised | status |
|---|---|
| an error of riskdistill's tree | the class's own (`riskdistill.errors`) |
| a body or parameter that does not validate | 422, with one entry in `errors` for each fault |
| no such path, method not allowed, body late or too large | 404, 405, 408, 413 |
| anything else | 500, with no detail; the server logs the traceback |

Input values of a request are never repeated beyond what an error's own message quotes.
"""

from __future__ import annotations

from http import HTTPStatus
from math import ceil
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from riskdistill.errors import ForbiddenError, RiskDistillError, TooManyRequestsError

MEDIA_TYPE: Final = "application/problem+json"
INVALID: Final = "Request does not validate"
REFUSALS: Final = (400, 401, 403, 408, 413, 415, 422, 429, 500, 503)  # statuses that any route under a key may have
RETRY_AFTER: Final = "2"  # seconds; longer than a failed commit waits before it is tried again


class Fault(BaseModel):
    """One thing that is wrong in a request."""

    pointer: str = Field(
        description="JSON Pointer into the body, or the parameter's name", examples=["#/timestamp"]
    )
    detail: str


class Problem(BaseModel):
    """RFC 9457 problem document."""

    type: str = Field(examples=["urn:riskdistill:problem:authentication-failed"])
    title: str = Field(examples=["Authentication failed"])
    status: int = Field(examples=[401])
    detail: str = Field(examples=["the API key is not known (mend: send a valid key in the header X-API-Key)"])
    instance: str = Field(description="path of the request", examples=["/v1/score"])
    errors: list[Fault] = Field(default_factory=list)


def problem(error: RiskDistillError, instance: str) -> Problem:
    """The problem document of an error of riskdistill's tree."""
    return _problem(error.title, error.status, str(error), instance)


def _problem(title: str, status: int, detail: str, instance: str, errors: list[Fault] | None = None) -> Problem:
    slug = title.lower().replace(" ", "-")
    return Problem(
        type=f"urn:riskdistill:problem:{slug}",
        title=title,
        status=status,
        detail=detail,
        instance=instance,
        errors=errors or [],
    )


def answer(document: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """The response that carries `document`."""
    return JSONResponse(document.model_dump(), document.status, headers, media_type=MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries for the problem documents that a route may answer with."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: schema}} for status in statuses
    }


def install(app: FastAPI) -> None:
    """Makes `app` answer every error with a problem document."""
    app.add_exception_handler(RiskDistillError, on_known)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_unexpected)  # what fails outside of the gate


async def on_known(request: Request, error: Exception) -> JSONResponse:
    """The answer to an error of riskdistill's tree."""
    assert isinstance(error, RiskDistillError)
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": RETRY_AFTER}}.get(error.status)
    if isinstance(error, ForbiddenError):
        headers = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{error.scope}"'}
    if isinstance(error, TooManyRequestsError):
        headers = {"Retry-After": str(ceil(error.retry_after))}
    return answer(problem(error, request.url.path), headers)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = [_fault(found) for found in error.errors()]
    detail = "; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults[:3])
    if len(faults) > 3:
        detail += f"; and {len(faults) - 3} more, see errors"
    return answer(_problem(INVALID, 422, detail, request.url.path, faults))


def _fault(found: dict[str, Any]) -> Fault:
    origin, *place = found["loc"]
    message = str(found["msg"]).removeprefix("Value error, ")
    if found["type"] == "extra_forbidden":
        message = "there is no such field (mend: leave it out; /docs has the fields)"
    if found["type"] == "json_invalid":
        return Fault(pointer="#", detail=f"the body is not JSON: {found['ctx']['error']} at character {place[0]}")
    if origin == "body":
        steps = (str(step).replace("~", "~0").replace("/", "~1") for step in place)
        return Fault(pointer="/".join(["#", *steps]), detail=message)
    return Fault(pointer=".".join(map(str, place)), detail=message)


async def on_http(request: Request, error: Exception) -> JSONResponse:
    """The answer to an error that is HTTP's own."""
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    detail = {
        404: "there is nothing at this path (mend: see /docs for the routes)",
        405: f"{request.method} is not allowed here (mend: see /docs for the routes)",
    }.get(error.status_code, str(error.detail))
    document = _problem(phrase, error.status_code, detail, request.url.path)
    return answer(document, dict(error.headers or {}))


async def on_unexpected(request: Request, _error: Exception) -> JSONResponse:
    """The answer to any other error."""
    detail = "the service failed unexpectedly (mend: send the request again; tell the operator if it lasts)"
    return answer(_problem("Internal error", 500, detail, request.url.path))
