"""The command line: what it makes, and that every mistake is one line that says what, where and how to mend it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from pipelines.cli import main
from riskdistill import __version__
from riskdistill.bundle import Bundle
from riskdistill.errors import UnreadableFileError
from riskdistill.evaluation.metrics import MetricsReport
from riskdistill.simulator import Simulated

COMMANDS = (
    *("simulate", "ingest", "quarantine", "reingest", "run", "search", "features", "encode", "evaluate"),
    *("serve", "score", "keys", "monitor", "release", "audit", "demo"),
)
SIGNED = ("--actor", "ann", "--reason", "a test")


@pytest.fixture
def rows(tiny_tables: tuple[pa.Table, pa.Table]) -> pd.DataFrame:
    """Canonical rows as a CSV has them: text."""
    frame = tiny_tables[0].slice(0, 12).to_pandas()
    spelled: pd.DataFrame = frame.assign(timestamp=[moment.isoformat() for moment in frame["timestamp"]])
    return spelled.astype(str)


def write_csv(rows: pd.DataFrame, path: Path) -> Path:
    rows.to_csv(path, index=False)
    return path


# --- the command line itself


def test_no_command_waits_for_what_only_training_needs() -> None:
    """`serve` is ready in seconds only if PyTorch and the like are imported by the commands that use them."""
    heavy = {"torch", "transformers", "sklearn", "lightgbm", "mlflow", "evidently", "matplotlib"}
    program = f"import sys, pipelines.cli; found = {heavy} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def test_a_database_that_is_away_is_worth_another_try_and_one_that_is_not_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["release", "list", "--releases", "postgresql://nobody:secret@127.0.0.1:1/none"]) == os.EX_TEMPFAIL
    told = capsys.readouterr().err
    assert "the database does not open: the database does not answer" in told
    assert "secret" not in told
    assert main(["release", "list", "--releases", f"sqlite:///{tmp_path}/none.db"]) == 1


def test_help_lists_every_command(done: Callable[..., str]) -> None:
    told = done("--help")
    assert all(f" {command} " in told for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(done: Callable[..., str], command: str) -> None:
    assert f"Usage: riskdistill {command}" in done(command, "--help")


def test_version(done: Callable[..., str]) -> None:
    assert done("--version") == f"riskdistill {__version__}"


@pytest.mark.parametrize(
    "arguments", [["ingest"], ["scor"], ["run", "x.yaml"], ["monitor", "watch", "--looks", "none"]]
)
def test_wrong_usage_exits_2_and_says_how_to_get_help(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(arguments) == 2
    assert "--help" in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError):
        main(["--debug", "ingest", str(tmp_path / "absent"), "--format", "canonical", "--out", str(tmp_path)])


def test_ctrl_c_says_that_the_command_can_be_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("riskdistill.data.ingest.ingest", interrupted)
    assert main(["ingest", str(tmp_path), "--format", "canonical", "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err.endswith("stopped; the same command goes on where it was\n")


# --- simulate and ingest


def test_simulated_traffic_can_be_ingested(done: Callable[..., str], tmp_path: Path) -> None:
    told = done("simulate", "--preset", "tiny", "--set", "days=5", "--set", "seed=3", "--out", tmp_path / "world")
    assert str(tmp_path / "world" / "transactions.parquet") in told
    told = done("ingest", tmp_path / "world", "--format", "canonical", "--out", tmp_path / "tables")
    assert "quarantined 0" in told
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {
        "transactions.parquet",
        "labels.parquet",
        "truth.parquet",
        "quarantine.parquet",
        "quality.json",
        "quality.html",
        "ingest.json",
    }


def test_a_row_in_quarantine_is_exported_corrected_and_read_again(
    done: Callable[..., str], refused: Callable[..., str], rows: pd.DataFrame, tmp_path: Path
) -> None:
    rows.loc[3, "amount_paid"] = "a lot"
    bank, tables, fixed = write_csv(rows, tmp_path / "bank.csv"), tmp_path / "tables", tmp_path / "fixed.csv"
    assert "quarantined 1" in done("ingest", bank, "--format", "canonical", "--out", tables)
    assert done("quarantine", tables, "--out", fixed).startswith("1 rows to correct")
    fixed.write_text(fixed.read_text().replace("a lot", "12.5"))  # in the reason too, which nobody reads again
    told = done("reingest", tables, "--fixed", fixed)
    assert "accepted 1" in told
    assert "left in quarantine 0" in told
    assert "passed over 1" in done("reingest", tables, "--fixed", fixed)
    assert "nothing is in quarantine" in refused("quarantine", tables, "--out", fixed)
    assert "No such file" in refused("reingest", tables, "--fixed", tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--preset", "huge"], "--preset: unknown preset 'huge' (mend: choose among tiny, demo, benchmark, large)"),
        (["--set", "seed"], "--set seed: write it as key.key=value"),
        (["--set", "sede=3"], "--set: sede: "),
        (["--set", "seed=many"], "--set: seed: "),
        (["--set", "seed=["], "--set seed=[: the value is not valid YAML"),
    ],
)
def test_wrong_simulation_settings(
    refused: Callable[..., str], tmp_path: Path, options: list[str], told: str
) -> None:
    assert refused("simulate", "--out", tmp_path / "out", *options).startswith(told)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("amount_paid", "-5", "amount_paid is negative"),
        ("amount_paid", "1e15", "amount_paid is above 1e+13"),
        ("amount_received", "lots", "amount_received is not a number"),
        ("currency_paid", "EURO", "currency_paid is not a known currency"),
        ("timestamp", "2025-01-01T10:00:00", "timestamp cannot be read as a time in UTC"),
        ("tx_id", "T0000000000", "tx_id is a duplicate of an earlier row's"),
        ("sender_account", "", "sender_account is empty"),
    ],
)
def test_a_wrong_row_is_counted_and_put_aside(
    done: Callable[..., str], rows: pd.DataFrame, tmp_path: Path, column: str, value: str, reason: str
) -> None:
    rows.loc[7, column] = value
    source = write_csv(rows, tmp_path / "bank.csv")
    told = done("ingest", source, "--format", "canonical", "--out", tmp_path / "out")
    assert "accepted 11 quarantined 1" in told
    assert f"quarantined: {reason} 1" in told
    quarantine = pd.read_parquet(tmp_path / "out" / "quarantine.parquet")
    assert quarantine["source_row"].tolist() == [8]
    assert quarantine["reason"][0].startswith(f"{reason}: {value!r}")


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("currency_paid", "EURO", "currency_paid is not a known currency"),
        ("timestamp", "2025-01-01T10:00:00", "timestamp cannot be read as a time in UTC"),
    ],
)
def test_a_file_without_one_usable_row_tells_the_usual_reason(
    refused: Callable[..., str], rows: pd.DataFrame, tmp_path: Path, column: str, value: str, reason: str
) -> None:
    source = write_csv(rows.assign(**{column: value}), tmp_path / "bank.csv")
    told = refused("ingest", source, "--format", "canonical", "--out", tmp_path / "out")
    assert told.startswith(f"{source}: none of 12 rows is usable; most often: {reason} (mend: ")


def test_a_missing_column_is_named_with_those_present(
    refused: Callable[..., str], rows: pd.DataFrame, tmp_path: Path
) -> None:
    source = write_csv(rows.drop(columns="currency_paid"), tmp_path / "bank.csv")
    told = refused("ingest", source, "--format", "canonical", "--out", tmp_path / "out")
    assert told.startswith(f"{source}: no column 'currency_paid'; the file has 'tx_id', 'timestamp'")
    assert "(mend: " in told


def test_a_wrong_format_name_lists_the_formats(refused: Callable[..., str], tmp_path: Path) -> None:
    told = refused("ingest", tmp_path, "--format", "amlwrld", "--out", tmp_path / "out")
    assert told.startswith("no format 'amlwrld' (mend: use one of: amlworld, ")


def empty(path: Path) -> None:
    path.touch()


def header_only(path: Path) -> None:
    path.write_text("tx_id,timestamp\n")


def picture(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff\xfe" * 20)


def truncated(path: Path) -> None:
    pd.DataFrame({"tx_id": range(1000)}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("bank.csv", empty),
        ("bank.parquet", empty),
        ("bank.csv", header_only),
        ("bank.csv", picture),
        ("bank.parquet", picture),
        ("bank.parquet", truncated),
        ("bank.csv", lambda _: None),
    ],
    ids=["empty", "empty-parquet", "header-only", "picture", "picture-parquet", "truncated-parquet", "absent"],
)
def test_an_unusable_file_is_named_by_every_command_that_reads_it(
    refused: Callable[..., str],
    tiny_bundle: Bundle,
    tmp_path: Path,
    name: str,
    damage: Callable[[Path], None],
) -> None:
    source, out, bundle = tmp_path / name, tmp_path / "out", tiny_bundle.path
    damage(source)
    config = tmp_path / "experiment.yaml"
    config.write_text("name: x\nsource: {format: canonical}\n")
    for command in (
        ("ingest", source, "--format", "canonical", "--out", out),
        ("run", config, "--input", source, "--out", out),
        ("score", source, "--bundle", bundle, "--out", tmp_path / "scores.csv"),
        ("encode", source, "--out", tmp_path / "features.parquet"),
        ("monitor", "drift", "--bundle", bundle, "--input", source, "--out", out),
    ):
        told = refused(*command)
        assert told.startswith(f"{source}: ")
        assert "(mend: " in told


@pytest.mark.parametrize(
    ("until", "told"),
    [
        ("yesterday", "--until: Invalid isoformat string: 'yesterday' (mend: write it as 2022-09-10T00:00:00Z)"),
        ("2022-09-10", "--until: it says no offset from UTC (mend: write it as 2022-09-10T00:00:00Z)"),
    ],
)
def test_a_wrong_until(refused: Callable[..., str], simulated: Path, tmp_path: Path, until: str, told: str) -> None:
    options = ("--format", "canonical", "--until", until, "--out", tmp_path / "out")
    assert refused("ingest", simulated, *options).startswith(told)


# --- run


def test_all_mistakes_of_a_configuration_are_told_with_their_lines(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "experiment.yaml"
    config.write_text("name: x\ntraining:\n  epochz: 3\nstudent:\n  width: wide\n")
    arguments = ["run", str(config), "--input", str(tmp_path), "--out", str(tmp_path / "out"), "--set", "sed=3"]
    assert main(arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"error: {config}:3: training.epochz: unknown key, did you mean 'epochs'?"
    assert lines[1].startswith(f"error: {config}:5: student.width: ")
    assert lines[2] == "error: --set sed=3: sed: unknown key, did you mean 'seed'?"
    assert len(lines) == 3
    assert not (tmp_path / "out").exists()


def test_an_override_without_a_value(refused: Callable[..., str], tmp_path: Path) -> None:
    config = tmp_path / "experiment.yaml"
    config.write_text("name: x\n")
    told = refused("run", config, "--input", tmp_path, "--out", tmp_path / "out", "--set", "seed")
    assert told.startswith("--set seed: ")


def test_a_missing_configuration(refused: Callable[..., str], tmp_path: Path) -> None:
    told = refused("run", tmp_path / "absent.yaml", "--input", tmp_path, "--out", tmp_path / "out")
    assert told == f"{tmp_path}/absent.yaml: no such file (the experiments are in configs/)"


# --- score, evaluate, serve


def test_scoring_a_file(done: Callable[..., str], rows: pd.DataFrame, tiny_bundle: Bundle, tmp_path: Path) -> None:
    rows.loc[3, "amount_paid"] = "-5"
    source, out = write_csv(rows, tmp_path / "live.csv"), tmp_path / "scores.csv"
    told = done("score", source, "--bundle", tiny_bundle.path, "--out", out)
    assert "11 scored, 1 in quarantine" in told
    assert f"scores {out} quarantine {tmp_path}/scores.quarantine.parquet" in told
    assert pd.read_csv(out)["tx_id"].tolist() == rows["tx_id"].drop(3).tolist()


@pytest.fixture
def damaged(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """A bundle with one changed byte in the student."""
    folder = Path(shutil.copytree(tiny_bundle.path, tmp_path / "damaged"))
    content = bytearray((folder / "student.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "student.onnx").write_bytes(content)
    return folder


def test_a_bundle_with_a_changed_byte_is_refused_by_every_command(
    refused: Callable[..., str],
    damaged: Path,
    live: Path,
    simulated: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RISKDISTILL_API_KEYS", "a-key-for-the-tests")
    out, releases = tmp_path / "out", f"sqlite:///{tmp_path}/releases.db"
    for command in (
        ("score", live, "--bundle", damaged, "--out", tmp_path / "scores.csv"),
        ("evaluate", "--bundle", damaged, "--input", simulated, "--out", out),
        ("monitor", "drift", "--bundle", damaged, "--input", live, "--out", out),
        ("release", "register", damaged, "--releases", releases, *SIGNED),
        ("serve", "--bundle", damaged, "--port", 0, "--state-dir", tmp_path / "state"),
    ):
        told = refused(*command)
        assert told.startswith(f"{damaged}: student.onnx is not what the manifest says")
        assert told.endswith("(mend: copy it again from where it was made)")
    assert not out.exists()
    assert not (tmp_path / "releases.db").exists()


def test_a_missing_bundle(refused: Callable[..., str], live: Path, tmp_path: Path) -> None:
    told = refused("score", live, "--bundle", tmp_path / "absent", "--out", tmp_path / "scores.csv")
    assert told == f"{tmp_path}/absent: no manifest.json there (mend: name the directory of a bundle)"


def test_judging_a_bundle(
    done: Callable[..., str], simulated: Path, tiny_world: Simulated, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    done("ingest", simulated, "--format", "canonical", "--out", tmp_path / "tables")
    told = done("evaluate", "--bundle", tiny_bundle.path, "--input", tmp_path / "tables", "--out", tmp_path / "out")
    assert "tiny on tables, test period" in told
    report = MetricsReport.model_validate_json((tmp_path / "out" / "metrics.json").read_text())
    assert set(report.models) == {"student", "teacher"}
    assert f"student {report.models['student'].pr_auc:.3f}" in told
    true = tiny_world.truth["is_laundering"].to_numpy()[-report.dataset.test.rows :]
    assert report.dataset.test.laundering == true.sum() > 0


def test_a_bundle_is_judged_on_labelled_ingested_tables_only(
    refused: Callable[..., str],
    done: Callable[..., str],
    rows: pd.DataFrame,
    simulated: Path,
    tiny_bundle: Bundle,
    tmp_path: Path,
) -> None:
    judge = ("evaluate", "--bundle", tiny_bundle.path, "--out", tmp_path / "out", "--input")
    assert "not a folder of canonical tables" in refused(*judge, simulated)
    done("ingest", write_csv(rows, tmp_path / "bank.csv"), "--format", "canonical", "--out", tmp_path / "tables")
    assert refused(*judge, tmp_path / "tables").startswith("0 labels for 12 transactions (mend: ")


def test_a_service_needs_a_bundle_and_a_key(
    refused: Callable[..., str], tiny_bundle: Bundle, tmp_path: Path
) -> None:
    told = refused("serve")
    assert told.startswith("API settings: ")
    assert "either a bundle or the URL of a release log" in told
    told = refused("serve", "--bundle", tiny_bundle.path, "--state-dir", tmp_path)
    assert told.startswith("API settings: no API key is set (mend: ")


def test_a_wrong_file_of_the_bypass_is_refused_before_the_service_starts(
    refused: Callable[..., str], tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RISKDISTILL_API_KEYS", "a-key-for-the-tests")
    path = tmp_path / "bypass.yaml"
    path.write_text("policies: {amount: 5}\n")
    told = refused("serve", "--bundle", tiny_bundle.path, "--state-dir", tmp_path / "state", "--bypass", path)
    assert told == f"{path}:1: policies.amount: unknown key, did you mean 'amount_usd'?"
