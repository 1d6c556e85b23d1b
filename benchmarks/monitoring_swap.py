"""From a rollback's being written to the previous model's deciding: the real service under a steady load.

Requests fall due at fixed times, whether or not the service keeps up. The rate is the highest of `RATES` at which
it answers them all, without a swap, in the same run; it is told beside the figures, as the service has one core
here and whoever drives it another. How long a harmful bundle takes to be *found* is the section `detection`.
"""

from __future__ import annotations

import json
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
from feature_data import Measurement
from http_load import Load, opened
from serving_process import PROGRAM, ServerProcess, driving
from serving_world import World

from riskdistill.bundle import Bundle, rebuild_bundle
from riskdistill.models.calibration import Calibrator
from riskdistill.storage.releases import ReleaseLog

RATES: Final = (1_000, 700, 500, 350, 250, 150, 100, 50)  # requests a second
CONNECTIONS: Final = 64
WARM_UP: Final = 200  # requests
QUEUE: Final = 0.5  # seconds: where the last percent of the answers waits longer, the rate does not hold
SWAPPED, LOST = 2.0, 0  # bars: seconds, and requests
WHO: Final[dict[str, Any]] = {"actor": "benchmark", "reason": "swap"}


class Swap(NamedTuple):
    """One rollback under load."""

    seconds: float  # from just before it was written to the last answer of the withdrawn bundle
    failed: int
    before: int  # answers of the withdrawn bundle
    after: int  # and of the previous one


class Following:
    """A service that follows a release log, and so many requests for it."""

    def __init__(self, folder: Path, requests: int) -> None:
        self._world = World(folder / "world")
        self._good = Bundle.load(self._world.bundle(), teacher=False)
        self._log = ReleaseLog(f"sqlite:///{folder.absolute()}/releases.db")
        self._folder, self._key = folder, secrets.token_hex(16)
        self._requests = iter(self._world.singles(requests, self._key))
        self._promote(self._good)

    @contextmanager
    def running(self) -> Iterator[ServerProcess]:
        """The process, while it follows."""
        options = ["serve", "--releases", f"sqlite:///{self._folder.absolute()}/releases.db"]
        options += ["--state-dir", str(self._folder / "state"), "--history", str(self._world.history)]
        (self._folder / "state").mkdir()
        server = ServerProcess(
            [*PROGRAM, *options], self._folder / "service.log", {"RISKDISTILL_API_KEYS": self._key}
        )
        try:
            yield server
        finally:
            server.stop()

    def steady(self, server: ServerProcess, rate: int, seconds: float) -> Load:
        """What comes of so many requests a second."""
        requests = list(islice(self._requests, int(rate * seconds)))
        return opened(server.port, requests, CONNECTIONS, rate, keep=True)

    def swap(self, server: ServerProcess, number: int, rate: int, seconds: float) -> Swap:
        """Promote another bundle, and roll it back halfway through so many seconds of load."""
        calibrators = {role: Calibrator(intercept=0.1 * number) for role in ("student", "teacher")}
        other = rebuild_bundle(
            Bundle.load(self._good.path), self._folder / f"other-{number}", calibrators=calibrators
        )
        self._promote(other)
        self._wait_until_served(server, other)
        written: list[float] = []

        def roll_back() -> None:
            written.append(time.perf_counter())
            self._log.rollback(**WHO, evidence={})

        timer = threading.Timer(seconds / 2, roll_back)
        timer.start()
        load = self.steady(server, rate, seconds)
        began = time.perf_counter() - load.seconds  # a little late, so that answers seem late rather than early
        timer.join()
        return judged(load, rate, began, written[0], other.version)

    def _promote(self, bundle: Bundle) -> None:
        release = self._log.register(bundle.path, bundle.version, **WHO)
        self._log.promote(release.release_id, **WHO, evidence={})

    def _wait_until_served(self, server: ServerProcess, bundle: Bundle) -> None:
        until = time.monotonic() + 60
        while httpx.get(f"{server.url}/readyz").json().get("bundle_version") != bundle.version:
            if time.monotonic() > until:
                raise SystemExit(f"error: the service does not follow the release log, see {self._folder}")
            time.sleep(0.05)


def swap(quick: bool) -> list[Measurement]:
    """Rollbacks, one after another, each under the same load."""
    times, seconds = (2, 6.0) if quick else (5, 12.0)
    enough = int(seconds * (sum(RATES) + times * RATES[0])) + WARM_UP
    with tempfile.TemporaryDirectory() as scratch:
        following = Following(Path(scratch), enough)
        with following.running() as server, driving():
            following.steady(server, WARM_UP, 1.0)
            rate, alone = _highest(following, server, seconds)
            swaps = [following.swap(server, number, rate, seconds) for number in range(1, times + 1)]
    answers = sum(one.before + one.after for one in swaps)
    beside = f"{rate:,} requests/s, p99 {alone.percentile(0.99):.0f} ms without a swap"
    each = ", ".join(f"{one.seconds:.2f}" for one in swaps)
    return [
        Measurement(
            "rollback written to every answer's being the previous model's, slowest",
            max(one.seconds for one in swaps),
            "s",
            SWAPPED,
            "lower",
            f"{times} rollbacks: {each} s; {beside}",
        ),
        Measurement(
            "requests not answered 200 meanwhile",
            sum(one.failed for one in swaps),
            "",
            LOST,
            "lower",
            f"of {answers + sum(one.failed for one in swaps):,}",
        ),
        Measurement(
            "rate at which that was measured", rate, "req/s", 1_000, "higher", "the highest that holds here"
        ),
    ]


def _highest(following: Following, server: ServerProcess, seconds: float) -> tuple[int, Load]:
    """The highest rate that holds without a swap, and what came of it."""
    for rate in RATES:
        load = following.steady(server, rate, seconds)
        if load.statuses.keys() == {200} and load.percentile(0.99) <= 1e3 * QUEUE:
            return rate, load
    raise SystemExit(f"error: the service does not hold {RATES[-1]} requests a second")


def judged(load: Load, rate: int, began: float, written: float, withdrawn: str) -> Swap:
    """What an open loop saw of a swap.

    Args:
        load: with its answers.
        began: when its first request fell due, on the clock of `written`, the moment before the rollback.
        withdrawn: version of the bundle that was rolled back.
    """
    answered = [answer for answer in load.answers if answer[1] != 0]  # the others have no time
    before, last = 0, written
    for (number, status, body), latency in zip(answered, load.latencies, strict=True):
        told: dict[str, Any] = json.loads(body) if status == 200 else {}
        if told.get("bundle_version") == withdrawn:
            before, last = before + 1, max(last, began + number / rate + latency)
    succeeded = load.statuses[200]
    if not 0 < before < succeeded:
        raise SystemExit("error: the load did not see both models, so nothing was measured")
    return Swap(last - written, load.statuses.total() - succeeded, before, succeeded - before)
