"""Bytes of any kind on a socket: each whole request gets one of the contract's answers, on the express way and on the
ordinary one; what was refused changed nothing; the process goes on.
"""

import hashlib
import hmac
import json
import logging
import os
import random
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, seed
from hypothesis import settings as bounds
from hypothesis import strategies as st
from structlog.testing import capture_logs

from engine.settings import Settings
from persistence.refusals import PROBLEMS
from tests.api.server import ADMIN_TOKEN, Shop, product

STOCK = 1_000_000
SILENT_SECONDS = 0.3
"""How long an answer is waited for where the request is not whole."""
ORDINARY = (b"expect", b"")
"""A header that no client sends empty: it takes a request off the express way and asks for nothing."""

Header = tuple[bytes, bytes]

IDS = st.one_of(
    st.sampled_from([
        b"x", b"%00", b"a%00b", b"%2e%2e", b"..", b"%2F", b"a%2Fb", b"%", b"%zz", b"%ff%fe", b"%F0%9F%92%A9", b"%C0%AF",
        b"\xff", "é".encode(), b"a" * 300, b"a" * 9_000, b"hold_bf_" + b"A" * 20, b"order_bf_" + b"A" * 20, b"bf", b"'",
        b"hold_bf_" + b"A" * 19 + b"%00", b"order_%00_" + b"A" * 20, b"*", b"{}", b"$(x)", b"%0d%0aX:1", b";",
        b"hold__",
        b"order_x", b"hold_" + b"b" * 65 + b"_" + b"A" * 20, b"order_" + "é".encode() + b"_" + b"A" * 20,
    ]),
    st.binary(min_size=1, max_size=12).map(lambda raw: b"".join(b"%%%02X" % each for each in raw)),
)  # fmt: skip
NUMBERS = st.sampled_from([
    b"", b"0", b"-1", b"1.5", b"1e2", b"%D9%A3", b"9" * 30, b"9" * 5_000, b"0x10", b"%00", b"+1", b"1%20", b"NaN",
    b"01",
    b"AAAA", b"YWJj", b"%2F", b"AA%3D%3D", b"1&limit=2", b"1&x=%ff", b"&&==&", b"eyJhIjoxfQ",
])  # fmt: skip
TARGETS = st.one_of(
    st.tuples(
        st.sampled_from([
            b"/v1/sales/%b", b"/v1/products/%b", b"/v1/holds/%b", b"/v1/orders/%b", b"/v1/orders/%b/pay", b"/%b",
            b"/v1/orders/%b/cancel", b"/v1/admin/sales/%b", b"/v1/admin/sales/%b/pause", b"/problems/%b", b"//%b",
            b"/v1/admin/products/%b/stock", b"/v1/admin/orders/%b/refunds", b"/v1/admin/sales/%b/reconciliation",
        ]),
        IDS,
    ).map(lambda pair: pair[0] % (b"x" if pair[1] == b"bf" else pair[1])),
    st.tuples(
        st.sampled_from([
            b"/v1/products?limit=%b", b"/v1/products?cursor=%b", b"/v1/products?sale_id=%b", b"/v1/products/sock?x=%b",
            b"/v1/admin/orders?after=%b", b"/v1/admin/orders?limit=%b", b"/v1/holds?x=%b",
        ]),
        NUMBERS,
    ).map(lambda pair: pair[0] % pair[1]),
    st.sampled_from([
        b"/v1/holds", b"/v1/holds", b"/v1/orders", b"/v1/payments/webhook", b"*", b"/", b"//", b"http://x/v1/holds",
        b"?",
        b"/v1/holds/", b"/v1/holds#x", b"x:1", b"/metrics", b"/health/ready", b"/" + b"a" * 9_000,
        b"/schema/openapi.json",
    ]),
)  # fmt: skip
METHODS = st.sampled_from(
    8 * [b"GET", b"POST"]
    + 2 * [b"HEAD", b"PUT", b"DELETE"]
    + b"OPTIONS PATCH CONNECT TRACE PROPFIND M-SEARCH PRI QUERY BREW get".split()
)
HOLD = {"customer_id": "ann", "product_id": "sock", "qty": 1}
BODIES = st.one_of(
    st.tuples(
        st.sampled_from(["customer_id", "product_id", "qty", "lines", "hold_id", "metadata", "delta", "amount", "é"]),
        st.sampled_from([None, 0, 1, 2, 99, 100, -1, 1.0, 10**40, True, "", "a\0", "\u202e", "x" * 65_000, [], {},
        [[]]]),
    ).map(lambda pair: json.dumps(HOLD | {pair[0]: pair[1]}).encode()),
    st.sampled_from([
        b"", b"{}", b"null", b"\0", b"[" * 60_000, b'{"a":' * 9_000, b" " * 70_000, b'{"qty":1e999}', b'"\\ud800"',
        json.dumps(HOLD).encode(), b'{"customer_id":"a","customer_id":7,"product_id":"sock","qty":1}',
        json.dumps(HOLD | {"customer_id": "ann\ud83d\ude00" * 10}).encode(), b'{"hold_id":"hold_bf_%s"}' % (b"A" * 20),
    ]),
    st.binary(max_size=60),
)  # fmt: skip
VALUES = st.one_of(
    st.binary(max_size=40).map(lambda raw: raw.translate(None, b"\r\n\0")),
    st.sampled_from([b"", b" ", b"\xff" * 255, b"k" * 255, b"k" * 256, b"k" * 9_000, b"k" * 17_000, b"\x7f", b"a\tb",
    b"1",
                     "é".encode(), b"application/json", b"text/plain", b"application/json;" * 99, b"Bearer", b"*"]),
)  # fmt: skip
NAMES = st.sampled_from([
    b"idempotency-key", b"idempotency-key", b"content-type", b"authorization", b"x-request-id", b"stripe-signature",
    b"if-none-match", b"accept", b"accept-encoding", b"cookie", b"connection", b"upgrade", b"host", b"traceparent",
    b"x",
    b"origin", b"forwarded",
])  # fmt: skip
HEADERS = st.lists(
    st.one_of(
        st.tuples(NAMES, VALUES),
        st.sampled_from([ORDINARY, (b"authorization", b"Bearer " + ADMIN_TOKEN.encode())]),
    ),
    max_size=4,
)
FAST = bounds(
    max_examples=250, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip


class Probe:
    """Sends bytes, judges each answer, and counts what the answers say was taken."""

    def __init__(self, url: str, shop: Shop) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._address = host, int(port)
        self._shop = shop
        self._taken = 0

    def send(self, data: bytes, method: bytes = b"POST", *, whole: bool = True) -> list[int]:
        """The statuses that came back. A ``whole`` request is answered, or its connection is closed."""
        with socket.create_connection(self._address, timeout=20 if whole else SILENT_SECONDS) as connection:
            read = connection.makefile("rb")
            statuses = []
            try:
                connection.sendall(data)
                while (status := self._answer(read, method)) is not None:
                    statuses.append(status)
                    if whole and status >= 200:
                        break
            except (ConnectionResetError, BrokenPipeError):
                pass
            except TimeoutError:
                assert not whole, "no answer"
            return statuses

    def _answer(self, read: Any, method: bytes) -> int | None:
        line = read.readline()
        if not line:
            return None
        status = int(line.split()[1])
        headers: dict[str, str] = {}
        while (line := read.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("ascii").partition(": ")
            headers[name] = value.strip()
        if status < 200:
            return status
        body = b"" if method == b"HEAD" else read.read(int(headers.get("content-length", 0)))
        assert b"Traceback" not in body
        if status >= 400 and method != b"HEAD":
            _judge(status, headers, json.loads(body))
        elif status == 201 and "idempotent-replayed" not in headers:
            self._taken += sum(each["qty"] for each in json.loads(body)["lines"])
        return status

    def check(self) -> None:
        """What was taken is what the answers say, and nothing else moved."""
        stock = self._shop.stock("sock")
        assert stock == {"total": STOCK, "available": STOCK - self._taken, "held": self._taken, "sold": 0}


def _judge(status: int, headers: dict[str, str], body: Any) -> None:
    code = body["code"]
    assert headers["content-type"] == "application/problem+json"
    assert body["type"] == f"/problems/{code}"
    assert body["status"] == status
    assert status in {400, 422} if code == "validation_error" else status == PROBLEMS[code].status
    assert code not in {"internal_error", "unavailable", "overloaded", "payment_provider_unavailable"}, body
    assert body["title"]
    assert body["detail"]
    if code == "validation_error":
        assert body["errors"]
        assert all(error["message"] and isinstance(error["field"], str) for error in body["errors"])


@pytest.fixture
def probe(api_url: str, shop: Shop, caplog: pytest.LogCaptureFixture) -> Iterator[Probe]:
    """In the end what the answers say is what there is, and neither the server nor its loop logged an error."""
    shop.load(product("sock", STOCK), hold_ttl_seconds=3600)
    probe = Probe(api_url, shop)
    yield probe
    probe.check()
    assert [each.getMessage() for each in caplog.get_records("call") if each.levelno >= logging.ERROR] == []


def request(method: bytes, target: bytes, headers: list[Header], body: bytes) -> bytes:
    lines = [b"%b %b HTTP/1.1" % (method, target), b"host: shop", b"content-length: %d" % len(body)]
    return b"\r\n".join([*lines, *(b"%b: %b" % pair for pair in headers), b"", b""]) + body


@FAST
@given(METHODS, TARGETS, HEADERS, BODIES)
@example(b"POST", b"/v1/holds", [(b"idempotency-key", b"\xff" * 255)], json.dumps(HOLD).encode())
@example(b"POST", b"/v1/holds", [(b"idempotency-key", b"\xff" * 255), ORDINARY], json.dumps(HOLD).encode())
@example(b"CONNECT", b"/v1/holds", [], b"")
@example(b"GET", b"/v1/products/sock", [(b"upgrade", b"websocket"), (b"connection", b"upgrade")], b"")
@example(b"GET", b"/v1/products/so%63k", [], b"")
def test_odd_requests(probe: Probe, method: bytes, target: bytes, headers: list[Header], body: bytes) -> None:
    with capture_logs() as logs:
        probe.send(request(method, target, headers, body), method)
    assert [line for line in logs if line["log_level"] in {"error", "critical"}] == []


TAKE = json.dumps(HOLD).encode()


FRAMING = [
    b"content-length: 5", b"content-length: -1", b"content-length: +5", b"content-length: 0x10", b"content-length:",
    b"content-length: 1\r\ncontent-length: 2", b"content-length: " + b"9" * 30, b"content-length: " + b"9" * 5000,
    b"content-length: 99999", b"content-length: 3, 3", b"transfer-encoding: chunked", b"transfer-encoding: identity",
    b"transfer-encoding: chunked\r\ncontent-length: 5", b"transfer-encoding: gzip, chunked",
    b"transfer-encoding: chunked, x", b"expect: 100-continue", b" folded: x", b"no colon", b": x", b"a\0b: x",
    b"a: b\0c", b"a: \r", b"x" * 20_000, b"a: " + b"x" * 20_000, b"\r\n".join(b"a: %d" % i for i in range(3_000)),
    b"upgrade: h2c\r\nconnection: upgrade, http2-settings",
]  # fmt: skip


def test_odd_framing(probe: Probe) -> None:
    for lines in FRAMING:
        for target in (b"/v1/holds", b"/v1/orders"):
            probe.send(b"POST %b HTTP/1.1\r\nhost: shop\r\n%b\r\n\r\n%b" % (target, lines, TAKE), whole=False)


SIGNATURES = st.sampled_from(
    ["{t}", "t={now}", "t=,v1={v1}", "t={now},v1=", "t={now},v1={v1},t=1", "t={now}0,v1={v1}", "v1={v1}",
    "t=-1,v1={v1}",
     "t={now},v0={v1}", "T={now},V1={v1}", "t={now};v1={v1}", "t=1e9,v1={v1}", "t={old},v1={v1}", "t={now},v1={zeros}",
     "t={now}" + ",v1={zeros}" * 300, ",,,,", "=", "t=\t{now},v1={v1}", "t=\u0663,v1={v1}"]
)  # fmt: skip
GOOD = "t={now},v1={v1}"
EVENTS = st.one_of(
    BODIES,
    st.sampled_from([
        b'{"id":"evt_1","type":"charge.refunded","data":{"object":{},"ob\\u0000ject":[]}}',
        b'{"id":"evt_2","type":"charge.refunded","data":{"object":{"a":' + b"[" * 950 + b"]" * 950 + b"}}}",
        b'{"id":"' + b"".join(b"%05d" % i for i in range(9_000)) + b'","type":"t","data":{"object":{}}}',
        b'{"id":"evt_3","type":"charge.refunded","data":{"object":{"payment_intent":{"id":[]}}}}',
        b'{"id":"evt_4","type":null,"data":{"object":{}}}', b'{"id":"evt_5","type":"t","data":[]}',
    ]),
)  # fmt: skip


@bounds(FAST, max_examples=80)
@given(EVENTS, st.one_of(st.just(GOOD), SIGNATURES))
def test_odd_webhooks(probe: Probe, settings: Settings, body: bytes, pattern: str) -> None:
    now = int(time.time())
    secret = settings.stripe_webhook_secret.encode()
    told = {
        "t": "t", "now": now, "old": now - 301, "zeros": "0" * 64,
        "v1": hmac.new(secret, b"%d.%b" % (now, body), hashlib.sha256).hexdigest(),
    }  # fmt: skip
    header = (b"stripe-signature", pattern.format(**told).encode())
    [status] = probe.send(request(b"POST", b"/v1/payments/webhook", [header], body))
    assert status in {200, 400, 413} if pattern == GOOD else status in {400, 413}


@pytest.mark.torture
def test_odd_requests_at_length(probe: Probe) -> None:
    number = int(os.environ.get("SEED") or random.SystemRandom().randrange(2**31))
    print(f"seed {number} (SEED={number} repeats it)")  # noqa: T201

    @bounds(FAST, max_examples=20_000, derandomize=False)
    @seed(number)
    @given(METHODS, TARGETS, HEADERS, BODIES)
    def send(method: bytes, target: bytes, headers: list[Header], body: bytes) -> None:
        probe.send(request(method, target, headers, body), method)

    send()
