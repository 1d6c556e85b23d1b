"""Encoded rows on disk, so that the same transactions are replayed once: memory-mapped, checked, bounded.

    FOLDER/<key>/context.npy  events.npy  entry.json

The key is a hash of all that encoded rows depend on: the transactions' content, the feature specification, the
rates, which rows have tokens, and the sources of the feature engine. So an entry cannot be stale; a damaged one is
found out by its checksums and made again. The entries used longest ago go when the folder grows beyond its limit.
Deleting the folder is always safe.
"""

from __future__ import annotations

import shutil
import tempfile
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
from riskdistill.entries import DRAFT, ENTRY_FILE, LIMIT, seal, shrink, verify
from riskdistill.features import Encoded, FeatureEngine

FILES: Final = ("context.npy", "events.npy")


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
            if set(verify(entry)) != set(FILES):
                raise ValueError("other files than those of encoded rows")
            return _mapped(entry)
        except (OSError, ValueError) as error:
            self.notes.append(f"a damaged entry is made again: {entry}: {error}")
            shutil.rmtree(entry, ignore_errors=True)
            return None

    def _keep(self, entry: Path, encoded: Encoded) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=self.folder))
        try:
            for name, array in zip(FILES, (encoded.context, encoded.events), strict=True):
                np.save(draft / name, array)
            seal(draft, entry, list(FILES))
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        shrink(self.folder, entry, self.limit)


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
    arrays = [np.load(entry / name, mmap_mode="c", allow_pickle=False) for name in FILES]
    return Encoded(arrays[0], arrays[1])
