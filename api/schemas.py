"""What requests and answers look like; OpenAPI is made from these."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.problems import Problem
from riskdistill.data.transaction import Transaction
from riskdistill.storage.decisions import Action, Band, Decision, Route, StatedReason

MAX_BATCH: Final = 256
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)]
TRANSACTION_EXAMPLE: Final[dict[str, Any]] = {
    "tx_id": "2026-03-01-000042",
    "timestamp": "2026-03-01T09:30:00Z",
    "sender_account": "DE02120300000000202051",
    "sender_bank": "BYLADEM1001",
    "receiver_account": "FR1420041010050500013M02606",
    "receiver_bank": "PSSTFRPP",
    "amount_paid": 9450.0,
    "currency_paid": "EUR",
    "amount_received": 9450.0,
    "currency_received": "EUR",
    "payment_format": "wire",
    "sender_country": "DE",
    "receiver_country": "FR",
}
_ANSWER_EXAMPLE: Final[dict[str, Any]] = {
    "decision_id": "3f0c9a52-6a55-4d4e-9d0a-0d7f5b3f7c11",
    "tx_id": "2026-03-01-000042",
    "score": 0.8312,
    "band": "high",
    "action": "hold",
    "route": "teacher",
    "reasons": [{"code": "velocity", "text": "unusually many payments in a short time", "effect": 1.72}],
    "bundle_version": "9c1f27e35ab06d48",
    "latency_ms": 5.1,
}


class Answer(BaseModel):
    """The decision on one transaction, as the caller needs it; the whole record is at /v1/decisions."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ANSWER_EXAMPLE]})

    decision_id: str
    tx_id: str
    score: float = Field(
        description="calibrated probability, of the teacher on route `teacher`, else the student's"
    )
    band: Band
    action: Action
    route: Route
    reasons: tuple[StatedReason, ...] = Field(
        description="for alerts: what raised the student's logit most, also where the teacher decided; "
        "empty where nothing raised it, or if it was not found in time"
    )
    bundle_version: str
    latency_ms: float = Field(description="from arrival to decision, before it was made durable")

    @classmethod
    def of(cls, decision: Decision) -> Answer:
        """The answer that tells `decision`."""
        return cls.model_validate(decision, from_attributes=True)


class Batch(BaseModel):
    """Transactions to decide on, in order of arrival."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"transactions": [TRANSACTION_EXAMPLE]}]}
    )

    transactions: list[Transaction] = Field(min_length=1, max_length=MAX_BATCH)


class BatchItem(BaseModel):
    """Either the decision on one transaction of a batch, or the problem with it."""

    tx_id: str
    decision: Answer | None = None
    problem: Problem | None = None


class BatchAnswer(BaseModel):
    """One item for each transaction of the batch, in its order."""

    results: list[BatchItem]


class Alive(BaseModel):
    """The process answers."""

    status: str = "alive"


class Ready(BaseModel):
    """What is served, and a release that was refused, if the newest was."""

    status: str = "ready"
    bundle_version: str
    release_id: str | None = Field(description="None where one fixed bundle is served")
    previous_bundle_version: str | None
    teacher: bool = Field(description="whether the bundle's teacher can be asked")
    teacher_state: Literal["none", "loading", "loaded", "failed"] = Field(
        description="until it is loaded, and if it cannot be, the student decides alone (`student_degraded`)"
    )
    refused_release: str | None = None
    refused_reason: str | None = None
    challenger_release: str | None = Field(None, description="scores beside the champion")
    canary_share: float = Field(0.0, description="of the accounts, for which the challenger decides")
