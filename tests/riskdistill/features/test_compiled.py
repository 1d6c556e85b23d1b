"""A cached kernel never outlives the sources that it was compiled from."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
from small_engines import busy, encoded

from riskdistill.features import compiled, update

FOLDER = Path(compiled.__file__).parent
SOURCES = sorted(path.name for path in FOLDER.glob("*.py"))


def name_of_an_entry(folder: Path) -> str:
    """How an entry point is called for numba's cache where `compiled.py` lies in `folder`."""
    spec = importlib.util.spec_from_file_location("compiled_elsewhere", folder / "compiled.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def kernel() -> None: ...

    return str(module.entry(kernel).py_func.__qualname__)


@pytest.mark.parametrize("changed", ["record.py", "spec.py", "party.py", "relations.py", "tokens.py", "update.py"])
def test_a_change_of_any_source_changes_the_name_that_is_cached(tmp_path: Path, changed: str) -> None:
    for name in SOURCES:
        shutil.copy(FOLDER / name, tmp_path)
    before = name_of_an_entry(tmp_path)
    assert name_of_an_entry(tmp_path) == before
    with (tmp_path / changed).open("a") as file:
        file.write("# changed\n")
    assert name_of_an_entry(tmp_path) != before


def test_the_sources_are_all_that_a_kernel_imports() -> None:
    """So that a new module of kernels cannot be forgotten."""
    with_kernels = {name for name in SOURCES if "features.compiled import" in (FOLDER / name).read_text()}
    assert with_kernels <= set(compiled._SOURCES)


def test_the_kernel_is_cached_under_the_name_that_holds_the_hash() -> None:
    encoded(busy(1))
    name = update.replay.py_func.__qualname__
    assert name.startswith("replay_")
    assert list(Path(update.replay.stats.cache_path).glob(f"*{name}*.nbi"))
