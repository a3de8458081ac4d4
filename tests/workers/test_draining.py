"""Events are in Postgres within milliseconds, each exactly once, whoever drains."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import redis
from redis.exceptions import RedisError
from sqlalchemy import text

from engine import keys
from persistence.drain import drain_once
from sandbox.servers import EmbeddedRedis
from tests.workers.conftest import SALE, Shop, Workers, eventually
from workers import draining, fence
from workers.draining import Drainer
from workers.fence import Fence
from workers.sales import read_cursors


def drain_until(shop: Shop, drainer: Drainer, check: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not check():
        assert time.monotonic() < end
        drainer.run_once()


def test_a_new_hold_is_in_postgres_at_once(shop: Shop) -> None:
    shop.load(sneaker=10)
    drainer = Drainer(shop.db, shop.redis, threading.Event())
    drainer.run_once()
    shop.hold(1, "sneaker")
    assert drainer.run_once() == 1
    assert shop.held_rows() == 1


def test_an_idle_drainer_waits_on_its_streams_and_returns(shop: Shop) -> None:
    shop.load(sneaker=10)
    drainer = Drainer(shop.db, shop.redis, threading.Event())
    drainer.run_once()
    began = time.monotonic()
    assert drainer.run_once() == 0
    assert 0.1 < time.monotonic() - began < 10


def test_a_sale_that_is_loaded_later_is_found(shop: Shop) -> None:
    drainer = Drainer(shop.db, shop.redis, threading.Event())
    assert drainer.run_once() == 0
    shop.load(sneaker=10)
    shop.hold(2, "sneaker")
    drain_until(shop, drainer, lambda: shop.held_rows() == 2)


def test_two_drainers_bring_each_event_once(shop: Shop) -> None:
    shop.load(sneaker=5000)
    shop.load(sale_id="other", sock=5000)
    stop = threading.Event()

    def work() -> None:
        drainer = Drainer(shop.db, shop.redis, stop)
        while not stop.is_set():
            drainer.run_once()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(150):
        shop.hold(5, "sneaker")
        shop.hold(3, "sock", sale_id="other")
    try:
        eventually(lambda: shop.held_rows() == 150 * 8, "every hold in Postgres")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert shop.query("SELECT held FROM products WHERE id = 'sneaker'") == 750
    assert shop.query("SELECT held FROM products WHERE id = 'sock'") == 450
    assert shop.query("SELECT count(*) FROM ledger WHERE kind = 'held'") == 150 * 8
    assert shop.query("SELECT seq FROM cursors WHERE sale_id = 'bf'") == 151


def test_a_sale_that_cannot_be_drained_does_not_hold_up_the_others(shop: Shop) -> None:
    shop.load(sneaker=10)
    shop.load(sale_id="broken", sock=10)
    shop.redis.delete(keys.events("broken"))
    shop.redis.set(keys.events("broken"), "no stream")
    shop.hold(1, "sneaker")
    drainer = Drainer(shop.db, shop.redis, threading.Event())
    end = time.monotonic() + 60
    while not shop.held_rows():
        assert time.monotonic() < end
        drainer.run_once()


def test_a_sale_that_redis_lost_is_rebuilt_and_sells_again(shop: Shop) -> None:
    shop.load(sneaker=10)
    shop.hold(3, "sneaker")
    drainer = Drainer(shop.db, shop.redis, threading.Event())
    drain_until(shop, drainer, lambda: shop.held_rows() == 3)
    shop.redis.flushdb()
    drain_until(shop, drainer, lambda: bool(shop.redis.exists(keys.sale(SALE))))
    eventually(lambda: shop.counters("sneaker") == (7, 3, 0), "the sale as it was")
    shop.hold(1, "sneaker")
    drain_until(shop, drainer, lambda: shop.held_rows() == 4)


def test_a_redis_that_lost_the_last_events_is_noticed_without_any_news(shop: Shop) -> None:
    shop.load(sneaker=10)
    drainer = Drainer(shop.db, shop.redis, threading.Event())
    before = shop.redis.dump(keys.sale(SALE)), shop.redis.dump(keys.stock(SALE)), shop.redis.dump(keys.events(SALE))
    shop.hold(2, "sneaker")
    drain_until(shop, drainer, lambda: shop.held_rows() == 2)
    for key, value in zip((keys.sale(SALE), keys.stock(SALE), keys.events(SALE)), before, strict=True):
        assert isinstance(value, bytes)
        shop.redis.restore(key, 0, value, replace=True)
    drain_until(shop, drainer, lambda: shop.counters("sneaker") == (8, 2, 0))


def test_a_redis_that_grew_past_the_cursor_is_noticed_while_others_drain_in_vain(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them has the cursor's lock for a moment, and hardly ever nobody has."""
    monkeypatch.setattr(draining, "BUSY_REST_SECONDS", 60)
    shop.load(sneaker=100)
    names = (keys.sale(SALE), keys.stock(SALE), keys.events(SALE))
    before = [shop.redis.dump(name) for name in names]
    shop.hold(2, "sneaker")
    drainer = Drainer(shop.db, shop.redis, threading.Event())
    drain_until(shop, drainer, lambda: shop.held_rows() == 2)
    for name, value in zip(names, before, strict=True):
        assert isinstance(value, bytes)
        shop.redis.restore(name, 0, value, replace=True)
    for _ in range(3):
        shop.hold(1, "sneaker")
    drainer._fence_due.due()
    with shop.db.begin() as conn:
        conn.execute(text("SELECT 1 FROM cursors FOR UPDATE"))
        assert drainer.run_once() == 0, "it is busy, and rests"
        assert Fence(shop.db, shop.redis).find_astray(read_cursors(shop.db), [SALE]) == {SALE}
    drainer._look_first()
    drainer.run_once()
    assert shop.counters("sneaker") == (98, 2, 0)


def test_what_is_not_drained_yet_is_not_astray(shop: Shop) -> None:
    shop.load(sneaker=100)
    fence = Fence(shop.db, shop.redis)
    for _ in range(3):
        shop.hold(1, "sneaker")
        assert fence.find_astray(read_cursors(shop.db), [SALE]) == set()
        assert drain_once(shop.db, shop.redis, SALE, entries=1)


def test_a_redis_that_was_away_is_looked_at_first_when_it_is_back(shop: Shop, tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        own = replace(shop, redis=server.client())
        own.load(sneaker=100)
        own.hold(2, "sneaker")
        drainer = Drainer(own.db, own.redis, threading.Event())
        drain_until(own, drainer, lambda: own.held_rows() == 2)
        server.kill()
        with pytest.raises(RedisError):
            drainer.run_once()
        server.start()
        own.redis.flushdb()
        drainer.run_once()
        assert own.counters("sneaker") == (98, 2, 0)


@pytest.mark.parametrize("at", ["drain_once", "rebuild_if_lost"])
def test_a_redis_that_goes_away_in_mid_drain_is_waited_for_by_the_slice(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise redis.exceptions.ConnectionError

    shop.load(sneaker=10)
    shop.hold(1, "sneaker")
    if at == "rebuild_if_lost":
        assert drain_once(shop.db, shop.redis, SALE)
        shop.redis.flushdb()
    monkeypatch.setattr(draining if at == "drain_once" else fence, at, gone)
    with pytest.raises(redis.exceptions.ConnectionError):
        Drainer(shop.db, shop.redis, threading.Event()).run_once()


def test_lag_is_milliseconds_with_workers_running(
    shop: Shop, start_workers: Callable[[int], Workers], scheduler: BaseProcess
) -> None:
    shop.load(sneaker=100)
    start_workers(3)
    shop.hold(1, "sneaker")
    eventually(lambda: shop.held_rows() == 1, "the first hold, once the workers are up")
    lags = []
    for count in range(2, 12):
        shop.hold(1, "sneaker")
        lags.append(eventually(lambda count=count: shop.held_rows() == count, "a hold in Postgres"))  # type: ignore[misc]
    assert sorted(lags)[5] < 0.5, lags  # some 10 ms on an idle machine
