"""What the README tells a reader to type exists: every command, with every option."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pipelines.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"riskdistill ((?:[a-z]+ )+.*?)(?:`|#|\n|$)", README)))


@pytest.mark.parametrize("line", [line for line in COMMANDS if "--" in line])
def test_a_command_of_the_readme_takes_its_options(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    words = shlex.split(line)
    group = words[:2] if words[0] in {"keys", "monitor", "release", "audit", "labels"} else words[:1]
    assert main([*group, "--help"]) == 0
    told = capsys.readouterr().out
    for option in (word.partition("=")[0] for word in words if word.startswith("--")):
        assert option in told


def test_the_readme_names_files_that_exist() -> None:
    for name in re.findall(r"configs/[a-z]+\.yaml|benchmarks/[a-z_]+\.py", README):
        assert (ROOT / name).is_file(), name


def test_make_has_the_two_commands() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"install", "demo", "test"} <= set(targets)
    assert "make demo" in README
    assert "make test" in README
