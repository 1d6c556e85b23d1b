"""How the kernels are compiled, and why a stale one can never run.

numba caches machine code beside a module and notices when *that* file changes, but not the modules that it calls or
the constants that it imports: after an edit, or a pull, of one kernel file the cached code of another would go on
computing the old features without a word. So the name under which an entry point is cached holds a hash of all
sources that go into it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import xxhash
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

_SOURCES: Final = ("compiled.py", "record.py", "spec.py", "party.py", "relations.py", "tokens.py", "update.py")
CACHE_LINE: Final = 64  # bytes, on x86-64 and most ARM
_HASH: Final = xxhash.xxh3_64_hexdigest(b"".join((Path(__file__).parent / name).read_bytes() for name in _SOURCES))

inner = njit(inline="never", error_model="numpy")  # called by other kernels only, and compiled with them


def entry(function: Callable[..., Any]) -> Any:
    """Compile a kernel that Python calls, and cache its machine code."""
    function.__qualname__ = f"{function.__qualname__}_{_HASH}"
    return njit(cache=True, error_model="numpy")(function)


def _prefetch(_: Any, records: Any, row: Any) -> Any:
    """How numba is to write LLVM's prefetch of every cache line of one record."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        data = context.make_array(kind)(context, builder, arguments[0]).data
        start = builder.ptrtoint(data, ir.IntType(64))
        start = builder.add(start, builder.mul(arguments[1], ir.Constant(ir.IntType(64), kind.dtype.size)))
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        prefetch = builder.module.declare_intrinsic(
            "llvm.prefetch.p0", fnty=ir.FunctionType(ir.VoidType(), (pointer, number, number, number))
        )
        # for reading, to be kept in all caches, as data
        how = [ir.Constant(number, value) for value in (0, 3, 1)]
        for line in range(0, kind.dtype.size + CACHE_LINE - 1, CACHE_LINE):  # a record may begin within a line
            address = builder.inttoptr(builder.add(start, ir.Constant(ir.IntType(64), line)), pointer)
            builder.call(prefetch, [address, *how])
        return context.get_dummy_value()

    return types.none(records, types.int64), generate


_ask: Any = intrinsic(_prefetch)


@inner
def fetch_ahead(records: NDArray[Any], row: int) -> None:
    """Ask the processor to bring `records[row]` near: it does so while other work goes on, and nothing waits."""
    _ask(records, row)
