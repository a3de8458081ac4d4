"""Clients that hang up, over real sockets: neighbours are answered, what was not sent is dropped, what was sent stays
and can be found again, and nothing leaks.
"""

import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator

import pytest

from engine.batcher import SECOND_MIN
from tests.api.server import Shop, product
from tests.faults.house import House
from tests.workers.conftest import eventually

pytestmark = pytest.mark.xdist_group("faults")

SPARE_FILES = 4
"""What the API may open meanwhile for its own sake: a connection to a store, the test's own."""


class Buyer:
    """A connection that asks for one unit, and may hang up at any byte."""

    def __init__(self, house: House, customer: str, product_id: str, key: str = "") -> None:
        body = json.dumps({"customer_id": customer, "product_id": product_id, "qty": 1}).encode()
        head = (
            f"POST /v1/holds HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        self.request = (head + (f"Idempotency-Key: {key}\r\n" if key else "") + "\r\n").encode() + body
        self.customer = customer
        self.socket = socket.create_connection(("127.0.0.1", house.port), timeout=30)

    def send(self, part: slice = slice(None)) -> "Buyer":
        self.socket.sendall(self.request[part])
        return self

    def hang_up(self) -> None:
        self.socket.close()

    def answer(self) -> tuple[int, dict[str, object]]:
        received = b""
        while b"\r\n\r\n" not in received:
            more = self.socket.recv(65536)
            assert more, "hung up on"
            received += more
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        while len(body) < length:
            body += self.socket.recv(65536)
        return int(head[9:12]), json.loads(body)


@contextlib.contextmanager
def redis_answers_nobody(house: House) -> Iterator[None]:
    """Until the block's end: its process stands still."""
    os.kill(house.redis.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(house.redis.pid, signal.SIGCONT)


@pytest.fixture
def shop(open_house: House) -> Iterator[Shop]:
    with open_house.shop() as shop:
        yield shop


def files(house: House) -> int:
    return house.process("api").num_fds()


def hung_up(house: House) -> float:
    return house.metric("flashsale_http_responses_total", code="", method="POST", route="/v1/holds", status="499")


def test_before_the_request_is_whole(open_house: House, shop: Shop, sale_id: str) -> None:
    name = f"{sale_id}-sock"
    shop.load(product(name, 50), sale_id=sale_id)
    shop.hold("neighbour", **{name: 1})
    before, open_files = hung_up(open_house), files(open_house)
    for cut in (5, 60, -30, -1):
        for number in range(5):
            Buyer(open_house, f"c{number}", name).send(slice(cut)).hang_up()
    shop.hold("neighbour", **{name: 1})
    # Nothing was asked by who hung up before the end of the headers; the others had begun a request.
    eventually(lambda: hung_up(open_house) == before + 10, "requests that were not whole are counted")
    eventually(lambda: files(open_house) <= open_files + SPARE_FILES, "their sockets are closed")
    assert shop.stock(name)["held"] == 2
    open_house.settled(sale_id)


def test_before_it_was_sent_to_redis_it_is_dropped_and_its_neighbours_are_answered(
    open_house: House, shop: Shop, sale_id: str
) -> None:
    name = f"{sale_id}-sock"
    shop.load(product(name, 50), sale_id=sale_id)
    shop.hold("first", **{name: 1})
    before, open_files = hung_up(open_house), files(open_house)
    with redis_answers_nobody(open_house):
        ahead = [Buyer(open_house, "ahead", name).send()]  # the first call is under way to Redis
        open_house.is_live()
        ahead += [Buyer(open_house, f"next{number}", name).send() for number in range(SECOND_MIN)]  # and the second
        open_house.is_live()
        waiting = [Buyer(open_house, f"c{number}", name).send() for number in range(20)]
        open_house.is_live()
        for each in waiting[::2]:
            each.hang_up()
        open_house.is_live()
    for each in (*ahead, *waiting[1::2]):
        status, hold = each.answer()
        assert (status, hold["customer_id"]) == (201, each.customer)
        each.hang_up()
    assert shop.stock(name) == {"total": 50, "available": 30, "held": 20, "sold": 0}
    assert hung_up(open_house) == before + 10
    eventually(lambda: files(open_house) <= open_files + SPARE_FILES, "their sockets are closed")
    open_house.settled(sale_id)


def test_after_it_was_sent_it_stays_and_is_found_by_its_key(open_house: House, shop: Shop, sale_id: str) -> None:
    name = f"{sale_id}-sock"
    shop.load(product(name, 50, per_customer_limit=1), sale_id=sale_id)
    with redis_answers_nobody(open_house):
        keyed = Buyer(open_house, "keyed", name, key="k").send()
        open_house.is_live()
        keyed.hang_up()
        open_house.is_live()
    eventually(lambda: shop.stock(name)["held"] == 1, "the hold that was sent")
    again = shop.ask("keyed", "k", **{name: 1})
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    refused = shop.ask("keyed", **{name: 1}).json()
    assert (refused["code"], refused["hold_ids"]) == ("limit_exceeded", [again.json()["id"]])
    assert shop.stock(name)["held"] == 1
    open_house.settled(sale_id)


def test_in_the_middle_of_an_order(open_house: House, shop: Shop, sale_id: str) -> None:
    name = f"{sale_id}-sock"
    shop.load(product(name, 5), sale_id=sale_id)
    hold = shop.hold("ann", **{name: 1})
    body = json.dumps({"hold_id": hold["id"]})
    head = f"POST /v1/orders HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {sale_id}\r\nContent-Length: {len(body)}\r\n\r\n"
    open_house.stripe.chaos(answer_delay_ms=[300, 300])
    with socket.create_connection(("127.0.0.1", open_house.port)) as leaving:
        leaving.sendall((head + body).encode())
        eventually(
            lambda: open_house.query("SELECT count(*) FROM orders WHERE hold_id = :id", id=hold["id"]) == 1, "it"
        )
    open_house.stripe.calm()
    again = shop.order(hold, headers={"Idempotency-Key": sale_id})
    assert again.status_code == 201
    open_house.confirm(again.json())
    order = f"/v1/orders/{again.json()['id']}"
    eventually(lambda: shop.client.get(order).json()["status"] == "paid", "paid once")
    open_house.settled(sale_id)
