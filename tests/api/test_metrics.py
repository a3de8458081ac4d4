"""What a scrape says of the stores, and that it says what it can where one of them is away."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import sqlalchemy
from redis import Redis

from api.pools import forget_dead
from api.scrape import Kept
from api.services import MONEY_THREADS, READ_THREADS
from engine import keys
from engine.records import Position
from engine.settings import Settings
from payments.tally import METRICS_KEY
from persistence import database, drain
from persistence.promises import PROMISES
from tests.api.server import Shop, product, serving


@pytest.fixture
def db(database_url: str) -> Iterator[sqlalchemy.Engine]:
    engine = database.connect(database_url, 2)
    yield engine
    engine.dispose()


def scrape(url: str) -> dict[str, float]:
    """Each sample of ours by its name with its labels."""
    answer = httpx.get(f"{url}/metrics")
    assert answer.status_code == 200
    return {name: float(value) for name, value in re.findall(r"^(flashsale_\S+) (\S+)$", answer.text, re.MULTILINE)}


def execute(db: sqlalchemy.Engine, *queries: str) -> None:
    with db.begin() as conn:
        for query in queries:
            conn.execute(sqlalchemy.text(query))


def test_a_scrape_says_how_the_stores_stand(
    shop: Shop, settings: Settings, db: sqlalchemy.Engine, redis_client: Redis
) -> None:
    shop.load(product("sock", 9))
    shop.load(product("boot", 9), sale_id="lost")
    hold = shop.hold(sock=1)
    order = shop.order(hold).json()["id"]
    shop.order(shop.hold("bob", sock=1))
    drain.drain_to(db, redis_client, "bf", position(redis_client))
    shop.hold("carl", sock=1)
    shop.hold("dora", sock=1)
    redis_client.hset(keys.sale("bf"), "fenced", 1)
    redis_client.delete(keys.sale("lost"))
    redis_client.hset(METRICS_KEY, mapping={"calls": 7, "too_fast": 2})
    execute(
        db,
        "UPDATE payments SET status = 'requires_capture', authorised_at = now() - interval '1 hour', due = 'capture',"
        f" due_at = now() WHERE order_id = '{order}'",
        f"UPDATE orders SET status = 'cancelled', ended_because = 'refused' WHERE id <> '{order}'",
        "UPDATE payments SET status = 'requires_capture', authorised_at = now() - interval '2 hours'"
        f" WHERE order_id <> '{order}'",
        "INSERT INTO set_aside (sale_id, epoch, seq, entry, error) VALUES ('bf', 1, 1, '{}', 'a defect')",
        "INSERT INTO webhook_events (id, type, payload, status, due_at) VALUES ('evt_1', 'x', '{}', 'parked', NULL)",
    )
    with serving(settings) as url:
        found = scrape(url)
    assert 0 < found['flashsale_drain_lag_seconds{sale="bf"}'] < 600
    assert found['flashsale_oldest_webhook_event_seconds{status="parked"}'] < 600
    assert 3600 <= found.pop("flashsale_oldest_authorisation_seconds") < 3700, "the cancelled order's is being voided"
    wanted = {
        "flashsale_orders_refused": 1,
        "flashsale_events_set_aside": 1,
        'flashsale_webhook_events{status="parked"}': 1,
        'flashsale_webhook_events{status="stored"}': 0,
        'flashsale_oldest_webhook_event_seconds{status="stored"}': 0,
        'flashsale_payments_due{due="capture"}': 1,
        'flashsale_payments_due{due="void"}': 0,
        'flashsale_drain_lag_events{sale="bf"}': 2,
        'flashsale_sale_fenced{sale="bf"}': 1,
        'flashsale_sale_fenced{sale="lost"}': 1,
        'flashsale_worker_provider_events_total{event="calls"}': 7,
        'flashsale_worker_provider_events_total{event="too_fast"}': 2,
        'flashsale_worker_provider_events_total{event="declined"}': 0,
    }
    assert {name: found.get(name) for name in wanted} == wanted
    assert 'flashsale_drain_lag_events{sale="lost"}' not in found


def position(redis: Redis) -> Position:
    epoch, seq = redis.hmget(keys.sale("bf"), "epoch", "seq")
    return Position(int(epoch or 0), int(seq or 0))


def test_the_calls_of_the_api_itself_are_counted(shop: Shop, api_url: str) -> None:
    shop.load(product("sock", 1))
    assert shop.order(shop.hold(sock=1)).status_code == 201
    found = scrape(api_url)
    assert found['flashsale_provider_events_total{event="calls"}'] >= 1
    assert found['flashsale_provider_events_total{event="declined"}'] == 0


def test_the_calls_of_the_hold_script_are_measured(shop: Shop, api_url: str) -> None:
    shop.load(product("sock", 9))
    shop.hold(sock=1)
    shop.hold("bob", sock=1)
    deadline = time.monotonic() + 30
    while (found := scrape(api_url))["flashsale_hold_batch_duration_seconds_count"] < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert found["flashsale_hold_batch_size_sum"] == 2
    assert 0 < found["flashsale_hold_batch_duration_seconds_sum"] < 10


def test_the_promises_of_a_sale_that_goes_well_are_kept(shop: Shop, api_url: str) -> None:
    shop.load(product("sock", 3))
    shop.order(shop.hold(sock=1))
    shop.hold("bob", sock=2)
    found = scrape(api_url)
    assert {found[f'flashsale_promise_breaches{{promise="{promise}"}}'] for promise in PROMISES} == {0}


def test_pools_say_how_full_they_are(shop: Shop, settings: Settings, api_url: str) -> None:
    deadline = time.monotonic() + 30
    while 'flashsale_pool_size{pool="money"}' not in (found := scrape(api_url)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    sizes = {pool: found[f'flashsale_pool_size{{pool="{pool}"}}'] for pool in ("read", "money", "database", "holds")}
    assert sizes == {
        "read": READ_THREADS,
        "money": MONEY_THREADS,
        "database": settings.database_pool_size,
        "holds": settings.hold_queue_max,
    }
    assert found['flashsale_pool_waiting{pool="money"}'] == 0
    assert found['flashsale_pool_busy{pool="database"}'] <= settings.database_pool_size


def test_the_gauges_of_a_process_that_died_are_forgotten(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for pid in (dead.pid, os.getpid()):
        (tmp_path / f"gauge_livesum_{pid}.db").touch()
    forget_dead(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [f"gauge_livesum_{os.getpid()}.db"]


def test_a_scrape_without_postgres_says_the_rest(settings: Settings, redis_client: Redis) -> None:
    redis_client.hset(METRICS_KEY, "calls", 7)
    with serving(replace(settings, database_url="postgresql://nobody@127.0.0.1:9/none")) as url:
        found = scrape(url)
    assert found['flashsale_worker_provider_events_total{event="calls"}'] == 7
    assert not [
        name
        for name in found
        if name.startswith(("flashsale_orders", "flashsale_sale", "flashsale_payments", "flashsale_promise"))
    ]


def test_a_scrape_without_redis_says_the_rest(settings: Settings) -> None:
    with serving(replace(settings, redis_url="redis://127.0.0.1:9")) as url:
        found = scrape(url)
    assert found["flashsale_orders_refused"] == 0
    assert found["flashsale_oldest_authorisation_seconds"] == 0
    assert not [name for name in found if name.startswith(("flashsale_worker", "flashsale_sale", "flashsale_drain"))]


@pytest.mark.anyio
async def test_a_store_is_asked_once_by_scrapes_that_come_together() -> None:
    reads = []

    async def read() -> int:
        reads.append(1)
        await asyncio.sleep(0.05)
        return len(reads)

    kept = Kept(read)
    together = await asyncio.gather(kept.get(), kept.get())
    assert [*together, await kept.get()] == [1, 1, 1]


@pytest.mark.anyio
async def test_a_store_that_hangs_holds_no_scrape_up() -> None:
    async def hang() -> int:
        await asyncio.sleep(60)
        return 1

    kept = Kept(hang)
    began = time.monotonic()
    together = await asyncio.gather(kept.get(), kept.get())
    assert [*together] == [None, None]
    assert time.monotonic() - began < 30
    kept.close()
