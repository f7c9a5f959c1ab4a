"""An event loop whose time is a number: it jumps to the next timer instead of waiting for it.

Everything runs in one thread and in one order, so that a seed is a whole history. A ``Life`` is a program
that can be killed: its tasks know it, and after a kill none of them has an effect any more.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any


class Killed(BaseException):
    """The program is no more. Not an Exception: no program sees its own death."""


class Life:
    """One run of a program, from its start to its end."""

    def __init__(self) -> None:
        self.dead = False
        self.ended = asyncio.Event()
        # In the order in which they began: that of a set would be another one in each run.
        self.tasks: dict[asyncio.Task[Any], None] = {}

    def kill(self) -> None:
        if self.dead:
            return
        self.dead = True
        current = asyncio.current_task()
        for task in list(self.tasks):
            if task is not current and not task.done():
                task.cancel()
        self.ended.set()


LIFE: ContextVar[Life | None] = ContextVar("life", default=None)


class _Jumping(selectors.SelectSelector):
    """Nothing is ever waited for: there is no file that anybody listens to."""

    def __init__(self) -> None:
        super().__init__()
        self.loop: Loop | None = None

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everybody waits for something that will not happen")
        assert self.loop is not None
        self.loop.now += max(0.0, timeout)
        return []


class Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = 0.0
        selector = _Jumping()
        super().__init__(selector)
        selector.loop = self
        # Timers that are due within a microsecond are due: no float is exact.
        self._clock_resolution = 1e-6
        self.turns = 0
        self.each_turn: Callable[[], None] = lambda: None
        self.set_task_factory(_task)

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        self.turns += 1
        self.each_turn()
        super()._run_once()  # type: ignore[misc]  # there is no public hook


def _task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **more: Any) -> asyncio.Task[Any]:
    task = asyncio.Task(work, loop=loop, **more)
    life = LIFE.get()
    if life is not None:
        life.tasks[task] = None
        task.add_done_callback(lambda done: life.tasks.pop(done, None))
        if life.dead:
            task.cancel()
    return task


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop = Loop()
    try:
        loop.set_exception_handler(lambda _loop, _context: None)
        loop.run_until_complete(main())
    finally:
        loop.each_turn = lambda: None
        for _ in range(5):
            left = asyncio.all_tasks(loop)
            if not left:
                break
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.wait(left, timeout=1))
        loop.close()
