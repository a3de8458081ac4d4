"""Connections to Redis from the URLs that the contract allows. None of them retries by itself: a script whose reply
was lost may have happened, and only its caller knows whether asking again is safe.
"""

from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.retry
import redis.sentinel
from redis.backoff import NoBackoff

from engine.cluster import AsyncCluster, Cluster
from engine.command import AsyncClient, Client
from engine.settings import SettingError

SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "redis+sentinel")
_CONNECT_TIMEOUT_SECONDS = 2.0
_REPLY_TIMEOUT_SECONDS = 10.0
_CONNECTIONS_MAX = 1000
"""Past the number of sales that one process may sell at once; redis-py's own 100 raises instead of waiting."""


def connect(url: str, *, reply_timeout_seconds: float | None = _REPLY_TIMEOUT_SECONDS) -> Client:
    """A sync client, connected at its first command. Raises ``SettingError`` for a URL of another kind."""
    options = _options(redis.retry.Retry(NoBackoff(), 0), reply_timeout_seconds)
    match _scheme(url):
        case "redis+cluster":
            nodes = [redis.cluster.ClusterNode(*host) for host in _hosts(url, 6379)]  # type: ignore[no-untyped-call]
            return Cluster(startup_nodes=nodes, **options, **_login(url))
        case "redis+sentinel":
            return cast(redis.Redis, _master(redis.sentinel.Sentinel, url, options))
        case _:
            return redis.Redis.from_url(url, **options)


def connect_async(url: str, *, reply_timeout_seconds: float | None = _REPLY_TIMEOUT_SECONDS) -> AsyncClient:
    """The same for asyncio."""
    options = _options(redis.asyncio.retry.Retry(NoBackoff(), 0), reply_timeout_seconds)
    match _scheme(url):
        case "redis+cluster":
            nodes = [redis.asyncio.cluster.ClusterNode(host, port) for host, port in _hosts(url, 6379)]
            return AsyncCluster(startup_nodes=nodes, **options, **_login(url))
        case "redis+sentinel":
            return cast(redis.asyncio.Redis, _master(redis.asyncio.sentinel.Sentinel, url, options))
        case _:
            return redis.asyncio.Redis.from_url(url, **options)


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
    sentinels = sentinel(_hosts(url, 26379), socket_timeout=_CONNECT_TIMEOUT_SECONDS)
    return sentinels.master_for(_service(url), **options, **_login(url))


def _scheme(url: str) -> str:
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise SettingError(f"a Redis URL starts with one of {', '.join(SCHEMES)}, not {scheme!r}")
    return scheme


def _netloc(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]


def _hosts(url: str, default_port: int) -> Sequence[tuple[str, int]]:
    hosts = []
    for text in _netloc(url).rpartition("@")[2].split(","):
        host, _, port = text.strip().rpartition(":") if ":" in text else (text.strip(), "", "")
        if not host or (port and not port.isdigit()):
            raise SettingError(f"the Redis URL wants host:port,host:port, not {text!r}")
        hosts.append((host, int(port) if port else default_port))
    return hosts


def _login(url: str) -> dict[str, Any]:
    user, _, password = _netloc(url).rpartition("@")[0].partition(":")
    login = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in login.items() if value}


def _service(url: str) -> str:
    service = urlsplit(url).path.strip("/").partition("/")[0]
    if not service:
        raise SettingError("a redis+sentinel:// URL names its service: redis+sentinel://host:port,host:port/service")
    return service
