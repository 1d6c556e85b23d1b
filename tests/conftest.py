"""Fixture strategy: what is dear is made once, small and real; what is cheap each test makes for itself.

- `tiny_world`, `tiny_tables`, `tiny_dataset`, `tiny_run` and `tiny_bundle` are of the session, and one chain: a
  small simulated world, its dataset, a teacher and a student trained on it for two epochs, and their bundle.
  Nothing in the chain is faked, so that a test that uses its last link has gone through all of them. They are
  shared: a test that wants to damage a bundle copies it first.
- `shared_data` gives the folder of a real data set beside the repository, where there is one.
- Hypothesis has no deadline here: the first call of a compiled kernel is slow, and the machine is not ours alone.
- With RISKDISTILL_REQUIRE_SERVICES=1 a test that would skip, for want of a server, a browser or data, fails with
  the reason that it gave. So CI cannot lose a test unseen.
- `make test` runs a worker on each core, up to four (pytest-xdist); each makes its own session, and runs whole
  files. What is outside of a test, a schema, a key in Redis, is made under a name of its own; ports: `ports`.

Modules that take seconds to import (PyTorch) are imported by the fixtures that need them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tiny import TinyRun

    from riskdistill.bundle import Bundle
    from riskdistill.dataset import Dataset
    from riskdistill.simulator import Simulated

REPOSITORY = Path(__file__).parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"

NOTHING_MAY_SKIP = os.environ.get("RISKDISTILL_REQUIRE_SERVICES") == "1"

# GNU readline, which pytest loads, sets it for child processes, so for workers; a console keeps for ever what it is
# made with
os.environ.pop("COLUMNS", None)

settings.register_profile("riskdistill", deadline=None)
settings.load_profile("riskdistill")


def _refused(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure that tells why; an expected failure is no skip."""
    if NOTHING_MAY_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"RISKDISTILL_REQUIRE_SERVICES=1, and this would skip: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refused(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refused(report)
    return report


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """The folder of a real data set by its name; the test skips where it is not there."""

    def folder(name: str) -> Path:
        if not (SHARED_DATA / name).is_dir():
            pytest.skip(f"the real set {name} is not beside the repository in ../shared/data")
        return SHARED_DATA / name

    return folder


@pytest.fixture(scope="session")
def tiny_world() -> Simulated:
    """A small world, with laundering known in every part of the split."""
    from riskdistill.simulator import PRESETS, simulate

    # longer than the preset: labels come days later, and validation needs some that have come
    return simulate(PRESETS["tiny"].model_copy(update={"days": 45, "seed": 3}))


@pytest.fixture(scope="session")
def tiny_tables(tiny_world: Simulated) -> tuple[pa.Table, pa.Table]:
    """Its transactions and labels."""
    return tiny_world.transactions, tiny_world.labels


@pytest.fixture(scope="session")
def tiny_dataset(tiny_tables: tuple[pa.Table, pa.Table]) -> Dataset:
    import tiny

    from riskdistill.dataset import build_dataset

    return build_dataset(*tiny_tables, tiny.CONFIG)


@pytest.fixture(scope="session")
def tiny_run(tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """The trained networks, the teacher's answers and the bundle."""
    import tiny

    return tiny.train(tiny_dataset, tmp_path_factory.mktemp("tiny-run"))


@pytest.fixture(scope="session")
def tiny_bundle(tiny_run: TinyRun) -> Bundle:
    return tiny_run.bundle
