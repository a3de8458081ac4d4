"""What waits in a process is done in sets: one call in a thread takes all that wait, and what arrives while it runs, or
while the sets linger, is the next one. With nobody before it, a request is done at once.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Final, Generic, TypeVar

from api.threads import Threads
from engine.batcher import Overloaded
from engine.futures import telling

W = TypeVar("W")
A = TypeVar("A")

SET_MAX: Final = 128
"""What one call takes at most: its transaction stays short."""


class Sets(Generic[W, A]):
    """For the tasks of one event loop. ``work`` gives each wish's own answer, or why there is none; what it raises is
    everybody's. ``linger_seconds`` lie behind a set, unless the next one is full: for what is not in a hurry.
    """

    def __init__(
        self,
        threads: Threads,
        work: Callable[[Sequence[W]], Sequence[A | Exception]],
        *,
        queue_max: int,
        linger_seconds: float = 0.0,
    ) -> None:
        self._threads = threads
        self._work = work
        self._queue_max = queue_max
        self._linger_seconds = linger_seconds
        self._waiting: deque[tuple[W, Callable[[A | Exception], None]]] = deque()
        self._sender: asyncio.Task[None] | None = None

    def submit(self, wish: W, done: Callable[[A | Exception], None]) -> None:
        """``done`` is told the answer, or the error. It must not raise. Raises ``Overloaded`` where too many wait."""
        if len(self._waiting) >= self._queue_max:
            raise Overloaded
        self._waiting.append((wish, done))
        if self._sender is None:  # in a context of its own: it is not only of the request that came first
            self._sender = asyncio.get_running_loop().create_task(self._empty(), context=Context())

    async def do(self, wish: W) -> A:
        """``submit``, and wait. Raises what the answer would be."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self.submit(wish, telling(answer))
        return await answer

    async def close(self) -> None:
        """Wait until everybody has an answer."""
        while self._sender is not None:
            await asyncio.wait([self._sender])

    async def _empty(self) -> None:
        try:
            while self._waiting:
                taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), SET_MAX))]
                answers: Sequence[A | Exception]
                try:
                    answers = await self._threads.run(self._work, [wish for wish, _ in taken])
                except Exception as error:  # noqa: BLE001 - whatever it is, nobody is left waiting
                    answers = [error] * len(taken)
                for (_, done), answer in zip(taken, answers, strict=True):
                    done(answer)
                if self._linger_seconds and len(self._waiting) < SET_MAX:
                    await asyncio.sleep(self._linger_seconds)
        finally:
            self._sender = None
