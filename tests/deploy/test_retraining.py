"""The schedules of retraining, run by the shells that would run them, with a stand-in for the command itself."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from pipelines.cli import AGAIN_LATER, STOPPED, app

FOLDER = Path(__file__).parents[2] / "deploy" / "retraining"
RECORD = 'printf "%s\\n" "$@" > "$HOME/told"; echo run >> "$HOME/runs"; exit $(cat "$HOME/code")\n'


class Shell:
    """A home whose `riskdistill` keeps what it is told, and exits with `code`; and whose `date` is set."""

    def __init__(self, home: Path) -> None:
        self.home, self.code, self.date = home, 0, "2026-01-04"
        self._stand_in("riskdistill", RECORD)
        self._stand_in("date", 'cat "$HOME/date"\n')

    def _stand_in(self, name: str, script: str) -> None:
        path = self.home / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}")
        path.chmod(0o755)

    def run(self, *command: str, **variables: str) -> int:
        """Run a command; returns its exit code."""
        (self.home / "code").write_text(str(self.code))
        (self.home / "date").write_text(f"{self.date}\n")
        path = f"{self.home}/bin:/usr/bin:/bin"
        environment = {"HOME": str(self.home), "PATH": path, **variables}
        return subprocess.run(command, cwd=self.home, env=environment, check=False).returncode

    @property
    def runs(self) -> int:
        runs = self.home / "runs"
        return len(runs.read_text().split()) if runs.exists() else 0

    @property
    def told(self) -> dict[str, Any]:
        """The options of the last run, as the real command reads them; fails where it would refuse them."""
        words = (self.home / "told").read_text().splitlines()
        assert words[0] == "retrain"
        command: Any = typer.main.get_command(app)
        return dict(command.commands["retrain"].make_context("retrain", words[1:]).params)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_all_pods_of_a_job_share_a_folder_whatever_day_it_is(shell: Shell) -> None:
    job = yaml.safe_load((FOLDER / "cronjob.yaml").read_text())["spec"]["jobTemplate"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert [one["valueFrom"] for one in container["env"] if one["name"] == "JOB"] == [
        {"fieldRef": {"fieldPath": "metadata.labels['job-name']"}}
    ]
    command = (*container["command"], *container["args"])
    folders = set()
    for shell.date in ("2026-01-04", "2026-01-05"):
        assert shell.run(*command, JOB="retraining-7", RISKDISTILL_RELEASES="sqlite:///x.db", HOSTNAME="pod") == 0
        folders.add(shell.told["out"])
    assert folders == {Path("/models/retraining/retraining-7")}
    assert shell.told["releases"] == "sqlite:///x.db"
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"/models", str(shell.told["input"])} <= mounted
    assert shell.told["store"].is_relative_to("/models")


def test_the_job_is_given_up_for_errors_that_stay_and_tried_again_for_others() -> None:
    job = yaml.safe_load((FOLDER / "cronjob.yaml").read_text())["spec"]["jobTemplate"]["spec"]
    (final,) = [rule["onExitCodes"] for rule in job["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
    assert (final["operator"], final["values"]) == ("In", [1, 2])
    assert not {AGAIN_LATER, STOPPED} & set(final["values"])
    assert job["backoffLimit"] >= 6


def test_cron_goes_on_in_the_same_folder_until_the_run_has_come_to_an_end(shell: Shell) -> None:
    environment = shell.home / "retraining.env"
    environment.write_text(
        f"RISKDISTILL_RELEASES='sqlite:///x.db'\nRISKDISTILL_CASES={shlex.quote('/the cases')}\n"
    )
    begin, go_on = (
        line.split(" ", 6)[6].replace("\\%", "%").replace("/etc/riskdistill/retraining.env", str(environment))
        for line in (FOLDER / "crontab").read_text().splitlines()
        if " riskdistill " in line and not line.startswith("#")
    )
    assert shell.run("/bin/bash", "-c", go_on) == 0
    assert shell.runs == 0
    shell.run("/bin/bash", "-c", begin)
    for shell.code, shell.date in ((AGAIN_LATER, "2026-01-04"), (137, "2026-01-05"), (1, "2026-01-06")):
        shell.run("/bin/bash", "-c", begin)  # the next Sunday comes before the end
        assert shell.run("/bin/bash", "-c", go_on) == shell.code
        assert (shell.told["out"], shell.told["input"]) == (shell.home / "2026-01-04", Path("/the cases"))
    assert shell.runs == 3
    assert shell.run("/bin/bash", "-c", go_on) == 0
    assert shell.runs == 3
