"""A whole stack as `flashsale up` runs it, on embedded servers with a payment stand-in; and the hand that kills it."""

import contextlib
import http.client
import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine, text

from cli.servers import Servers, embedded
from cli.stack import Shape, Stack, environment_of, free_port_of
from engine import connections, ids, keys
from engine.command import run
from engine.commands import Shown, peek, show
from engine.records import Position
from engine.settings import Settings
from persistence import database
from sandbox.servers import EmbeddedPostgres, EmbeddedRedis
from sandbox.stripe.process import StripeStandIn
from tests.torture.crowd import Crowd
from workers.queues import Kind
from workers.slots import SLOTS, kinds_without_slice, slot_key

COMPONENTS = ("api", "worker process", "workers", "scheduler", "redis", "postgres", "everything")
ROLES = {"api": "api", "workers": "worker", "scheduler": "scheduler"}
STOCK = {"rare": 12, "some": 60, "many": 100_000}
HOLD_SECONDS, PAYMENT_SECONDS = 2, 5
RECOVERY_SECONDS = 300.0
SETTLE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Sale:
    """A sale on the stage. ``stock`` is units by product."""

    id: str
    stock: dict[str, int]


class Stage:
    """Use it as a context, from a thread that lives as long: the servers are tied to it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sales = 0
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as exits:
            logs = self._folder / "logs"
            logs.mkdir(parents=True)
            wanted = Settings(admin_token="torture", stripe_timeout_seconds=5)
            self._servers: Servers = exits.enter_context(embedded(wanted, self._folder))
            port = free_port_of("127.0.0.1", 0)
            shape = Shape(host="127.0.0.1", port=port, api_workers=1, worker_processes=3, logs=logs)
            self._stack = exits.enter_context(Stack(self._servers, shape, self._folder))
            self._stack.start()
            self.settings = self._stack.settings
            self.env = environment_of(self.settings)
            self.db: Engine = database.connect(self.settings.database_url, 2)
            exits.callback(self.db.dispose)
            self.recover()
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    @property
    def redis(self) -> EmbeddedRedis:
        assert self._servers.redis
        return self._servers.redis

    @property
    def postgres(self) -> EmbeddedPostgres:
        assert self._servers.postgres
        return self._servers.postgres

    @property
    def stand_in(self) -> StripeStandIn:
        assert self._stack.stand_in
        return self._stack.stand_in

    @contextlib.contextmanager
    def client(self) -> Iterator[Redis]:
        """A connection of this moment: servers come and go."""
        client = connections.connect(self.settings.redis_url)
        assert isinstance(client, Redis)
        with contextlib.closing(client):
            yield client

    # -- sales
    def open_sale(self) -> Sale:
        """A new sale, known to every process."""
        self._sales += 1
        sale = Sale(f"sale-{self._sales}", {f"{name}-{self._sales}": units for name, units in STOCK.items()})
        document = {
            "id": sale.id,
            "name": "Torture",
            "hold_ttl_seconds": HOLD_SECONDS,
            "payment_ttl_seconds": PAYMENT_SECONDS,
            "products": [
                {
                    "id": name,
                    "name": name,
                    "price": {"amount": 1900, "currency": "usd"},
                    "stock": units,
                    "per_customer_limit": 2,
                }
                for name, units in sale.stock.items()
            ],
        }
        status, body = self.ask("PUT", f"/v1/admin/sales/{sale.id}", document)
        assert status == 200, body
        self.wait(lambda: all(self._shows(name) for name in sale.stock), f"{sale.id} is on sale")
        return sale

    def sells(self, sale: Sale) -> bool:
        """Whether a hold of it is answered 201 now."""
        product = max(sale.stock, key=lambda name: sale.stock[name])
        body = {"customer_id": f"probe-{time.monotonic_ns()}", "product_id": product, "qty": 1}
        return self.ask("POST", "/v1/holds", body)[0] == 201

    def _shows(self, product: str) -> bool:
        return self.ask("GET", f"/v1/products/{product}")[0] == 200

    def crowd(self, sale: Sale, seed: int, *, loses_data: bool = False) -> Crowd:
        urls = (self._stack.url, self.stand_in.base_url)
        key = self.stand_in.publishable_key
        return Crowd(urls, key, list(sale.stock), f"{sale.id}-buyer", seed, loses_data=loses_data)

    def show(self, sale: Sale) -> Shown:
        with self.client() as client:
            return run(client, show(sale.id))

    def cursor(self, sale: Sale) -> Position:
        [(epoch, seq)] = self.rows("SELECT epoch, seq FROM cursors WHERE sale_id = :sale", sale=sale.id)
        return Position(epoch, seq)

    def drained(self, sale: Sale) -> tuple[dict[str, str], Position]:
        """The status of each hold in Postgres, and the cursor, when nobody is in the middle of a drain."""
        with self.db.begin() as conn:
            query = text("SELECT epoch, seq FROM cursors WHERE sale_id = :sale FOR UPDATE")
            cursor = Position(*conn.execute(query, {"sale": sale.id}).one())
            rows = conn.execute(text("SELECT id, status FROM holds WHERE sale_id = :sale"), {"sale": sale.id})
            return {row.id: row.status for row in rows}, cursor

    def rows(self, query: str, **values: Any) -> list[Any]:
        with self.db.connect() as conn:
            return [tuple(row) for row in conn.execute(text(query), values)]

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of one request, as an operator."""
        head = {"Content-Type": "application/json", "Authorization": f"Bearer {self.settings.admin_token}"}
        connection = http.client.HTTPConnection(self._stack.url.removeprefix("http://"), timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, None if body is None else json.dumps(body), head)
            answer = connection.getresponse()
            read = answer.read()
            return answer.status, json.loads(read) if read else None

    # -- faults
    def kill(self, component: str, luck: random.Random) -> None:
        """SIGKILL. Nothing is started again before ``recover``."""
        match component:
            case "redis":
                self.redis.kill()
            case "postgres":
                self.postgres.kill()
            case "everything":
                for part in luck.sample([*ROLES, "redis", "postgres"], len(ROLES) + 2):
                    self.kill(part, luck)
            case "worker process":
                luck.choice(self._role("worker").children()).kill()
            case _:
                leader = self._role(ROLES[component])
                for each in [leader, *leader.children(recursive=True)]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        each.kill()

    def stop_workers(self) -> None:
        """SIGTERM to the workers and the scheduler; returns when they have ended."""
        for name in ("scheduler", "worker"):
            leader = self._role(name)
            leader.terminate()
            leader.wait(RECOVERY_SECONDS)

    def _role(self, name: str) -> psutil.Process:
        for each in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                line = each.cmdline()
                if "cli.main" in line and name in line:
                    return each
        raise AssertionError(f"no {name} runs")

    def copy_redis(self) -> Path:
        """Redis's files as they are at this moment, while it writes them."""
        copy = self._folder / "older"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.redis.home / "data", copy)
        return copy

    def roll_back_redis(self, older: Path) -> None:
        """Redis, which was killed, starts again on the same port with older files."""
        data = self.redis.home / "data"
        shutil.rmtree(data)
        shutil.copytree(older, data)
        self.redis.start()

    # -- after them
    def supervise(self) -> None:
        """What `flashsale up` does a few times a second."""
        self._stack.supervise()

    def recover(self) -> float:
        """Start again what died, as `flashsale up` does; the seconds until the stack works again."""
        began = time.monotonic()
        self.wait(self._works, "the stack works again", RECOVERY_SECONDS)
        return time.monotonic() - began

    def _works(self) -> bool:
        self.supervise()
        try:
            status, body = self.ask("GET", "/health/ready")
            with self.client() as client:
                return status == 200 and body["status"] == "ready" and not kinds_without_slice(client)
        except (OSError, http.client.HTTPException, RedisError):
            return False

    def settle(self, sale: Sale) -> tuple[float, str]:
        """Wait until nothing is held, owed or undrained, seen twice: what is on its way from one place to the next may
        hide from one look. The seconds that it took, and what was waited for longest.
        """
        began, last = time.monotonic(), ""
        looks: Counter[str] = Counter()

        def settled() -> bool:
            nonlocal last
            underway = self._underway(sale) or self._underway(sale)
            if underway:
                last = underway
                looks[underway] += 1
            return not underway

        self.wait(settled, lambda: f"{sale.id} settles: {last}")
        return time.monotonic() - began, max(looks, key=looks.__getitem__, default="")

    def _underway(self, sale: Sale) -> str:
        """What is not settled, in words: looked for in the order in which it moves on."""
        self.supervise()
        if underway := self.stand_in.webhooks()["underway"]:
            return f"{underway} webhooks"
        found = self.rows("SELECT id, type, status, reason FROM webhook_events WHERE due_at IS NOT NULL LIMIT 3")
        found += self.rows(
            "SELECT o.id, o.status, p.due, p.last_error FROM orders o JOIN payments p ON p.order_id = o.id"
            " WHERE o.sale_id = :sale AND (o.status = 'pending_payment' OR p.due IS NOT NULL) LIMIT 3",
            sale=sale.id,
        )
        if found:
            return str(found)
        shown = self.show(sale)
        held = {each.id: each.held for each in shown.products.values() if each.held}
        if shown.sale is None or shown.sale.fenced or held:
            return f"fenced, or held {held}"
        cursor = self.cursor(sale)
        return "" if cursor == shown.position else f"Redis is at {shown.position}, Postgres at {cursor}"

    def wait(self, so: Callable[[], bool], what: str | Callable[[], str], seconds: float = SETTLE_SECONDS) -> None:
        end = time.monotonic() + seconds
        while not so():
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds:g} s: {what if isinstance(what, str) else what()}")
            time.sleep(0.05)

    def drainers(self, client: Redis) -> set[bytes]:
        """The slices that drain now, by what only they know of their slots."""
        names = [slot_key(Kind.DRAIN, number) for number in range(SLOTS)]
        return {found for found in client.mget(names) if isinstance(found, bytes)}

    def epoch(self, client: Redis, sale: Sale) -> tuple[int, bool]:
        """The sale's epoch, and whether it is fenced."""
        epoch, fenced = client.hmget(keys.sale(sale.id), "epoch", "fenced")
        return int(epoch or 0), fenced == b"1"

    def story(self, named: str) -> list[str]:
        """All that is known of a hold, an order or a payment, for whoever looks for the cause of a breach."""
        asked = {"id": named.replace("hold_", "order_", 1), "intent": named}
        rows = self.rows("SELECT order_id FROM payments WHERE order_id = :id OR intent_id = :intent", **asked)
        order_id = rows[0][0] if rows else asked["id"]
        hold_id = order_id.replace("order_", "hold_", 1)
        parsed = ids.parse("hold", hold_id)
        found = [f"{named}:"]
        if parsed:
            with self.client() as client:
                found.append(f"  in Redis {run(client, peek(parsed[0], [parsed[1]]))[1]}")
        for table, column, name in (
            ("holds", "id", hold_id), ("orders", "id", order_id), ("payments", "order_id", order_id),
            ("attempts", "order_id", order_id), ("ledger", "hold_id", hold_id),
        ):  # fmt: skip
            shown = self.rows(f"SELECT to_jsonb(t) FROM {table} t WHERE {column} = :name", name=name)
            found += [f"  {table} {row[0]}" for row in shown]
        for intent in self.stand_in.ledger()["intents"]:
            if intent["metadata"].get("order_id") == order_id:
                found.append(f"  intent {intent}")
                query = "SELECT type, status, reason, received_at, handled_at FROM webhook_events WHERE intent_id = :id"
                found += [f"  event {row}" for row in self.rows(query, id=intent["id"])]
        return found
