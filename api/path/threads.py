"""Threads for calls that may hang: such a call keeps its thread, and nothing else.

The executor of the standard library would let its whole queue wait behind a hung call, and the process, when it is
told to stop, too. Here a thread that hangs is replaced, a call whose asker has gone is dropped, and no thread holds
up the end of the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from time import monotonic
from typing import Any, Final, TypeVar

MAX_HUNG: Final = 3  # threads that are replaced; a teacher that hangs oftener waits until one comes back
Result = TypeVar("Result")


class Threads:
    """Runs calls on `size` threads, in order of arrival. `run` must be called on one event loop.

    Args:
        size: calls at once.
        patience: seconds after which a call counts as hung.
        clock: seconds.
    """

    def __init__(self, size: int, patience: float, clock: Callable[[], float] = monotonic) -> None:
        self._size, self._patience, self._clock = size, patience, clock
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._alive = 0
        self._since: dict[threading.Thread, float] = {}  # when each busy thread's call began

    async def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """What `function` gives or raises. Cancelled before its turn, it is not called at all."""
        future: Future[Result] = Future()
        self._calls.put((future, partial(function, *arguments)))
        with self._lock:
            while self._alive - self._hung() < self._size and self._alive < self._size + MAX_HUNG:
                self._alive += 1
                threading.Thread(target=self._work, name="may-hang", daemon=True).start()
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Lets the threads end; one that hangs ends with the process."""
        for _ in range(self._size + MAX_HUNG):
            self._calls.put(None)

    def _hung(self) -> int:
        now = self._clock()
        return sum(now - since > self._patience for since in self._since.values())

    def _work(self) -> None:
        me = threading.current_thread()
        while (call := self._calls.get()) is not None:
            future, function = call
            if not future.set_running_or_notify_cancel():
                continue
            with self._lock:
                self._since[me] = self._clock()
            try:
                result = function()
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)
            with self._lock:
                del self._since[me]
                if self._alive - self._hung() > self._size:  # it hung, and another took its place
                    self._alive -= 1
                    return
