"""The express way gives what the ordinary way gives, and leaves whatever is unusual to it."""

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.server import Shop, product


@pytest.fixture
def stocked(shop: Shop) -> Shop:
    shop.load(product("sock", 100), product("few", 1))
    return shop


class Wire:
    """A bare connection."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=15)
        self._read = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers, JSON."""
        status = int(self._read.readline().split()[1])
        headers = {}
        while (line := self._read.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(": ")
            headers[name] = value.strip()
        return status, headers, json.loads(self._read.read(int(headers.get("content-length", 0))) or b"null")

    def is_closed(self) -> bool:
        return self._read.read(1) == b""

    def close(self) -> None:
        self._read.close()
        self._socket.close()


@pytest.fixture
def wire(api_url: str, stocked: Shop) -> Iterator[Wire]:
    connection = Wire(api_url)
    yield connection
    connection.close()


def hold(customer: str, *headers: str, version: str = "1.1", **more: Any) -> bytes:
    body = {"customer_id": customer, "product_id": "sock", "qty": 1} | more
    return post("/v1/holds", body, *headers, version=version)


def post(path: str, body: Any, *headers: str, version: str = "1.1") -> bytes:
    sent = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/{version}", "host: shop", f"content-length: {len(sent)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + sent


ORDINARY = "expect: 100-continue"
"""Sends a request the ordinary way."""


@pytest.mark.parametrize(
    "more",
    [{}, {"qty": 0}, {"qty": 99, "product_id": "few"}, {"product_id": "nothing"}, {"product_id": "a\0"}, {"extra": 1}],
)
def test_both_ways_give_the_same_answer(wire: Wire, more: dict[str, Any]) -> None:
    wire.send(hold("ann", **more))
    express = wire.answer()
    wire.send(hold("ann", ORDINARY, **more))
    if (ordinary := wire.answer())[0] == 100:
        ordinary = wire.answer()
    assert (express[0], express[1].keys()) == (ordinary[0], ordinary[1].keys())
    assert _without_what_differs(express[2]) == _without_what_differs(ordinary[2])


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/v1/orders", {}, []),
        ("/v1/orders", {"hold_id": "hold_none"}, []),
        ("/v1/orders", {"hold_id": "hold_none"}, ["idempotency-key: " + "k" * 300]),
        ("/v1/orders", {"hold_id": "hold_none"}, ["content-type: text/plain"]),
        ("/v1/payments/webhook", {}, []),
        ("/v1/payments/webhook", {}, ["stripe-signature: t=1,v1=0"]),
    ],
)
def test_both_ways_refuse_alike(wire: Wire, path: str, body: Any, headers: list[str]) -> None:
    wire.send(post(path, body, *headers))
    express = wire.answer()
    wire.send(post(path, body, ORDINARY, *headers))
    if (ordinary := wire.answer())[0] == 100:
        ordinary = wire.answer()
    assert express[0] in (400, 404, 415, 422)
    assert (express[0], express[1].keys(), express[2]) == (ordinary[0], ordinary[1].keys(), ordinary[2])


def test_an_order_is_the_same_by_either_way(wire: Wire) -> None:
    wire.send(hold("ann"))
    order = {"hold_id": wire.answer()[2]["id"]}
    wire.send(post("/v1/orders", order, "idempotency-key: one"))
    status, headers, made = wire.answer()
    assert (status, "idempotent-replayed" in headers) == (201, False)
    for more in ([], [ORDINARY]):
        wire.send(post("/v1/orders", order, "idempotency-key: one", *more))
        if (again := wire.answer())[0] == 100:
            again = wire.answer()
        assert (again[0], again[1]["idempotent-replayed"], again[2]) == (201, "true", made)


def _without_what_differs(answer: Any) -> Any:
    text = re.sub(r"\d\d\d\d-\d\d-\d\dT[\d:.]+Z", "T", json.dumps(answer))
    return re.sub(r"hold_\w+-?[^\"]*", "H", text)


def test_requests_on_one_connection_are_answered_in_their_order(wire: Wire) -> None:
    live = b"GET /health/live HTTP/1.1\r\nhost: shop\r\n\r\n"
    wire.send(hold("ann") + live + hold("bob") + hold("cid") + live)
    answers = [wire.answer() for _ in range(5)]
    assert [status for status, _, _ in answers] == [201, 200, 201, 201, 200]
    assert [answers[i][2]["customer_id"] for i in (0, 2, 3)] == ["ann", "bob", "cid"]


def test_a_request_in_pieces(wire: Wire) -> None:
    for byte in hold("ann", "Idempotency-Key: one", "X-Request-Id: shop-1"):
        wire.send(bytes([byte]))
    status, headers, held = wire.answer()
    assert (status, headers["x-request-id"]) == (201, "shop-1")
    wire.send(hold("ann", "idempotency-key: one"))
    status, headers, again = wire.answer()
    assert (status, headers["idempotent-replayed"], again) == (201, "true", held)


@pytest.mark.parametrize("request_", [hold("ann", "connection: close"), hold("ann", version="1.0")])
def test_a_connection_ends_where_its_client_wants(wire: Wire, request_: bytes) -> None:
    wire.send(request_)
    status, headers, _ = wire.answer()
    assert (status, headers["connection"]) == (201, "close")
    assert wire.is_closed()


def test_a_body_that_is_too_large_or_of_no_known_length_takes_the_ordinary_way(wire: Wire) -> None:
    body = hold("ann").partition(b"\r\n\r\n")[2]
    wire.send(b"POST /v1/holds HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n")
    wire.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    assert wire.answer()[0] == 201
    wire.send(hold("ann", customer_id="x" * 70_000))
    assert wire.answer()[0] == 413


def test_a_body_that_never_comes_leaves_nothing(wire: Wire, stocked: Shop) -> None:
    wire.send(hold("ann")[:-4])
    wire.close()
    assert stocked.client.get("/v1/products/sock").json()["stock"]["available"] == 100
