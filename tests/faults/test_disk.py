"""Redis's disk fills up in mid-sale: nothing acknowledged is lost, and the sale goes on when there is room."""

from collections.abc import Iterator

import pytest

from tests.api.server import Shop, check_problem, product
from tests.faults.house import RECOVERY_SECONDS, House
from tests.workers.conftest import eventually

pytestmark = [pytest.mark.xdist_group("faults"), pytest.mark.timeout(240)]

ASKS_MAX = 3000
ROOM_KIB = 24
"""What is left on the disk when it is made small: some dozen holds."""


@pytest.fixture
def shop(open_house: House, sale_id: str) -> Iterator[Shop]:
    if open_house.disk is None:
        pytest.skip("NOT TRIED: a full disk wants the right to mount a tmpfs (root)")
    with open_house.shop() as shop:
        shop.load(product(f"{sale_id}-sock", 10_000), sale_id=sale_id)
        yield shop
        open_house.disk.resize()
        open_house.redis.start()
        open_house.redis.client().config_set("appendfsync", "always")


def sell_until_it_is_full(house: House, shop: Shop, name: str) -> list[str]:
    """The ids of the holds that were acknowledged."""
    assert house.disk is not None
    house.disk.leave_room(ROOM_KIB)
    held: list[str] = []
    for number in range(ASKS_MAX):
        answer = shop.ask(f"c{number}", **{name: 1})
        if answer.status_code != 201:
            check_problem(answer, 503, "unavailable")
            assert int(answer.headers["retry-after"]) >= 1
            return held
        held.append(answer.json()["id"])
    pytest.fail("the disk never filled up")


def sells_again(house: House, shop: Shop, sale_id: str, held: list[str]) -> None:
    name = f"{sale_id}-sock"
    eventually(lambda: shop.ask("after", "after", **{name: 1}).status_code == 201, "it sells again", RECOVERY_SECONDS)
    assert len(held) > 3
    for hold_id in held:
        assert shop.client.get(f"/v1/holds/{hold_id}").json()["status"] == "held"
    assert shop.stock(name)["held"] == len(held) + 1
    house.settled(sale_id)


def test_a_full_disk_ends_redis_with_appendfsync_always_and_loses_nothing(
    open_house: House, shop: Shop, sale_id: str
) -> None:
    held = sell_until_it_is_full(open_house, shop, f"{sale_id}-sock")
    eventually(lambda: not open_house.redis.running, "it has ended itself: it could not keep its promise")
    assert "AOF fsync policy is 'always'. Exiting" in open_house.redis.log.read_text()
    check_problem(shop.ask("meanwhile", **{f"{sale_id}-sock": 1}), 503, "unavailable")
    assert shop.client.get("/health/ready").status_code == 503
    assert open_house.disk
    open_house.disk.resize()
    open_house.redis.start()
    sells_again(open_house, shop, sale_id, held)


def test_a_full_disk_with_appendfsync_everysec_refuses_writes_until_there_is_room(
    open_house: House, shop: Shop, sale_id: str
) -> None:
    open_house.redis.client().config_set("appendfsync", "everysec")
    held = sell_until_it_is_full(open_house, shop, f"{sale_id}-sock")
    assert open_house.redis.running
    check_problem(shop.ask("meanwhile", **{f"{sale_id}-sock": 1}), 503, "unavailable")
    assert open_house.disk
    open_house.disk.resize()
    sells_again(open_house, shop, sale_id, held)
