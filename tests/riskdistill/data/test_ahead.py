"""Working ahead changes who does the work, and neither what comes nor in which order."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from riskdistill.data.ahead import ahead


def test_items_come_in_their_order_and_from_another_thread() -> None:
    def items() -> Iterator[tuple[int, int]]:
        for number in range(20):
            yield number, threading.get_ident()

    got = list(ahead(items()))
    assert [number for number, _ in got] == list(range(20))
    assert {thread for _, thread in got} - {threading.get_ident()}


def test_the_next_item_is_made_while_one_is_used() -> None:
    made = threading.Semaphore(0)

    def items() -> Iterator[int]:
        for number in range(3):
            made.release()
            yield number

    coming = ahead(items())
    assert next(coming) == 0
    assert made.acquire(timeout=10)  # the first
    assert made.acquire(timeout=10)  # and the second, which nobody has asked for
    coming.close()  # type: ignore[attr-defined]


def test_an_error_comes_where_its_item_would_have() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no second")

    coming = ahead(items())
    assert next(coming) == 1
    with pytest.raises(ValueError, match="no second"):
        next(coming)


def test_nothing_gives_nothing() -> None:
    assert list(ahead(iter(()))) == []
