"""The files of an exported decision log: their names, and what a line or the manifest of one says.

`riskdistill.storage.export` writes them and says what they are for; `riskdistill.storage.export_check` checks them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from riskdistill.storage.schema import LogName

ENTRIES: Final = "entries.jsonl"
EARLIER: Final = "earlier.jsonl"
ANCHORS: Final = "anchors.jsonl"
KEYS: Final = "public_keys.txt"
MANIFEST: Final = "manifest.json"
Kind = Literal["decision", "act", "pruned"]


class Exported(BaseModel):
    """One line of `entries.jsonl` or `earlier.jsonl`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sequence: int = Field(ge=1)
    kind: Kind
    hash: str
    body: str | None = None  # not of a pruned decision
    pruned_by: int | None = Field(None, ge=1)  # the sequence of the act

    @model_validator(mode="after")
    def _either_told_or_deleted(self) -> Self:
        pruned = self.kind == "pruned"
        if (self.body is None) != pruned or (self.pruned_by is not None) != pruned:
            raise ValueError("only a pruned entry lacks its body, and it names the act that deleted it")
        return self


class ExportedLine(BaseModel):
    """One line of a journal's file; as in `Exported`, a deleted entry lacks its body."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sequence: int = Field(ge=1)
    hash: str
    body: str | None = None
    pruned_by: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _either_told_or_deleted(self) -> Self:
        if (self.body is None) != (self.pruned_by is not None):
            raise ValueError("an entry has its body, or names the act that deleted it")
        return self


class JournalEnd(BaseModel):
    """How many entries a journal had, and the hash of the last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entries: int
    head: str


class Manifest(BaseModel):
    """What is in the export: entries `first` to `last`, the hash before them, journals, and the files' SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["riskdistill decision log 1"] = "riskdistill decision log 1"
    made_at: AwareDatetime
    first: int = Field(ge=1)
    last: int
    previous_hash: str
    head: str
    journals: dict[LogName, JournalEnd] = Field(default_factory=dict)
    files: dict[str, str]


def files_of(journals: Iterable[LogName]) -> set[str]:
    """The names of all files beside the manifest, of an export with these journals."""
    return {ENTRIES, EARLIER, ANCHORS, KEYS, *(f"{name}.jsonl" for name in journals)}


def sha256_of(path: Path) -> str:
    """SHA-256 hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
