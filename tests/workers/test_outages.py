"""Workers wait for a Redis or a Postgres that is away, and go on when it is back."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine import connections
from persistence import database
from persistence.migrate import migrate
from sandbox.servers import EmbeddedPostgres, EmbeddedRedis
from tests.workers.conftest import Shop, eventually, start_pool, start_scheduler


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[EmbeddedRedis, EmbeddedPostgres]]:
    with EmbeddedRedis(tmp_path) as valkey, EmbeddedPostgres(tmp_path, options={"fsync": "off"}) as postgres:
        migrate(postgres.url)
        yield valkey, postgres


def test_workers_outlive_both_servers(servers: tuple[EmbeddedRedis, EmbeddedPostgres], shop: Shop) -> None:
    valkey, postgres = servers
    settings = replace(shop.settings, redis_url=valkey.url, database_url=postgres.url)
    own = Shop(settings, database.connect(postgres.url, 4), connections.connect(valkey.url))
    workers, scheduler = start_pool(settings, 3), start_scheduler(settings)
    try:
        own.load(sneaker=100)
        own.hold(1, "sneaker")
        eventually(lambda: _held(own) == 1, "a drain")
        pids = workers.pids

        valkey.kill()
        time.sleep(1.5)
        valkey.start()
        own.redis.close()
        own.hold(1, "sneaker")
        eventually(lambda: _held(own) == 2, "a drain after Redis was away")

        postgres.kill()
        own.hold(1, "sneaker")
        time.sleep(1.5)
        postgres.start()
        eventually(lambda: _held(own) == 3, "a drain after Postgres was away")
        assert workers.pids == pids, "no process had to be started again"
    finally:
        scheduler.kill()
        scheduler.join()
        assert workers.end() == 0
        own.db.dispose()


def _held(shop: Shop) -> int:
    try:
        return shop.held_rows()
    except Exception:  # noqa: BLE001 - the pool finds out that its connections are gone
        return -1
