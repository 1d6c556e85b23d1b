"""Secrets in files: read only if nobody but their owner can, and made or replaced so."""

from __future__ import annotations

import os
from pathlib import Path

from riskdistill.errors import ConfigError


def read_secret(path: Path) -> str:
    """The text of a secret file.

    Raises:
        ConfigError: it cannot be read, or others can read it too.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the secret file cannot be read ({type(error).__name__})", where=str(path), mend="check the path"
        ) from error
    if mode & 0o077:
        raise ConfigError(
            "others than its owner can read the secret file", where=str(path), mend=f"chmod 600 {path}"
        )
    return text


def write_secret(path: Path, text: str) -> None:
    """Makes a secret file that only its owner can read; it must not exist yet."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def replace_secret(path: Path, text: str) -> None:
    """Writes a secret file in one step: whoever reads it meanwhile sees the old text or the new, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)  # of a process that died here
    try:
        write_secret(draft, text)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name survives a loss of power
    finally:
        os.close(folder)
