"""Connections to Redis from the URLs that the contract allows, which ``Settings`` has looked at. None of them retries
by itself: a script whose reply was lost may have happened, and only its caller knows whether asking again is safe.
"""

from typing import Any, cast

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.retry
import redis.sentinel
from redis.backoff import NoBackoff

from engine import urls
from engine.cluster import AsyncCluster, Cluster
from engine.command import AsyncClient, Client
from engine.line import REPLY_SECONDS, in_time

_CONNECT_TIMEOUT_SECONDS = 2.0
_CONNECTIONS_MAX = 1000
"""Past the number of sales that one process may sell at once; redis-py's own 100 raises instead of waiting."""


class _AsyncRedis(redis.asyncio.Redis):
    """Its connections have no time limit of their own, so each command has one as a whole."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        return await in_time(super().execute_command(*args, **options))  # type: ignore[no-untyped-call]


def connect(url: str, *, reply_timeout_seconds: float | None = REPLY_SECONDS) -> Client:
    """A sync client, connected at its first command."""
    options = _options(redis.retry.Retry(NoBackoff(), 0), reply_timeout_seconds)
    match urls.scheme(url):
        case "redis+cluster":
            nodes = [redis.cluster.ClusterNode(*host) for host in urls.cluster_nodes(url)]  # type: ignore[no-untyped-call]
            return Cluster(startup_nodes=nodes, **options, **urls.login(url))
        case "redis+sentinel":
            return cast(redis.Redis, _master(redis.sentinel.Sentinel, url, options))
        case _:
            return redis.Redis.from_url(url, **options)


def connect_async(url: str) -> AsyncClient:
    """The same for asyncio."""
    retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
    match urls.scheme(url):
        case "redis+cluster":
            nodes = [redis.asyncio.cluster.ClusterNode(host, port) for host, port in urls.cluster_nodes(url)]
            return AsyncCluster(startup_nodes=nodes, **_options(retry, REPLY_SECONDS), **urls.login(url))
        case "redis+sentinel":
            options = _options(retry, None) | {"redis_class": _AsyncRedis}
            return cast(redis.asyncio.Redis, _master(redis.asyncio.sentinel.Sentinel, url, options))
        case _:
            return _AsyncRedis.from_url(url, **_options(retry, None))


def _options(retry: Any, reply_timeout_seconds: float | None) -> dict[str, Any]:
    return {
        "retry": retry,
        "protocol": 2,
        "socket_connect_timeout": _CONNECT_TIMEOUT_SECONDS,
        "socket_timeout": reply_timeout_seconds,
        "health_check_interval": 0,
        "max_connections": _CONNECTIONS_MAX,
    }


def _master(sentinel: Any, url: str, options: dict[str, Any]) -> Any:
    sentinels = sentinel(urls.sentinels(url), socket_timeout=_CONNECT_TIMEOUT_SECONDS)
    return sentinels.master_for(urls.sentinel_service(url), **options, **urls.login(url))
