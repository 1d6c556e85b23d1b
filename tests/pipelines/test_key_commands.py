"""`riskdistill keys`: a secret is shown once, the file follows, and each act is logged before it takes effect."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from api.security.key_file import KeyFile
from riskdistill.storage.administrative_acts import ActLog

Command = Callable[..., str]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "state" / "keys.json"


@pytest.fixture
def acts(keys: Path) -> str:
    return f"sqlite:///{keys.parent}/acts.db"


def make(done: Command, keys: Path, *more: object) -> str:
    return done("keys", "create", "--name", "payments", "--scopes", "score, read", "--keys", keys, *more)


def test_a_key_is_made_and_its_secret_alone_is_printed(done: Command, keys: Path, acts: str) -> None:
    secret = make(done, keys, "--expires", "90d", "--rate", 500, "--actor", "ann")
    assert secret.startswith("rdk_")
    assert " " not in secret
    (key,) = KeyFile.read(keys).keys
    assert (key.name, key.scopes, key.rate) == ("payments", ("score", "read"), 500.0)
    (act,) = ActLog(acts, create=False).read()
    assert (act.actor, act.act, act.subject) == ("ann", "key.created", "payments")
    assert act.details == {
        "scopes": ["score", "read"],
        "rate": 500.0,
        "id": secret[:12],
        "expires_at": key.secrets[0].expires_at.isoformat(),  # type: ignore[union-attr]
    }
    shown = done("keys", "list", "--keys", keys)
    for piece in ("payments", "score, read", "500/s", "in force", secret[:12], "by ann"):
        assert piece in shown
    for stored in (shown, keys.read_text(), str(act)):
        assert secret[13:] not in stored


def test_a_key_is_rotated_and_revoked_and_all_of_it_is_in_the_log(done: Command, keys: Path, acts: str) -> None:
    old = make(done, keys)
    new = done("keys", "rotate", "payments", "--overlap", "2h", "--keys", keys)
    assert new != old
    assert len(KeyFile.read(keys).keys[0].secrets) == 2
    assert done("keys", "revoke", "payments", "--reason", "leaked", "--keys", keys) == "key payments is revoked"
    assert "revoked 20" in done("keys", "list", "--keys", keys)
    told = done("audit", "acts", "--log", acts)
    for piece in ("key.created", "key.rotated", "overlap=2h", "key.revoked", "reason=leaked", "intact: 3 entries"):
        assert piece in told


def test_the_log_may_be_elsewhere(
    done: Command, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/central.db"
    monkeypatch.setenv("RISKDISTILL_KEYS", str(keys))
    monkeypatch.setenv("RISKDISTILL_ACTS", url)
    done("keys", "create", "--name", "a", "--scopes", "label")
    assert ActLog(url, create=False).verify().entries == 1
    assert not (keys.parent / "acts.db").exists()


def test_what_cannot_be_logged_is_not_done(done: Command, refused: Command, keys: Path, tmp_path: Path) -> None:
    make(done, keys)
    before = keys.read_text()
    nowhere = f"sqlite:///{tmp_path}/none/acts.db"
    told = refused("keys", "revoke", "payments", "--keys", keys, "--log", nowhere)
    assert "folder does not exist" in told
    assert keys.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("create", "--name", "payments", "--scopes", "score"), "there is, or was, a key 'payments'"),
        (("create", "--name", "x", "--scopes", "root"), "scopes are score, read, label, operate, admin"),
        (("create", "--name", "x", "--scopes", "score", "--expires", "soon"), "'soon' is not a duration"),
        (("rotate", "other"), "there is no key 'other'"),
        (("revoke", "other"), "there is no key 'other'"),
    ],
)
def test_a_wrong_command_changes_nothing(
    done: Command, refused: Command, keys: Path, acts: str, arguments: tuple[str, ...], says: str
) -> None:
    make(done, keys)
    before = keys.read_text()
    assert says in refused("keys", *arguments, "--keys", keys)
    assert keys.read_text() == before
    assert ActLog(acts, create=False).verify().entries == 1


def test_a_damaged_file_is_not_written_over(done: Command, refused: Command, keys: Path) -> None:
    make(done, keys)
    keys.write_text("{")
    assert "the key file is damaged" in refused("keys", "create", "--name", "x", "--scopes", "read", "--keys", keys)
    assert keys.read_text() == "{"


def test_a_changed_act_is_named(done: Command, refused: Command, keys: Path, acts: str) -> None:
    make(done, keys, "--actor", "ann")
    with sqlite3.connect(keys.parent / "acts.db") as connection:
        connection.execute("DROP TRIGGER administrative_acts_no_update")
        connection.execute("UPDATE administrative_acts SET body = replace(body, 'ann', 'eve')")
    connection.close()
    assert "act log, entry 1: entry 1 is missing, was changed" in refused("audit", "acts", "--log", acts)
