"""The URLs that the environment may name, taken apart. All raise ``ValueError`` that says what is wrong, without the
password.
"""

from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote, urlsplit

REDIS_SCHEMES: Final = ("redis", "rediss", "unix", "redis+cluster", "redis+sentinel")
POSTGRES_SCHEMES: Final = ("postgresql", "postgres", "postgresql+psycopg")
PORT_MAX: Final = 65_535
_CLUSTER_PORT, _SENTINEL_PORT = 6379, 26379
_UNREADABLE = "cannot be read: it wants scheme://host:port, the port a number, and a password percent-encoded"


def scheme(url: str) -> str:
    return url.partition("://")[0]


def check_redis(url: str) -> None:
    """Whether it can be one of Redis's."""
    _one_of(url, REDIS_SCHEMES)
    match scheme(url):
        case "redis+cluster":
            cluster_nodes(url)
        case "redis+sentinel":
            sentinels(url)
            sentinel_service(url)
        case _:
            from redis.connection import parse_url  # noqa: PLC0415 - `--help` does without Redis

            try:
                parse_url(url)  # type: ignore[no-untyped-call]
            except ValueError:  # which may repeat a part of the password
                raise ValueError(_UNREADABLE) from None


def check_postgres(url: str) -> None:
    """Whether its scheme is Postgres's; libpq reads the rest."""
    _one_of(url, POSTGRES_SCHEMES)


def check_http(url: str) -> None:
    """Whether it names a server that speaks HTTP."""
    _one_of(url, ("http", "https"))
    try:
        parts = urlsplit(url)
        known = bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise ValueError(_UNREADABLE)


def cluster_nodes(url: str) -> Sequence[tuple[str, int]]:
    return _hosts(url, _CLUSTER_PORT)


def sentinels(url: str) -> Sequence[tuple[str, int]]:
    return _hosts(url, _SENTINEL_PORT)


def sentinel_service(url: str) -> str:
    service = urlsplit(url).path.strip("/").partition("/")[0]
    if not service:
        raise ValueError("names no service: redis+sentinel://host:port,host:port/service")
    return service


def login(url: str) -> dict[str, str]:
    """``username`` and ``password``, where they are given."""
    user, _, password = _netloc(url).rpartition("@")[0].partition(":")
    given = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in given.items() if value}


def _one_of(url: str, schemes: Sequence[str]) -> None:
    if "://" not in url or scheme(url) not in schemes:
        raise ValueError(f"starts with {', '.join(f'{each}://' for each in schemes)}")


def _netloc(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]


def _hosts(url: str, default_port: int) -> Sequence[tuple[str, int]]:
    hosts = []
    for text in _netloc(url).rpartition("@")[2].split(","):
        host, _, port = text.strip().rpartition(":") if ":" in text else (text.strip(), "", "")
        if not host or (port and not (port.isascii() and port.isdigit() and int(port) <= PORT_MAX)):
            raise ValueError(f"wants host:port,host:port, not {text!r}")
        hosts.append((host, int(port) if port else default_port))
    return hosts
