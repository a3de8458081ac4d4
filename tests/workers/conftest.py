"""A sale in both stores, and workers as real processes."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

import psutil
import pytest
import sqlalchemy

from engine import commands, connections, ids
from engine.command import Client, run
from engine.commands import HoldAnswer, HoldRequest
from engine.outcomes import Outcome
from engine.settings import Settings
from engine.shapes import Money
from persistence import database
from persistence.salefile import FileProduct, SaleFile
from persistence.sales import load_sale
from workers.pool import run_pool
from workers.runtime import Runtime, open_runtime, queue_redis
from workers.scheduler import Scheduler

SALE = "bf"


@dataclass(frozen=True, slots=True)
class Shop:
    """Both stores, and one sale with a product or more."""

    settings: Settings
    db: sqlalchemy.Engine
    redis: Client

    def load(self, *, sale_id: str = SALE, hold_ttl_seconds: int = 60, **stock: int) -> None:
        products = tuple(
            FileProduct(name, name.title(), Money(900, "usd"), None, units, None) for name, units in stock.items()
        )
        load_sale(self.db, self.redis, SaleFile(sale_id, "Sale", None, None, hold_ttl_seconds, 60, products))

    def hold(self, count: int, product: str, *, sale_id: str = SALE) -> list[str]:
        """Take that many holds of one unit in one call; their tokens."""
        wanted = [HoldRequest(ids.new_token(), f"customer-{ids.new_token()}", ((product, 1),)) for _ in range(count)]
        answers: list[HoldAnswer] = run(self.redis, commands.hold(sale_id, wanted))
        assert all(answer.outcome is Outcome.HELD for answer in answers), answers[0]
        return [request.token for request in wanted]

    def counters(self, product: str, *, sale_id: str = SALE) -> tuple[int, int, int]:
        """available, held, sold in Redis"""
        state = run(self.redis, commands.show(sale_id)).products[product]
        return state.available, state.held, state.sold

    def query(self, text: str, **values: Any) -> Any:
        """One value from Postgres."""
        with self.db.connect() as conn:
            return conn.scalar(sqlalchemy.text(text), values)

    def held_rows(self) -> int:
        count: int = self.query("SELECT count(*) FROM holds WHERE status = 'held'")
        return count

    @contextmanager
    def runtime(self) -> Iterator[Runtime]:
        runtime = open_runtime(self.settings)
        try:
            yield runtime
        finally:
            runtime.stop.set()
            runtime.close()


@pytest.fixture
def shop(redis_url: str, database_url: str) -> Iterator[Shop]:
    settings = Settings(
        redis_url=redis_url,
        database_url=database_url,
        database_pool_size=4,
        stripe_secret_key="sk_test_nobody",
        stripe_api_base="http://127.0.0.1:9",
    )
    made = Shop(settings, database.connect(database_url, 4), connections.connect(redis_url))
    yield made
    made.redis.close()
    made.db.dispose()


def eventually(check: Callable[[], bool], what: str, seconds: float = 60.0) -> float:
    """Wait until it is so; how long that took."""
    began = time.monotonic()
    while not check():
        if time.monotonic() - began > seconds:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)
    return time.monotonic() - began


@dataclass
class Workers:
    """A pool as `flashsale worker` runs it, in a process of its own."""

    process: BaseProcess

    @property
    def pids(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.process.pid).children() if _lives(child)]

    def kill_all(self) -> None:
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)

    def end(self, seconds: float = 20.0) -> int | None:
        """SIGTERM; the exit status."""
        if self.process.is_alive():
            self.process.terminate()
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        return self.process.exitcode


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def start_workers(shop: Shop) -> Iterator[Callable[[int], Workers]]:
    """Starts a pool of that many processes; they end with the test."""
    started: list[Workers] = []

    def start(processes: int = 3) -> Workers:
        started.append(start_pool(shop.settings, processes))
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.fixture
def scheduler(shop: Shop) -> Iterator[BaseProcess]:
    """A scheduler in a process of its own, that a test may kill."""
    process = start_scheduler(shop.settings)
    yield process
    process.kill()
    process.join()


def start_pool(settings: Settings, processes: int) -> Workers:
    process = multiprocessing.get_context("fork").Process(target=run_pool, args=(settings, processes))
    process.start()
    return Workers(process)


def start_scheduler(settings: Settings) -> BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=_schedule, args=(settings,), daemon=True)
    process.start()
    return process


def _schedule(settings: Settings) -> None:
    Scheduler(queue_redis(settings)).run()
