"""A call that hangs keeps its thread and nothing else: not the calls behind it, nor the end of the process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from api.path.threads import MAX_HUNG, Threads

pytestmark = pytest.mark.anyio


class Hang:
    """A call that hangs until it is told to end."""

    def __init__(self) -> None:
        self.began, self.may_end = threading.Semaphore(0), threading.Event()

    def __call__(self) -> str:
        self.began.release()
        self.may_end.wait(20)
        return "late"

    async def has_begun(self) -> None:
        await asyncio.to_thread(self.began.acquire)


@pytest.fixture
def hang() -> Iterator[Hang]:
    hang = Hang()
    yield hang
    hang.may_end.set()


async def test_a_call_gives_what_its_function_gives_or_raises() -> None:
    threads = Threads(2, patience=60)
    assert await asyncio.gather(*(threads.run(pow, 2, n) for n in range(20))) == [2**n for n in range(20)]
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 1, 0)
    assert await threads.run(pow, 2, 2) == 4
    threads.close()


async def test_a_call_whose_asker_has_gone_is_never_made(hang: Hang) -> None:
    threads, made = Threads(1, patience=60), list[int]()
    first = asyncio.create_task(threads.run(hang))
    await hang.has_begun()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(threads.run(made.append, 1), 0.01)
    hang.may_end.set()
    assert await first == "late"
    await threads.run(made.append, 2)
    assert made == [2]
    threads.close()


async def test_threads_that_hang_are_replaced_up_to_a_limit_and_come_back(hang: Hang) -> None:
    now = 0.0
    threads = Threads(1, patience=1, clock=lambda: now)
    hung = []
    for _ in range(1 + MAX_HUNG):
        now += 2
        hung.append(asyncio.create_task(threads.run(hang)))
        await hang.has_begun()
    now += 2
    waiting = asyncio.create_task(threads.run(pow, 2, 3))
    await asyncio.sleep(0.01)
    assert not waiting.done()  # as many hang as are replaced
    hang.may_end.set()
    assert await waiting == 8
    assert await asyncio.gather(*hung) == ["late"] * (1 + MAX_HUNG)
    async with asyncio.timeout(10):
        while threads._alive > 1:  # those that took the place of others are over
            await asyncio.sleep(0.001)
    assert await threads.run(pow, 2, 4) == 16
    threads.close()


def test_a_process_ends_while_a_call_hangs() -> None:
    program = """
import asyncio, time
from api.path.threads import Threads
async def main():
    try:
        await asyncio.wait_for(Threads(1, 60).run(time.sleep, 3600), 0.01)
    except TimeoutError:
        print("left")
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "left\n"
