"""redis-py's cluster clients, made to behave as its others do: connected at the first command, and every failure a
``RedisError``. redis-py raises ``RedisClusterException``, which is none, where no node answers.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any, TypeVar, cast

import redis
import redis.asyncio
from redis.cluster import ClusterPipeline
from redis.exceptions import ConnectionError, RedisClusterException, RedisError

from engine import keys

R = TypeVar("R")
OPTIONS: dict[str, Any] = {"reinitialize_steps": 0, "require_full_coverage": False}
"""A slot that moved is learnt alone (the fifth would otherwise close the connections under other sales' calls), and
what no node has is away without its neighbours.
"""


@contextlib.contextmanager
def _as_redis_error() -> Iterator[None]:
    try:
        yield
    except RedisClusterException as error:
        raise ConnectionError(str(error)) from error


def _said_plainly(method: Callable[..., R]) -> Callable[..., R]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> R:
        with _as_redis_error():
            return method(*args, **kwargs)

    return call


class Cluster(redis.RedisCluster):
    """The sync client. redis-py's own connects in its constructor, so that is put off to the first use."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._opening = threading.RLock()
        self._opened = False

    def _open(self) -> None:
        if self._opened:
            return
        with self._opening, _as_redis_error():
            if "nodes_manager" in self.__dict__:  # another thread was faster, or the constructor itself asks
                return
            try:
                super().__init__(**OPTIONS, **self._options)
            except BaseException:
                self.__dict__.pop("nodes_manager", None)
                raise
            self._opened = True

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        self._open()
        with _as_redis_error():
            return super().execute_command(*args, **kwargs)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> ClusterPipeline:
        self._open()
        pipeline = cast(ClusterPipeline, super().pipeline(transaction, shard_hint))  # type: ignore[no-untyped-call]
        for name in ("execute", "watch", "unlink"):
            setattr(pipeline, name, _said_plainly(getattr(pipeline, name)))
        return pipeline

    def server_of(self, key: str) -> str:
        """The address of the primary that has a key, as far as is known; empty where none has it."""
        self._open()
        nodes = self.nodes_manager.slots_cache.get(self.keyslot(key))  # type: ignore[no-untyped-call]
        return str(nodes[0].name) if nodes else ""

    def close(self) -> None:
        if self._opened:
            super().close()


class AsyncCluster(redis.asyncio.RedisCluster):
    """The asyncio client."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**OPTIONS, **options)

    async def initialize(self, *args: Any, **kwargs: Any) -> "AsyncCluster":
        # Whoever gives up meanwhile would close the connections under everybody else's calls.
        await asyncio.shield(super().initialize(*args, **kwargs))
        return self

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        with _as_redis_error():
            return await super().execute_command(*args, **kwargs)

    async def count_primaries(self) -> tuple[int, int]:
        """How many primaries answer, and how many there are. Raises ``RedisError`` where no node says who they are."""
        with _as_redis_error():
            await self.initialize()
            primaries = self.get_primaries()
            answers = await asyncio.gather(
                *(each.execute_command("PING") for each in primaries), return_exceptions=True
            )
        answered = sum(not isinstance(each, BaseException) for each in answers)
        if answered < len(primaries):  # a replica may have taken over, and nobody else may ask
            with contextlib.suppress(RedisError), _as_redis_error():  # in the middle of that it may not be known yet
                await self.nodes_manager.initialize()
        return answered, len(primaries)


def by_server(client: redis.Redis | redis.RedisCluster, sale_ids: Iterable[str]) -> list[list[str]]:
    """The sales in groups that one server has: what one pipeline asks for, and what is away together. Raises
    ``RedisError``.
    """
    if not isinstance(client, Cluster):
        order = list(sale_ids)
        return [order] if order else []
    groups: dict[str, list[str]] = {}
    for sale_id in sale_ids:
        groups.setdefault(client.server_of(keys.sale(sale_id)), []).append(sale_id)
    return list(groups.values())
