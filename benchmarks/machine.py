"""On what machine and with which versions a benchmark ran."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path


def machine() -> dict[str, str]:
    """Processor, cores, memory and the versions that matter for speed."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    packages = ("torch", "onnxruntime", "lightgbm", "numba", "numpy")
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def describe() -> str:
    """One line for the end of a table."""
    found = machine()
    versions = ", ".join(f"{name} {found[name]}" for name in ("torch", "onnxruntime", "lightgbm"))
    return f"{found['processor']}, {found['cores']} cores, {found['memory']}; Python {found['python']}, {versions}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
