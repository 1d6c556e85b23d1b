"""Dependencies point one way: the domain knows no server; api and monitoring meet only through what is stored."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SERVERS = {"fastapi", "starlette", "uvicorn"}
FORBIDDEN = {
    "riskdistill": {"api", "monitoring", "pipelines", *SERVERS},
    "api": {"monitoring", "pipelines"},
    "monitoring": {"api", "pipelines", *SERVERS},
}


def imported(source: str) -> Iterator[tuple[int, str]]:
    """Line and top-level package of every import, those inside functions and under TYPE_CHECKING included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"import_module", "importlib.import_module"}:
            yield node.lineno, ast.unparse(node.args[0]).strip("'").partition(".")[0]


@pytest.mark.parametrize("package", list(FORBIDDEN))
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    files = sorted((REPOSITORY / package).rglob("*.py"))
    assert len(files) > 3
    wrong = [
        f"{file.relative_to(REPOSITORY)}:{line} imports {name}"
        for file in files
        for line, name in imported(file.read_text())
        if name in FORBIDDEN[package]
    ]
    assert wrong == []


def test_no_import_is_overlooked() -> None:
    source = "import a.b, c\ndef f():\n    from d.e import f\n    importlib.import_module('g.h')\nfrom . import i\n"
    assert sorted(name for _, name in imported(source)) == ["a", "c", "d", "g"]
