"""Where the service's processor time goes, stage by stage: a sampler inside a server under full load.

As a program it is `riskdistill serve` with that sampler; it writes what it saw when it ends. A signal is seen where
Python runs next, so what the event loop does in C, such as reading sockets, counts for what it calls then.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

EVERY: Final = 0.002  # seconds of processor time between two looks
OUT: Final = "RISKDISTILL_BENCHMARK_SAMPLES"
# the innermost frame that one of these names tells the stage; (part of the file's path, function or "")
STAGES: Final = {
    "authenticate": [("api/security/gate.py", ""), ("api/security/auth.py", ""), ("api/security/key_", "")],
    "decode": [
        ("api/path/wire.py", "read_transaction"),
        ("api/path/wire.py", "_transaction"),
        ("api/path/wire.py", "read_batch"),
    ],
    "encode": [("api/path/wire.py", "")],
    "pseudonyms": [("api/path/pseudonyms.py", "")],
    "hash of the body": [("api/path/bodies.py", "request_hash")],
    "known already?": [("api/path/known_ids.py", "")],
    "features": [("riskdistill/features/", "")],
    "student": [("riskdistill/models/", ""), ("riskdistill/student/", "")],
    "decision": [("api/scoring.py", "_decision"), ("api/path/triage.py", ""), ("api/path/decision_ids.py", "")],
    "durable log": [("riskdistill/storage/decisions.py", ""), ("riskdistill/storage/database.py", "")],
    "group commit": [("api/path/group_commit.py", "")],
    "metrics": [("api/telemetry/metrics.py", "")],
    "HTTP": [("api/security/connections.py", ""), ("uvicorn/", ""), ("starlette/", ""), ("fastapi/", "")],
    "reading, answering": [("api/path/hot_path.py", "")],
    "line and groups": [("api/scoring.py", ""), ("api/path/replies.py", ""), ("api/path/account_order.py", "")],
    "the rest of the path": [("api/", "")],
}
REASONS: Final = ("riskdistill/reasons/", "api/path/alert_reasons.py")  # and all that they call: the student, too
OTHER: Final = "event loop"


def stage(frame: FrameType | None) -> str | None:
    """The stage that `frame` is in; None where no stage is known."""
    if _is_in_reasons(frame):
        return "reasons"
    while frame is not None:
        path, function = frame.f_code.co_filename, frame.f_code.co_name
        for name, places in STAGES.items():
            if any(part in path and wanted in ("", function) for part, wanted in places):
                return name
        frame = frame.f_back
    return None


def _is_in_reasons(frame: FrameType | None) -> bool:
    while frame is not None:
        if any(part in frame.f_code.co_filename for part in REASONS):
            return True
        frame = frame.f_back
    return False


def sample(seen: Counter[str]) -> None:
    """Begin to count, by processor time of all threads, in which stage this process is."""
    main = threading.main_thread().ident

    def look(_number: int, frame: FrameType | None) -> None:
        busy = stage(frame)
        if busy in (None, "HTTP") and (writing := _writing(main)):
            busy = writing  # the loop waits while the log's thread writes
        seen[busy or OTHER] += 1

    signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)


def _writing(main: int | None) -> str | None:
    for thread, frame in sys._current_frames().items():
        if thread != main and (found := stage(frame)) == "durable log":
            return found
    return None


def read(path: Path) -> dict[str, float]:
    """Share of each stage, the largest first."""
    seen = Counter(json.loads(path.read_text()))
    return {name: count / seen.total() for name, count in seen.most_common()}


if __name__ == "__main__":
    from pipelines.cli import main

    counted: Counter[str] = Counter()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # uvicorn sends it once more when it has stopped
    sample(counted)
    try:
        main()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        Path(os.environ[OUT]).write_text(json.dumps(counted))
