"""Reads of Redis. One script call serves all who ask for the same thing at that moment, and the connections are
bounded.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from engine import commands
from engine.command import AsyncClient, Reply, run_async
from engine.commands import Shown
from engine.futures import telling
from engine.records import HoldRecord

K = TypeVar("K")
V = TypeVar("V")

CONNECTIONS_MAX: Final = 64
"""Reads that one process sends to Redis at once; the others wait their turn."""


class Together(Generic[K, V]):
    """All who wait for a key get the answer of one read, which began after each of them asked: what somebody was told
    before is never missing from it.
    """

    def __init__(self, read: Callable[[K], Awaitable[V]]) -> None:
        self._read = read
        self._waiting: dict[K, list[Callable[[V | Exception], None]]] = {}
        self._readers: set[asyncio.Task[None]] = set()

    def ask(self, key: K, done: Callable[[V | Exception], None]) -> None:
        """``done`` is told the value, or what the read raised. It must not raise."""
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = [done]
            reader = asyncio.create_task(self._serve(key))
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)
        else:
            waiting.append(done)

    async def get(self, key: K) -> V:
        """Raises what the read raises."""
        answer: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self.ask(key, telling(answer))
        return await answer

    async def _serve(self, key: K) -> None:
        while served := self._waiting[key]:
            self._waiting[key] = []
            found: V | Exception
            try:
                found = await self._read(key)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is theirs
                found = error
            for done in served:
                done(found)
        del self._waiting[key]


class Reads:
    """``show`` and ``peek`` of ``engine.commands``. They raise ``RedisError`` where Redis is away."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._room = asyncio.Semaphore(CONNECTIONS_MAX)
        self._shown: Together[tuple[str, tuple[str, ...] | None], Shown] = Together(self._show)

    async def show(self, sale_id: str, only: Sequence[str] | None = None) -> Shown:
        """A sale and its products, or some of them."""
        return await self._shown.get((sale_id, None if only is None else tuple(only)))

    async def _show(self, key: tuple[str, tuple[str, ...] | None]) -> Shown:
        async with self._room:
            return await run_async(self._client, commands.show(*key))

    async def peek(self, sale_id: str, token: str) -> tuple[HoldRecord | None, Reply]:
        """A hold's record, or None, and the reply's head: Redis's time, and where the sale stands."""
        async with self._room:
            reply, [record] = await run_async(self._client, commands.peek(sale_id, [token]))
        return record, reply

    async def release(self, sale_id: str, token: str, products: Sequence[str]) -> commands.HoldChange:
        """Not a read, but it shares their connections."""
        async with self._room:
            return await run_async(self._client, commands.release(sale_id, token, products))
