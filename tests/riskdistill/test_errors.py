"""The exception tree is the one that its docstring draws, and every error reads as one line."""

from __future__ import annotations

import inspect
import re

import pytest

from riskdistill import errors
from riskdistill.errors import RiskDistillError

TREE = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, RiskDistillError) and found.__module__ == errors.__name__
]


def drawn() -> dict[str, str]:
    """Each class in the docstring's drawing and the one that it hangs from."""
    parents: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in inspect.cleandoc(errors.__doc__ or "").splitlines():
        if found := re.match(r"([\s│├└─]*)(\w+Error)\b", line):
            depth = len(found[1])
            above = [entry for entry in above if entry[0] < depth]
            parents[found[2]] = above[-1][1] if above else "Exception"
            above.append((depth, found[2]))
    return parents


def test_the_drawing_is_the_tree() -> None:
    assert drawn() == {one.__name__: one.__bases__[0].__name__ for one in TREE}


@pytest.mark.parametrize("error", TREE, ids=lambda error: error.__name__)
def test_an_error_says_what_where_and_how_to_mend_it_on_one_line(error: type[RiskDistillError]) -> None:
    made = error("it is broken", where="row 7", mend="repair it")
    assert str(made) == "row 7: it is broken (mend: repair it)"
    assert (made.what, made.where, made.mend) == ("it is broken", "row 7", "repair it")
    assert str(error("it is broken")) == "it is broken"
    assert 400 <= error.status < 600


def test_titles_tell_the_errors_apart() -> None:
    titles = [error.title for error in TREE]
    assert len(set(titles)) == len(titles)
    assert all(titles)
