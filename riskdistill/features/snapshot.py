"""Account records in a file: written whole and atomically, read by mapping it into memory.

    4,096 bytes   JSON header: what this is, record version and size, how many records, checksum, position
    the records   as they lie in memory, one after another, the blank one first
    room          for accounts to come: a hole in the file, which takes no space on the disk

A restored engine maps the file copy-on-write: records are read where they lie, several processes share them, a
change makes a page the process's own, and the file never changes. The checksum is of the header and all records
(XXH3, 128 bits); a file that was cut, changed or written by another record version is refused and the engine keeps
what it has. There is no migration from version 1, which kept less than version 2 needs: replay the history instead.
Only its owner may read the file: accounts are in it by hash, and short numbers can be guessed from theirs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from riskdistill.data.rates import Rates
from riskdistill.errors import StateError
from riskdistill.features.record import ACCOUNT, RECORD_VERSION
from riskdistill.features.spec import FeatureSpec

HEADER_BYTES: Final = 4_096
_ALIGNED: Final = 4_096  # bytes that places and lengths of direct writes are multiples of
_CHUNK: Final = 1 << 26  # bytes hashed and written at a time
_KIND: Final = "riskdistill account records"
AGAIN: Final = "replay the history, or the decision log, and save again"


class Made(BaseModel):
    """What the records rest on beside the transactions.

    Attributes:
        until: day of the newest event, counted from 1970.
        rates: the rates known on that day, as `Rates.known_on` tells them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    forget_after_days: float
    max_hops: int
    until: int
    rates: str

    @classmethod
    def by(cls, spec: FeatureSpec, rates: Rates, until: int) -> Made:
        """What an engine's records rest on, the newest event being of the day `until`."""
        known = rates.known_on(until)
        return cls(forget_after_days=spec.forget_after_days, max_hops=spec.max_hops, until=until, rates=known)

    def require(self, spec: FeatureSpec, rates: Rates, where: str) -> None:
        """Refuse the records for an engine that would have made others; rates of later days do not matter.

        Raises:
            StateError: another `forget_after_days` or `max_hops`, or other rates.
        """
        mine = Made.by(spec, rates, self.until)
        if (self.forget_after_days, self.max_hops) != (mine.forget_after_days, mine.max_hops):
            raise StateError(
                f"made with forget_after_days {self.forget_after_days:g} and max_hops {self.max_hops}, "
                f"this engine has {mine.forget_after_days:g} and {mine.max_hops}",
                where=where,
                mend=AGAIN,
            )
        if self.rates != mine.rates:
            raise StateError(
                "made at other rates to the dollar", where=where, mend="give the rates that it was made with"
            )


class Header(BaseModel):
    """What the file says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = _KIND
    record_version: int = RECORD_VERSION
    record_bytes: int = ACCOUNT.itemsize
    accounts: int = Field(ge=0)
    capacity: int = Field(ge=1)  # records for which the file has room, the blank one among them
    made: Made
    position: int = 0
    checksum: str = ""

    def sealed(self, records: xxhash.xxh3_128) -> Header:
        """The header with the checksum of the records, hashed already, and of all else that it says."""
        both = records.copy()
        both.update(self.model_copy(update={"checksum": ""}).model_dump_json().encode())
        return self.model_copy(update={"checksum": both.hexdigest()})


def write(path: Path, records: NDArray[Any], accounts: int, made: Made, position: int) -> None:
    """Write the blank record and those of `accounts` to `path`, atomically.

    Args:
        records: [capacity] of record.ACCOUNT; the blank one, the accounts', then room.
        made: what they rest on.
        position: how far in a log the records are, for whoever replays the rest.

    Raises:
        StateError: the folder is absent, or the disk does not take the file; an older file stays.
    """
    data = records[: accounts + 1].view(np.uint8)
    header = Header(accounts=accounts, capacity=len(records), made=made, position=position)
    try:
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                _fill(file.fileno(), data, header)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StateError(
            f"cannot be written: {error}", where=str(path), mend="see to the folder and the disk"
        ) from error


def _fill(file: int, data: NDArray[np.uint8], header: Header) -> None:
    """Write the whole file, and see that it is on the disk.

    The page cache is passed by where the file system can do so: for gigabytes that nobody reads again soon it is
    slower than the disk, and it would push out what others read.
    """
    with contextlib.suppress(OSError):
        fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_DIRECT)
    checksum, block = xxhash.xxh3_128(), mmap.mmap(-1, _CHUNK)  # aligned, as a direct write must be
    for start in range(0, len(data), _CHUNK):
        part = data[start : start + _CHUNK]
        checksum.update(part.data)
        padded = -(-len(part) // _ALIGNED) * _ALIGNED
        block[:padded] = part.tobytes() + bytes(padded - len(part))
        _put(file, memoryview(block)[:padded], HEADER_BYTES + start)
    os.ftruncate(file, HEADER_BYTES + header.capacity * ACCOUNT.itemsize)
    block[:HEADER_BYTES] = header.sealed(checksum).model_dump_json().encode().ljust(HEADER_BYTES, b" ")
    _put(file, memoryview(block)[:HEADER_BYTES], 0)
    os.fsync(file)


def _put(file: int, block: memoryview, at: int) -> None:
    """Write all of `block` at a place; a disk that fills up may take less than it is given."""
    while block:
        taken = os.pwrite(file, block, at)
        block, at = block[taken:], at + taken


def read(path: Path) -> tuple[NDArray[Any], Header]:
    """The records [capacity] of a file that `write` made, mapped copy-on-write, and its header.

    Raises:
        StateError: the file is absent, damaged, or of another record version.
    """
    header = _header(path)
    if (header.record_version, header.record_bytes) != (RECORD_VERSION, ACCOUNT.itemsize):
        raise StateError(
            f"snapshot of record version {header.record_version}, this engine reads {RECORD_VERSION}",
            where=str(path),
            mend=AGAIN,
        )
    size, wanted = path.stat().st_size, HEADER_BYTES + header.capacity * ACCOUNT.itemsize
    if size != wanted or header.accounts >= header.capacity:
        raise StateError(f"the file has {size:,} bytes, not {wanted:,}", where=str(path), mend=AGAIN)
    data = np.memmap(path, np.uint8, mode="c", offset=HEADER_BYTES)
    used = (header.accounts + 1) * ACCOUNT.itemsize
    checksum = xxhash.xxh3_128()
    for start in range(0, used, _CHUNK):
        checksum.update(data[start : min(start + _CHUNK, used)].data)
    if header.sealed(checksum) != header:
        raise StateError("the records are not those that were written", where=str(path), mend=AGAIN)
    return np.asarray(data).view(ACCOUNT), header


def _header(path: Path) -> Header:
    try:
        with path.open("rb") as file:
            header = Header.model_validate(json.loads(file.read(HEADER_BYTES)))
    except (OSError, ValueError, RecursionError) as error:
        raise StateError(
            f"not a snapshot of account records ({type(error).__name__})", where=str(path), mend=AGAIN
        ) from error
    if header.kind != _KIND:
        raise StateError(f"not a snapshot of account records but {header.kind!r}", where=str(path), mend=AGAIN)
    return header
