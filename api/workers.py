"""Several workers behind one socket: starts them, replaces one that dies, and ends when all have drained.

Each is a process of its own with all of the service in it; what they share is the socket, the account state in
Redis, the decision log, and the folder in which their metrics are added up.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Final

from prometheus_client.multiprocess import mark_process_dead

from api.settings import ApiSettings
from api.telemetry import logs
from api.telemetry.metrics import DIRECTORY
from riskdistill.errors import ConfigError, RiskDistillError, UnavailableError

CANNOT_START: Final = 3  # exit code of a worker that would not start if it was tried again, either
HELD_UP: Final = os.EX_TEMPFAIL  # of one that could not store all in the end: the database is away, or silent
AGAIN_SECONDS: Final = 1.0  # before a worker that died is replaced
_LOOK_SECONDS: Final = 0.5
_logger = logging.getLogger(__name__)


@contextmanager
def metrics_directory() -> Iterator[Path]:
    """A folder, clean at start, for the metrics of workers that start while it lasts."""
    given = os.environ.get(DIRECTORY)
    with tempfile.TemporaryDirectory(prefix="riskdistill-metrics-") as own:
        folder = Path(given or own)
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob("*.db"):
            left.unlink()
        os.environ[DIRECTORY] = str(folder)
        try:
            yield folder
        finally:
            if given is None:
                del os.environ[DIRECTORY]


def supervise(settings: ApiSettings, listener: socket.socket) -> None:
    """Keeps `settings.workers` workers serving on `listener` until SIGTERM or SIGINT, and then until they ended.

    Raises:
        ConfigError: a worker cannot start; it has told why.
        UnavailableError: the database took not all in the end; the worker has told what it left.
    """
    crew = _Crew(settings, listener)
    before = {number: signal.signal(number, crew.stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        crew.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Crew:
    """The workers that run now."""

    def __init__(self, settings: ApiSettings, listener: socket.socket) -> None:
        self._settings, self._listener = settings, listener
        self._running: list[SpawnProcess] = []
        self._stopping = self._failed = self._held_up = False
        self._next_start = 0.0

    def stop(self, number: int, _frame: FrameType | None) -> None:
        """Tells all workers to stop; those that SIGINT reached from the terminal know it already."""
        self._stopping = True
        for worker in self._running:
            if number == signal.SIGTERM:
                _send(worker, signal.SIGTERM)

    def run(self) -> None:
        """Returns when all have ended after `stop`."""
        while self._running or not self._stopping:
            while not self._stopping and len(self._running) < self._settings.workers:
                if time.monotonic() < self._next_start:
                    break
                self._running.append(_start(self._settings, self._listener))
            wait([worker.sentinel for worker in self._running], _LOOK_SECONDS)
            for worker in [one for one in self._running if one.exitcode is not None]:
                self._ended(worker)
        if self._failed:
            raise ConfigError("a worker could not start", mend="mend what it told above")
        if self._held_up:
            raise UnavailableError("a worker could not store all before it ended", mend="see what it left above")

    def _ended(self, worker: SpawnProcess) -> None:
        self._running.remove(worker)
        assert worker.pid is not None
        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
        if worker.exitcode == CANNOT_START:
            self._failed = True
            self.stop(signal.SIGTERM, None)
        elif self._stopping:
            self._held_up |= worker.exitcode == HELD_UP
        else:
            self._next_start = time.monotonic() + AGAIN_SECONDS
            told = logs.fields("worker_died", pid=worker.pid, exit_code=worker.exitcode)
            _logger.error("a worker died and is replaced", extra=told)


def _start(settings: ApiSettings, listener: socket.socket) -> SpawnProcess:
    worker = multiprocessing.get_context("spawn").Process(target=_work, args=(settings, listener))
    worker.start()
    return worker


def _work(settings: ApiSettings, listener: socket.socket) -> None:
    """What a worker runs."""
    from api.server import serve_on  # here: after the metrics' folder is known

    with logs.to_stderr(settings.log_format):
        try:
            serve_on(listener, settings)
        except RiskDistillError as error:
            _logger.error("%s", error, extra=logs.fields("cannot_start"))
            sys.exit(CANNOT_START)
        except Exception:
            _logger.exception("a worker failed")
            sys.exit(1)


def _send(worker: SpawnProcess, number: int) -> None:
    assert worker.pid is not None
    with suppress(ProcessLookupError):
        os.kill(worker.pid, number)
