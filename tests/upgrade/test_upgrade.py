"""An upgrade in mid-sale, as docs/runbooks.md says it: two versions of scripts, processes and schema side by side."""

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import pytest
import redis
from alembic import command
from alembic.config import Config
from sqlalchemy import text

import lua
from cli.stack import environment_of
from engine import connections, keys
from engine.events import LATER, read_event
from engine.records import unpack
from engine.settings import Settings
from persistence import database, migrate
from persistence.overview import show_sale
from persistence.reconcile import reconcile
from sandbox.processes import free_port
from sandbox.stripe.process import StripeStandIn
from tests.api.server import Shop, product, serving, settings_of
from tests.house.paths import ROOT
from tests.persistence.test_migrate import REVISIONS
from tests.sales import SaleUnderTest
from tests.workers.conftest import Workers, eventually, start_pool, start_scheduler
from workers.queues import Kind, queue_name

PACKAGES = ("api", "cli", "engine", "lua", "payments", "persistence", "sandbox", "workers")
PATIENCE_SECONDS = 90.0


@pytest.fixture(scope="module")
def stand_in() -> Iterator[StripeStandIn]:
    with StripeStandIn() as running:
        yield running


@pytest.fixture
def settings(redis_url: str, database_url: str, stand_in: StripeStandIn) -> Settings:
    return settings_of(stand_in, redis_url=redis_url, database_url=database_url, database_pool_size=4)


@pytest.fixture(scope="module")
def other_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This very code with other scripts, so that Redis knows them by another name, and with the first queues, whose
    jobs are pickled.
    """
    folder = tmp_path_factory.mktemp("other")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for script in (folder / "lua").glob("*.lua"):
        script.write_text(script.read_text() + "-- of another version\n")
    for module in ("queues", "worker", "scheduler"):
        shutil.copy(ROOT / "tests" / "upgrade" / "first" / f"{module}.py", folder / "workers")
    return folder


@contextmanager
def role(folder: Path, settings: Settings, *arguments: str) -> Iterator[None]:
    """A process of another version."""
    env = {**environment_of(settings), "PYTHONPATH": str(folder)}
    process = subprocess.Popen([sys.executable, "-m", "cli.main", *arguments], cwd=folder, env=env)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def client(url: str) -> Iterator[Shop]:
    with httpx.Client(base_url=url, timeout=15) as opened:
        yield Shop(opened)


def is_ready(shop: Shop) -> bool:
    try:
        return shop.client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def order(shop: Shop, hold_id: str) -> str:
    body = {"hold_id": hold_id, "payment_method_id": "pm_card_visa"}
    answer = shop.client.post("/v1/orders", json=body, headers={"Idempotency-Key": hold_id})
    assert answer.status_code == 201, answer.text
    order_id: str = answer.json()["id"]
    return order_id


def status(shop: Shop, order_id: str) -> str:
    found: str = shop.client.get(f"/v1/orders/{order_id}").json()["status"]
    return found


def reconciled(settings: Settings, redis_client: redis.Redis) -> bool:
    """Whether both stores say the same, and Postgres has every event."""
    db = database.connect(settings.database_url, 1)
    with contextlib.closing(connections.connect(settings.redis_url)) as redis:
        drained = show_sale(db, redis, "bf").drain
    found = reconcile(db, redis_client, "bf").consistent
    db.dispose()
    return found and drained.seq == drained.drained_seq


def check(settings: Settings, redis_client: redis.Redis) -> None:
    """Nothing lost, nothing twice."""
    eventually(lambda: reconciled(settings, redis_client), "it adds up", PATIENCE_SECONDS)
    db = database.connect(settings.database_url, 2)
    stream: Any = redis_client.xrange(keys.events("bf"))
    numbers = [int(entry.split(b"-")[1]) for entry, _ in stream]
    assert numbers == list(range(1, len(numbers) + 1))
    with db.connect() as conn:
        assert conn.scalar(text("SELECT count(*) FROM set_aside")) == 0
    db.dispose()


def test_two_versions_sell_one_sale_side_by_side(
    settings: Settings, other_version: Path, redis_client: redis.Redis
) -> None:
    with ExitStack() as stack:
        port = free_port()
        stack.enter_context(role(other_version, settings, "api", "--port", str(port)))
        stack.enter_context(role(other_version, settings, "worker", "--processes", "2"))
        stack.enter_context(role(other_version, settings, "scheduler"))
        scheduler, workers = start_scheduler(settings), start_pool(settings, 2)
        stack.callback(workers.end)
        stack.callback(scheduler.kill)
        new = stack.enter_context(client(stack.enter_context(serving(settings))))
        old = stack.enter_context(client(f"http://127.0.0.1:{port}"))
        eventually(lambda: is_ready(old) and is_ready(new), "both are ready", PATIENCE_SECONDS)
        eventually(lambda: len(workers.pids) == 2, "the workers run")
        began = time.time()
        new.load(product("sneaker", 40))
        orders = []
        for number in range(10):
            one, other = (old, new) if number % 2 else (new, old)
            hold = one.hold(f"customer-{number}", f"click-{number}", sneaker=2)
            assert other.ask(f"customer-{number}", f"click-{number}", sneaker=2).json() == hold, "a replay finds it"
            if number == 5:
                redis_client.script_flush()
            if number % 3:
                orders.append(order(other, hold["id"]))
            else:
                assert other.client.delete(f"/v1/holds/{hold['id']}").json()["status"] == "released"
        eventually(
            lambda: all(status(old, each) == status(new, each) == "paid" for each in orders),
            "every order is paid",
            PATIENCE_SECONDS,
        )
        assert old.stock("sneaker") == new.stock("sneaker") == {"total": 40, "available": 28, "held": 0, "sold": 12}
        check(settings, redis_client)
        cached = redis_client.script_exists(lua.script("hold").sha)
        assert cached == [True]
        every = {f"rq:queue:{name}" for kind in Kind for name in (queue_name(kind), f"flashsale-{kind.value}")}
        names: Any = redis_client.smembers("rq:queues")
        assert {str(name, "ascii") for name in names} == every
        for pid in workers.pids:
            assert psutil.Process(pid).create_time() < began, "a worker met a job that it could not read"


def test_workers_go_on_where_only_a_scheduler_of_the_version_before_runs(
    settings: Settings, other_version: Path, redis_client: redis.Redis
) -> None:
    """Workers may be upgraded before the scheduler, and their new queues are woken by themselves."""
    with ExitStack() as stack:
        stack.enter_context(role(other_version, settings, "scheduler"))
        eventually(lambda: bool(redis_client.llen("rq:queue:flashsale-drain")), "the scheduler runs", PATIENCE_SECONDS)
        workers = start_pool(settings, 3)
        stack.callback(workers.end)
        shop = stack.enter_context(client(stack.enter_context(serving(settings))))
        shop.load(product("sneaker", 10))
        shop.hold("ann", sneaker=1)
        eventually(lambda: reconciled(settings, redis_client), "the hold is drained", PATIENCE_SECONDS)
        workers.kill_all()
        shop.hold("bob", sneaker=1)
        eventually(lambda: reconciled(settings, redis_client), "it is drained by new processes", PATIENCE_SECONDS)


def later_schema(settings: Settings) -> None:
    """What a later version's migration may do: add columns that may be null, and say that it was here."""
    db = database.connect(settings.database_url, 1)
    with db.begin() as conn:
        tables = conn.scalars(
            text("SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'")
        ).all()
        for table in tables:
            conn.execute(text(f'ALTER TABLE "{table}" ADD COLUMN of_a_later_version text'))
        conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    db.dispose()


@pytest.fixture
def run_workers(settings: Settings) -> Iterator[Callable[[], Workers]]:
    with ExitStack() as stack:

        def start() -> Workers:
            scheduler, workers = start_scheduler(settings), start_pool(settings, 3)
            stack.callback(workers.end)
            stack.callback(scheduler.kill)
            return workers

        yield start


def test_an_older_version_sells_on_while_the_schema_gets_newer(
    settings: Settings, redis_client: redis.Redis, run_workers: Callable[[], Workers]
) -> None:
    workers = run_workers()
    with serving(settings) as url, client(url) as shop:
        shop.load(product("sneaker", 10))
        before = order(shop, shop.hold("ann", sneaker=1)["id"])
        later_schema(settings)
        after = order(shop, shop.hold("bob", sneaker=1)["id"])
        eventually(
            lambda: {status(shop, before), status(shop, after)} == {"paid"}, "both orders are paid", PATIENCE_SECONDS
        )
        assert len(workers.pids) == 3
    with serving(settings) as url, client(url) as shop:  # one that is started only now
        eventually(lambda: is_ready(shop), "it is ready", PATIENCE_SECONDS)
        assert shop.stock("sneaker")["sold"] == 2
    check(settings, redis_client)


def test_a_newer_version_waits_for_its_schema(
    settings: Settings, empty_database_url: str, redis_client: redis.Redis
) -> None:
    """It says what it waits for, takes nothing, and goes on by itself after `flashsale migrate`."""
    ahead = replace(settings, database_url=empty_database_url)
    db = database.connect(empty_database_url, 1)
    with db.begin() as conn:
        config = Config()
        config.set_main_option("script_location", "persistence:migrations")
        config.attributes["connection"] = conn
        command.upgrade(config, REVISIONS[-2])
    with ExitStack() as stack:
        workers, scheduler = start_pool(ahead, 3), start_scheduler(ahead)
        stack.callback(workers.end)
        stack.callback(scheduler.kill)
        shop = stack.enter_context(client(stack.enter_context(serving(ahead))))
        ready = shop.client.get("/health/ready")
        assert (ready.status_code, ready.json()["checks"]["postgres"]) == (503, "not migrated")
        migrate.migrate(empty_database_url)
        eventually(lambda: is_ready(shop), "it is ready", PATIENCE_SECONDS)
        shop.load(product("sneaker", 10))
        bought = order(shop, shop.hold("ann", sneaker=1)["id"])
        eventually(lambda: status(shop, bought) == "paid", "the order is paid", PATIENCE_SECONDS)
        assert len(workers.pids) == 3
        check(ahead, redis_client)
    db.dispose()


def test_what_a_later_version_adds_to_an_event_is_passed_over(sale: SaleUnderTest) -> None:
    sale.load(sneaker=5)
    sale.hold("ann", sneaker=1)
    [(loaded_id, loaded), (held_id, held)] = sale.client.xrange(keys.events(sale.id))
    assert read_event(held_id, {**held, LATER: b"\x81\xa1x\x01"}) == read_event(held_id, held)
    for entry_id, fields in ((loaded_id, loaded), (held_id, held)):
        longer = {name: _longer(name, value) for name, value in fields.items()}
        assert longer != fields
        assert read_event(entry_id, longer) == read_event(entry_id, fields)
    [packed] = [value for name, value in held.items() if name not in (b"kind", b"mark", b"at")]
    assert unpack(_longer(b"", packed)) == unpack(packed)


def _longer(name: bytes, value: bytes) -> bytes:
    """A packed record with something of a later version at its end."""
    if name in (b"kind", b"mark", b"at"):
        return value
    found = msgspec.msgpack.decode(value)
    if name == b"products":
        return msgspec.msgpack.encode([[*each, "later"] for each in found])
    defaults = [None, None][: 8 - len(found)] if name != b"sale" else []
    return msgspec.msgpack.encode([*found, *defaults, "later"])
