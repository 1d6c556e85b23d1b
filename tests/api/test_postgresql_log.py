"""A service whose log is on PostgreSQL: the same answers, two services on one log, and a server gone and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from databases import closing_engines, new_url
from fake_serving import body, ready, running, settings_for
from sqlalchemy import make_url

from api.app import create_app
from api.path.group_commit import GroupCommit
from riskdistill.storage.decisions import DecisionLog

pytestmark = pytest.mark.anyio


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with closing_engines():
        yield from (new() for new in new_url("postgresql", tmp_path))


class Line:
    """The way to a server, which can be cut and mended."""

    def __init__(self, host: str, port: int) -> None:
        self._target, self._open, self._cut = (host, port), set[asyncio.StreamWriter](), False
        self.port = 0

    @asynccontextmanager
    async def laid(self) -> AsyncIterator[Line]:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self
            self.cut()

    def cut(self) -> None:
        self._cut = True
        for writer in self._open:
            writer.close()
        self._open.clear()

    def mend(self) -> None:
        self._cut = False

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._open |= {writer, far_writer}
        await asyncio.gather(_pass(reader, far_writer), _pass(far_reader, writer), return_exceptions=True)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.close()


async def post(client: httpx.AsyncClient, tx_id: str) -> httpx.Response:
    return await client.post("/v1/score", json=body(tx_id))


async def test_two_services_on_one_log_store_each_transaction_once(url: str, tmp_path: Path, bundle: Path) -> None:
    apps = [create_app(settings_for(tmp_path / name, bundle=bundle, database=url)) for name in "ab"]
    async with running(apps[0]) as one, running(apps[1]) as two:
        sent = [post(client, f"tx-{number}") for number in range(30) for client in (one, two)]
        answers = await asyncio.gather(*sent)
        assert {answer.status_code for answer in answers} == {200}
        for first, second in zip(answers[::2], answers[1::2], strict=True):
            assert first.json()["decision_id"] == second.json()["decision_id"]
        log: DecisionLog = apps[0].state.service.parts.log
        assert log.verify().entries == 30


async def test_while_postgresql_is_gone_nothing_is_answered_and_when_it_is_back_nothing_is_lost(
    url: str, tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.service.GroupCommit", lambda log, **options: GroupCommit(log, 0.01, **options))
    address = make_url(url)
    async with Line(str(address.host), address.port or 5432).laid() as line:
        through = address.set(host="127.0.0.1", port=line.port).render_as_string(hide_password=False)
        app = create_app(settings_for(tmp_path / "state", bundle=bundle, database=through))
        async with running(app) as client:
            assert (await post(client, "tx-0")).status_code == 200
            line.cut()
            refused = await post(client, "tx-1")
            assert refused.status_code == 503
            assert "127.0.0.1" not in refused.text
            line.mend()
            await ready(client)
            async with asyncio.timeout(20):
                while (again := await post(client, "tx-1")).status_code == 503:
                    await asyncio.sleep(0)
            assert again.status_code == 200
            log: DecisionLog = app.state.service.parts.log
            stored = await asyncio.to_thread(lambda: [entry.decision.tx_id for entry in log.read()])
            assert stored == ["tx-0", "tx-1"]
