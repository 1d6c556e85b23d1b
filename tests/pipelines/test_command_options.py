"""What commands share says counts as a person would."""

from __future__ import annotations

import pytest

from pipelines.command_options import counted


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 entries"), (1, "1 entry"), (2, "2 entries"), (1_234, "1,234 entries")]
)
def test_one_is_singular_and_all_else_plural(count: int, said: str) -> None:
    assert counted(count, "entry", "entries") == said
