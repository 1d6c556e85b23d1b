"""What the scoring service is told at start: typed, from arguments and the environment (`RISKDISTILL_…`).

Secrets come from the environment or from files that only their owner can read, never from arguments of a
command line, and are never shown. The URLs of databases count as secrets: they may hold a password.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from riskdistill.errors import ConfigError
from riskdistill.models.onnx_model import Provider


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
    payload_key: SecretStr | None = Field(
        None,
        description="keep each request encrypted beside its decision: keys of 64 hexadecimal digits, separated by "
        "commas, the one that encrypts first; default: requests are not kept",
    )
    anchor_key: SecretStr | None = Field(
        None,
        description="key that signs anchors of the decision log, 64 hexadecimal digits; default: a file in the "
        "state folder, made at first start",
    )
    anchor_seconds: float = Field(60.0, gt=0, description="time between two anchors of the decision log")

    @property
    def database_url(self) -> str:
        """URL of the decision log."""
        return self.database.get_secret_value() or f"sqlite:///{self.state_dir.absolute()}/decisions.db"

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
