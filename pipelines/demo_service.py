"""The demo's scoring service: a real server process on loopback, and the client that sends it traffic."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

import pyarrow as pa

from riskdistill.client import Answer, Client
from riskdistill.data.transaction import Transaction, transactions_from
from riskdistill.errors import RiskDistillError, UnavailableError

Outcome = Answer | RiskDistillError
START_SECONDS: Final = 120.0  # longest wait for the service to be ready
STOP_SECONDS: Final = 20.0  # longest wait for the requests under way when it is told to stop
CLIENTS: Final = 4  # requests under way at once


class DemoService:
    """Starts `riskdistill serve` and stops it at the end; a context manager.

    Args:
        state: the service's own folder; its log and keys live there.
        releases: URL of the release log that it follows.
        history: canonical transactions that came before.
        port: on loopback; 0 takes a free one.
    """

    def __init__(self, state: Path, releases: str, history: Path, port: int) -> None:
        self.state, self.port = state, port or _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = state / "service.log"
        state.mkdir(parents=True, exist_ok=True)
        self.key_file = state / "api-keys"
        self.key_file.touch(mode=0o600)
        self.key_file.write_text(secrets.token_urlsafe(24))
        command = [sys.executable, "-m", "pipelines", "serve", "--releases", releases, "--history", str(history)]
        options = ["--state-dir", str(state), "--port", str(self.port), "--api-keys-file", str(self.key_file)]
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                command + options, stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"NO_COLOR": "1"}
            )
        # without retries: what fails is to be seen
        key = self.key_file.read_text()
        self.client = Client(self.url, api_key=key, timeout=30.0, retries=0, concurrency=CLIENTS)

    def __enter__(self) -> DemoService:
        try:
            self._wait_until_ready()
        except BaseException:  # Ctrl-C too: no server is left behind
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def decisions_url(self) -> str:
        """URL of the decision log."""
        return f"sqlite:///{self.state.absolute()}/decisions.db"

    def send(self, transactions: pa.Table, *, clients: int = CLIENTS) -> Iterator[Outcome]:
        """Score each transaction, some at a time; yields answers, or errors, in the order of the table."""
        with ThreadPoolExecutor(clients) as pool:
            yield from pool.map(self._score, transactions_from(transactions))

    def serve_on(self) -> None:
        """Wait until the service is stopped (Ctrl-C)."""
        self._process.wait()

    def curl(self, body: str) -> str:
        """A command line that scores one transaction."""
        return (
            f'curl -s {self.url}/v1/score -H "X-API-Key: $(cat {self.key_file})" '
            f"-H 'Content-Type: application/json' -d '{body}'"
        )

    def _score(self, transaction: Transaction) -> Outcome:
        try:
            return self.client.score(transaction)
        except RiskDistillError as error:
            return error

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self._process.poll() is not None:
                break
            with suppress(UnavailableError):
                self.client.ready()
                return
            time.sleep(0.2)
        last = self.log.read_text().strip().splitlines()[-1:] or ["it printed nothing"]
        raise UnavailableError(f"the service did not come up: {last[0]}", where=str(self.log), mend="see its log")


def failures(answers: Sequence[Outcome]) -> int:
    """How many requests were not answered with a decision."""
    return sum(isinstance(answer, RiskDistillError) for answer in answers)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
