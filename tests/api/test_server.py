"""`serve` answers on a real socket, stops cleanly, and ends with the error that kept it from starting."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from fake_serving import KEY, body, settings_for, write_bundle
from ports import free_port
from serving_here import while_serving

from api.server import serve
from riskdistill.errors import BundleDamagedError, BundleIncompatibleError, ConfigError
from riskdistill.storage.decisions import DecisionLog

T = TypeVar("T")


def visited(look: Callable[[httpx.Client], T], state_dir: Path, bundle: Path) -> T:
    """What `look` finds at a service that is ready."""

    def visit(port: int) -> T:
        url, headers = f"http://127.0.0.1:{port}", {"X-API-Key": KEY}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            while client.get("/readyz").status_code != 200:
                pass
            return look(client)

    return while_serving(visit, state_dir, bundle=bundle)


def test_it_answers_over_a_socket_and_stops_on_an_interrupt(tmp_path: Path, bundle: Path) -> None:
    state = tmp_path / "state"
    assert visited(lambda client: client.post("/v1/score", json=body()).status_code, state, bundle) == 200
    log = DecisionLog(f"sqlite:///{state}/decisions.db", create=False)
    assert log.verify().entries == 1
    log.close()


def test_the_collector_spares_what_lasts_while_it_serves_and_no_longer(tmp_path: Path, bundle: Path) -> None:
    before = gc.get_threshold()
    spared, threshold = visited(
        lambda _: (gc.get_freeze_count(), gc.get_threshold()[0]), tmp_path / "state", bundle
    )
    assert spared > 10_000
    assert threshold > before[0]
    assert (gc.get_freeze_count(), gc.get_threshold()) == (0, before)


def test_a_damaged_bundle_ends_it_with_that_error(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "damaged")
    (path / "fake.json").write_text("{")
    with pytest.raises(BundleDamagedError, match="damaged"):
        serve(settings_for(tmp_path / "state", bundle=path, port=free_port()))


def test_a_provider_that_is_not_there_ends_it(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "riskdistill.models.onnx_model.ort.get_available_providers", lambda: ["CPUExecutionProvider"]
    )
    settings = settings_for(tmp_path / "state", bundle=bundle, port=free_port(), provider="cuda")
    with pytest.raises(BundleIncompatibleError, match="provider cuda: this ONNX Runtime has no CUDAExecution"):
        serve(settings)


def test_a_port_that_is_taken_is_a_configuration_error(tmp_path: Path, bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match="cannot listen"):
            serve(settings_for(tmp_path / "state", bundle=bundle, port=port))


def test_a_release_log_that_is_not_there_ends_it_and_is_not_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/mistyped.db"
    with pytest.raises(ConfigError, match=r"mistyped\.db: no database there"):
        serve(settings_for(tmp_path / "state", releases=url, port=free_port()))
    assert not (tmp_path / "mistyped.db").exists()


def test_the_service_starts_without_what_only_training_needs() -> None:
    code = "import api.server, sys; print({'torch', 'sklearn', 'lightgbm', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "set()"
