"""The manifest of a bundle: what is in it, with the SHA-256 of every file; a bundle that is not that is refused."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from riskdistill.errors import BundleDamagedError, BundleIncompatibleError

FORMAT_VERSION: Final = 1
MANIFEST: Final = "manifest.json"


class Manifest(BaseModel):
    """What the bundle is; `parameters` counts them by model, `files` maps each other file to its SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    name: str
    created_at: datetime
    feature_fingerprint: str
    dataset_fingerprint: str
    typologies: tuple[str, ...]
    parameters: dict[str, int]
    files: dict[str, str]
    checksum: str = ""

    def sealed(self) -> Self:
        """The same manifest with the SHA-256 of all that it says as its `checksum`."""
        told = self.model_dump_json(exclude={"checksum"})
        return self.model_copy(update={"checksum": hashlib.sha256(told.encode()).hexdigest()})

    @cached_property  # read for every decision
    def version(self) -> str:
        """16 hex digits over the content of all files."""
        content = "\n".join(f"{name} {digest}" for name, digest in sorted(self.files.items()))
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def verified_manifest(path: Path) -> Manifest:
    """The manifest of the bundle in the directory `path`, once every file that it names was found unchanged.

    Raises:
        BundleDamagedError: there is none, or it or a file is missing, unreadable or was changed.
        BundleIncompatibleError: written for another format.
    """
    mend = "copy it again from where it was made"
    if not (path / MANIFEST).is_file():
        raise BundleDamagedError(f"no {MANIFEST} there", where=str(path), mend="name the directory of a bundle")
    raw = read_json(path / MANIFEST)
    if not isinstance(raw, dict) or raw.get("format_version") != FORMAT_VERSION:
        found = raw.get("format_version") if isinstance(raw, dict) else None
        raise BundleIncompatibleError(
            f"bundle format {found}, this version reads {FORMAT_VERSION}",
            where=str(path),
            mend="train a bundle with this version",
        )
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        told = error.errors()[0]
        place = ".".join(map(str, told["loc"]))
        raise BundleDamagedError(
            f"{MANIFEST} is not valid ({place}: {told['msg']})", where=str(path), mend=mend
        ) from error
    if manifest.sealed().checksum != manifest.checksum:
        raise BundleDamagedError(
            f"{MANIFEST} is not what was written: a byte was changed", where=str(path), mend=mend
        )
    for name, digest in manifest.files.items():
        file = path / name
        if Path(name).name != name:
            raise BundleDamagedError(f"file name {name!r} leaves the bundle", where=str(path), mend=mend)
        if not file.is_file():
            raise BundleDamagedError(f"{name} is missing", where=str(path), mend=mend)
        if sha256(file) != digest:
            raise BundleDamagedError(
                f"{name} is not what the manifest says: a byte was changed", where=str(path), mend=mend
            )
    return manifest


def sha256(path: Path) -> str:
    """Of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """What a JSON file of a bundle holds.

    Raises:
        BundleDamagedError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BundleDamagedError(
            f"cannot read it ({error})", where=str(path), mend="copy the bundle again"
        ) from error
