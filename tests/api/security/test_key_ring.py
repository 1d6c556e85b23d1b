"""Keys live and die as their file says; a damaged file takes nobody's key away, and tells."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fake_serving import KEY, settings_for
from hypothesis import given
from hypothesis import strategies as st

from api.security.key_file import KeyFile, duration
from api.security.key_ring import LOOK_SECONDS, SIMPLE, Caller, KeyRing
from api.telemetry.metrics import Metrics
from riskdistill.errors import ConfigError, NotFoundError

NEVER: dict[str, Any] = {"by": "ann", "expires": None, "rate": None}


class Ring(KeyRing):
    """A ring over a key file, with clocks that a test moves."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.ticks, self.epoch, self.shown = 0.0, 0.0, Metrics()
        fields = {"api_keys": "", "keys": path, "bundle": path} | settings
        super().__init__(settings_for(path.parent, **fields), self.shown, lambda: self.ticks, lambda: self.epoch)

    def says(self, secret: str) -> str | None:
        """The caller's name, or why there is none, after the next look at the file."""
        self.ticks += LOOK_SECONDS
        found = self.find(secret.encode())
        return found.name if isinstance(found, Caller) else found

    def is_damaged(self) -> bool:
        return b"riskdistill_key_file_damaged 1.0" in self.shown.text()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def keys(path: Path) -> tuple[KeyFile, str]:
    """The file with one key `payments`, and its secret."""
    made, _, secret = KeyFile().create("payments", ("score", "read"), **NEVER)
    made.write(path)
    return made, secret


def test_a_secret_is_long_random_and_not_kept(path: Path, keys: tuple[KeyFile, str]) -> None:
    _, secret = keys
    kind, number, random = secret.split("_", 2)
    assert len(random) == 43  # 256 bits in base64
    text = path.read_text()
    assert f"{kind}_{number}" in text
    assert random not in text
    assert path.stat().st_mode & 0o777 == 0o600
    assert KeyFile.read(path) == keys[0]


def test_a_key_is_found_with_its_scopes_and_rate(path: Path) -> None:
    made, _, secret = KeyFile().create("payments", ("score",), by="ann", expires=None, rate=5.0)
    made, _, other = made.create("console", ("label", "operate"), **NEVER)
    made.write(path)
    ring = Ring(path, api_keys=KEY, rate=7.0)
    found = ring.find(secret.encode())
    assert isinstance(found, Caller)
    assert (found.name, found.scopes) == ("payments", {"score"})
    assert found.bucket is not None
    assert found.bucket.rate == 5.0
    second = ring.find(other.encode())
    assert isinstance(second, Caller)
    assert second.bucket is not None
    assert second.bucket.rate == 7.0  # the one of all that have none of their own
    simple = ring.find(KEY.encode())
    assert isinstance(simple, Caller)
    assert (simple.name, simple.scopes) == (SIMPLE, {"score", "read", "label", "operate"})
    assert simple.bucket is not None
    assert simple.bucket.rate == 7.0


def test_an_expired_key_is_told_so(path: Path) -> None:
    made, key, secret = KeyFile().create("k", ("score",), by="ann", expires=timedelta(days=1), rate=None)
    made.write(path)
    ring = Ring(path)
    end = key.secrets[0].expires_at
    assert end is not None
    ring.epoch = end.timestamp() - 0.001
    assert ring.says(secret) == "k"
    ring.epoch = end.timestamp()
    assert ring.says(secret) == "expired"


def test_while_a_key_is_rotated_both_secrets_are_valid_and_then_the_new_one(
    path: Path, keys: tuple[KeyFile, str]
) -> None:
    made, old = keys
    ring = Ring(path)
    made, key, new = made.rotate("payments", by="bob", overlap=timedelta(hours=1), expires=None)
    made.write(path)
    ring.epoch = key.secrets[1].created_at.timestamp()
    assert (ring.says(old), ring.says(new)) == ("payments", "payments")
    ring.epoch += 3_601
    assert (ring.says(old), ring.says(new)) == ("expired", "payments")


def test_rotating_without_overlap_ends_the_old_secret_and_rotating_again_never_prolongs_one(
    path: Path, keys: tuple[KeyFile, str]
) -> None:
    made, first = keys
    made, key, _ = made.rotate("payments", by="bob", overlap=timedelta(hours=1), expires=timedelta(days=2))
    end = key.secrets[0].expires_at
    made, key, _ = made.rotate("payments", by="bob", overlap=timedelta(days=1), expires=None)
    assert key.secrets[0].expires_at == end
    newest = key.secrets[-1]
    assert newest.expires_at is not None
    assert newest.expires_at - newest.created_at == timedelta(days=2)  # as the one before
    made, key, last = made.rotate("payments", by="bob", overlap=timedelta(0), expires=None)
    assert len(key.secrets) == 1
    made.write(path)
    ring = Ring(path)
    assert ring.says(first) is None
    assert ring.says(last) == "payments"


def test_a_revoked_key_ends_within_a_look_and_its_name_is_not_given_again(
    path: Path, keys: tuple[KeyFile, str]
) -> None:
    made, secret = keys
    ring = Ring(path)
    assert ring.says(secret) == "payments"
    made, _ = made.revoke("payments", by="bob")
    made.write(path)
    assert isinstance(ring.find(secret.encode()), Caller)  # the file was looked at a moment ago
    assert ring.says(secret) == "revoked"
    again: list[Callable[[], object]] = [
        lambda: made.revoke("payments", by="bob"),
        lambda: made.rotate("payments", by="bob", overlap=timedelta(1), expires=None),
        lambda: made.create("payments", ("read",), **NEVER),
    ]
    for attempt in again:
        with pytest.raises(ConfigError, match="another name"):
            attempt()
    with pytest.raises(NotFoundError, match="no key 'other'"):
        made.revoke("other", by="bob")


def test_a_bucket_is_not_filled_by_a_change_of_the_file(path: Path) -> None:
    made, _, secret = KeyFile().create("k", ("score",), by="ann", expires=None, rate=5.0)
    made.write(path)
    ring = Ring(path)
    before = ring.find(secret.encode())
    made.create("other", ("read",), **NEVER)[0].write(path)
    assert ring.says(secret) == "k"
    after = ring.find(secret.encode())
    assert isinstance(before, Caller)
    assert isinstance(after, Caller)
    assert before.bucket is after.bucket


def damage(path: Path, how: str) -> None:
    document = json.loads(path.read_text())
    if how == "gone":
        path.unlink()
    elif how == "open to all":
        path.chmod(0o644)
    elif how == "cut":
        path.write_text(path.read_text()[:-20])
    elif how == "no text":
        path.write_bytes(b"\xff\xfe")
    elif how == "twice":
        path.write_text(json.dumps({"version": 1, "keys": document["keys"] * 2}))
    else:
        document["keys"][0] |= json.loads(how)
        path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "how",
    [
        "gone",
        "open to all",
        "cut",
        "no text",
        "twice",
        '{"scopes": ["root"]}',
        '{"scopes": []}',
        '{"rate": 0}',
        '{"surprise": 1}',
        '{"secrets": []}',
        '{"name": "Pay ments"}',
    ],
)
def test_a_damaged_file_leaves_the_keys_in_force_and_is_told_of_once(
    path: Path, keys: tuple[KeyFile, str], caplog: pytest.LogCaptureFixture, how: str
) -> None:
    made, secret = keys
    ring = Ring(path)
    damage(path, how)
    with caplog.at_level(logging.ERROR):
        assert [ring.says(secret) for _ in range(3)] == ["payments"] * 3
    assert ring.is_damaged()
    (record,) = caplog.records
    assert "stay in force" in record.message
    assert made.keys[0].secrets[0].sha256 not in caplog.text
    with pytest.raises(ConfigError, match=r"keys\.json"):
        Ring(path)
    path.unlink(missing_ok=True)
    made.create("other", ("read",), **NEVER)[0].write(path)
    assert ring.says(secret) == "payments"
    assert not ring.is_damaged()


@given(secret=st.binary(max_size=80))
def test_no_other_bytes_are_a_key(secret: bytes) -> None:
    ring = KeyRing(settings_for(Path(), bundle=Path()), Metrics())
    assert ring.find(secret) is None


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("90d", timedelta(days=90)),
        ("12h", timedelta(hours=12)),
        ("5m", timedelta(minutes=5)),
        ("0s", timedelta()),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, meant: timedelta) -> None:
    assert duration(text) == meant


@pytest.mark.parametrize("text", ["", "90", "d", "-1d", "1.5h", "1w", "1d ", "9999999d"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigError, match="write it as 90d"):
        duration(text)


@pytest.mark.parametrize(
    ("name", "scopes", "rate", "says"),
    [
        ("Pay", ("score",), None, "name"),
        ("x" * 65, ("score",), None, "name"),
        ("a\nb", ("score",), None, "name"),
        (SIMPLE, ("score",), None, "name"),
        ("ok", ("all",), None, "scopes"),
        ("ok", (), None, "scopes"),
        ("ok", ("score",), 0.0, "rate"),
        ("ok", ("score",), float("inf"), "rate"),
    ],
)
def test_a_key_that_is_not_allowed_is_not_made(
    name: str, scopes: tuple[str, ...], rate: float | None, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        KeyFile().create(name, scopes, by="ann", expires=None, rate=rate)
