"""The keys in force: from the environment, and from a key file that is followed while the service runs.

A secret is looked for by a piece of its digest, and then whole digests are compared in constant time: how long that
takes tells nothing of how much of a secret fits. Keys of the environment or of a plain file are the simple form:
one caller, SIMPLE, with every scope but `admin`.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic, time
from typing import Final, NamedTuple

from api.security.key_file import SCOPES, Key, KeyFile, Scope, digest
from api.security.rate_limit import Clock, TokenBucket
from api.security.secret_files import read_secret
from api.settings import ApiSettings
from api.telemetry.metrics import Metrics
from riskdistill.errors import ConfigError

MIN_KEY_LENGTH: Final = 16
LOOK_SECONDS: Final = 0.5  # between two looks at the key file
SIMPLE: Final = "RISKDISTILL_API_KEYS"  # the caller with a key of the simple form; a key file cannot have that name
_logger = logging.getLogger(__name__)
_Signature = tuple[int, int, int, int]


class Caller(NamedTuple):
    """Who sent a request: `name` is the actor in records and logs. `bucket` limits it; None: nothing does."""

    name: str
    scopes: frozenset[Scope]
    bucket: TokenBucket | None = None


class _Entry(NamedTuple):
    digest: bytes
    caller: Caller
    expires_at: float  # seconds since the epoch
    revoked: bool


class KeyRing:
    """The accepted keys. Not for several threads.

    Args:
        settings: name the keys, the key file and the rate of those who have none of their own.
        metrics: shows a damaged key file.
        clock, now: monotonic time, and time since the epoch.

    Raises:
        ConfigError: there is no key and no key file, a key is too short to be safe, or the key file is damaged.
    """

    def __init__(
        self,
        settings: ApiSettings,
        metrics: Metrics,
        clock: Clock = monotonic,
        now: Callable[[], float] = time,
    ) -> None:
        self._path, self._rate, self._metrics = settings.keys, settings.rate, metrics
        self._clock, self._now = clock, now
        self._simple = _simple(settings)
        if not self._simple and self._path is None and settings.oidc_issuer is None:
            raise ConfigError(
                "no API key is set",
                where="API settings",
                mend="set RISKDISTILL_API_KEYS, or make a key with: riskdistill keys create --keys FILE",
            )
        self._buckets: dict[str, TokenBucket] = {}
        self._entries: dict[bytes, _Entry] = {}
        self._signature: _Signature | None = None
        self._next_look = clock() + LOOK_SECONDS
        if self._path is None:
            self._take(())
        else:
            self._signature = _signature(self._path)
            self._take(KeyFile.read(self._path).keys)

    def find(self, secret: bytes) -> Caller | str | None:
        """The caller with that secret; `expired` or `revoked` if it was one; None if it never was."""
        if self._path is not None and self._clock() >= self._next_look:
            self._look(self._path)
        sought = digest(secret)
        entry = self._entries.get(sought[:8])
        if entry is None or not hmac.compare_digest(entry.digest, sought):
            return None
        if entry.revoked:
            return "revoked"
        return entry.caller if self._now() < entry.expires_at else "expired"

    def bucket(self, name: str, rate: float | None = None) -> TokenBucket | None:
        """The bucket of the caller of that name, by default at the service's rate; it stays as long as its rate."""
        rate = self._rate if rate is None else rate
        if rate is None:
            return None
        known = self._buckets.get(name)
        if known is None or known.rate != rate:
            known = self._buckets[name] = TokenBucket(rate, clock=self._clock)
        return known

    def _look(self, path: Path) -> None:
        """Takes the key file if it has changed; one that is damaged is told of, and the keys in force stay."""
        self._next_look = self._clock() + LOOK_SECONDS
        seen = _signature(path)
        if seen == self._signature:
            return
        self._signature = seen
        try:
            self._take(KeyFile.read(path).keys)
            _logger.info("took the changed key file: %d secrets in force", len(self._entries))
        except ConfigError as error:
            self._metrics.key_file(damaged=True)
            _logger.error("the keys of before stay in force: %s", error)

    def _take(self, keys: Iterable[Key]) -> None:
        simple = Caller(SIMPLE, frozenset(SCOPES) - {"admin"}, self.bucket(SIMPLE))
        entries = [_Entry(known, simple, float("inf"), revoked=False) for known in self._simple]
        for key in keys:
            caller = Caller(key.name, frozenset(key.scopes), self.bucket(key.name, key.rate))
            for secret in key.secrets:
                end = secret.expires_at.timestamp() if secret.expires_at else float("inf")
                entries.append(_Entry(bytes.fromhex(secret.sha256), caller, end, key.revoked_at is not None))
        self._entries = {entry.digest[:8]: entry for entry in entries}
        self._metrics.key_file(damaged=False)


def _simple(settings: ApiSettings) -> list[bytes]:
    keys = settings.api_keys.get_secret_value().split(",")
    if settings.api_keys_file is not None:
        keys += read_secret(settings.api_keys_file).splitlines()
    keys = [key.strip() for key in keys if key.strip()]
    if any(len(key) < MIN_KEY_LENGTH for key in keys):
        raise ConfigError(
            f"an API key is shorter than {MIN_KEY_LENGTH} characters",
            where="API settings",
            mend="make one with: openssl rand -hex 24",
        )
    return [digest(key.encode()) for key in keys]


def _signature(path: Path) -> _Signature | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino  # a change of mode moves ctime
