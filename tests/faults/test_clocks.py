"""Clocks that jump: Redis's own moves deadlines by as much and nothing else; nobody else's matters."""

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.api.server import Shop, check_problem, product
from tests.faults.house import RECOVERY_SECONDS, House
from tests.workers.conftest import eventually

pytestmark = [pytest.mark.xdist_group("faults"), pytest.mark.timeout(240)]

HOUR = 3600
LIBRARIES = [path for root in ("/usr/lib", "/usr/lib64") for path in Path(root).glob("**/faketime/libfaketimeMT.so.1")]


class Clock:
    """A clock that processes started inside ``worn`` go by: ours, and as many seconds more as ``jump`` says."""

    def __init__(self, folder: Path, library: Path) -> None:
        self._file = folder / "clock"
        self._env = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # as a clock does that somebody sets
        }
        self.jump(0)

    def jump(self, seconds: int) -> None:
        self._file.write_text(f"{seconds:+d}\n")

    @contextlib.contextmanager
    def worn(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self._env.items():
                patch.setenv(name, value)
            yield


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    if not LIBRARIES:
        pytest.skip("NOT TRIED: a clock that jumps wants Debian's libfaketime (apt-get install libfaketime)")
    return Clock(tmp_path, LIBRARIES[0])


@pytest.fixture
def shop(open_house: House) -> Iterator[Shop]:
    with open_house.shop() as shop:
        yield shop


def when(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def redis_is_ahead(house: House) -> float:
    with contextlib.closing(house.redis.client()) as client:
        return float(client.time()[0]) - time.time()


@pytest.fixture
def moved(open_house: House, clock: Clock) -> Iterator[Clock]:
    """Redis goes by that clock; by the right one again when the test is over."""
    open_house.redis.stop()
    with clock.worn():
        open_house.redis.start()
    yield clock
    open_house.redis.restart()


def test_redis_clock_jumps_forward_and_back(open_house: House, shop: Shop, sale_id: str, moved: Clock) -> None:
    name = f"{sale_id}-sock"

    def jump(seconds: int) -> None:
        moved.jump(seconds)
        eventually(lambda: abs(redis_is_ahead(open_house) - seconds) < 60, "the jump")

    def status(hold: dict[str, Any]) -> str:
        return str(shop.client.get(f"/v1/holds/{hold['id']}").json()["status"])

    eventually(lambda: shop.client.get("/v1/products").status_code == 200, "Redis is back")
    shop.load(product(name, 10), sale_id=sale_id, hold_ttl_seconds=600)
    early = shop.hold("early", **{name: 1})
    open_house.settled(sale_id)

    jump(HOUR)  # what is held runs out at once, and is for sale; the sale goes on
    assert status(early) == "expired"
    eventually(lambda: shop.stock(name)["available"] == 10, "swept", RECOVERY_SECONDS)
    ahead = shop.hold("ahead", **{name: 1})
    assert abs(when(ahead["expires_at"]) - time.time() - HOUR - 600) < 120
    buy(open_house, shop, name, "buys ahead")
    open_house.settled(sale_id)

    jump(-HOUR)  # what is held lasts longer by as much; the sale goes on, and so do the numbers of its events
    before = open_house.shown(sale_id).position.seq
    behind = shop.hold("behind", **{name: 1})
    assert [status(hold) for hold in (ahead, behind)] == ["held", "held"]
    buy(open_house, shop, name, "buys behind")
    open_house.settled(sale_id)
    assert open_house.shown(sale_id).position.seq > before
    assert open_house.shown(sale_id).position.epoch == 1, "nobody took it for lost data"

    jump(0)  # set right: what was taken behind runs out, what was taken ahead is given back by hand
    assert [status(hold) for hold in (early, behind, ahead)] == ["expired", "expired", "held"]
    eventually(lambda: shop.stock(name) == {"total": 10, "available": 7, "held": 1, "sold": 2}, "swept")
    assert shop.client.delete(f"/v1/holds/{ahead['id']}").json()["status"] == "released"
    open_house.settled(sale_id)


def buy(house: House, shop: Shop, name: str, customer: str) -> None:
    order = shop.order(shop.hold(customer, **{name: 1})).json()
    house.confirm(order)
    paid = lambda: shop.client.get(f"/v1/orders/{order['id']}").json()["payment"]["status"] == "succeeded"  # noqa: E731
    eventually(paid, "paid and captured", RECOVERY_SECONDS)


def test_the_clocks_of_the_api_and_the_workers_do_not_matter(open_house: House, sale_id: str, clock: Clock) -> None:
    name = f"{sale_id}-sock"
    for role in ("api", "worker"):
        assert open_house.end(role) == 0
    clock.jump(24 * HOUR)
    with clock.worn():
        open_house.start("api", "worker")
    try:
        with open_house.shop() as shop:
            soon = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
            shop.load(product(f"{name}-soon", 10), sale_id=f"{sale_id}-soon", starts_at=soon)
            check_problem(shop.ask("early", **{f"{name}-soon": 1}), 409, "sale_not_started")
            shop.load(product(name, 10), sale_id=sale_id, hold_ttl_seconds=5)
            hold = shop.hold("ann", **{name: 1})
            assert abs(when(hold["expires_at"]) - time.time() - 5) < 30
            assert shop.stock(name)["held"] == 1, "not swept before its time"
            eventually(lambda: shop.stock(name)["available"] == 10, "swept at its time", RECOVERY_SECONDS)
            # A webhook's signature is as old as this machine says, so it is refused; the order itself is not.
            order = shop.order(shop.hold("bob", **{name: 1}), headers={"Idempotency-Key": name})
            assert order.status_code == 201
            assert shop.client.post(f"/v1/orders/{order.json()['id']}/cancel").json()["status"] == "cancelled"
            open_house.settled(sale_id)
    finally:
        for role in ("api", "worker"):
            open_house.end(role)
        open_house.start("api", "worker")
