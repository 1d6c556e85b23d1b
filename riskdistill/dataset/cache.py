"""Encoded rows on disk, so that the same transactions are replayed once: memory-mapped, checked, bounded.

    FOLDER/<key>/context.npy  events.npy  entry.json

The key is a hash of all that encoded rows depend on: the transactions' content, the feature specification, the
rates, which rows have tokens, and the sources of the feature engine. So an entry cannot be stale; a damaged one is
found out by its checksums and made again. The entries used longest ago go when the folder grows beyond its limit.
Deleting the folder is always safe.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import xxhash

from riskdistill import features
from riskdistill.data.schema import TRANSACTIONS
from riskdistill.dataset.identity import table_digest
from riskdistill.dataset.labels import Bools
from riskdistill.features import Encoded, FeatureEngine

LIMIT: Final = 20 << 30  # bytes
ENTRY_FILE: Final = "entry.json"
ABANDONED: Final = 6 * 3_600  # seconds after which nobody is writing a draft any more
_DRAFT: Final = ".draft-"


class RowCache:
    """A folder of encoded rows.

    Args:
        folder: made when something is kept.
        limit: bytes that it may hold; the entry that was used last stays in any case.

    Attributes:
        hits, misses: how often rows were there, or had to be made.
        notes: what went wrong without stopping the work: a damaged entry, a full disk.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.folder, self.limit = folder, limit
        self.hits = self.misses = 0
        self.notes: list[str] = []

    def encode(
        self,
        engine: FeatureEngine,
        transactions: pa.Table,
        *,
        tokens: Bools,
        progress: Callable[[int], None] | None = None,
    ) -> Encoded:
        """As `FeatureEngine.encode` of an engine that has seen nothing; the engine may be left unused.

        Returns:
            Arrays mapped copy-on-write: what is written into them is not kept.
        """
        entry = self.folder / _key(engine, transactions, tokens)
        found = self._read(entry)
        if found is not None:
            self.hits += 1
            if progress is not None:
                progress(len(transactions))
            return found
        self.misses += 1
        encoded = engine.encode(transactions, tokens=tokens, progress=progress)
        try:
            self._keep(entry, encoded)
            return _mapped(entry)  # unless another process that shares the folder has made room already
        except OSError as error:
            self.notes.append(f"rows are not kept in {self.folder}: {error}")
            return encoded

    def _read(self, entry: Path) -> Encoded | None:
        """What an entry holds, if it is there and whole; a damaged one is removed."""
        if not (entry / ENTRY_FILE).is_file():
            return None
        try:
            checksums = json.loads((entry / ENTRY_FILE).read_text())
            if checksums != {name: _checksum(entry / name) for name in ("context.npy", "events.npy")}:
                raise ValueError("checksums differ")
            found = _mapped(entry)
            os.utime(entry / ENTRY_FILE)
        except (OSError, ValueError) as error:
            self.notes.append(f"a damaged entry is made again: {entry}: {error}")
            shutil.rmtree(entry, ignore_errors=True)
            return None
        return found

    def _keep(self, entry: Path, encoded: Encoded) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=self.folder))
        try:
            arrays = {"context.npy": encoded.context, "events.npy": encoded.events}
            for name, array in arrays.items():
                np.save(draft / name, array)
            told = json.dumps({name: _checksum(draft / name) for name in arrays})
            (draft / ENTRY_FILE).write_text(told)
            shutil.rmtree(entry, ignore_errors=True)  # what a reader found damaged, or half of
            draft.rename(entry)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        self._shrink(entry)

    def _shrink(self, newest: Path) -> None:
        """Remove what killed processes left, and the entries used longest ago until the limit is kept."""
        for draft in self.folder.glob(f"{_DRAFT}*"):
            if time.time() - draft.stat().st_mtime > ABANDONED:
                shutil.rmtree(draft, ignore_errors=True)
        entries = [path.parent for path in self.folder.glob(f"*/{ENTRY_FILE}")]
        entries.sort(key=lambda path: (path / ENTRY_FILE).stat().st_mtime_ns)
        sizes = {path: sum(file.stat().st_size for file in path.iterdir()) for path in entries}
        held = sum(sizes.values())
        for path in entries:
            if held <= self.limit:
                return
            if path != newest:
                shutil.rmtree(path)
                held -= sizes[path]


def _key(engine: FeatureEngine, transactions: pa.Table, tokens: Bools) -> str:
    told = (
        table_digest(transactions, TRANSACTIONS),
        engine.spec.fingerprint,
        engine.rates.fingerprint,
        xxhash.xxh3_128_hexdigest(np.packbits(tokens).tobytes()),
        _engine_sources(),
    )
    return xxhash.xxh3_128_hexdigest("\n".join(told).encode())


@cache
def _engine_sources() -> str:
    """A hash of the code that encodes: another version of it may give other features."""
    folder = Path(features.__file__).parent
    data = [folder.parent / "data" / name for name in ("canonical.py", "columns.py", "currencies.py", "rates.py")]
    return xxhash.xxh3_128_hexdigest(b"".join(path.read_bytes() for path in (*sorted(folder.glob("*.py")), *data)))


def _mapped(entry: Path) -> Encoded:
    arrays = [np.load(entry / name, mmap_mode="c", allow_pickle=False) for name in ("context.npy", "events.npy")]
    return Encoded(arrays[0], arrays[1])


def _checksum(path: Path) -> str:
    """XXH3 of a file's bytes, read a stretch at a time."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while stretch := file.read(1 << 24):
            digest.update(stretch)
    return digest.hexdigest()
