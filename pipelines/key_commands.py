"""Commands of the engineer who decides who may call: `keys create`, `list`, `rotate`, `revoke`.

A secret is printed once, alone on standard output, so that a shell can take it; all else that `create` and `rotate`
say goes to standard error. Each command enters what it does into the log of administrative acts before it does it.
"""

from __future__ import annotations

import os
import pwd
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from riskdistill.storage.administrative_acts import ActLog

keys_app = typer.Typer(no_args_is_help=True, help="Make, list, rotate and revoke API keys; the service follows.")
console, notes = Console(), Console(stderr=True)


def _login() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


KeysFile = Annotated[
    Path, typer.Option("--keys", envvar="RISKDISTILL_KEYS", help="File of hashed keys.", show_default=False)
]
Log = Annotated[
    str | None,
    typer.Option("--log", envvar="RISKDISTILL_ACTS", help="URL of the act log; default: acts.db beside the file."),
]
Actor = Annotated[str, typer.Option("--actor", help="Who does this.", default_factory=_login)]
Expires = Annotated[str | None, typer.Option(help="Lifetime of the secret, e.g. 90d or 12h.")]


@keys_app.command()
def create(
    keys: KeysFile,
    name: Annotated[str, typer.Option(help="Who will use it; stands in logs and records.")],
    scopes: Annotated[str, typer.Option(help="What it allows: score, read, label, operate, admin; with commas.")],
    actor: Actor,
    expires: Expires = None,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Transactions and other requests a second.")] = None,
    log: Log = None,
) -> None:
    """Make a key and print its secret, once."""
    from api.security.key_file import KeyFile, duration, locked

    lifetime = None if expires is None else duration(expires)
    wanted = tuple(dict.fromkeys(scope.strip() for scope in scopes.split(",")))
    keys.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(keys):
        before = KeyFile.read(keys) if keys.exists() else KeyFile()
        after, key, secret = before.create(name, wanted, by=actor, expires=lifetime, rate=rate)
        details = {"scopes": list(key.scopes), "rate": key.rate, **_secret_details(key)}
        _record(log, keys, actor, "key.created", name, details)
        after.write(keys)
    notes.print(f"key {name} for {', '.join(key.scopes)}; this is its secret, which is not kept:", highlight=False)
    print(secret)


@keys_app.command("list")
def list_keys(keys: KeysFile) -> None:
    """All keys and what they allow; no secrets, for none are kept."""
    from api.security.key_file import KeyFile

    table = Table(*(Column(title, overflow="fold") for title in ("name", "scopes", "rate", "state", "secrets")))
    now = datetime.now(UTC)
    for key in KeyFile.read(keys).keys:
        rate = "" if key.rate is None else f"{key.rate:g}/s"
        shown = [f"{one.id} by {one.created_by} {one.created_at:%Y-%m-%d}{_end(one)}" for one in key.secrets]
        state = "in force" if any(one.is_valid(now) for one in key.secrets) else "expired"
        if key.revoked_at is not None:
            state = f"revoked {key.revoked_at:%Y-%m-%d} by {key.revoked_by}"
        table.add_row(key.name, ", ".join(key.scopes), rate, state, "\n".join(shown))
    console.print(table, highlight=False)


@keys_app.command()
def rotate(
    name: Annotated[str, typer.Argument()],
    keys: KeysFile,
    actor: Actor,
    overlap: Annotated[str, typer.Option(help="How long the old secret stays valid; 0s ends it now.")] = "7d",
    expires: Expires = None,
    log: Log = None,
) -> None:
    """Give a key a new secret and print it, once; the old one stays valid for the overlap."""
    from api.security.key_file import KeyFile, duration, locked

    lifetime = None if expires is None else duration(expires)
    with locked(keys):
        before = KeyFile.read(keys)
        after, key, secret = before.rotate(name, by=actor, overlap=duration(overlap), expires=lifetime)
        _record(log, keys, actor, "key.rotated", name, {"overlap": overlap, **_secret_details(key)})
        after.write(keys)
    notes.print(f"key {name}: the old secret is valid for {overlap}; the new one, not kept:", highlight=False)
    print(secret)


@keys_app.command()
def revoke(
    name: Annotated[str, typer.Argument()],
    keys: KeysFile,
    actor: Actor,
    reason: Annotated[str, typer.Option(help="Why; kept in the log.")] = "",
    log: Log = None,
) -> None:
    """End a key at once; its name is not given again."""
    from api.security.key_file import KeyFile, locked

    with locked(keys):
        after, _ = KeyFile.read(keys).revoke(name, by=actor)
        _record(log, keys, actor, "key.revoked", name, {"reason": reason})
        after.write(keys)
    console.print(f"key {name} is revoked", highlight=False)


def _record(log: str | None, keys: Path, actor: str, act: str, name: str, details: dict[str, Any]) -> None:
    opened = ActLog(log or f"sqlite:///{keys.absolute().parent}/acts.db")
    try:
        opened.append(actor=actor, act=act, subject=name, details=details)
    finally:
        opened.close()


def _secret_details(key: Any) -> dict[str, Any]:
    newest = key.secrets[-1]
    return {"id": newest.id, "expires_at": newest.expires_at.isoformat() if newest.expires_at else None}


def _end(secret: Any) -> str:
    return f", until {secret.expires_at:%Y-%m-%d %H:%M}" if secret.expires_at else ""
