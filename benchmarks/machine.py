"""On what machine and with which versions a benchmark ran, and how single calls are timed there."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Item = TypeVar("Item")
MODELS = ("torch", "onnxruntime", "lightgbm")


def machine(packages: tuple[str, ...] = (*MODELS, "numba", "numpy")) -> dict[str, str]:
    """Processor, cores, memory, load and the versions that matter for speed."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "load": f"{os.getloadavg()[0]:.1f}",
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def describe(packages: tuple[str, ...] = MODELS) -> str:
    """One line for the end of a table."""
    found = machine(packages)
    versions = ", ".join(f"{name} {found[name]}" for name in packages)
    return f"{found['processor']}, {found['cores']} cores, {found['memory']}; Python {found['python']}, {versions}"


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this thread, those it starts and Arrow's on one core inside the block."""
    cores, threads = os.sched_getaffinity(0), pa.cpu_count()
    os.sched_setaffinity(0, {max(cores)})
    pa.set_cpu_count(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        pa.set_cpu_count(threads)


def timed(step: Callable[[Item], object], items: Sequence[Item]) -> NDArray[np.float64]:
    """Microseconds of `step` on each item, one after another on one core; garbage collection stays on."""
    clock = time.perf_counter_ns
    taken = np.empty(len(items))
    with one_core():
        for index, item in enumerate(items):
            started = clock()
            step(item)
            taken[index] = clock() - started
    return taken / 1e3


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
