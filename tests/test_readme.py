"""What the README and the pages in `docs/` tell a reader to type exists: every command, with every option."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pipelines.cli import main

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
README = PAGES[0].read_text(encoding="utf-8")
GROUPS = {"keys", "monitor", "release", "audit", "labels"}


def commands_of(text: str) -> set[str]:
    """The command lines that have options; one may go on after a backslash."""
    lines = re.findall(r"riskdistill ((?:[a-z]+ )+.*?)(?:`|#|\n|$)", text.replace("\\\n", " "))
    return {line for line in lines if "--" in line}


COMMANDS = sorted(set().union(*(commands_of(page.read_text(encoding="utf-8")) for page in PAGES)))


def test_commands_are_found_with_what_goes_on_in_the_next_line() -> None:
    text = "Type `riskdistill run FILE --out DIR` or\n    riskdistill audit verify --acts \\\n      URL  # all\n"
    assert commands_of(text) == {"run FILE --out DIR", "audit verify --acts        URL  "}
    assert len(COMMANDS) > 40


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_pages_takes_its_options(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    words = shlex.split(line)
    group = words[:2] if words[0] in GROUPS else words[:1]
    assert main([*group, "--help"]) == 0
    told = capsys.readouterr().out
    for option in (word.partition("=")[0] for word in words if word.startswith("--")):
        assert option in told


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_files_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"(?:configs|benchmarks)/[a-z_]+\.(?:yaml|py)", text):
        assert (ROOT / name).is_file(), name
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / link).exists(), link


def test_make_has_the_two_commands() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"install", "demo", "test"} <= set(targets)
    assert "make demo" in README
    assert "make test" in README
