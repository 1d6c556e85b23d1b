"""The service, or any other command, as a process of its own, for tests of what only a process does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import httpx
from fake_serving import KEY
from ports import free_port

START_SECONDS = 120  # the machine is not ours alone
_COMMAND = "import sys; from pipelines.cli import main; sys.exit(main())"
_REPOSITORY = Path(__file__).parents[2]


@dataclass
class Running:
    """A service that is up."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"X-API-Key": KEY}, timeout=60)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        with urlopen(f"{self.url}/metrics", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


def until(true: Any, seconds: float = START_SECONDS) -> None:
    """Returns as soon as `true()` holds."""
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up, "it did not come to it in time"
        time.sleep(0.05)


@contextmanager
def serving(folder: Path, bundle: Path | None, *options: str, **settings: Any) -> Iterator[Running]:
    """`riskdistill serve`, from when it is ready; it is stopped in the end.

    Without a bundle, the settings name a release log.
    """
    folder.mkdir(exist_ok=True)
    given = {
        "api_keys": KEY,
        "pseudonym_key": "0123456789abcdef",
        "port": free_port(),
        "state_dir": folder / "state",
        "deadline_ms": 60_000,
    } | settings
    log = folder / "stderr.log"
    fixed = () if bundle is None else ("--bundle", str(bundle))
    with started("serve", *fixed, *options, log=log, **given) as process:
        running = Running(process, f"http://127.0.0.1:{given['port']}", log)
        until(lambda: process.poll() is not None or _is_ready(running.url))
        assert process.poll() is None, log.read_text()
        yield running


@contextmanager
def started(*words: str, log: Path, **settings: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A command of `riskdistill` in a process; what it prints goes to `log`, and it is stopped in the end.

    Args:
        settings: the variables RISKDISTILL_…; the test's own are not passed on.
    """
    named = {f"RISKDISTILL_{name.upper()}": str(value) for name, value in settings.items()}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RISKDISTILL_")}
    with log.open("wb") as told:
        process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *words],
            env=environment | named | {"PYTHONPATH": str(_REPOSITORY)},
            stdout=told,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/readyz", timeout=5) as answer:  # an httpx client for each try would take a core
            return bool(answer.status == 200)
    except OSError:
        return False
