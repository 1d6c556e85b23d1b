"""Settings are checked before anything starts, and secrets are neither shown nor left readable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_serving import KEY, settings_for

from api.path.pseudonyms import Pseudonyms, key_from_file
from api.security.key_ring import Caller, KeyRing
from api.security.secret_files import read_secret, write_secret
from api.settings import load_settings
from api.telemetry.metrics import Metrics
from riskdistill.data.transaction import Transaction, to_table
from riskdistill.errors import ConfigError

TRANSACTION = Transaction(
    tx_id="t",
    timestamp="2026-01-01T00:00:00Z",  # type: ignore[arg-type]
    sender_account="alice",
    sender_bank="B1",
    receiver_account="bob",
    receiver_bank="B2",
    amount_paid=1.0,
    currency_paid="EUR",
    amount_received=1.0,
    currency_received="EUR",
    payment_format="wire",
)


def test_defaults_listen_on_loopback_and_keep_the_log_in_the_state_folder(tmp_path: Path) -> None:
    settings = load_settings(bundle=tmp_path, state_dir=tmp_path, host=None)
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.database_url == f"sqlite:///{tmp_path}/decisions.db"


@pytest.mark.parametrize(
    ("database", "acts", "found"),
    [
        ("", "", "sqlite:///STATE/acts.db"),
        ("sqlite:////mnt/decisions.db", "", "sqlite:///STATE/acts.db"),
        ("postgresql://db/log", "", "postgresql://db/log"),
        ("postgresql://db/log", "postgresql://db/acts", "postgresql://db/acts"),
    ],
)
def test_acts_are_by_default_where_all_who_share_the_decision_log_find_them(
    tmp_path: Path, database: str, acts: str, found: str
) -> None:
    settings = load_settings(bundle=tmp_path, state_dir=tmp_path, database=database, acts=acts)
    assert settings.acts_url == found.replace("STATE", str(tmp_path))


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RISKDISTILL_PORT", "9001")
    monkeypatch.setenv("RISKDISTILL_RATES", "rates.parquet")
    monkeypatch.setenv("RISKDISTILL_PROVIDER", "cuda")
    monkeypatch.setenv("RISKDISTILL_API_KEYS", f"{KEY}, another-key-of-16+")
    settings = load_settings(bundle=tmp_path)
    assert (settings.port, settings.rates, settings.provider) == (9001, Path("rates.parquet"), "cuda")
    ring = KeyRing(settings, Metrics())
    assert isinstance(ring.find(KEY.encode()), Caller)
    assert isinstance(ring.find(b"another-key-of-16+"), Caller)
    assert ring.find(f"{KEY}, another-key-of-16+".encode()) is None
    assert KEY not in repr(settings)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "either a bundle or"),
        ({"bundle": Path("b"), "releases": "sqlite:///r.db"}, "either a bundle or"),
        ({"bundle": Path("b"), "port": "http"}, "port"),
        ({"bundle": Path("b"), "teacher_deadline_ms": 0}, "teacher_deadline_ms"),
        ({"bundle": Path("b"), "provider": "gpu"}, "provider: .*'cpu', 'cuda' or 'tensorrt'"),
        ({"bundle": Path("b"), "api_keyz": "x"}, "api_keyz"),
    ],
)
def test_wrong_settings_are_a_configuration_error(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_settings(**given)


def test_passwords_in_database_urls_are_not_shown(tmp_path: Path) -> None:
    url = "postgresql://user:secret-word@host/db"
    settings = load_settings(releases=url, database=url, state_dir=tmp_path)
    assert settings.database_url == url
    assert "secret-word" not in f"{settings!r} {settings} {settings.model_dump_json()}"
    with pytest.raises(ConfigError) as caught:
        load_settings(releases=url, database=url, bundle=tmp_path)
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize("keys", ["", " , ", "short"])
def test_no_key_or_a_short_one_is_refused_without_being_shown(tmp_path: Path, keys: str) -> None:
    with pytest.raises(ConfigError, match="API key") as caught:
        KeyRing(settings_for(tmp_path, bundle=tmp_path, api_keys=keys), Metrics())
    assert "short'" not in str(caught.value)


def test_keys_come_from_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    write_secret(path, f"{KEY}\n\nanother-key-of-16+\n")
    ring = KeyRing(settings_for(tmp_path, bundle=tmp_path, api_keys="", api_keys_file=path), Metrics())
    assert isinstance(ring.find(b"another-key-of-16+"), Caller)
    assert ring.find(b"") is None
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_secret(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_secret(tmp_path / "missing")


def test_pseudonyms_depend_on_the_key_and_keep_equality() -> None:
    one, other = Pseudonyms("k" * 16), Pseudonyms("l" * 16)
    assert one.of("alice") == one.of("alice") != one.of("bob")
    assert one.of("alice") != other.of("alice")
    assert len(one.of("alice")) == 32
    for key in ("short", "x" * 65):
        with pytest.raises(ConfigError, match="16 to 64"):
            Pseudonyms(key)


def test_a_table_and_its_rows_get_the_same_pseudonyms() -> None:
    pseudonyms = Pseudonyms("k" * 16)
    swapped = TRANSACTION.model_copy(
        update={"tx_id": "u", "sender_account": TRANSACTION.receiver_account, "receiver_account": "alice"}
    )
    rows = [TRANSACTION, swapped]
    assert pseudonyms.table(to_table(rows)) == to_table(map(pseudonyms.transaction, rows))
    assert pseudonyms.table(to_table([])) == to_table([])


def test_a_key_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "pseudonym.key"
    with pytest.raises(ConfigError, match="missing"):
        key_from_file(path, make=False)
    key = key_from_file(path, make=True)
    assert key_from_file(path, make=False) == key_from_file(path, make=True) == key
    assert len(key) == 64
