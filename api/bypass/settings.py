"""What the teacher bypass is told: a YAML file, typed and validated. Without one, the defaults hold.

The defaults: the bundle's own thresholds choose, its own teacher is asked, one call at a time and without a budget,
and the student's score stands where the teacher does not answer.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from riskdistill.storage.decisions import Fallback, WantedReason
from riskdistill.yaml_file import Hints, read_settings

_HINTS: Final = Hints("give the path of the bypass settings", "state e.g. 'policies: {amount_usd: 50000}'")
Count = Annotated[int, Field(strict=True, ge=1)]
Positive = Annotated[float, Field(strict=True, gt=0)]
Share = Annotated[float, Field(strict=True, gt=0, le=1)]
CountryCode = Annotated[str, Field(pattern="^[A-Z]{2}$")]
Name = Annotated[str, Field(strict=True, min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CustomerClasses(_Section):
    """Which classes of customers want the teacher: as a transaction says, or as a file tells of its accounts."""

    file: Path | None = Field(default=None, description="CSV or Parquet with the columns bank, account, class")
    classes: frozenset[Name] = Field(min_length=1)


class PolicySettings(_Section):
    """What wants the teacher; each by itself is enough."""

    above_threshold: bool = Field(default=True, description="the student's score reaches the bundle's high_risk")
    uncertain: bool = Field(default=True, description="the student's score lies in the bundle's uncertain band")
    amount_usd: Positive | None = Field(default=None, description="either side's amount reaches it, in US dollars")
    countries: frozenset[CountryCode] = Field(default=frozenset(), description="of the sender or the receiver")
    payment_formats: frozenset[Name] = Field(default=frozenset(), description="capitals or not")
    customer_classes: CustomerClasses | None = Field(default=None, description="of the sender or the receiver")
    sample: Share | None = Field(
        default=None,
        description="share of all transactions that is drawn for monitoring; the student decides on them",
    )

    @field_validator("payment_formats")
    @classmethod
    def _without_capitals(cls, formats: frozenset[str]) -> frozenset[str]:
        return frozenset(name.casefold() for name in formats)


class BudgetSettings(_Section):
    """How often the teacher is asked, of each process; over it, it is not."""

    share: Share | None = Field(default=None, description="of all transactions")
    per_second: Positive | None = Field(default=None, description="calls a second")
    burst: Count = Field(default=10, description="calls that may come at once, after a quiet time")


class BreakerSettings(_Section):
    """When a teacher that does not answer is left alone."""

    failures: Count = Field(default=5, description="late or failed calls in a row after which it is")
    pause_seconds: Positive = Field(default=5.0, description="how long; then one call is tried")


class OpenInference(_Section):
    """An HTTP endpoint that speaks the Open Inference Protocol, version 2.

    It is sent the network's inputs `context` and `events`, and gives either `score`, a calibrated probability, or
    what the bundle's `teacher.onnx` gives: `logit` (and `typology_logits`), which the bundle's trees, gate and
    calibrator complete.
    """

    url: str = Field(description="before /v2; https, or http on loopback")
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")] = "teacher"
    ca_file: Path | None = Field(
        default=None, description="PEM file of the authorities to trust; default: public ones"
    )

    @field_validator("url")
    @classmethod
    def _is_safe(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be the URL of an HTTP server, e.g. https://teacher.example:8443")
        if parts.username or parts.password:
            raise ValueError("must hold no password; set RISKDISTILL_TEACHER_KEY")
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise ValueError("must be https: the features of customers pass there")
        return url.rstrip("/")


class RiskDistill(OpenInference):
    """The teacher of another riskdistill service, whose bundle has the same features."""

    @model_validator(mode="after")
    def _has_one_model(self) -> Self:
        if self.model != "teacher":
            raise ValueError("a riskdistill service has one model, 'teacher': leave it out")
        return self


class TeacherSettings(_Section):
    """Who is asked: the bundle's own teacher, unless one of the two others is named."""

    riskdistill: RiskDistill | None = None
    open_inference: OpenInference | None = None
    calls_at_once: Count = Field(
        default=1, description="threads of the bundle's teacher, or connections to another"
    )
    calls_waiting: Count = Field(
        default=64, description="calls that may wait for their turn, within their deadline"
    )
    cost_per_call: float = Field(default=0.0, strict=True, ge=0, description="in whatever unit you account in")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.riskdistill is not None and self.open_inference is not None:
            raise ValueError("name one: either riskdistill or open_inference")
        return self


class BypassSettings(_Section):
    """All of it. The deadline is the service's `teacher_deadline_ms`."""

    policies: PolicySettings = PolicySettings()
    budget: BudgetSettings = BudgetSettings()
    breaker: BreakerSettings = BreakerSettings()
    teacher: TeacherSettings = TeacherSettings()
    fallback: Fallback = Field(
        default="cheap",
        description="without an answer: cheap, the student's score stands; safe, the band is raised by one",
    )
    fallback_of: dict[WantedReason, Fallback] = Field(
        default_factory=dict,
        description="the same by what wanted the teacher; where several did, one that is safe is enough",
    )

    @field_validator("fallback_of")
    @classmethod
    def _has_no_sample(cls, fallbacks: dict[WantedReason, Fallback]) -> dict[WantedReason, Fallback]:
        if "sampled" in fallbacks:
            raise ValueError("the student decides on what is sampled, with or without an answer: leave it out")
        return fallbacks

    def is_safe(self, wanted: tuple[WantedReason, ...]) -> bool:
        """Whether the band is raised where the teacher was wanted for these reasons and did not answer."""
        reasons = (reason for reason in wanted if reason != "sampled")
        return any(self.fallback_of.get(reason, self.fallback) == "safe" for reason in reasons)


def read_bypass(path: Path | None) -> BypassSettings:
    """The settings in the file at `path`; the defaults without one.

    Raises:
        ConfigError: its text lists all the mistakes, one a line.
    """
    return BypassSettings() if path is None else read_settings(path, BypassSettings, _HINTS)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
