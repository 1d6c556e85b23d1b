"""What a stream of payments repeats or contradicts, seen with a memory of fixed size.

`Repeats` finds rows that say the same as an earlier row; `Balances` finds balances that do not follow from the one
before and the payments since. Both keep a table of two million places, in which whoever comes to a taken place
takes it over: what was met long ago can be forgotten, so that both may miss something and never make something up
(but for two texts of one 64-bit hash, which hardly any source holds).

The hash is FNV-1a (Fowler, Noll, Vo), chained over the texts of a row: fast where texts are short, and only used
within one run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_BASIS: Final = np.uint64(0xCBF29CE484222325)
_PRIME: Final = np.uint64(0x100000001B3)
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)  # odd; multiplying by it moves what differs into the high bits
_PLACE_BITS: Final = 21
_SHIFT: Final = np.uint64(64 - _PLACE_BITS)
Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Machine code, kept beside this module, that lets other threads work."""
    return cast("Function", njit(cache=True, nogil=True)(function))


def hashes(count: int) -> Hashes:
    """uint64[count]: where chains of `with_text` and `with_number` begin."""
    return np.full(count, _BASIS)


def with_text(before: Hashes, column: pa.ChunkedArray) -> Hashes:
    """The hashes `before`, each chained with a text of `column` (string, no nulls)."""
    texts = column.combine_chunks()
    if isinstance(texts, pa.ChunkedArray):  # what Arrow gives for no chunk at all
        return before
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return np.asarray(_chain(before, ends, np.frombuffer(data or b"", np.uint8)))


def with_number(before: Hashes, numbers: npt.NDArray[Any]) -> Hashes:
    """The hashes `before`, each chained with a number of 64 bits."""
    mixed = (before ^ np.ascontiguousarray(numbers).view(np.uint64)) * _SPREAD
    return np.asarray(mixed ^ (mixed >> np.uint64(32)))


class Repeats:
    """Finds rows that say what an earlier row said."""

    def __init__(self) -> None:
        self._met = np.zeros(1 << _PLACE_BITS, np.uint64)

    def of(self, rows: Hashes) -> Flags:
        """bool[n]: true for a row whose hash came before, here or in an earlier call, and is not forgotten."""
        return np.asarray(_repeats(rows, self._met))


class Balances:
    """Finds reported balances that contradict the last one of the same account and its payments since.

    An account is followed from its first reported balance on. Balances are those just before a payment.
    """

    def __init__(self) -> None:
        self._account = np.zeros(1 << _PLACE_BITS, np.uint64)
        self._expected = np.zeros(1 << _PLACE_BITS)
        self.checked = 0

    def contradicted(self, accounts: Hashes, balances: Floats, moved: Floats) -> Flags:
        """bool[n, 2]: where a balance is not the expected one, by more than a hundredth or rounding explains.

        Args:
            accounts: [n, 2], of sender and receiver, in order of time; currency is part of an account.
            balances: [n, 2], just before the payment; NaN where not known.
            moved: [n, 2], what the payment adds to the account.
        """
        wrong, checked = _follow(accounts, balances, moved, self._account, self._expected)
        self.checked += checked
        return np.asarray(wrong)


@compiled
def _chain(before: Hashes, ends: Any, data: Any) -> Hashes:
    after = before.copy()
    for row in range(len(before)):
        found = before[row]
        for position in range(ends[row], ends[row + 1]):
            found = (found ^ np.uint64(data[position])) * _PRIME
        after[row] = (found ^ np.uint64(0xFF)) * _PRIME  # no UTF-8 text holds this byte: texts cannot run together
    return after


@compiled
def _repeats(rows: Hashes, met: Hashes) -> Flags:
    repeated = np.zeros(len(rows), np.bool_)
    for row in range(len(rows)):
        place = (rows[row] * _SPREAD) >> _SHIFT
        repeated[row] = met[place] == rows[row]
        met[place] = rows[row]
    return repeated


@compiled
def _follow(accounts: Hashes, balances: Floats, moved: Floats, followed: Hashes, expected: Floats) -> Any:
    wrong, checked = np.zeros(accounts.shape, np.bool_), 0
    for row in range(len(accounts)):
        if accounts[row, 0] == accounts[row, 1]:
            continue  # to oneself: nothing moves
        for side in range(2):
            account, told = accounts[row, side], balances[row, side]
            place = (account * _SPREAD) >> _SHIFT
            known = followed[place] == account
            if np.isnan(told):
                if known:
                    expected[place] += moved[row, side]
                continue
            if known:
                checked += 1
                wrong[row, side] = abs(told - expected[place]) > 0.01 + 1e-9 * (abs(told) + abs(moved[row, side]))
            followed[place], expected[place] = account, told + moved[row, side]
    return wrong, checked
