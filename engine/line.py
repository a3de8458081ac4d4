"""Script calls that go one after another over one connection, and the time that a command on an async one may take.

A client's own command costs about as much again: it takes a connection and gives it back, counts, is ready to try
again, and its time limit makes a task of each write.
"""

import asyncio
import builtins
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

import redis.asyncio
from redis.exceptions import TimeoutError

from engine.command import AsyncClient, Command, run_async, run_by

T = TypeVar("T")

REPLY_SECONDS: Final = 10.0
"""From the beginning of a command to its reply, a new connection included."""


async def in_time(asking: Awaitable[T]) -> T:
    """Raises redis-py's ``TimeoutError`` where there is no reply in time. What is cut off closes its connection."""
    try:
        async with asyncio.timeout(REPLY_SECONDS):
            return await asking
    except builtins.TimeoutError as error:
        raise TimeoutError(f"no reply within {REPLY_SECONDS:g} s") from error


class Line:
    """One of the client's connections, from the first call until ``close``. One call at a time. A connection that
    broke is opened again by the next call. A cluster's calls go by its client, which knows where each sale lies.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._pool: Any = client.connection_pool if isinstance(client, redis.asyncio.Redis) else None
        self._connection: Any = None

    async def run(self, call: Command[T]) -> T:
        """As ``run_async``."""
        if self._pool is None:
            return await run_async(self._client, call)
        return await in_time(run_by(self._ask, call))

    async def _ask(self, *command: str | bytes | int) -> Any:
        if self._connection is None:
            self._connection = await self._pool.get_connection()
        connection = self._connection
        await connection.send_packed_command(connection.pack_command(*command), check_health=False)
        return await connection.read_response()

    async def close(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._pool.release(connection)
