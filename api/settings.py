"""What the scoring service is told at start: typed, from arguments and the environment (`RISKDISTILL_…`).

Secrets come from the environment or from files that only their owner can read, never from arguments of a
command line, and are never shown. The URLs of databases count as secrets: they may hold a password.
"""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.security.key_file import Scope
from riskdistill.errors import ConfigError
from riskdistill.models.onnx_model import Provider

_LOOPBACK: Final = {"127.0.0.1", "::1", "localhost"}
LogFormat = Literal["text", "json"]


class ApiSettings(BaseSettings):
    """Settings of one scoring service; see each field's description."""

    model_config = SettingsConfigDict(
        env_prefix="RISKDISTILL_", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    host: str = Field("127.0.0.1", description="address to listen on; loopback unless told otherwise")
    port: int = Field(8000, ge=0, le=65535)
    state_dir: Path = Field(
        Path("riskdistill-state"), description="the service's own folder: lock, pseudonym key, decision log"
    )
    database: SecretStr = Field(
        SecretStr(""), description="URL of the decision log; default: decisions.db in the state folder"
    )
    state: SecretStr = Field(
        SecretStr("memory"),
        description="where account state is: memory, or the redis:// URL of the one that several workers share",
    )
    state_prefix: str = Field("riskdistill", description="before the keys of a shared state; one for each log")
    state_deadline_ms: float = Field(500.0, gt=0, description="the longest wait for the shared state")
    workers: int = Field(1, ge=1, le=64, description="processes that serve; several need a shared state")
    max_connections: int = Field(
        800,
        ge=1,
        description="connections that a worker keeps; ulimit -n must leave room for what else it opens",
    )
    log_format: LogFormat = Field("text", description="what is told on standard error: text or json lines")
    drain_seconds: float = Field(
        10.0, gt=0, description="after SIGTERM, the longest time for requests that are under way"
    )
    drain_notice_seconds: float = Field(
        1.0, ge=0, description="after SIGTERM, the time to let load balancers see that /readyz answers 503"
    )
    bundle: Path | None = Field(None, description="serve this bundle, always")
    releases: SecretStr | None = Field(
        None, description="follow the champion of the release log at this URL, which must exist"
    )
    release_approvals: int = Field(
        0, ge=0, description="how many others must have approved what becomes canary or champion; four eyes: 1"
    )
    keys: Path | None = Field(None, description="file of hashed API keys with scopes; see `riskdistill keys`")
    api_keys: SecretStr = Field(
        SecretStr(""), description="simple form: keys with every scope but admin, separated by commas"
    )
    api_keys_file: Path | None = Field(None, description="the same in a file, one a line; mode 0600")
    rate: float | None = Field(
        None, gt=0, description="transactions and other requests a second of callers without a rate of their own"
    )
    acts: SecretStr = Field(
        SecretStr(""),
        description="URL of the log of administrative acts; default: acts.db in the state folder, or "
        "the decision log's database where that is PostgreSQL",
    )
    oidc_issuer: str | None = Field(None, description="accept bearer tokens of this OpenID provider")
    oidc_audience: str | None = Field(None, description="whom its tokens must be meant for")
    oidc_jwks_url: str | None = Field(None, description="where its keys are: https, or http on loopback")
    oidc_scopes_claim: str = Field(
        "scope", description="claim with the scopes; a dot leads into it: realm_access.roles"
    )
    oidc_scopes: dict[str, tuple[Scope, ...]] = Field(
        default_factory=dict,
        description="scopes for each value of that claim, as JSON; default: riskdistill:score gives score, ...",
    )
    tls_certificate: Path | None = Field(None, description="PEM file of the certificate and its chain: serve HTTPS")
    tls_key: Path | None = Field(None, description="PEM file of its key, not encrypted; mode 0600")
    proxy: str = Field(
        "", description="addresses or networks of proxies whose X-Forwarded-For and -Proto count, with commas"
    )
    allowed_hosts: str = Field(
        "", description="host names that requests may be for, with commas; default: any. Probes are not asked"
    )
    pseudonym_key: SecretStr | None = Field(
        None,
        description="key of the account pseudonyms; default: a file in the state folder, made at first start",
    )
    history: Path | None = Field(
        None,
        description="canonical transactions (Parquet file or folder) replayed into account state at start",
    )
    rates: Path | None = Field(
        None,
        description="file of US dollars per unit of each currency as of a day, as the bundle was trained with; "
        "default: fixed rates",
    )
    provider: Provider = Field("cpu", description="what computes the networks: cpu, cuda or tensorrt")
    deadline_ms: float = Field(5_000.0, gt=0, description="the longest wait for any answer; then it is 503")
    teacher_deadline_ms: float = Field(100.0, gt=0, description="the longest wait for the teacher")
    teacher_key: SecretStr | None = Field(None, description="bearer token for a teacher behind HTTP")
    bypass: Path | None = Field(
        None, description="YAML file of the teacher bypass; default: the bundle's thresholds and teacher"
    )
    alert_budget: int = Field(100, ge=1, le=1_000_000, description="transactions that can be reviewed a day")
    review_cost_usd: float = Field(0.0, ge=0, allow_inf_nan=False, description="what one review costs")
    sample_share: float = Field(
        0.001, ge=0, le=1, description="share of what is let pass that is drawn for review; near the line ten times"
    )
    shadow_sample_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="the same of what the model beside, which does not decide, would have alerted on",
    )
    keep_features: Literal["alerts", "all"] = Field(
        "alerts", description="which decisions keep the row that the models saw (samples always do)"
    )
    follow_seconds: float = Field(0.5, gt=0, description="time between two looks at the release log")
    payload_key: SecretStr | None = Field(
        None,
        description="keep each request encrypted beside its decision: keys of 64 hexadecimal digits, separated by "
        "commas, the one that encrypts first; default: requests are not kept",
    )
    anchor_key: SecretStr | None = Field(
        None,
        description="key that signs anchors of the logs, 64 hexadecimal digits; default: a file in the "
        "state folder, made at first start",
    )
    anchor_seconds: float = Field(60.0, gt=0, description="time between two anchors of each log that had entries")

    @property
    def database_url(self) -> str:
        """URL of the decision log."""
        return self.database.get_secret_value() or f"sqlite:///{self.state_dir.absolute()}/decisions.db"

    @property
    def redis_url(self) -> str | None:
        """URL of the account state that several workers share; None where it is in memory."""
        state = self.state.get_secret_value()
        return None if state == "memory" else state

    @property
    def acts_url(self) -> str:
        """URL of the log of administrative acts: by default as lasting, and as shared, as the decision log."""
        own = f"sqlite:///{self.state_dir.absolute()}/acts.db"
        return self.acts.get_secret_value() or (
            own if self.database_url.startswith("sqlite") else self.database_url
        )

    @field_validator("proxy")
    @classmethod
    def _names_proxies(cls, proxy: str) -> str:
        for address in filter(None, map(str.strip, proxy.split(","))):
            ip_network(address)  # uvicorn would take anything else, `*` too, for whom to trust
        return proxy

    @field_validator("oidc_jwks_url")
    @classmethod
    def _is_safe(cls, url: str | None) -> str | None:
        parts = urlsplit(url or "https:")
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise ValueError("keys are fetched by https only")
        return url

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if len({self.oidc_issuer is None, self.oidc_audience is None, self.oidc_jwks_url is None}) > 1:
            raise ValueError("give oidc_issuer, oidc_audience and oidc_jwks_url together")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("give tls_certificate and tls_key together")
        state = self.state.get_secret_value()
        if state != "memory" and not state.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("state is neither memory nor a URL that begins with redis://, rediss:// or unix://")
        if self.workers > 1 and state == "memory":
            raise ValueError("several workers need a shared state: set RISKDISTILL_STATE to a redis:// URL")
        return self

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.bundle is None) == (self.releases is None):
            raise ValueError("give either a bundle or the URL of a release log")
        return self


def load_settings(**given: Any) -> ApiSettings:
    """Settings from the environment, with those `given` first; None counts as not given.

    Raises:
        ConfigError: listing all that is wrong.
    """
    try:
        return ApiSettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        faults = [": ".join([*map(str, fault["loc"]), fault["msg"]]) for fault in error.errors()]
        raise ConfigError(
            "; ".join(faults), where="API settings", mend="correct the option or its RISKDISTILL_ variable"
        ) from error
