"""Folders of entries that can be made again: checked by sums, and bounded by what was used longest ago.

    FOLDER/<key>/…  entry.json     one entry; the file with the checksums is written last
    FOLDER/.draft-…                an entry in the making

Deleting the folder is always safe.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Final

import xxhash

LIMIT: Final = 20 << 30  # bytes
ENTRY_FILE: Final = "entry.json"
ABANDONED: Final = 6 * 3_600  # seconds after which nobody is writing a draft any more
DRAFT: Final = ".draft-"


def checksum(path: Path) -> str:
    """XXH3 of a file's bytes, read a stretch at a time."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while stretch := file.read(1 << 24):
            digest.update(stretch)
    return digest.hexdigest()


def verify(entry: Path) -> list[str]:
    """The names of an entry's files, once their checksums are found to hold; marks the entry as used.

    Raises:
        OSError, ValueError: a file is missing or not what was written.
    """
    checksums = json.loads((entry / ENTRY_FILE).read_text())
    if checksums != {name: checksum(entry / name) for name in checksums}:
        raise ValueError("checksums differ")
    os.utime(entry / ENTRY_FILE)
    return list(checksums)


def seal(draft: Path, entry: Path, names: list[str]) -> None:
    """Make a finished draft an entry of the files `names`, in place of a damaged one."""
    (draft / ENTRY_FILE).write_text(json.dumps({name: checksum(draft / name) for name in names}))
    shutil.rmtree(entry, ignore_errors=True)
    draft.rename(entry)


def shrink(folder: Path, newest: Path, limit: int) -> None:
    """Remove what killed processes left, and the entries used longest ago until the limit is kept."""
    for draft in folder.glob(f"{DRAFT}*"):
        if time.time() - draft.stat().st_mtime > ABANDONED:
            shutil.rmtree(draft, ignore_errors=True)
    entries = [path.parent for path in folder.glob(f"*/{ENTRY_FILE}")]
    entries.sort(key=lambda path: (path / ENTRY_FILE).stat().st_mtime_ns)
    sizes = {path: sum(file.stat().st_size for file in path.iterdir()) for path in entries}
    held = sum(sizes.values())
    for path in entries:
        if held <= limit:
            return
        if path != newest:
            shutil.rmtree(path)
            held -= sizes[path]
