"""What the bench measures on: servers, payment stand-in, API and workers of its own, on free ports of 127.0.0.1."""

import contextlib
import http.client
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Final, Self

import redis
from sqlalchemy import Engine, text

from cli.children import Role
from cli.stack import environment_of
from engine import connections, keys
from engine.command import run
from engine.commands import Shown, show
from engine.records import Position
from engine.settings import Settings
from loadtests import cpu
from loadtests.serving import answers
from loadtests.wire import Request
from payments.handlers import HANDLERS
from persistence import database, salefile
from persistence.migrate import migrate
from persistence.sales import load_sale
from sandbox.processes import free_port
from sandbox.servers import EmbeddedPostgres, EmbeddedRedis
from sandbox.stripe.process import StripeStandIn
from workers.slots import kinds_without_slice

API_PROCESSES: Final = 2
READY_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 240.0
KEPT_TABLES: Final = ("secrets", "order_feed", "alembic_version")

_numbers = count(1)


class NotSettled(RuntimeError):
    """Postgres did not catch up with Redis in time."""


@dataclass(frozen=True, slots=True)
class Sale:
    """A sale on the stage and its products' ids."""

    id: str
    products: tuple[str, ...]

    @property
    def product(self) -> str:
        return self.products[0]

    def hold(self, customers: str, product: str = "", **headers: str) -> Request:
        """The request of a hold of one unit, each by a customer of its own: ``customers`` and a number."""
        body = {"customer_id": customers + "{n}", "product_id": product or self.product, "qty": 1}
        return Request("POST", "/v1/holds", json.dumps(body, separators=(",", ":")), headers)


class Stage:
    """Use it as a context. Workers run only between ``start_workers`` and ``stop_workers``."""

    def __init__(self, folder: Path, api_processes: int = API_PROCESSES) -> None:
        self.folder = folder
        self.api_processes = api_processes
        self._stack = contextlib.ExitStack()
        self._api: Role | None = None
        self._workers: list[Role] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.valkey = stack.enter_context(EmbeddedRedis(self.folder))
            self.postgres = stack.enter_context(EmbeddedPostgres(self.folder))
            migrate(self.postgres.url)
            self.port = free_port()
            self.stand_in = StripeStandIn(
                self.folder / "stripe",
                webhook_url=f"http://127.0.0.1:{self.port}/v1/payments/webhook",
                webhook_events=HANDLERS,
            )
            self.stand_in.start()
            stack.callback(self.stand_in.stop)
            self.settings = Settings(
                redis_url=self.valkey.url,
                database_url=self.postgres.url,
                admin_token="bench",
                stripe_secret_key=self.stand_in.secret_key,
                stripe_webhook_secret=self.stand_in.webhook_secret,
                stripe_api_base=self.stand_in.base_url,
                stripe_max_per_second=10_000,
                log_level="warning",
            )
            self.db: Engine = database.connect(self.postgres.url, 4)
            stack.callback(self.db.dispose)
            client = connections.connect(self.valkey.url)
            assert isinstance(client, redis.Redis)
            self.client = client
            stack.callback(client.close)
            stack.callback(self._stop_roles)
            self.start_api()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # -- processes
    def start_api(self, **changed: Any) -> None:
        """``changed`` are settings that differ from the stage's. An API that runs is stopped first."""
        if self._api:
            self._api.stop(15)
        settings = replace(self.settings, **changed)
        listen = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", str(self.api_processes)]
        self._api = Role("api", listen, environment_of(settings), self.folder / "api.log")
        self._api.start()
        end = time.monotonic() + READY_SECONDS
        while not answers(self.port, "/health/ready"):
            if not self._api.running or time.monotonic() > end:
                raise RuntimeError(f"the API did not serve: {self._api.last_words()}")
            time.sleep(0.05)
        time.sleep(1)  # the other processes begin a moment later

    def start_workers(self) -> None:
        """Returns once a slice of every kind runs."""
        if self._workers:
            return
        env = environment_of(self.settings)
        self._workers = [Role(name, [], env, self.folder / f"{name}.log") for name in ("worker", "scheduler")]
        for role in self._workers:
            role.start()
        end = time.monotonic() + READY_SECONDS
        while kinds_without_slice(self.client):
            if time.monotonic() > end:
                raise RuntimeError(f"the workers did not start: {self._workers[0].last_words()}")
            time.sleep(0.05)

    def stop_workers(self) -> None:
        """Returns once nothing drains or sweeps any more."""
        workers, self._workers = self._workers, []
        for role in reversed(workers):
            role.stop(20)

    @contextlib.contextmanager
    def workers(self) -> Iterator[None]:
        self.start_workers()
        try:
            yield
        finally:
            self.stop_workers()

    def _stop_roles(self) -> None:
        self.stop_workers()
        if self._api:
            self._api.stop(15)

    def cpu_seconds(self) -> dict[str, float]:
        """CPU that each role has taken since its start."""
        pids: dict[str, list[int | None]] = {
            "API": [self._api.pid if self._api else None],
            "workers": [role.pid for role in self._workers],
            "Redis": [self.valkey.pid],
            "Postgres": [self.postgres.pid],
            "stand-in": [self.stand_in.pid],
        }
        return {role: cpu.seconds(pid for pid in own if pid) for role, own in pids.items()}

    # -- sales
    def load(self, *, stock: int | Mapping[str, int], ttl_seconds: int = 3600, limit: int | None = 2) -> Sale:
        """A new sale, on sale at once; ``stock`` as units by a product's short name, or of a single product."""
        number = next(_numbers)
        units = {"unit": stock} if isinstance(stock, int) else stock
        products = {f"b{number}-{name}": how_many for name, how_many in units.items()}
        document = {
            "id": f"bench-{number}",
            "name": "Bench",
            "hold_ttl_seconds": ttl_seconds,
            "products": [
                {"id": name, "name": name, "price": {"amount": 1900, "currency": "usd"}, "stock": how_many}
                | ({"per_customer_limit": limit} if limit else {})
                for name, how_many in products.items()
            ],
        }
        load_sale(self.db, self.client, salefile.parse(json.dumps(document).encode(), format="json"))
        time.sleep(1)  # the contract's second, until every process sells it
        return Sale(f"bench-{number}", tuple(products))

    def show(self, sale: Sale) -> Shown:
        return run(self.client, show(sale.id))

    def settle(self, sale: Sale, timeout_seconds: float = SETTLE_SECONDS) -> float:
        """Wait until Postgres has all of the sale's events; the seconds that it took. Raises ``NotSettled``."""
        begin = time.monotonic()
        while self.cursor(sale) < self.show(sale).position:
            if time.monotonic() - begin > timeout_seconds:
                raise NotSettled(f"sale {sale.id}: Postgres is behind after {timeout_seconds:g} s")
            time.sleep(0.02)
        return time.monotonic() - begin

    def cursor(self, sale: Sale) -> Position:
        with self.db.connect() as conn:
            row = conn.execute(text("SELECT epoch, seq FROM cursors WHERE sale_id = :s"), {"s": sale.id}).one()
            return Position(row.epoch, row.seq)

    def backlog(self, sale: Sale) -> int:
        """Events that Postgres does not have."""
        return max(self.show(sale).position.seq - self.cursor(sale).seq, 0)

    def clear(self) -> None:
        """Forget every sale, in both stores, so that no measurement weighs on the next. Workers must be stopped."""
        assert not self._workers, "stop the workers first"
        self.client.flushall()
        with self.db.begin() as conn:
            names = conn.execute(
                text(
                    "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables"
                    " WHERE schemaname IN ('public', 'peer') AND NOT tablename = ANY(:kept)"
                ),
                {"kept": list(KEPT_TABLES)},
            ).scalars()
            conn.execute(text(f"TRUNCATE {', '.join(names)}"))
        self.client.bgrewriteaof()
        while self.client.info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.02)
        with self.db.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.execute(text("CHECKPOINT"))
        os.sync()  # what is still to be written would make the next measurement's syncs wait

    def forget(self, sale: Sale) -> None:
        """One sale less, before the workers see it: what it took is gone, and nothing is drained of it."""
        self.client.delete(*keys.of_sale(sale.id, sale.products))
        self.client.hdel(keys.PRODUCTS, *sale.products)
        with self.db.begin() as conn:
            for table in ("claims", "cursors"):
                conn.execute(text(f"DELETE FROM {table} WHERE sale_id = :sale"), {"sale": sale.id})

    def memory(self) -> int:
        """Bytes that Redis's data takes."""
        info: dict[str, Any] = self.client.info("memory")
        return int(info["used_memory"]) - int(info.get("used_memory_startup", 0))

    def stream_bytes(self, sale: Sale) -> int:
        return int(self.client.memory_usage(keys.events(sale.id), samples=0) or 0)

    # -- HTTP, for what is not load
    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, {"content-type": "application/json", **headers})
            answer = connection.getresponse()
            read = answer.read()
            return answer.status, json.loads(read) if read else None
