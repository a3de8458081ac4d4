"""Threads for what is sync (Postgres, the payment provider), so many and no more; past them a bounded queue."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar

from api.pools import Use
from engine.batcher import Overloaded

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """``run`` calls a sync function in one of ``size`` threads; at most ``queue_max`` calls wait for one, and no caller
    waits longer than ``seconds`` in all. The call is in its caller's context: its request's id, its span.
    """

    def __init__(self, name: str, *, size: int, queue_max: int, seconds: float) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=name)
        self._size = size
        self._room = size + queue_max
        self._seconds = seconds
        self._running: set[Future[Any]] = set()

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Raises ``Overloaded`` where the queue is full, and ``TimeoutError``. A call that has begun goes on without
        its caller; one that waits for a thread is dropped.
        """
        if len(self._running) >= self._room:
            raise Overloaded
        running = self._pool.submit(copy_context().run, partial(call, *args, **kwargs))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.shield(asyncio.wrap_future(running))
        except (TimeoutError, asyncio.CancelledError):
            running.cancel()
            raise

    def use(self) -> Use:
        """How many calls run and wait."""
        busy = min(len(self._running), self._size)
        return Use(busy, self._size, len(self._running) - busy)

    async def close(self) -> None:
        """Wait until every call that began has ended."""
        while self._running:
            await asyncio.wait([asyncio.wrap_future(each) for each in list(self._running)])
        self._pool.shutdown(wait=False)
