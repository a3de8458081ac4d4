"""Script calls that go one after another over one connection, and the time that a command on an async one may take.

A client's own command costs about as much again: it takes a connection and gives it back, counts, is ready to try
again, and its time limit makes a task of each write.
"""

import asyncio
import builtins
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

import redis.asyncio
from redis.exceptions import NoScriptError, TimeoutError

from engine import ids
from engine.command import AsyncClient, Command, run_async

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
        self._connection: Any = None

    async def run(self, call: Command[T]) -> T:
        """As ``run_async``."""
        if not isinstance(self._client, redis.asyncio.Redis):
            return await run_async(self._client, call)
        return call.read(await in_time(self._run(self._client, call)))

    async def _run(self, client: redis.asyncio.Redis, call: Command[Any]) -> Any:
        if self._connection is None:
            self._connection = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        keys_and_args: tuple[str | bytes | int, ...] = (len(call.keys), *call.keys, ids.new_mark(), call.argument)
        try:
            return await self._ask("EVALSHA", call.script.sha, *keys_and_args)
        except NoScriptError:
            return await self._ask("EVAL", call.script.source, *keys_and_args)

    async def _ask(self, *command: str | bytes | int) -> Any:
        connection = self._connection
        await connection.send_packed_command(connection.pack_command(*command), check_health=False)
        return await connection.read_response()

    async def close(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None and isinstance(self._client, redis.asyncio.Redis):
            await self._client.connection_pool.release(connection)
