"""Work in stages at once: a stage makes its next piece while the stage behind it uses the one before.

Arrow and NumPy let go of Python's lock while they work, so that stages that are threads use several cores. Pieces
come in their order whatever the threads do, so that nothing that is made depends on how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

Item = TypeVar("Item")
_END: Final = object()


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """`items` in their order, each made in a thread while the caller uses the one before.

    At most one is made and not yet used. An error of `items` is raised where its item would have come; a caller
    that stops early waits for the item that is being made.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        coming = thread.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = thread.submit(next, items, _END)
            yield item  # type: ignore[misc]  # not the end, hence an Item
