"""Encoded rows on the disk: what was replayed once is not replayed again.

    <folder>/<key>.rows     4,096 bytes of JSON: what the rows are, their shapes, a checksum
                            context, float32, as it lies in memory
                            events, float32

The key is over the content: the transactions, the feature specification, the rates, which rows have event tokens,
and the code that encodes. So a stale file is never found, it is only left behind. A file that was cut or changed
is found out by size and checksum (XXH3, 128 bits), and made again. Files appear whole: they are written aside, on
disk space that is reserved before, and renamed. Rows are mapped copy-on-write: several processes share them, and
what is computed in place stays out of the file.

The folder is bounded: above `MOST_BYTES` the files that were used longest ago go. Only their owner may read them:
they hold amounts and habits, of accounts without a name. To clear the cache remove the folder: nothing is lost.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from functools import lru_cache
from math import prod
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

import riskdistill
from riskdistill.data.schema import TRANSACTIONS
from riskdistill.dataset.identity import table_digest
from riskdistill.features import Encoded, FeatureEngine

MOST_BYTES: Final = 16 << 30  # of all files in the folder
HEADER_BYTES: Final = 4_096
_CHUNK: Final = 1 << 26  # bytes hashed at a time
_KIND: Final = "riskdistill encoded rows"
# whose code decides what an encoded row is; a changed comment costs a replay, a forgotten file would cost the truth
_ENCODING: Final = ("features/*.py", "data/canonical.py", "data/columns.py", "data/currencies.py", "data/rates.py")
Shape = tuple[int, ...]


class Header(BaseModel):
    """What a file says of itself; `checksum` is over all bytes after it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = _KIND
    key: str
    context: Shape
    events: Shape
    checksum: str = ""

    @property
    def events_at(self) -> int:
        """The byte at which the events begin."""
        return HEADER_BYTES + 4 * prod(self.context)

    @property
    def bytes(self) -> int:
        """The size of the file."""
        return self.events_at + 4 * prod(self.events)


class RowCache:
    """Encoded rows of whole tables, kept in a folder.

    Args:
        folder: made if need be.
        most_bytes: see the module; what this object has used stays in any case.

    Attributes:
        found, made: how many tables came from the folder, and how many were replayed.
        notes: what a person should know: damaged files, and a disk that is full.
    """

    def __init__(self, folder: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self.folder, self._most_bytes = folder, most_bytes
        self.found = self.made = 0
        self.notes: list[str] = []
        self._used: set[Path] = set()

    def encode(
        self,
        engine: FeatureEngine,
        transactions: pa.Table,
        *,
        tokens: NDArray[np.bool_],
        progress: Callable[[int], None] | None = None,
    ) -> Encoded:
        """As `FeatureEngine.encode` of an empty engine, which may stay empty.

        Raises:
            ValueError: the engine has seen transactions: the rows would not be those of the table alone.
            TransactionError: see there.
        """
        if len(engine):
            raise ValueError(f"an engine that knows {len(engine)} accounts; give an empty one")
        context, events = engine.shapes(len(tokens), int(tokens.sum()))
        wanted = Header(key=_key(engine, transactions, tokens), context=context, events=events)
        path = self.folder / f"{wanted.key}.rows"
        self._used.add(path)
        encoded = self._read(path, wanted)
        if encoded is not None:
            self.found += 1
            if progress is not None:
                progress(len(encoded))
            return encoded
        self.made += 1
        return self._make(path, wanted, engine, transactions, tokens, progress)

    def _read(self, path: Path, wanted: Header) -> Encoded | None:
        """The rows of a file, or None where there is no such file or it is damaged."""
        try:
            with path.open("rb") as file:
                header = Header.model_validate(json.loads(file.read(HEADER_BYTES)))
            if header != wanted.model_copy(update={"checksum": header.checksum}):
                raise ValueError("it is of other rows")
            if path.stat().st_size != header.bytes:
                raise ValueError("it was cut")
            if _checksum(path) != header.checksum:
                raise ValueError("a byte was changed")
            os.utime(path)  # used now
        except FileNotFoundError:
            return None
        except (OSError, ValidationError, ValueError, RecursionError) as error:
            told = "its header is damaged" if isinstance(error, ValidationError) else error
            self.notes.append(f"{path}: encoded again ({told})")
            return None
        return _mapped(path, header, "c")

    def _make(
        self,
        path: Path,
        header: Header,
        engine: FeatureEngine,
        transactions: pa.Table,
        tokens: NDArray[np.bool_],
        progress: Callable[[int], None] | None,
    ) -> Encoded:
        """Replay into a file and map it; into memory where the disk has no room for it."""
        draft: Path | None = None
        try:
            draft = self._reserved(header.bytes)
        except OSError as error:
            self.notes.append(f"{self.folder}: rows are kept in memory only ({error.strerror})")
            return engine.encode(transactions, tokens=tokens, progress=progress)
        try:
            engine.encode(transactions, tokens=tokens, out=_mapped(draft, header, "r+"), progress=progress)
            sealed = header.model_copy(update={"checksum": _checksum(draft)})
            with draft.open("r+b") as file:
                file.write(sealed.model_dump_json().encode().ljust(HEADER_BYTES, b" "))
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        self._trim()
        return _mapped(path, header, "c")

    def _reserved(self, size: int) -> Path:
        """A new file of `size` bytes that the disk really has: writing through a map could not say otherwise."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=self.folder, prefix=".", suffix=".draft", delete=False) as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except BaseException:
                Path(file.name).unlink()
                raise
        return Path(file.name)

    def _trim(self) -> None:
        """Remove what was used longest ago until the rest fits; drafts that a killed job left behind count too."""
        files = [*self.folder.glob("*.rows"), *self.folder.glob(".*.draft")]
        sizes = {file: file.stat() for file in files if file.exists()}
        total = sum(stat.st_size for stat in sizes.values())
        for file in sorted(sizes, key=lambda each: sizes[each].st_mtime):
            if total > self._most_bytes and file not in self._used:
                file.unlink(missing_ok=True)
                total -= sizes[file].st_size


def _key(engine: FeatureEngine, transactions: pa.Table, tokens: NDArray[np.bool_]) -> str:
    """32 hex digits over all that decides the encoded rows."""
    told = (
        table_digest(transactions, TRANSACTIONS),
        engine.spec.fingerprint,
        engine.rates.fingerprint,
        hashlib.sha256(np.packbits(tokens).tobytes()).hexdigest(),
        encoding_code(),
    )
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:32]


@lru_cache(maxsize=1)
def encoding_code() -> str:
    """16 hex digits over the sources that decide what an encoded row is."""
    root = Path(riskdistill.__file__).parent
    files = [file for pattern in _ENCODING for file in sorted(root.glob(pattern))]
    return xxhash.xxh3_64_hexdigest(b"".join(file.read_bytes() for file in files))


def _mapped(path: Path, header: Header, mode: str) -> Encoded:
    def array(offset: int, shape: Shape) -> NDArray[Any]:
        if not prod(shape):  # nothing cannot be mapped
            return np.empty(shape, np.float32)
        return np.asarray(np.memmap(path, np.float32, mode=mode, offset=offset, shape=shape))  # type: ignore[call-overload]

    return Encoded(array(HEADER_BYTES, header.context), array(header.events_at, header.events))


def _checksum(path: Path) -> str:
    checksum = xxhash.xxh3_128()
    with path.open("rb") as file:
        file.seek(HEADER_BYTES)
        while part := file.read(_CHUNK):
            checksum.update(part)
    return str(checksum.hexdigest())
