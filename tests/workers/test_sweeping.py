"""Overdue holds come back on sale."""

import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

from engine import keys
from engine.command import run
from tests.workers.conftest import SALE, Shop, Workers, eventually
from workers.sweeping import BATCH_MAX, Sweeper


def sweep_until(sweeper: Sweeper, check: Callable[[], bool], seconds: float = 60.0) -> int:
    end, ended = time.monotonic() + seconds, 0
    while not check():
        assert time.monotonic() < end
        ended += sweeper.run_once()
    return ended


def test_a_sweep_ends_more_than_one_call_can(shop: Shop) -> None:
    shop.load(hold_ttl_seconds=1, sneaker=1000, sock=10)
    for _ in range(3):
        shop.hold(BATCH_MAX, "sneaker")
    shop.hold(5, "sock")
    sweeper = Sweeper(shop.db, shop.redis, threading.Event())
    ended = sweep_until(sweeper, lambda: shop.counters("sneaker")[1] == 0 and shop.counters("sock")[1] == 0)
    assert ended == 3 * BATCH_MAX + 5
    assert shop.counters("sneaker") == (1000, 0, 0)


class Impatient(threading.Event):
    """Waits for nothing, and knows for how long it should have."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.append(timeout or 0.0)
        return self.is_set()


def test_between_two_calls_redis_is_left_to_buyers_as_long_as_a_call_took(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.sweeping.BATCH_MAX", 5)
    shop.load(hold_ttl_seconds=1, sneaker=20)
    shop.hold(12, "sneaker")
    took: list[float] = []

    def timed(*args: Any) -> Any:
        began = time.monotonic()
        try:
            return run(*args)
        finally:
            took.append(time.monotonic() - began)

    monkeypatch.setattr("workers.sweeping.run", timed)
    stop = Impatient()
    sweeper = Sweeper(shop.db, shop.redis, stop)
    eventually(lambda: overdue(shop) == 12, "their deadline")
    assert sweeper.run_once() == 12
    assert len(took) == 3
    assert len(stop.asked) == 2, "not after the last one"
    for rest, call in zip(stop.asked, took, strict=False):
        assert rest >= call


def overdue(shop: Shop) -> int:
    """Holds past their deadline that nobody ended."""
    seconds, micros = shop.redis.time()
    return int(shop.redis.zcount(keys.deadlines(SALE, "sneaker"), "-inf", seconds * 1000 + micros // 1000))


def test_a_live_hold_is_left_alone(shop: Shop) -> None:
    shop.load(sneaker=10)
    shop.hold(2, "sneaker")
    sweeper = Sweeper(shop.db, shop.redis, threading.Event())
    assert [sweeper.run_once() for _ in range(3)] == [0, 0, 0]
    assert shop.counters("sneaker") == (8, 2, 0)


def test_a_product_that_redis_forgot_the_sale_of_is_published_again(shop: Shop) -> None:
    shop.load(sneaker=10)
    shop.redis.delete("fs:products")
    Sweeper(shop.db, shop.redis, threading.Event()).run_once()
    assert shop.redis.hget("fs:products", "sneaker") == SALE.encode()


def test_an_abandoned_unit_is_back_within_a_second_of_its_deadline(
    shop: Shop, start_workers: Callable[[int], Workers], scheduler: BaseProcess
) -> None:
    shop.load(hold_ttl_seconds=1, sneaker=5)
    start_workers(3)
    shop.hold(5, "sneaker")
    eventually(lambda: shop.counters("sneaker") == (5, 0, 0), "the first ones, once the workers are up")
    shop.hold(5, "sneaker")
    waited = eventually(lambda: shop.counters("sneaker") == (5, 0, 0), "the units back")
    assert waited < 2.5, "1 s of the hold, and the sweep"
    eventually(lambda: shop.held_rows() == 0, "their end in Postgres")
