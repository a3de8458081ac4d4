"""Everything at once: many customers, webhooks twice, late and shuffled and before their orders, a provider that
fails in every way it can, workers that die. Each order settles once, and the books agree to the cent.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from payments import dues, inbox, overdue, refunds
from payments.together import Together
from persistence.drain import drain_once
from sandbox.stripe.process import StripeStandIn
from tests.conftest import Server
from tests.payments.crowd import shopping
from tests.payments.shop import Killed, Shop

SEED = 20_261_127
CHAOS = {
    "webhook_duplicate_ratio": 0.33,
    "webhook_shuffle_window": 40,
    "webhook_delay_ms": [0, 200],
    "fail_before_ratio": 0.02,
    "fail_after_ratio": 0.02,
    "sticky_fail_ratio": 0.01,
    "rate_limit_per_second": 400,
}


class Worker(threading.Thread):
    """The payments' loops as a worker runs them, dying now and then between two steps. Its calls share their sets with
    nobody else's, as in a process of its own: else customers would be told of its death.
    """

    def __init__(self, shop: Shop, seed: int) -> None:
        super().__init__(daemon=True)
        self._luck = random.Random(seed)
        self._shop = shop
        self._ctx = replace(shop.ctx, checkpoint=self._perhaps_die, together=Together())
        self.deaths = 0
        self.over = threading.Event()

    def _perhaps_die(self, step: str) -> None:
        if not self.over.is_set() and self._luck.random() < 0.01:
            self.deaths += 1
            raise Killed(step)

    def run(self) -> None:
        with ThreadPoolExecutor(4) as pool:
            while not self.over.is_set():
                with suppress(Killed):
                    inbox.handle_once(self._ctx, 50, pool)
                    dues.run_once(self._ctx, 50, pool)
                    refunds.run_once(self._ctx, 50, pool)
                    overdue.run_once(self._ctx, self._shop.sale, pool)
                drain_once(self._ctx.db, self._ctx.redis, self._shop.sale)
                time.sleep(0.02)


def finish(shop: Shop, customers: int) -> None:
    """Calm, the payment periods over, all work done: what must be true then."""
    shop.work(40)
    shop.pass_ms(100_000)
    shop.work(40)
    assert shop.rows("SELECT id FROM orders WHERE status = 'pending_payment'") == []
    assert shop.rows("SELECT id, reason FROM webhook_events WHERE status NOT IN ('handled', 'ignored')") == []
    [(paid,)] = shop.rows("SELECT count(*) FROM orders WHERE status IN ('paid', 'refunded')")
    assert customers / 3 < paid < customers
    sold = shop.rows("SELECT hold_id FROM ledger WHERE kind IN ('settled', 'retaken') AND product_id = 'sock'")
    assert len(sold) == len(set(sold)), "settled twice"
    shop.check()


@pytest.mark.timeout(150)
def test_to_the_cent(closed_shop: Shop) -> None:
    customers = 80
    shop = closed_shop.open(sneaker=2 * customers, sock=customers)
    shop.stripe.chaos(seed=SEED, **CHAOS)
    workers = [Worker(shop, SEED + each) for each in range(2)]
    for worker in workers:
        worker.start()
    try:
        with ThreadPoolExecutor(6) as pool:
            for done in [pool.submit(shopping, shop, number, SEED) for number in range(customers)]:
                done.result()
        shop.stripe.calm()
        shop.stripe.wait_delivered()
    finally:
        for worker in workers:
            worker.over.set()
            worker.join()
    assert sum(worker.deaths for worker in workers) > 0
    finish(shop, customers)


class Process:
    """A worker as a process of its own, to be killed and started again."""

    def __init__(self, shop: Shop, urls: tuple[str, str]) -> None:
        settings = shop.ctx.settings
        told = {
            "redis": urls[0], "database": urls[1], "sale": shop.sale,
            "stripe_secret_key": settings.stripe_secret_key, "stripe_api_base": settings.stripe_api_base,
        }  # fmt: skip
        self._argv = [sys.executable, "-m", "tests.payments.loop", json.dumps(told)]
        self.start()

    def start(self) -> None:
        root = Path(__file__).resolve().parents[2]
        self._process = subprocess.Popen(self._argv, cwd=root)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_ten_thousand_webhooks_with_workers_killed_ten_times(
    closed_shop: Shop, stand_in: StripeStandIn, redis_url: str, postgres_server: Server
) -> None:
    seed = int(os.environ.get("SEED") or random.randrange(1_000_000))
    print(f"\nseed {seed}: SEED={seed} make torture")  # noqa: T201
    customers, kills, luck = 2_000, 10, random.Random(seed)
    shop = closed_shop.open(sneaker=2 * customers, sock=customers)
    shop.stripe.chaos(seed=seed, **(CHAOS | {"webhook_shuffle_window": 400, "rate_limit_per_second": 0}))
    sent_before = stand_in.webhooks()["sent"]
    [(database,)] = shop.rows("SELECT current_database()")
    database_url = urlunsplit(urlsplit(postgres_server.url)._replace(path=f"/{database}"))
    workers = [Process(shop, (redis_url, database_url)) for _ in range(2)]
    began = time.monotonic()
    try:
        with ThreadPoolExecutor(12) as pool:
            shoppers = [pool.submit(shopping, shop, number, seed) for number in range(customers)]
            for nth in range(kills):
                while sum(each.done() for each in shoppers) < customers * (nth + 1) / (kills + 1):
                    time.sleep(luck.uniform(0.01, 0.3))
                worker = luck.choice(workers)
                worker.kill()
                worker.start()
            for done in shoppers:
                done.result()
        shop.stripe.calm()
        shop.stripe.wait_delivered(120)
    finally:
        for worker in workers:
            worker.kill()
    shop.work(400)
    finish(shop, customers)
    sent = stand_in.webhooks()["sent"] - sent_before
    print(f"{customers} orders, {sent} webhooks, {kills} kills, {time.monotonic() - began:.0f} s")  # noqa: T201
    assert sent >= 10_000
