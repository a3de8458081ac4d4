"""Several sales on a real cluster of three primaries with replicas; RQ on a Redis of its own, as it must be."""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
import redis

from cli.doctor.findings import State
from cli.doctor.redis_server import look_at_redis
from engine import connections, keys
from engine.settings import SettingError, Settings
from persistence import database
from persistence.reconcile import reconcile
from sandbox.processes import free_port
from sandbox.servers import EmbeddedRedis
from sandbox.stripe.process import StripeStandIn
from tests.api.server import ADMIN_TOKEN, Shop, check_problem, product, serving, settings_of
from tests.cluster.servers import Cluster, Shard, ask, cut_off, running_cluster, wait_until
from tests.workers.conftest import start_pool, start_scheduler


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="flashsale-test-") as folder, running_cluster(Path(folder)) as running:
        yield running


@pytest.fixture(scope="module")
def stripe_stand_in() -> Iterator[StripeStandIn]:
    with StripeStandIn() as stand_in:
        yield stand_in


@pytest.fixture
def settings(cluster: Cluster, redis_url: str, database_url: str, stripe_stand_in: StripeStandIn) -> Settings:
    return settings_of(
        stripe_stand_in,
        redis_url=cluster.url,
        queue_redis_url=redis_url,
        database_url=database_url,
        database_pool_size=4,
    )


@pytest.fixture
def shop(settings: Settings) -> Iterator[Shop]:
    """API, workers and scheduler on the cluster."""
    with ExitStack() as stack:
        workers, scheduler = start_pool(settings, 3), start_scheduler(settings)
        stack.callback(workers.end)
        stack.callback(scheduler.kill)
        url = stack.enter_context(serving(settings))
        yield Shop(stack.enter_context(httpx.Client(base_url=url, timeout=15)))


def load(shop: Shop, cluster: Cluster, name: str, stock: int = 50) -> list[str]:
    """A sale on each primary, with a product of the same name; their ids."""
    sales = [cluster.sale_on(shard, name) for shard in cluster.shards]
    for sale_id in sales:
        shop.load(product(sale_id, stock), sale_id=sale_id)
    return sales


def is_consistent(settings: Settings, sale_id: str) -> bool:
    db, client = database.connect(settings.database_url, 2), connections.connect(settings.redis_url)
    try:
        return reconcile(db, client, sale_id).consistent
    finally:
        client.close()
        db.dispose()


def pay(shop: Shop, hold: dict[str, str]) -> httpx.Response:
    body = {"hold_id": hold["id"], "payment_method_id": "pm_card_visa"}
    return shop.client.post("/v1/orders", json=body, headers={"Idempotency-Key": hold["id"]})


def order_status(shop: Shop, order_id: str) -> str:
    status: str = shop.client.get(f"/v1/orders/{order_id}").json()["status"]
    return status


def test_sales_spread_over_the_primaries_are_sold(shop: Shop, cluster: Cluster, settings: Settings) -> None:
    sales = load(shop, cluster, "spread", 3)
    orders = []
    for sale_id in sales:
        hold = shop.hold("ann", f"click-{sale_id}", **{sale_id: 1})
        assert shop.ask("ann", f"click-{sale_id}", **{sale_id: 1}).json() == hold
        released = shop.hold("bob", **{sale_id: 2})
        check_problem(shop.ask("cid", **{sale_id: 1}), 409, "sold_out", available=0, held=3)
        assert shop.client.delete(f"/v1/holds/{released['id']}").json()["status"] == "released"
        orders.append(pay(shop, hold).json()["id"])
    assert len(shop.client.get("/v1/products", params={"limit": 100}).json()["data"]) >= 3
    wait_until(lambda: all(order_status(shop, each) == "paid" for each in orders), "every order is paid")
    assert all(shop.stock(sale_id) == {"total": 3, "available": 2, "held": 0, "sold": 1} for sale_id in sales)
    wait_until(lambda: all(is_consistent(settings, sale_id) for sale_id in sales), "every sale is consistent")


def test_a_planned_switch_of_a_primary_loses_nothing_and_fences_nothing(
    shop: Shop, cluster: Cluster, settings: Settings
) -> None:
    """The new primary has none of the scripts, and every client still asks the old one."""
    sales = load(shop, cluster, "switch")
    for sale_id in sales:
        shop.hold("ann", **{sale_id: 1})
    cluster.hand_over(cluster.shards[1])
    for sale_id in sales:
        shop.hold("bob", **{sale_id: 1})
        assert shop.stock(sale_id)["held"] == 2
        drain = shop.admin("GET", f"/v1/admin/sales/{sale_id}").json()["drain"]
        assert drain["seq"] == 3, "loaded and two holds, and nothing else happened"
    wait_until(lambda: all(is_consistent(settings, sale_id) for sale_id in sales), "every sale is consistent")
    cluster.shards[1] = Shard(cluster.shards[1].replica, cluster.shards[1].primary, cluster.shards[1].slots)


@dataclass
class Buyers:
    """Customers who want one unit each of every sale, one after the other, until told to stop."""

    url: str
    sales: list[str]
    held: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=15) as client:
            number = 0
            while not self.stop.wait(0.01):
                number += 1
                for sale_id in self.sales:
                    self._ask(client, sale_id, f"customer-{number}")

    def _ask(self, client: httpx.Client, sale_id: str, customer: str) -> None:
        body = {"customer_id": customer, "product_id": sale_id, "qty": 1}
        answer = client.post("/v1/holds", json=body, headers={"Idempotency-Key": customer})
        code = "held" if answer.status_code == 201 else answer.json()["code"]
        if code == "held":
            self.held[sale_id] = self.held.get(sale_id, 0) + 1
        elif code in ("unavailable", "sale_unavailable"):
            self.refused[sale_id] = self.refused.get(sale_id, 0) + 1
        elif code != "sold_out":
            self.others.append(f"{sale_id}: {answer.text}")


def test_a_primary_is_killed_in_mid_sale_and_its_replica_has_not_everything(
    shop: Shop, cluster: Cluster, settings: Settings
) -> None:
    sales = load(shop, cluster, "killed", 10_000)
    shard, lost = cluster.shards[0], sales[0]
    bought = [pay(shop, shop.hold("ann", **{sale_id: 1})).json()["id"] for sale_id in sales]
    wait_until(lambda: all(order_status(shop, each) == "paid" for each in bought), "every order is paid")
    buyers = Buyers(str(shop.client.base_url), sales)
    thread = threading.Thread(target=buyers.run)
    thread.start()
    try:
        wait_until(lambda: buyers.held.get(lost, 0) > 5, "holds")
        cut_off(shard)
        late = shop.hold("late", "late", **{lost: 1})
        before = shop.admin("GET", f"/v1/admin/sales/{lost}").json()["drain"]["seq"]
        wait_until(lambda: is_drained(shop, lost, before), "Postgres has what the replica has not")
        shard.primary.kill()
        seen = {health(shop)}

        def is_sold_again() -> bool:
            seen.add(health(shop))
            return shop.ask("again", "again", **{lost: 1}).status_code == 201

        wait_until(is_sold_again, "the sale is sold again")
        wait_until(lambda: epoch_of(shard.replica, lost) == 2, "the fence notices, and the sale is rebuilt")
        wait_until(is_sold_again, "the rebuilt sale is sold")
    finally:
        buyers.stop.set()
        thread.join()
    assert buyers.others == []
    assert set(buyers.refused) == {lost}, "the other sales went on"
    assert not any(status == 503 for status, _ in seen), "their holds can be taken all the time"
    assert (200, "1 of 3 primaries away") in seen
    assert shop.client.get(f"/v1/holds/{late['id']}").json()["status"] == "held", "Postgres knew it"
    for sale_id in sales:
        shop.hold("after", **{sale_id: 1})
        stock = shop.stock(sale_id)
        assert stock["available"] + stock["held"] + stock["sold"] == stock["total"] == 10_000
        assert stock["sold"] == 1
    wait_until(lambda: all(is_consistent(settings, sale_id) for sale_id in sales), "every sale is consistent")
    wait_until(lambda: health(shop) == (200, "ok"), "all is well again")
    shard.primary.start()


def epoch_of(node: EmbeddedRedis, sale_id: str) -> int:
    return int(ask(node, "HGET", keys.sale(sale_id), "epoch"))


def is_drained(shop: Shop, sale_id: str, seq: int) -> bool:
    drained: int = shop.admin("GET", f"/v1/admin/sales/{sale_id}").json()["drain"]["drained_seq"]
    return drained >= seq


def health(shop: Shop) -> tuple[int, str]:
    answer = shop.client.get("/health/ready")
    return answer.status_code, answer.json()["checks"]["redis"]


def test_it_starts_without_its_cluster_and_says_so(settings: Settings) -> None:
    away = replace(settings, redis_url=f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}")
    with serving(away) as url, httpx.Client(base_url=url, timeout=15) as client:
        assert client.get("/health/ready").status_code == 503
        body = {"customer_id": "ann", "product_id": "sneaker", "qty": 1}
        check_problem(client.post("/v1/holds", json=body), 503, "unavailable")
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        file = {"id": "bf", "name": "Sale", "products": [product("sneaker", 1)]}
        check_problem(client.put("/v1/admin/sales/bf", json=file, headers=headers), 503, "unavailable")
        assert client.get("/metrics").status_code == 200


def test_a_server_that_is_no_cluster_is_named(redis_url: str) -> None:
    host = redis_url.rpartition("@")[2].partition("/")[0]
    password = redis_url.partition("://:")[2].rpartition("@")[0]
    client = connections.connect(f"redis+cluster://:{password}@{host}")
    with pytest.raises(redis.RedisError, match="not enabled"):
        client.get("x")


def test_the_doctor_looks_at_every_node(cluster: Cluster, settings: Settings) -> None:
    def looked_at() -> int:
        return sum(each.check == "version" for each in look_at_redis(settings))

    wait_until(lambda: looked_at() == len(cluster.nodes) + 1, "at those that came back, and at the queue's")
    findings = list(look_at_redis(settings))
    wrong = {each.check for each in findings if each.state not in (State.FINE, State.ADVICE)}
    assert wrong == {"fsync"}, "these tests do without"


@pytest.mark.parametrize("queue", ["", "redis+cluster://h:1"])
def test_a_cluster_wants_another_redis_for_the_queue(queue: str) -> None:
    with pytest.raises(SettingError, match="FLASHSALE_QUEUE_REDIS_URL"):
        Settings.from_env({"FLASHSALE_REDIS_URL": "redis+cluster://h:1", "FLASHSALE_QUEUE_REDIS_URL": queue})
