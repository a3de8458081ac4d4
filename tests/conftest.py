"""Real servers for the tests: one Valkey and one PostgreSQL for each pytest worker, and a clean slate for each test.

``FLASHSALE_TEST_REDIS_URL`` and ``FLASHSALE_TEST_DATABASE_URL`` name servers to use instead. Their data is removed.
"""

import importlib
import os
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis
from psycopg import sql
from redis.backoff import NoBackoff
from redis.retry import Retry

from sandbox.servers import EmbeddedPostgres, EmbeddedRedis
from tests.sales import client, new_sale, sale

__all__ = ["client", "new_sale", "sale"]  # fixtures

_numbers = count(1)


class Server(Protocol):
    @property
    def url(self) -> str: ...


class ExternalServer:
    def __init__(self, url: str) -> None:
        self.url = url


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Async tests run as production does."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def worker_number(request: pytest.FixtureRequest) -> int:
    """0 for the first pytest worker, or where there is only one."""
    workerinput: dict[str, str] = getattr(request.config, "workerinput", {})
    return int(workerinput.get("workerid", "gw0").removeprefix("gw"))


@pytest.fixture(scope="session", autouse=True)
def outer_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment as it was; tests see none of our variables, and no stack that the developer runs."""
    outer = dict(os.environ)
    with pytest.MonkeyPatch.context() as patch:
        for name in outer:
            if name.startswith("FLASHSALE_"):
                patch.delenv(name)
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield outer


@pytest.fixture(scope="session")
def redis_server(outer_environment: dict[str, str], worker_number: int) -> Iterator[Server]:
    """This worker's Redis; its data goes with the session."""
    url = outer_environment.get("FLASHSALE_TEST_REDIS_URL")
    if url:
        yield ExternalServer(urlunsplit(urlsplit(url)._replace(path=f"/{worker_number}")))
        return
    # Killing a process loses nothing that was written; only a power cut needs an fsync for each write.
    options = {"appendfsync": "everysec", "enable-debug-command": "local"}
    with (
        tempfile.TemporaryDirectory(prefix="flashsale-test-") as folder,
        EmbeddedRedis(Path(folder), options=options) as server,
    ):
        yield server


@pytest.fixture(scope="session")
def postgres_server(outer_environment: dict[str, str]) -> Iterator[Server]:
    """This worker's PostgreSQL; its data goes with the session."""
    url = outer_environment.get("FLASHSALE_TEST_DATABASE_URL")
    if url:
        yield ExternalServer(url)
        return
    options = {"fsync": "off", "full_page_writes": "off"}
    with (
        tempfile.TemporaryDirectory(prefix="flashsale-test-") as folder,
        EmbeddedPostgres(Path(folder), options=options) as server,
    ):
        yield server


@pytest.fixture
def redis_url(redis_server: Server) -> str:
    """An empty Redis."""
    with _client(redis_server.url) as client:
        client.flushdb()
    return redis_server.url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of the empty Redis, for looking in from outside. It tries once."""
    with _client(redis_url) as client:
        yield client


@pytest.fixture
def empty_database_url(postgres_server: Server, worker_number: int) -> Iterator[str]:
    """A database with nothing in it."""
    yield from _fresh_database(postgres_server.url, worker_number, "template0")


@pytest.fixture(scope="session")
def migrated_template(postgres_server: Server, worker_number: int) -> Iterator[str]:
    """The name of a database at the current schema, made once and copied for each test."""
    made = _fresh_database(postgres_server.url, worker_number, "template0")
    url = next(made)
    try:
        migrate = importlib.import_module("persistence.migrate").migrate
    except ModuleNotFoundError as missing:
        if missing.name != "persistence.migrate":
            raise
    else:
        migrate(url)
    yield urlsplit(url).path.removeprefix("/")
    next(made, None)


@pytest.fixture
def database_url(postgres_server: Server, worker_number: int, migrated_template: str) -> Iterator[str]:
    """A database of this test's own at the current schema, with no rows."""
    yield from _fresh_database(postgres_server.url, worker_number, migrated_template)


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=10)


def _fresh_database(url: str, worker_number: int, template: str) -> Iterator[str]:
    name = f"flashsale_test_{worker_number}_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
