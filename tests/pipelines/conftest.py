"""Fixture strategy: files as the commands take them, made of the session's tiny world, and one scored decision log.

`one_export_of_equal_weights` spares runs the seconds that an export takes. `bank` is what retraining starts from.

`simulated` is what `riskdistill simulate` would have written. `service_folder` is what a service leaves behind that
followed a release of the tiny bundle and decided on `SENT` transactions: it is read only, a test that wants to
damage a log copies it first.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.settings import load_settings
from pipelines.cli import main
from riskdistill.bundle import Bundle
from riskdistill.data.transaction import transactions_from
from riskdistill.simulator import PRESETS, Simulated, write
from riskdistill.storage.releases import ReleaseLog

if TYPE_CHECKING:
    from tiny_bank import Bank
    from tiny_runs import Epochs

    from riskdistill.features import Encoded
    from riskdistill.models.event_transformer import EventTransformer

SENT = 80
KEY = "a-key-for-the-tests"


@pytest.fixture(scope="session")
def simulated(tiny_world: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    write([tiny_world], folder, PRESETS["tiny"])
    return folder


@pytest.fixture(scope="session")
def one_export_of_equal_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A plain network is exported once for equal weights and one dataset, which the file names."""
    from pipelines import served
    from riskdistill.models.onnx_export import export_onnx
    from riskdistill.models.teacher import weights_fingerprint

    folder = tmp_path_factory.mktemp("exports")

    def export(model: EventTransformer, path: Path, sample: Encoded) -> None:
        made = folder / f"{weights_fingerprint(model)}-{model.config.dataset_fingerprint}.onnx"
        if not made.exists():
            export_onnx(model, made, sample)
        shutil.copyfile(made, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(served, "export_onnx", export)
        yield


@pytest.fixture(scope="session")
def bank(one_export_of_equal_weights: None, tmp_path_factory: pytest.TempPathFactory) -> Bank:
    """A bank with a trained champion, shared: a test that wants a release log of its own asks for `log(name)`."""
    from tiny_bank import founded

    return founded(tmp_path_factory.mktemp("bank"))


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> Epochs:
    """What the runs of a test train."""
    from tiny_runs import Epochs

    return Epochs(monkeypatch)


@pytest.fixture
def live(tmp_path: Path, tiny_tables: tuple[pa.Table, pa.Table]) -> Path:
    """A small file of canonical transactions."""
    path = tmp_path / "live.parquet"
    pq.write_table(tiny_tables[0].slice(0, 60), path)
    return path


@pytest.fixture(scope="session")
def service_folder(
    tiny_bundle: Bundle, tiny_tables: tuple[pa.Table, pa.Table], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """`releases.db` and `decisions.db` of a service that has stopped."""
    folder = tmp_path_factory.mktemp("service")
    releases = ReleaseLog(f"sqlite:///{folder}/releases.db")
    release = releases.register(tiny_bundle.path, tiny_bundle.version, actor="ann", reason="trained")
    releases.promote(release.release_id, actor="ann", reason="the first", evidence={})
    releases.close()
    settings = load_settings(
        state_dir=folder,
        releases=f"sqlite:///{folder}/releases.db",
        api_keys=KEY,
        teacher_deadline_ms=20_000,
    )
    bodies = [one.model_dump(mode="json") for one in transactions_from(tiny_tables[0].slice(0, SENT))]
    with TestClient(create_app(settings), headers={"X-API-Key": KEY}) as client:
        while (said := client.get("/readyz")).status_code != 200 or said.json()["teacher_state"] != "loaded":
            time.sleep(0.01)
        for body in bodies:
            assert client.post("/v1/score", json=body).status_code == 200
    return folder


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must fail; returns its one line of error without the word `error`."""

    def run(*arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == 1
        told = capsys.readouterr().err
        errors = [line for line in told.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert told.endswith(errors[0] + "\n")
        assert "Traceback" not in told
        return errors[0].removeprefix("error: ")

    return run


@pytest.fixture
def done(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must succeed; returns what it printed, without the width of its tables."""

    def run(*arguments: object) -> str:
        status = main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        assert status == 0, told.err
        return " ".join(re.sub("[│┃]", " ", told.out).split())

    return run
