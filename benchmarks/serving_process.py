"""The server under test, as `riskdistill serve` starts it on a core of its own; and its peer."""

from __future__ import annotations

import gc
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
from feature_data import ROOT

START_SECONDS: Final = 120.0  # longest wait for readiness
STOP_SECONDS: Final = 30.0
CORES: Final = sorted(os.sched_getaffinity(0))
PROGRAM: Final = (sys.executable, "-m", "pipelines")
NOTHING: Final[Mapping[str, str]] = {}
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class ServerProcess:
    """A server on loopback, pinned to the first core, while whoever drives it keeps to the last.

    Args:
        command: without the port.
        log: file of what it prints.
        environment: variables beside this process's own.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        self.port, self.log = free_port(), log
        started = time.perf_counter()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, "--port", str(self.port)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **environment},
                preexec_fn=lambda: os.sched_setaffinity(0, {CORES[0]}),
            )
        self._wait_until_ready()
        self.seconds_to_ready = time.perf_counter() - started

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def cpu_seconds(self) -> float:
        """Processor time of all its threads so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_bytes(self) -> int:
        """Memory that it holds now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def kill(self) -> None:
        """End it at once, as a loss of power would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Tell it to finish, and wait until it has."""
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        self.kill()
        raise SystemExit(f"error: the server did not come up, see {self.log}")


class Service:
    """What it takes to start the scoring service again and again on one state.

    Args:
        bundle: served.
        state: folder of its log.
        settings: RISKDISTILL_ variables.
    """

    def __init__(self, bundle: Path, state: Path, history: Path | None = None, **settings: str) -> None:
        self.state, self.key = state, secrets.token_hex(16)
        state.mkdir(parents=True, exist_ok=True)
        self._environment = {"RISKDISTILL_API_KEYS": self.key, **settings}
        told = ["--history", str(history)] if history is not None else []
        self._options = ["serve", "--bundle", str(bundle), "--state-dir", str(state), *told]

    @property
    def log_url(self) -> str:
        """URL of its decision log."""
        return self._environment.get("RISKDISTILL_DATABASE") or f"sqlite:///{self.state.absolute()}/decisions.db"

    def start(self, program: Sequence[str] = PROGRAM, also: Mapping[str, str] = NOTHING) -> ServerProcess:
        """A new process of `program`, once it is ready; `also` are further variables."""
        log, environment = self.state / "service.log", {**self._environment, **also}
        return ServerProcess([*program, *self._options], log, environment)

    @contextmanager
    def running(
        self, program: Sequence[str] = PROGRAM, also: Mapping[str, str] = NOTHING
    ) -> Iterator[ServerProcess]:
        """The same, stopped in the end."""
        process = self.start(program, also)
        try:
            yield process
        finally:
            process.stop()


@contextmanager
def empty_endpoint(folder: Path) -> Iterator[ServerProcess]:
    """The peer: FastAPI and pydantic with the same body and settings, and nothing behind them."""
    peer = ServerProcess([sys.executable, str(ROOT / "benchmarks" / "serving_peer.py")], folder / "peer.log", {})
    try:
        yield peer
    finally:
        peer.stop()


@contextmanager
def driving() -> Iterator[None]:
    """Keep this process off the server's core inside the block, and its collector of cycles from holding it up.

    That would go through a million objects, of the libraries that made the bundle, and all would be late by 0.1 s.
    """
    os.sched_setaffinity(0, {CORES[-1]})
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        os.sched_setaffinity(0, CORES)


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
