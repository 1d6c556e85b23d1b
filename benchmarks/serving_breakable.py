"""What the section `faults` breaks and mends again: a teacher, a Redis, a PostgreSQL, a line and a disk.

Each is the benchmark's own, on loopback or below a temporary folder, and goes when its `with` block ends.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Final, Literal

import psycopg
import redis
from serving_process import free_port

UP_SECONDS: Final = 30.0  # longest wait for a server to come up
_BALLAST: Final = "ballast"
_SCORE: Final = {"name": "score", "shape": [1], "datatype": "FP64", "data": [0.5]}
_ANSWER: Final = json.dumps({"model_name": "teacher", "outputs": [_SCORE]}).encode()


class AbsentError(Exception):
    """What a fault needs is not on this machine; says what."""


class Teacher:
    """A model server of the Open Inference Protocol: it answers, errs (500) or hangs."""

    def __init__(self) -> None:
        self.mood: Literal["answers", "errs", "hangs"] = "answers"
        self._may_answer = Event()
        self._may_answer.set()
        teacher = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                if teacher.mood == "hangs":
                    teacher._may_answer.wait()
                self.send_response(500 if teacher.mood == "errs" else 200)
                self.send_header("Content-Length", str(len(_ANSWER)))
                self.end_headers()
                self.wfile.write(_ANSWER)

            def log_message(self, *_: object) -> None:
                """Prints nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Says nothing of callers that did not wait."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def err(self) -> None:
        """From now on every call is answered with an error."""
        self.mood = "errs"

    def hang(self) -> None:
        """From now on calls get no answer."""
        self._may_answer.clear()
        self.mood = "hangs"

    def answer(self) -> None:
        """As at the start; calls that wait are answered."""
        self.mood = "answers"
        self._may_answer.set()

    def close(self) -> None:
        """Ends it."""
        self.answer()
        self._server.shutdown()
        self._server.server_close()


class RedisServer:
    """A Redis that keeps what it acknowledged."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("redis-server") is None:
            raise AbsentError("no redis-server")
        self._folder, self._port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        folder.mkdir()
        self.start()

    def start(self) -> None:
        """Comes up with what it kept."""
        options = ["--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", ""]
        durable = ["--appendonly", "yes", "--appendfsync", "always"]
        self._process = subprocess.Popen(["redis-server", *options, *durable], stdout=subprocess.DEVNULL)
        _until(self._answers)

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.wait()

    def start_empty(self) -> None:
        """Comes up without what it kept."""
        shutil.rmtree(self._folder)
        self._folder.mkdir()
        self.start()

    def hang(self) -> None:
        """It takes connections and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """It answers again."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends it."""
        self.kill()

    def _answers(self) -> bool:
        with suppress(redis.ConnectionError), redis.Redis.from_url(self.url) as client:
            return bool(client.ping())
        return False


class PostgresServer:
    """A PostgreSQL cluster with one user and no password."""

    def __init__(self) -> None:
        found = shutil.which("initdb")
        if found is None:
            raise AbsentError("no initdb of PostgreSQL")
        self._programs = Path(found).resolve().parent
        self._user = "postgres" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        self._folder = Path(tempfile.mkdtemp(prefix="riskdistill-postgres-"))
        if self._user:
            shutil.chown(self._folder, self._user)
        self.port = free_port()
        self._run("initdb", "-D", f"{self._folder}/data", "-U", "benchmark", "-A", "trust")
        self.start()

    def url(self, port: int | None = None) -> str:
        """URL of its database, through another `port` if one is given."""
        return f"postgresql+psycopg://benchmark@127.0.0.1:{port or self.port}/postgres"

    def start(self) -> None:
        """Comes up with all that was committed."""
        options = ["-D", f"{self._folder}/data", "-p", str(self.port), "-k", str(self._folder)]
        self._process = subprocess.Popen(
            [self._programs / "postgres", *options],
            user=self._user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _until(self._answers)

    def kill(self) -> None:
        """Ends it without a word to those connected, as a crash would."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()

    def close(self) -> None:
        """Ends it and removes its data."""
        self.kill()
        shutil.rmtree(self._folder)

    def _run(self, program: str, *options: str) -> None:
        subprocess.run([self._programs / program, *options], user=self._user, check=True, stdout=subprocess.DEVNULL)

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError):
            psycopg.connect(self.url().replace("+psycopg", ""), connect_timeout=2).close()
            return True
        return False


class Line:
    """A TCP line to a port of this machine, that can be cut, or go silent."""

    def __init__(self, to: int) -> None:
        self.port, self._to = free_port(), to
        self._flows, self._ends = Event(), list[socket.socket]()
        self._flows.set()
        self.join()

    def join(self) -> None:
        """Takes connections, and lets all flow that waited."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Ends all connections and refuses new ones."""
        for end in (self._listener, *self._ends):
            with suppress(OSError):  # the other side has ended it already
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends.clear()

    def go_silent(self) -> None:
        """Connections stay and new ones are taken, and nothing comes through."""
        self._flows.clear()

    def flow(self) -> None:
        """What was sent meanwhile comes through, and what follows."""
        self._flows.set()

    def close(self) -> None:
        """Ends it."""
        self.flow()
        self.cut()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._ends += [near, far]
                Thread(target=self._pass, args=(near, far), daemon=True).start()
                Thread(target=self._pass, args=(far, near), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self._flows.wait()
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """A file system of that size at `folder`; gives what fills it up, and what makes room again."""
    folder.mkdir(parents=True)
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "riskdistill"]
    mounted = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        raise AbsentError(f"a small file system cannot be mounted: {mounted.stderr.strip()}")

    def fill() -> None:
        with suppress(OSError), (folder / _BALLAST).open("wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4_096))

    try:
        yield fill, (folder / _BALLAST).unlink
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + UP_SECONDS
    while not holds():
        if time.monotonic() > until:
            raise SystemExit("error: a server of the benchmark did not come up")
        time.sleep(0.02)
