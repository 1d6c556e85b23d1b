"""The demo's service is a server process of its own: it scores over HTTP, and none is left behind."""

from __future__ import annotations

import json
import shlex
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.demo_service import START_SECONDS, DemoService, failures
from pipelines.score import score_table
from riskdistill.bundle import Bundle
from riskdistill.client import Answer
from riskdistill.data.transaction import transactions_from
from riskdistill.errors import UnavailableError
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.releases import ReleaseLog

HISTORY, SENT = 300, 20


@pytest.fixture(scope="module")
def folder(
    tiny_bundle: Bundle, tiny_tables: tuple[pa.Table, pa.Table], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A release log whose champion is the tiny bundle, and the transactions that came before."""
    folder = tmp_path_factory.mktemp("demo-service")
    releases = ReleaseLog(f"sqlite:///{folder}/releases.db")
    release = releases.register(tiny_bundle.path, tiny_bundle.version, actor="ann", reason="trained")
    releases.promote(release.release_id, actor="ann", reason="the first", evidence={})
    releases.close()
    pq.write_table(tiny_tables[0].slice(0, HISTORY), folder / "history.parquet")
    return folder


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[DemoService]:
    with DemoService(folder / "state", f"sqlite:///{folder}/releases.db", folder / "history.parquet", 0) as service:
        yield service


def test_live_scores_are_the_offline_ones(
    service: DemoService, tiny_bundle: Bundle, tiny_tables: tuple[pa.Table, pa.Table]
) -> None:
    live = tiny_tables[0].slice(HISTORY, SENT)
    answers = list(service.send(live, clients=1))
    assert failures(answers) == 0
    decisions = [answer for answer in answers if isinstance(answer, Answer)]
    assert [decision.tx_id for decision in decisions] == live["tx_id"].to_pylist()
    engine = tiny_bundle.engine()
    engine.advance(tiny_tables[0].slice(0, HISTORY))
    offline = score_table(tiny_bundle, engine, live)
    by_student = [decision.route != "teacher" for decision in decisions]  # on a busy machine it may come late
    expected = np.where(by_student, offline["student_score"], offline["score"])
    np.testing.assert_allclose([decision.score for decision in decisions], expected, rtol=0, atol=1e-6)


def test_the_printed_curl_line_scores(service: DemoService, tiny_tables: tuple[pa.Table, pa.Table]) -> None:
    [one] = transactions_from(tiny_tables[0].slice(HISTORY + SENT, 1))
    line = service.curl(one.model_dump_json())
    assert stat.S_IMODE(service.key_file.stat().st_mode) == 0o600
    assert service.key_file.read_text() not in line
    command = [
        part.replace(f"$(cat {service.key_file})", service.key_file.read_text()) for part in shlex.split(line)
    ]
    answer = subprocess.run(command, capture_output=True, check=True, timeout=30)
    assert json.loads(answer.stdout)["tx_id"] == one.tx_id


def test_a_service_that_cannot_start_is_an_error_at_once_that_names_its_log(folder: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    history = tmp_path / "absent.parquet"
    with (
        pytest.raises(UnavailableError, match=r"absent\.parquet: not a file of canonical transactions") as caught,
        DemoService(tmp_path / "state", f"sqlite:///{folder}/releases.db", history, 0),
    ):
        pass
    assert caught.value.where == str(tmp_path / "state" / "service.log")
    assert time.monotonic() - started < START_SECONDS / 2


def test_no_process_is_left_when_the_start_is_interrupted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = DemoService(tmp_path / "state", f"sqlite:///{folder}/releases.db", folder / "history.parquet", 0)

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(service, "_wait_until_ready", interrupted)
    with pytest.raises(KeyboardInterrupt), service:
        pass
    assert service._process.poll() is not None


def test_stopped_service_has_kept_every_decision(service: DemoService) -> None:
    """Last: it stops the shared service."""
    service.__exit__()
    assert service._process.returncode == 0  # it ended as it was told to, and was not killed
    log = DecisionLog(service.decisions_url, create=False)
    assert log.verify().entries == SENT + 1
    log.close()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{service.url}/livez")
