"""The file of API keys: names, scopes, limits and the hashes of their secrets, never a secret.

A secret is `rdk_<id>_<256 random bits>`; the file keeps its SHA-256 and the part before the random bits, by which
people recognise it. A password needs a slow hash because people choose it; nobody can try 2^256 random secrets, so
a fast hash hides them as well, and lets a request pass in microseconds.

A key has a name for its whole life, and one secret or, while it is rotated, several. A revoked key stays in the
file, so that its name, which stands in logs, is never given to another.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from api.security.secret_files import read_secret, replace_secret
from riskdistill.errors import ConfigError, NotFoundError

Scope = Literal["score", "read", "label", "operate", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
_PREFIX: Final = "rdk"
_DURATION: Final = re.compile(r"(\d{1,6})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Secret(_Record):
    """One secret of a key, as a hash."""

    id: Annotated[str, Field(pattern=r"^rdk_[0-9a-f]{8}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created_at: AwareDatetime
    created_by: str
    expires_at: AwareDatetime | None = None

    def is_valid(self, now: datetime) -> bool:
        """Whether it has not expired by `now`."""
        return self.expires_at is None or now < self.expires_at


class Key(_Record):
    """A caller: who it is, what it may do and how much of it."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    rate: Annotated[float | None, Field(gt=0, description="transactions and other requests a second")] = None
    revoked_at: AwareDatetime | None = None
    revoked_by: str | None = None
    secrets: Annotated[tuple[Secret, ...], Field(min_length=1)]


class KeyFile(_Record):
    """All keys of a service, by name."""

    version: Literal[1] = 1
    keys: tuple[Key, ...] = ()

    @classmethod
    def read(cls, path: Path) -> KeyFile:
        """The keys in the file at `path`.

        Raises:
            ConfigError: it cannot be read, others than its owner can read it, or it is damaged.
        """
        try:
            found = cls.model_validate_json(read_secret(path))
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            fault = ": ".join([".".join(map(str, first["loc"])), first["msg"]]).removeprefix(": ")
            raise _damaged(path, fault) from None  # the cause would quote the file
        names = [key.name for key in found.keys]
        ids = [secret.sha256 for key in found.keys for secret in key.secrets]
        if len(set(names)) < len(names) or len(set(ids)) < len(ids):
            raise _damaged(path, "a name or a hash is in it twice")
        return found

    def get(self, name: str) -> Key:
        """The key of that name, if it is in force.

        Raises:
            NotFoundError: there is none.
            ConfigError: it is revoked.
        """
        found = next((key for key in self.keys if key.name == name), None)
        if found is None:
            raise NotFoundError(f"there is no key {name!r}", where="key file", mend="list the keys")
        if found.revoked_at is not None:
            raise ConfigError(f"key {name} is revoked", where="key file", mend="create one of another name")
        return found

    def create(
        self, name: str, scopes: tuple[str, ...], *, by: str, expires: timedelta | None, rate: float | None
    ) -> tuple[KeyFile, Key, str]:
        """These keys and a new one, the new key, and its secret.

        Raises:
            ConfigError: a key has, or had, that name; or one of the arguments is not allowed.
        """
        if any(key.name == name for key in self.keys):
            raise ConfigError(
                f"there is, or was, a key {name!r}", where="key file", mend="choose another name, or rotate it"
            )
        secret, text = _new_secret(by, expires)
        try:
            key = Key.model_validate({"name": name, "scopes": scopes, "rate": rate, "secrets": (secret,)})
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            raise ConfigError(
                f"{first['loc'][0]}: {first['msg']}",
                where="new key",
                mend=f"names have small letters, digits, dots and dashes; scopes are {', '.join(SCOPES)}",
            ) from None
        return self.model_copy(update={"keys": (*self.keys, key)}), key, text

    def rotate(
        self, name: str, *, by: str, overlap: timedelta, expires: timedelta | None
    ) -> tuple[KeyFile, Key, str]:
        """These keys with a new secret for one, that key, and the secret; the old ones end after `overlap`.

        Args:
            expires: lifetime of the new secret; by default that of the newest one before it.

        Raises:
            NotFoundError: there is no such key.
            ConfigError: it is revoked.
        """
        key, now = self.get(name), datetime.now(UTC)
        newest = key.secrets[-1]
        if expires is None and newest.expires_at is not None:
            expires = newest.expires_at - newest.created_at
        secret, text = _new_secret(by, expires)
        end = now + overlap
        kept = [
            old.model_copy(update={"expires_at": min(old.expires_at or end, end)})
            for old in key.secrets
            if old.is_valid(now) and overlap
        ]
        rotated = key.model_copy(update={"secrets": (*kept, secret)})
        return self._with(rotated), rotated, text

    def revoke(self, name: str, *, by: str) -> tuple[KeyFile, Key]:
        """These keys with one revoked, and that key.

        Raises:
            NotFoundError: there is no such key.
            ConfigError: it is revoked already.
        """
        revoked = self.get(name).model_copy(update={"revoked_at": datetime.now(UTC), "revoked_by": by})
        return self._with(revoked), revoked

    def write(self, path: Path) -> None:
        """Replaces the file at `path` in one step; only its owner can read it."""
        replace_secret(path, self.model_dump_json(indent=2) + "\n")

    def _with(self, changed: Key) -> KeyFile:
        return self.model_copy(
            update={"keys": tuple(changed if key.name == changed.name else key for key in self.keys)}
        )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the key file at `path` for one writer at a time, from its reading to its replacement."""
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def duration(text: str) -> timedelta:
    """A time such as `90d`, `12h`, `30m` or `45s`.

    Raises:
        ConfigError: `text` is not one.
    """
    matched = _DURATION.fullmatch(text)
    if matched is None:
        raise ConfigError(f"{text!r} is not a duration", mend="write it as 90d, 12h, 30m or 45s")
    return timedelta(**{_UNITS[matched[2]]: int(matched[1])})


def digest(secret: bytes) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(secret).digest()


def _new_secret(by: str, expires: timedelta | None) -> tuple[Secret, str]:
    prefix = f"{_PREFIX}_{secrets.token_hex(4)}"
    text, now = f"{prefix}_{secrets.token_urlsafe(32)}", datetime.now(UTC)
    kept = Secret(
        id=prefix,
        sha256=digest(text.encode()).hex(),
        created_at=now,
        created_by=by,
        expires_at=None if expires is None else now + expires,
    )
    return kept, text


def _damaged(path: Path, fault: str) -> ConfigError:
    return ConfigError(
        f"the key file is damaged: {fault}",
        where=str(path),
        mend="restore it from a copy, or make its keys anew with: riskdistill keys create",
    )
