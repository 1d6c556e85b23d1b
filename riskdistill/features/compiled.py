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
from numba import njit

_SOURCES: Final = ("compiled.py", "record.py", "spec.py", "party.py", "relations.py", "tokens.py", "update.py")
_HASH: Final = xxhash.xxh3_64_hexdigest(b"".join((Path(__file__).parent / name).read_bytes() for name in _SOURCES))

inner = njit(inline="never", error_model="numpy")  # called by other kernels only, and compiled with them


def entry(function: Callable[..., Any]) -> Any:
    """Compile a kernel that Python calls, and cache its machine code."""
    function.__qualname__ = f"{function.__qualname__}_{_HASH}"
    return njit(cache=True, error_model="numpy")(function)
