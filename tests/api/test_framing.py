"""Bytes that belong to no framed request are never parsed: behind an upgrade, behind an error, in a trailer. A pipeline
of requests is bounded.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from api import protocol
from tests.api.server import ADMIN_TOKEN, Shop, product

SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: shop\r\n\r\n"
TAKE = json.dumps({"customer_id": "ann", "product_id": "sock", "qty": 1}).encode()
Address = tuple[str, int]
UPGRADE = b"Connection: Upgrade\r\nUpgrade: x\r\n"
JAVA = (
    b"Connection: Upgrade, HTTP2-Settings\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nUpgrade: h2c\r\n"
)
"""What java.net.http.HttpClient sends with every plain HTTP request."""
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n"


@pytest.fixture
def address(shop: Shop) -> Address:
    shop.load(product("sock", 1_000_000, per_customer_limit=None))
    return shop.client.base_url.host, shop.client.base_url.port or 80


class Raw:
    """A connection that sends bytes and reads to the end."""

    def __init__(self, address: Address) -> None:
        self.socket = socket.create_connection(address, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, *pieces: bytes) -> "Raw":
        for piece in pieces:
            try:
                self.socket.sendall(piece)
            except OSError:  # closed by the server
                break
            if len(pieces) > 1:
                time.sleep(0.02)
        return self

    def read(self) -> list[tuple[int, bytes]]:
        """The status and the rest of each answer, once the server closed the connection."""
        got = b""
        with self.socket:
            try:
                while data := self.socket.recv(65536):
                    got += data
            except ConnectionResetError:
                pass
        answers = got.split(b"HTTP/1.1 ")[1:]
        return [(int(answer[:3]), answer[3:]) for answer in answers]


@pytest.fixture
def raw(address: Address) -> Iterator[Raw]:
    connection = Raw(address)
    yield connection
    connection.socket.close()


def post(path: bytes, body: bytes, *headers: bytes) -> bytes:
    lines = b"POST %b HTTP/1.1\r\nHost: shop\r\nContent-Length: %d\r\n%b\r\n" % (path, len(body), b"".join(headers))
    return lines + body


def pieces(request: bytes, size: int) -> list[bytes]:
    return [request[at : at + size] for at in range(0, len(request), size)]


# Each test starts an API, so the cases of one rule share a test.


def test_a_request_that_asks_for_an_upgrade_is_answered_as_any_other(address: Address) -> None:
    for upgrade in (JAVA, WEBSOCKET, UPGRADE):
        for size in (1_000_000, 97, 40):
            answers = Raw(address).send(*pieces(post(b"/v1/holds", TAKE, upgrade), size)).read()
            assert [status for status, _ in answers] == [201], (upgrade, size)
            assert b"connection: close" in answers[0][1]
        answers = Raw(address).send(b"GET /v1/products/sock HTTP/1.1\r\nHost: shop\r\n%b\r\n" % upgrade).read()
        assert [status for status, _ in answers] == [200]


def test_a_body_behind_an_upgrade_is_no_request(address: Address) -> None:
    for path in (b"/v1/holds", b"/v1/orders", b"/health/live"):
        whole = post(path, SMUGGLED, UPGRADE)
        head, body = whole[: -len(SMUGGLED)], SMUGGLED
        for packets in ([head, body, SMUGGLED], [whole + SMUGGLED]):
            answers = Raw(address).send(*packets).read()
            assert len(answers) == 1, path
            assert b"flashsale_" not in answers[0][1]


POST = b"POST /v1/holds HTTP/1.1\r\nHost: shop"
NO_HTTP = {
    "connect": b"CONNECT shop:80 HTTP/1.1\r\nHost: shop:80\r\n\r\n",
    "upgrade-chunked": b"%b\r\nTransfer-Encoding: chunked\r\n%b\r\n" % (POST, UPGRADE),
    "length-chunked": b"%b\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % POST,
    "two-lengths": b"POST /v1/holds HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\nContent-Length: 30\r\n\r\nabc",
    "chunk-size": b"POST /v1/holds HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "name": b"GET / HTTP/1.1\r\nHost: shop\r\nX : y\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00",
}


def test_behind_an_error_nothing_is_parsed(address: Address) -> None:
    for name, request in NO_HTTP.items():
        answers = Raw(address).send(request + SMUGGLED, SMUGGLED).read()
        assert [status for status, _ in answers] == [400], name
        assert b"validation_error" in answers[0][1]


def test_an_error_is_told_behind_the_answers_of_the_requests_before_it(raw: Raw) -> None:
    answers = raw.send(
        post(b"/v1/holds", TAKE) * 3 + b"GET /health/ready HTTP/1.1\r\nHost: shop\r\n\r\n" + b"\0\0\0\0"
    ).read()
    assert [status for status, _ in answers] == [201, 201, 201, 200, 400]


def test_trailers_are_no_headers(address: Address) -> None:
    trailers = (
        b"X-Request-Id: trailer\r\nIdempotency-Key: k\r\nContent-Type: text/plain\r\n"
        b"Authorization: Bearer %b\r\n" % ADMIN_TOKEN.encode()
    )
    for line, status in ((b"POST /v1/holds", 201), (b"GET /v1/admin/orders", 401)):
        head = b"%b HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n" % line
        request = head + b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(TAKE), TAKE, trailers)
        answers = Raw(address).send(request + request + b"\0").read()
        assert [each for each, _ in answers] == [status, status, 400]
        for _, answer in answers:
            assert b"x-request-id: trailer" not in answer
            assert b"idempotent-replayed" not in answer


def test_a_pipeline_without_an_end_is_bounded(raw: Raw, address: Address) -> None:
    """The client reads nothing. Of 8 MB of requests the server takes what sockets hold, and a few requests."""
    request = b"GET /health/live HTTP/1.1\r\nHost: shop\r\n\r\n"
    sent, before = 0, resident()
    raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.socket.settimeout(1)
    chunk = request * 2000
    slowest = 0.0
    try:
        while sent < 8_000_000:
            raw.socket.sendall(chunk)
            sent += len(chunk)
            slowest = max(slowest, one_look(address))
    except TimeoutError:
        pass
    assert resident() - before < 40_000_000
    assert slowest < 2


def test_every_request_of_a_long_pipeline_is_answered_in_its_order(raw: Raw) -> None:
    live = b"GET /health/live HTTP/1.1\r\nHost: shop\r\nX-Request-Id: n-%d\r\n\r\n"
    mixed = b"".join((live % i) + post(b"/v1/holds", TAKE, b"X-Request-Id: h-%d\r\n" % i) for i in range(150))
    answers = raw.send(mixed + b"GET /health/live HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").read()
    assert [status for status, _ in answers] == [200, 201] * 150 + [200]
    for i in range(150):
        assert b"x-request-id: n-%d\r\n" % i in answers[2 * i][1]
        assert b"x-request-id: h-%d\r\n" % i in answers[2 * i + 1][1]


def test_half_a_request_behind_a_long_pipeline_has_its_time(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is parsed when no byte comes any more, so its timer cannot wait for one."""
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 1)
    whole = b"GET /health/live HTTP/1.1\r\nHost: shop\r\n\r\n"
    began = time.monotonic()
    answers = raw.send(whole * 200 + b"GET /health/live HT").read()
    assert [status for status, _ in answers] == [200] * 200
    assert time.monotonic() - began < 4


def one_look(address: Address) -> float:
    began = time.monotonic()
    with socket.create_connection(address, timeout=10) as other:
        other.sendall(b"GET /health/live HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
        while other.recv(4096):
            pass
    return time.monotonic() - began


def resident() -> int:
    """Bytes of this process, in whose threads the API runs."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
