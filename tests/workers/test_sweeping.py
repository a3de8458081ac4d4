"""Overdue holds come back on sale."""

import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess

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
