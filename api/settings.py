"""What the scoring service is told at start: typed, from arguments and the environment (`RISKDISTILL_…`).

Secrets come from the environment or from files that only their owner can read, never from arguments of a
command line, and are never shown. The URLs of databases count as secrets: they may hold a password.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from riskdistill.errors import ConfigError
from riskdistill.models.onnx_model import Provider

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
    api_keys: SecretStr = Field(SecretStr(""), description="accepted API keys, separated by commas")
    api_keys_file: Path | None = Field(None, description="accepted API keys, one a line; mode 0600")
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
    teacher_deadline_ms: float = Field(100.0, gt=0, description="the longest wait for the teacher")
    follow_seconds: float = Field(0.5, gt=0, description="time between two looks at the release log")

    @property
    def database_url(self) -> str:
        """URL of the decision log."""
        return self.database.get_secret_value() or f"sqlite:///{self.state_dir.absolute()}/decisions.db"

    @property
    def redis_url(self) -> str | None:
        """URL of the account state that several workers share; None where it is in memory."""
        state = self.state.get_secret_value()
        return None if state == "memory" else state

    @model_validator(mode="after")
    def _shares_state(self) -> Self:
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
